"""Execution of training steps on a device: eager, captured or compiled, and the precision of matrix products."""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from swgctl import signals
from swgctl.console import say
from swgctl.errors import CompileError, UsageError, nearest
from swgctl.models import batched

MODES = ("eager", "graph", "compiled")
COMPILES_FROM = 10_000  # training steps on a processor, where compiling takes 10 to 80 seconds

Step = Callable[[dict[str, Tensor]], dict[str, Tensor]]
Capture = Callable[[Callable[[], None]], Callable[[], None]]

# Names of `torch.set_float32_matmul_precision`, which permits coarser factors without enforcing them; on CUDA "medium"
# is TF32 as well, and on a processor it may be fp32 (`_has_fast_fp32`).
PRECISIONS = {"fp32": "highest", "tf32": "high", "bf16": "medium"}


@contextlib.contextmanager
def products(precision: str, mode: str = "eager") -> Iterator[None]:
    """Round the factors of matrix products to `precision` inside the block; storage and sums stay fp32.

    On CUDA bf16 is for what is compiled, where the rounding is part of the kernel that computes a factor.  As a kernel
    of its own it would, by arithmetic, cost more than the faster products save: in the other modes TF32 runs.
    Raises UsageError where the program has set PyTorch's other switch for this.
    """
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        raise UsageError(
            "this program has set torch.backends' fp32_precision, which PyTorch does not mix with the precision here",
            'torch.set_float32_matmul_precision("high")   # instead',
        ) from None
    bf16, name = precision == "bf16", PRECISIONS[precision]
    cuda, cpu = bf16 and mode == "compiled" and _has_bf16(), bf16 and _has_bf16_factors()
    if cpu:  # TF32 on a GPU; here nothing more
        name = "high"
    if (cpu or precision == "fp32") and _has_fast_fp32():
        name = "medium"
    torch.set_float32_matmul_precision(name)
    try:
        with batched.rounded(*["cuda"] * cuda, *["cpu"] * cpu):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _has_bf16() -> bool:
    """True if the current CUDA device multiplies in bf16."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _has_bf16_factors() -> bool:
    """True if the processor multiplies in bf16, and PyTorch rounds no factors for that by itself.

    It does with AMX.  With AVX-512 BF16 alone it multiplies fp32's factors as they are, and bf16's at twice the rate.
    Limits that PyTorch or oneDNN is given by the environment are respected.
    """
    has = torch.cpu.get_capabilities()
    limited = torch.backends.cpu.get_cpu_capability() != "AVX512" or "ONEDNN_MAX_CPU_ISA" in os.environ
    return bool(has.get("avx512_bf16") and not has.get("amx_bf16") and not limited)


@cache
def _has_fast_fp32() -> bool:
    """True if "medium" rounds nothing here: then it has oneDNN multiply in place of MKL.

    On an AMD EPYC MKL takes 1.35 times as long for factors of 1,024 columns, 1.0 to 1.7 times for 4 to 64 rows and 2 to
    4 times for products of 6 columns, but a third to all of the time for a single row of one member, as `policy.act`
    has it.  A GPU would round, and the switch is one for both.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with batched.rounded():  # by nothing else, whatever block this is asked in
            return not torch.cuda.is_available() and _survives(20, "cpu")
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def effective(precision: str, device: str, mode: str = "eager") -> str:
    """The precision to which factors are really rounded, fp32, tf32 or bf16, measured with a matrix product.

    A processor's flags do not settle it, since oneDNN and the environment have a say.  1 + 2^-20 is exact in fp32
    alone, which has 23 fraction bits; 1 + 2^-9 also in tf32, which has 10, and rounds to 1 in bf16, which has 7.
    """
    with products(precision, mode):
        return "fp32" if _survives(20, device) else "tf32" if _survives(9, device) else "bf16"


def arithmetic(precision: str, device: str, mode: str) -> str:
    """What multiplies, by which a run has to go on: `effective`, and the library where fp32 has a choice of two."""
    rounded = effective(precision, device, mode)
    chosen = precision == "fp32" or (precision == "bf16" and _has_bf16_factors())
    fast = chosen and device == "cpu" and _has_fast_fp32()
    return f"{rounded} by oneDNN" if fast else rounded


def _survives(bits: int, device: str) -> bool:
    """True if products leave 1 + 2^-bits as it is: one with the identity returns each factor as it was rounded."""
    identity = torch.eye(512, device=device)
    factors = torch.full_like(identity, 1 + 2**-bits)
    return torch.equal(batched.bmm(factors[None], identity[None])[0], factors)


def runner(step: Step, state: Callable[[], dict[str, Tensor]], mode: str, device: torch.device) -> Step:
    """The step as `mode` runs it.  Every mode reproduces its own bytes; two modes differ in rounding.

    eager     operation by operation
    graph     CUDA only: captured once and replayed, so that the host launches one graph a step, not hundreds of kernels
    compiled  torch.compile, which fuses the operations between matrix products; on CUDA captured as well
    """
    if mode == "compiled":
        step = _compiled(step, device)
    record = recorder(mode, device)
    return Replay(step, state, record) if record else step


def recorder(mode: str, device: torch.device) -> Capture | None:
    """`capture` as `mode` needs it on a device; None where nothing is captured."""
    if mode == "eager" or device.type != "cuda":
        return None
    # A compiled step benchmarks nothing any more, but its backward pass and its optimiser compile at their first calls.
    return partial(capture, device=device, trials=5 if mode == "compiled" else 3)


