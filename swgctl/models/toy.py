"""Noise predictor eps(z_k, k, beta) of the toys, z = [a, w]: a plain MLP (SWG, appendix B.1)."""

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import Linear

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


class ToyDenoiser(nn.Module):
    """S denoisers side by side for K steps and all beta in [0, beta_max]; `channels` is the dimension of z.

    octaves  0: the action enters unchanged, as in the paper; else together with its sines and cosines at pi, 2 pi,
             4 pi ..., without which short trainings do not resolve structure below a tenth of the plane (Tancik et
             al., 2020)
    """

    octaves: Tensor
    step_waves: Tensor
    beta_waves: Tensor

    def __init__(
        self,
        seeds: int,
        channels: int,
        K: int,
        beta_max: float,
        width: int,
        layers: int,
        activation: str = "gelu",
        octaves: int = 0,
    ):
        super().__init__()
        self.scales, self.activation = (1 / K, 1 / beta_max), ACTIVATIONS[activation]
        widths = [channels + 4 * WAVES + 2 * octaves * (channels - 1), *[width] * layers]
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(octaves), persistent=False)
        self.layers = nn.ModuleList(Linear((seeds,), i, o) for i, o in itertools.pairwise(widths))
        self.out = Linear((seeds,), width, channels)
        for name, fastest in (("step_waves", FASTEST), ("beta_waves", FASTEST / 10)):
            waves = torch.exp(torch.linspace(0, math.log(fastest), WAVES))
            self.register_buffer(name, waves, persistent=False)

    def forward(self, z: Tensor, k: Tensor, beta: Tensor) -> Tensor:
        """eps (S, B, channels) for z (S, B, channels), integer steps k and beta, both broadcastable to (S, B)."""
        phase = (z[..., :-1].unsqueeze(-1) * self.octaves).flatten(-2)
        parts = [z, phase.sin(), phase.cos()]
        for value, scale, waves in zip((k, beta), self.scales, (self.step_waves, self.beta_waves), strict=True):
            phase = (value * scale).unsqueeze(-1) * waves
            parts += [phase.sin(), phase.cos()]
        x = torch.cat([part.expand(*z.shape[:-1], -1) for part in parts], -1)
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.out(x)
