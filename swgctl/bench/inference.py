"""Duration of one action against the size of the network, with and without guidance (SWG, section 6.5 and B.3)."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.bench.measure import device_name, wait
from swgctl.config import DiffuseSettings
from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.models.conditioned import FOURIER, STEP_WIDTH, Fourier
from swgctl.models.layers import Linear
from swgctl.randomness import generator

HOPPER_O, HOPPER_A = 11, 3  # dimensions of Hopper's observations and actions, which give Table 10's parameter counts
CHANNELS = DiffuseSettings().channels(HOPPER_A)
K = 15
WIDTHS, LAYERS = (128, 256, 512, 1024, 2056, 4096, 8192), 4
DEPTHS, WIDTH = (1, 2, 3, 4, 5, 6, 7), 2056
MODULE = 256  # width of a module for the weight alone


class Plain(nn.Module):
    """The paper's plain network eps(z, k) at one observation: `layers` hidden layers of `width` units."""

    observation: Tensor

    def __init__(self, width: int, layers: int, outputs: int = CHANNELS):
        super().__init__()
        self.inputs = CHANNELS + HOPPER_O + STEP_WIDTH
        self.fourier = Fourier(1)
        self.step_in, self.step_out = Linear((1,), 2 * FOURIER, STEP_WIDTH), Linear((1,), STEP_WIDTH, STEP_WIDTH)
        sizes = itertools.pairwise([self.inputs, *[width] * layers, outputs])
        self.layers = nn.ModuleList(Linear((1,), a, b) for a, b in sizes)
        self.register_buffer("observation", torch.zeros(1, 1, HOPPER_O), persistent=False)

    def enter(self, z: Tensor, k: int) -> Tensor:
        """Input of the first layer: z, the observation, the step's embedding."""
        step = self.step_out(F.silu(self.step_in(self.fourier(z.new_full((1, 1, 1), k)))))
        return torch.cat([z, self.observation, step], -1)

    def forward(self, z: Tensor, k: int) -> Tensor:
        return chain(self.layers, self.enter(z, k))


class EarlyHead(Plain):
    """The plain network with the weight from a head on the first hidden layer, which alone the gradient enters.

    "Designing the DM to output the weight component in its early layers" (section 6.5), which should make the cost of
    guidance constant.
    """

    def __init__(self, width: int, layers: int):
        super().__init__(width, layers, HOPPER_A)
        self.head: nn.Module = Linear((1,), width, 1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, list[nn.Module]]:
        """(eps_w, h, layers): the layers map h to the actions' noise."""
        first, *rest = self.layers
        h = F.silu(first(x))
        return self.head(h), h, rest

    def weight_first(self, z: Tensor, k: int) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """See `self_weighted`."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps_w, h, layers = self.split(self.enter(z, k))
            (gradient,) = torch.autograd.grad(eps_w.sum(), z)

        @torch.no_grad()
        def finish() -> Tensor:
            return torch.cat([chain(layers, h.detach()), eps_w.detach()], -1)

        return eps_w.detach().squeeze(-1), gradient, finish

    def forward(self, z: Tensor, k: int) -> Tensor:
        eps_w, h, layers = self.split(self.enter(z, k))
        return torch.cat([chain(layers, h), eps_w], -1)


class OwnModule(EarlyHead):
    """The plain network with the weight from a small separate network of constant size (section 7)."""

    def __init__(self, width: int, layers: int):
        super().__init__(width, layers)
        self.head = nn.Sequential(Linear((1,), self.inputs, MODULE), nn.SiLU(), Linear((1,), MODULE, 1))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, list[nn.Module]]:
        return self.head(x), x, [*self.layers]


NETWORKS = {"none": Plain, "guided": Plain, "guided, early head": EarlyHead, "guided, own module": OwnModule}


def chain(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply the layers in turn, with SiLU between them."""
    first, *rest = layers
    x = first(x)
    for layer in rest:
        x = layer(F.silu(x))
    return x


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def table(repeats: int, device: torch.device, seconds: float = 1.5) -> Iterator[dict]:
    """Rows by size and guidance: seconds_mean, seconds_sd, runs, steps_per_s, parameters; a step is one action.

    Each network runs twice to warm up, then at least `repeats` times and as often as the unguided one does in `seconds`
    seconds; the four of a size take turns.
    """
    for axis, value in [*(("width", width) for width in WIDTHS), *(("depth", depth) for depth in DEPTHS)]:
        size = (value, LAYERS) if axis == "width" else (WIDTH, value)
        nets = {network: build(network, *size, device) for network in set(NETWORKS.values())}
        walks = {name: walk(nets[network], name != "none", device) for name, network in NETWORKS.items()}
        durations: dict[str, list[float]] = {name: [] for name in walks}
        for run in itertools.count(-2):
            for name, act in walks.items():
                wait(device)
                started = time.perf_counter()
                act()
                wait(device)
                if run >= 0:
                    durations[name].append(time.perf_counter() - started)
            if run + 1 >= repeats and sum(durations["none"]) >= seconds:
                break
        for name, times in durations.items():
            yield {
                "what": "inference",
                "axis": axis,
                "value": value,
                "mode": "eager",
                "guidance": name,
                "precision": "fp32",
                "parameters": parameters(nets[NETWORKS[name]]),
                "device": device_name(device),
                "runs": len(times),
                "seconds_mean": statistics.fmean(times),
                "seconds_sd": statistics.stdev(times) if len(times) > 1 else 0.0,
                "steps_per_s": 1 / statistics.median(times),
            }


def build(network: type[Plain], width: int, layers: int, device: torch.device) -> Plain:
    net = network(width, layers)
    for parameter in net.requires_grad_(False).parameters():
        parameter.fill_(1e-3)  # untouched zeros share one page of memory, which stays in the cache
    return net.to(device)


def walk(net: Plain, guided: bool, device: torch.device) -> Callable[[], Tensor]:
    """A function that samples one action: K steps from noise."""
    guidance = self_weighted(5.0) if guided else None
    schedule, noise = Schedule.vp(K), generator(0, "bench/noise", 0, device)
    return lambda: sample(net, schedule, (1, 1, CHANNELS), guidance=guidance, generator=noise)
