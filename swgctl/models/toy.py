"""Networks of the toys: plain multi-layer perceptrons of a point of the plane (SWG, appendix B.1)."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import Linear

PLANE = 2  # coordinates of an action
WAVES = 16  # frequencies of each embedding
FASTEST = 200.0  # highest frequency of the step, in radians over the whole walk; for beta a tenth of it
TOY_ARCHITECTURE = (
    "K",
    "beta_max",
    "width",
    "layers",
    "activation",
    "octaves",
)  # the settings that define a `ToyDenoiser`
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu}


class Plane(nn.Module):
    """S functions side by side of z = [a, ...], whose first two channels are a point of the plane, and of conditions.

    outputs     number of channels that come out
    conditions  (greatest value, highest frequency in radians up to there) of each number that enters as sines and
                cosines
    octaves     0: the point enters unchanged, as in the paper; else together with its sines and cosines at pi, 2 pi,
                4 pi ..., without which short trainings do not resolve structure below a tenth of the plane (Tancik et
                al., 2020)
    """

    octaves: Tensor

    def __init__(
        self,
        seeds: int,
        channels: int,
        outputs: int,
        conditions: Sequence[tuple[float, float]],
        width: int,
        layers: int,
        activation: str = "gelu",
        octaves: int = 0,
    ):
        super().__init__()
        self.scales, self.activation = [1 / greatest for greatest, _ in conditions], ACTIVATIONS[activation]
        widths = [channels + 2 * WAVES * len(conditions) + 2 * octaves * PLANE, *[width] * layers]
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(octaves), persistent=False)
        self.layers = nn.ModuleList(Linear((seeds,), i, o) for i, o in itertools.pairwise(widths))
        self.out = Linear((seeds,), width, outputs)
        for i, (_, fastest) in enumerate(conditions):
            waves = torch.exp(torch.linspace(0, math.log(fastest), WAVES))
            self.register_buffer(f"waves_{i}", waves, persistent=False)

    def forward(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """(S, B, outputs) for z (S, B, channels) and conditions, each broadcastable to (S, B)."""
        phase = (z[..., :PLANE].unsqueeze(-1) * self.octaves).flatten(-2)
        parts = [z, phase.sin(), phase.cos()]
        for i, (value, scale) in enumerate(zip(conditions, self.scales, strict=True)):
            phase = (value * scale).unsqueeze(-1) * self.get_buffer(f"waves_{i}")
            parts += [phase.sin(), phase.cos()]
        x = torch.cat([part.expand(*z.shape[:-1], -1) for part in parts], -1)
        for layer in self.layers:
            x = self.activation(layer(x))
        result: Tensor = self.out(x)
        return result


class ToyDenoiser(Plane):
    """Noise predictors eps(z_k, k, beta) of z = [a, w] for K steps and all beta in [0, beta_max] (SWG, appendix B.1).

    channels  the dimension of z
    """

    def __init__(self, seeds: int, channels: int, K: int, beta_max: float, **network: Any):
        super().__init__(seeds, channels, channels, [(K, FASTEST), (beta_max, FASTEST / 10)], **network)


class ToyGuide(nn.Module):
    """The networks of a method that guides a plain denoiser, S of each.

    denoiser  eps(a_k, k), (S, B, 2), whatever beta
    energy    E(a_k, k, beta), (S, B, 1); None where the method learns none
    label     Q(a), (S, B, 1), the mean label at a: half as wide, two layers and without octaves, so that it is smooth
              where labels jump; None where the method needs no gradient of the label
    """

    def __init__(
        self,
        seeds: int,
        K: int,
        beta_max: float,
        width: int,
        layers: int,
        activation: str,
        octaves: int,
        *,
        energy: bool,
        label: bool,
    ):
        super().__init__()
        step, beta = (K, FASTEST), (beta_max, FASTEST / 10)
        self.denoiser = Plane(seeds, PLANE, PLANE, [step], width, layers, activation, octaves)
        self.energy = Plane(seeds, PLANE, 1, [step, beta], width, layers, activation, octaves) if energy else None
        self.label = Plane(seeds, PLANE, 1, [], max(1, width // 2), 2, "silu") if label else None