def _options(device: torch.device) -> dict[str, Any]:
    """Options of Inductor.  On CUDA it would time variants of a reduction and take the fastest, another one perhaps in
    the process that resumes, with other sums."""
    return {"options": {"deterministic": True}} if device.type == "cuda" else {}


def _compiled(step: Step, device: torch.device) -> Step:
    """The step under torch.compile; its first call compiles, and raises CompileError where there is no compiler."""
    # Each learner compiles a step of its own; from the ninth in a process on, the default limit skips this silently.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2**16
    fast = torch.compile(step, dynamic=False, **_options(device))
    # Forward and backward pass and optimiser as one graph, which a processor runs 1.5 times as fast as in pieces.
    cuda = device.type == "cuda"
    as_one = contextlib.nullcontext() if cuda else torch._dynamo.config.patch(trace_autograd_ops=True)

    def run(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            with as_one:
                return fast(drawn)
        except torch._dynamo.exc.TorchDynamoException as error:
            signals.check()  # of a terminal, which stops the compiler as well
            help = "--mode graph" if cuda else "--mode eager   # or install a C++ compiler"
            raise CompileError(f"torch.compile failed: {_reason(error)}", help) from error

    return run


def _reason(error: Exception) -> str:
    return str(error).partition("\nSet TORCHDYNAMO")[0].strip()


@cache
def uncompilable(device: str) -> str | None:
    """Why torch.compile has no use on a device, found by compiling a sum there; None where it works."""
    x = torch.ones(64, 64, device=device)
    try:
        torch.compile(lambda x: torch.relu(x + 1).sum(), dynamic=False, **_options(x.device))(x)
    except Exception as error:  # of the compiler, its cache or what they need
        lines = [line.strip() for line in _reason(error).splitlines()[:2]]  # which backend, then what it lacks
        return " ".join(filter(None, lines)) or type(error).__name__
    return None


class Replay:
    """A step that is recorded at its first call and replayed from then on, each time with newly drawn inputs.

    step     reads the tensors of its argument and changes the state in place; nothing else may depend on the call
    state    the tensors that the step changes, by name; restored after the trial runs of a recording
    capture  calls a function of no arguments as often as it needs, and returns its replay
    """

    def __init__(self, step: Step, state: Callable[[], dict[str, Tensor]], capture: Capture):
        self.step, self.state, self.capture = step, state, capture
        self.slots: dict[str, Tensor] = {}
        self.info: dict[str, Tensor] = {}
        self.replay: Callable[[], None] | None = None

    def __call__(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the step; the next call overwrites the tensors that this one returns."""
        if self.replay is None:
            self.slots = {name: value.clone() for name, value in drawn.items()}
            before = {name: value.clone() for name, value in self.state().items()}
            self.replay = self.capture(self._fill)
            for name, value in self.state().items():
                value.copy_(before[name])
        for name, value in drawn.items():
            self.slots[name].copy_(value)
        self.replay()
        return self.info

    def _fill(self) -> None:
        self.info = self.step(self.slots)


def capture(function: Callable[[], None], device: torch.device, trials: int = 3) -> Callable[[], None]:
    """Record the work of `function` on a CUDA device and return its replay; all of its tensors must stay in place.

    trials  runs on a side stream that come first, for work that happens at first calls only
    """
    with torch.cuda.device(device):  # streams and graphs belong to the current device
        side = _side(torch.cuda.current_device())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(trials):
                function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # compiling anew inside a capture would end in an error that says nothing of it
        with (
            torch._dynamo.config.patch(error_on_recompile=True),
            torch.cuda.graph(graph, stream=side),  # the default stream is that of the first device captured
        ):
            function()
    return graph.replay


@cache
def _side(index: int) -> torch.cuda.Stream:
    """The one stream on which a device's captures run: each stream keeps 64 MB of cuBLAS's workspace."""
    return torch.cuda.Stream(index)


def pick_device(name: str) -> str:
    """ "auto" -> "cuda" if available, else "cpu".  Raises UsageError for an absent or an unsupported device.

    A card by number becomes the process's current one, so that nothing is put on another.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=name).device
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("it runs on cpu and cuda")
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device '{name}' here: {str(error).splitlines()[0]}", "--device cpu") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return name


def card(device: str | torch.device) -> str | None:
    """Name of a CUDA device with its multiprocessors, on whose number its random draws depend; None for a CPU."""
    if torch.device(device).type != "cuda":
        return None
    facts = torch.cuda.get_device_properties(device)
    return f"{facts.name}, {facts.multi_processor_count} multiprocessors"


def pick_mode(name: str, device: str, steps: int = 0) -> str:
    """ "auto" -> "compiled" for training where that works, on a CPU from COMPILES_FROM steps on; else "graph" on CUDA,
    and "eager" on a CPU.

    steps  number of training steps; 0: nothing trains
    Raises UsageError for a mode that the device lacks.
    """
    if name == "auto":
        cuda = device.startswith("cuda")
        other = "graph" if cuda else "eager"
        if steps < (1 if cuda else COMPILES_FROM):
            return other
        with signals.deferred():  # PyTorch would take it for a failure
            why = uncompilable(device)
        signals.check()
        if why:
            say(f"--mode {other}, since torch.compile does not work on {device}: {why}")
        return other if why else "compiled"
    if name not in MODES:
        raise UsageError(f"unknown mode '{name}'{nearest(name, MODES)}", f"--mode auto   # or {', '.join(MODES)}")
    if name == "graph" and not device.startswith("cuda"):
        raise UsageError(f"mode graph needs CUDA, and this runs on {device}", "--mode eager   # or --mode compiled")
    return name
