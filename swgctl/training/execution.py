"""Execution of training steps on a device: eager, captured or compiled, and the precision of matrix products."""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from swgctl.errors import CompileError, UsageError, nearest

MODES = ("eager", "graph", "compiled")

Step = Callable[[dict[str, Tensor]], dict[str, Tensor]]
Capture = Callable[[Callable[[], None]], Callable[[], None]]

# Names of `torch.set_float32_matmul_precision`, which permits coarser factors without enforcing them; on CUDA "medium"
# is TF32 as well.
PRECISIONS = {"fp32": "highest", "tf32": "high", "bf16": "medium"}


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """Round the factors of matrix products to `precision` inside the block; storage and sums stay fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def effective(precision: str, device: str) -> str:
    """The precision to which factors are really rounded, fp32, tf32 or bf16, measured with a matrix product.

    A processor's flags do not settle it: with AVX-512 BF16 but no AMX, oneDNN still multiplies in fp32.  A product with
    the identity returns each factor as it was rounded.  1 + 2^-20 is exact in fp32 alone, which has 23 fraction bits;
    1 + 2^-9 also in tf32, which has 10, and rounds to 1 in bf16, which has 7.
    """
    identity = torch.eye(512, device=device)

    def survives(bits: int) -> bool:
        factors = torch.full_like(identity, 1 + 2**-bits)
        with products(precision):
            return torch.equal(factors @ identity, factors)

    return "fp32" if survives(20) else "tf32" if survives(9) else "bf16"


def runner(step: Step, state: Callable[[], dict[str, Tensor]], mode: str, device: torch.device) -> Step:
    """The step as `mode` runs it.  Every mode reproduces its own bytes; two modes differ in rounding.

    eager     operation by operation
    graph     CUDA only: captured once and replayed, so that the host launches one graph a step, not hundreds of kernels
    compiled  torch.compile, which fuses the operations between matrix products; on CUDA captured as well
    """
    if mode == "compiled":
        step = _compiled(step)
    return step if mode == "eager" or device.type != "cuda" else Replay(step, state, partial(capture, device=device))


def _compiled(step: Step) -> Step:
    """The step under torch.compile; its first call compiles, and raises CompileError where there is no compiler."""
    # Each learner compiles a step of its own; from the ninth in a process on, the default limit skips this silently.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2**16
    fast = torch.compile(step, dynamic=False)

    def run(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            return fast(drawn)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).partition("\nSet TORCHDYNAMO")[0].strip()
            raise CompileError(
                f"torch.compile failed: {reason}", "--mode eager   # or install a C++ compiler"
            ) from error

    return run


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


def capture(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Record the work of `function` on a CUDA device and return its replay; all of its tensors must stay in place.

    Three runs on a side stream come first, for work that happens at first calls only.
    """
    with torch.cuda.device(device):  # streams and graphs belong to the current device
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):  # the default stream is that of the first device captured
            function()
    return graph.replay


def pick_device(name: str) -> str:
    """ "auto" -> "cuda" if available, else "cpu".  Raises UsageError for an absent or an unsupported device."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.empty(0, device=name).device.type not in ("cpu", "cuda"):
            raise RuntimeError("it runs on cpu and cuda")
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device '{name}' here: {str(error).splitlines()[0]}", "--device cpu") from None
    return name


def pick_mode(name: str, device: str) -> str:
    """ "auto" -> "graph" on CUDA, else "eager".  Raises UsageError for a mode that the device lacks."""
    if name == "auto":
        return "graph" if device.startswith("cuda") else "eager"
    if name not in MODES:
        raise UsageError(f"unknown mode '{name}'{nearest(name, MODES)}", f"--mode auto   # or {', '.join(MODES)}")
    if name == "graph" and not device.startswith("cuda"):
        raise UsageError(f"mode graph needs CUDA, and this runs on {device}", "--mode eager   # or --mode compiled")
    return name
