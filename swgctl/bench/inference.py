"""How long one action takes as the network grows: with guidance and without (SWG, section 6.5 and appendix B.3)."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl import training
from swgctl.bench.measure import device_name, wait
from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.models.denoiser import FOURIER, STEP_WIDTH, Fourier
from swgctl.models.layers import Linear

OBSERVATIONS, ACTIONS = 11, 3  # Hopper's, with which Table 10's counts agree
K = 15
WIDTHS, LAYERS = (128, 256, 512, 1024, 2056, 4096, 8192), 4
DEPTHS, WIDTH = (1, 2, 3, 4, 5, 6, 7), 2056
MODES = ("unguided", "guided", "guided, own module")
MODULE = 256  # the width of a module for the weight alone


class Plain(nn.Module):
    """eps(z, k) at one observation by the paper's plain network: `layers` hidden layers of `width` units."""

    def __init__(self, width: int, layers: int, outputs: int = ACTIONS + 1):
        super().__init__()
        self.inputs = ACTIONS + 1 + OBSERVATIONS + STEP_WIDTH
        self.fourier = Fourier(1)
        self.step_in, self.step_out = Linear((1,), 2 * FOURIER, STEP_WIDTH), Linear((1,), STEP_WIDTH, STEP_WIDTH)
        sizes = itertools.pairwise([self.inputs, *[width] * layers, outputs])
        self.layers = nn.ModuleList(Linear((1,), a, b) for a, b in sizes)
        self.register_buffer("observation", torch.zeros(1, 1, OBSERVATIONS), persistent=False)

    def enter(self, z: Tensor, k: int) -> Tensor:
        step = self.step_out(F.silu(self.step_in(self.fourier(z.new_full((1, 1, 1), k)))))
        return torch.cat([z, self.observation, step], -1)

    def forward(self, z: Tensor, k: int) -> Tensor:
        return chain(self.layers, self.enter(z, k))


class WithModule(Plain):
    """The same, with the weight from a small network beside, of one size whatever that of the others.

    What the paper proposes to make the cost of guidance constant (section 6.5, at its end).
    """

    def __init__(self, width: int, layers: int):
        super().__init__(width, layers, ACTIONS)
        self.module = nn.ModuleList([Linear((1,), self.inputs, MODULE), Linear((1,), MODULE, 1)])

    def weight_first(self, z: Tensor, k: int):
        eps_w = chain(self.module, self.enter(z, k))

        @torch.no_grad()
        def finish() -> Tensor:
            return torch.cat([chain(self.layers, self.enter(z, k)), eps_w.detach()], -1)

        return eps_w.squeeze(-1), finish

    def forward(self, z: Tensor, k: int) -> Tensor:
        return self.weight_first(z, k)[1]()


def chain(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers[:-1]:
        x = F.silu(layer(x))
    return layers[-1](x)


def parameters(width: int, layers: int) -> int:
    """Table 10's count."""
    with torch.device("meta"):
        return sum(p.numel() for p in Plain(width, layers).parameters())


def table(repeats: int, device: torch.device, seconds: float = 0.5) -> Iterator[dict]:
    """A row for each size and mode: seconds_mean, seconds_sd, runs, steps_per_s, parameters; a step is one action.

    At least `repeats` runs of each, and for `seconds`; the modes of a size take turns.
    """
    for axis, value in [*(("width", width) for width in WIDTHS), *(("depth", depth) for depth in DEPTHS)]:
        size = (value, LAYERS) if axis == "width" else (WIDTH, value)
        walks = {mode: _walk(size, mode, device) for mode in MODES}
        for walk in walks.values():
            walk()  # whatever happens the first time only
        taken = {mode: [] for mode in MODES}
        while min(len(times) for times in taken.values()) < repeats or sum(taken["unguided"]) < seconds:
            for mode, walk in walks.items():
                wait(device)
                started = time.perf_counter()
                walk()
                wait(device)
                taken[mode].append(time.perf_counter() - started)
        for mode, times in taken.items():
            yield {
                "what": "inference",
                "axis": axis,
                "value": value,
                "mode": mode,
                "parameters": parameters(*size),
                "device": device_name(device),
                "runs": len(times),
                "seconds_mean": statistics.fmean(times),
                "seconds_sd": statistics.stdev(times) if len(times) > 1 else 0.0,
                "steps_per_s": 1 / statistics.median(times),
            }


def _walk(size: tuple[int, int], mode: str, device: torch.device) -> Callable[[], Tensor]:
    """One action: K steps from noise."""
    net = (WithModule if mode.endswith("module") else Plain)(*size)
    for parameter in net.requires_grad_(False).parameters():
        parameter.fill_(1e-3)  # zeros that nobody wrote are one page of memory, read from the cache
    net.to(device)
    guidance = None if mode == "unguided" else self_weighted(5.0)
    schedule, noise = Schedule.vp(K), training.generator(0, "bench/noise", 0, device)
    return lambda: sample(net, schedule, (1, 1, ACTIONS + 1), guidance=guidance, generator=noise)
