"""How steps run on a device: operation by operation, compiled or captured, and with how exact matrix products."""

import contextlib
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from swgctl.errors import CompileError, UsageError, nearest

MODES = ("eager", "graph", "compiled")

Step = Callable[[dict[str, Tensor]], dict[str, Tensor]]
Capture = Callable[[Callable[[], None]], Callable[[], None]]

# The names of `torch.set_float32_matmul_precision`.  They allow coarser factors and ask for none; on CUDA "medium" is
# TF32 as well.
PRECISIONS = {"fp32": "highest", "tf32": "high", "bf16": "medium"}


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """While inside, the factors of matrix products are rounded to `precision`; what is stored and summed is fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def effective(precision: str, device: str) -> str:
    """What factors are rounded to in truth, fp32, tf32 or bf16, as a product shows.

    A processor's flags do not tell: with AVX-512 BF16 but no AMX, oneDNN multiplies in fp32 all the same.  Times the
    identity a factor comes back as it was rounded.  1 + 2^-20 is a number of fp32 alone, which has 23 bits behind the
    point; 1 + 2^-9 is one of tf32 as well, which has 10, and becomes 1 in bf16, which has 7.
    """
    identity = torch.eye(512, device=device)

    def kept(bits: int) -> bool:
        factors = torch.full_like(identity, 1 + 2**-bits)
        with products(precision):
            return torch.equal(factors @ identity, factors)

    return "fp32" if kept(20) else "tf32" if kept(9) else "bf16"


def runner(step: Step, state: Callable[[], dict[str, Tensor]], mode: str, device: torch.device) -> Step:
    """A step as it runs in a mode.  Each mode gives the same bytes every time, and not those of another mode.

    eager     operation by operation
    graph     CUDA only: captured once, replayed for every step, so that the host launches one thing and not hundreds
    compiled  by torch.compile, which fuses what lies between the matrix products; on CUDA captured as well
    """
    if mode == "compiled":
        step = _compiled(step)
    return step if mode == "eager" or device.type != "cuda" else Replay(step, state, partial(capture, device=device))


def _compiled(step: Step) -> Step:
    """By torch.compile, at the first call.  Raises CompileError then, as where there is no compiler."""
    # Each learner is compiled by itself.  By default only eight of a process would be, and no word about the ninth.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2**16
    fast = torch.compile(step, dynamic=False)

    def run(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            return fast(drawn)
        except torch._dynamo.exc.TorchDynamoException as error:
            told = str(error).partition("\nSet TORCHDYNAMO")[0].strip()
            raise CompileError(f"torch.compile failed: {told}", "--mode eager, or install a C++ compiler") from error

    return run


class Replay:
    """A step that is recorded at its first call, and from then on replayed with what was drawn for each call.

    step     reads its argument's tensors and changes the state in place; nothing else of it may depend on the call
    state    the tensors that it changes, by name; they are put back after the trials that a recording needs
    capture  calls a function of no arguments as often as it needs, and returns what replays it
    """

    def __init__(self, step: Step, state: Callable[[], dict[str, Tensor]], capture: Capture):
        self.step, self.state, self.capture = step, state, capture
        self.slots: dict[str, Tensor] = {}
        self.info: dict[str, Tensor] = {}
        self.replay: Callable[[], None] | None = None

    def __call__(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The step's answer, in tensors that the next call writes over."""
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
    """What replays the work of `function` on a CUDA device, whose tensors all stay where they are.

    It is run three times before, on a stream of its own, for what happens at first calls only.
    """
    with torch.cuda.device(device):  # streams and graphs are of the current one
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):  # its own choice would be of whichever device was captured on first
            function()
    return graph.replay


def pick_device(name: str) -> str:
    """ "auto" -> "cuda" where there is one.  Raises UsageError for a device that is not here, or of another kind."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.empty(0, device=name).device.type not in ("cpu", "cuda"):
            raise RuntimeError("it runs on cpu and cuda")
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device '{name}' here: {str(error).splitlines()[0]}", "--device cpu") from None
    return name


def pick_mode(name: str, device: str) -> str:
    """ "auto" -> "graph" on CUDA, else "eager".  Raises UsageError for a mode that the device does not have."""
    if name == "auto":
        return "graph" if device.startswith("cuda") else "eager"
    if name not in MODES:
        raise UsageError(f"unknown mode '{name}'{nearest(name, MODES)}", f"one of auto, {', '.join(MODES)}")
    if name == "graph" and not device.startswith("cuda"):
        raise UsageError(f"mode graph is CUDA's, and this runs on {device}", "--mode eager, or --mode compiled")
    return name
