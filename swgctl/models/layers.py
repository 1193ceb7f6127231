"""Layers with a seed axis: S independent networks side by side, as batched matrix products.

Parameters and activations carry the members on their leading axes: (*members, B, features).  Every member is
initialised from its own generator, so that member s of five equals the same seed trained alone.
"""

import math
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.batched import affine, factor

LAYER_NORM_EPS = 1e-6  # Flax's, which the official code runs with; PyTorch's is 1e-5


@runtime_checkable
class Resettable(Protocol):
    """A layer that initialises its own parameters."""

    def reset(self, member: int, generator: torch.Generator) -> None:
        """Initialise one member's parameters."""


class Linear(nn.Module):
    """Affine map (*members, B, inputs) -> (*members, B, outputs).

    init  "xavier" (uniform) or "lecun" (truncated normal)
    """

    def __init__(self, members: tuple[int, ...], inputs: int, outputs: int, init: str = "xavier"):
        super().__init__()
        self.init = init
        self.weight = nn.Parameter(torch.zeros(*members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(*members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        weight = self.weight[member]
        inputs, outputs = weight.shape[-2:]
        if self.init == "xavier":
            bound = math.sqrt(6 / (inputs + outputs))
            weight.uniform_(-bound, bound, generator=generator)
        else:
            # Flax's lecun_normal: cut at two standard deviations, then scaled back to variance 1 / inputs.
            std = math.sqrt(1 / inputs) / 0.87962566103423978
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


class LayerNorm(nn.Module):
    """Layer normalisation of (*members, B, features), with a scale and an offset per member."""

    def __init__(self, members: tuple[int, ...], features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*members, 1, features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS), self.weight)


class Conv(Linear):
    """Convolution over time (S, B, L, inputs) -> (S, B, L, outputs), with zeros beyond both ends: one batched product.

    Of `weight` (S, width * inputs, outputs), rows [i * inputs, (i + 1) * inputs) are the i-th of `width` taps, which
    reads step t + i - (width - 1) // 2: an even kernel reaches one step further to the right, as Flax's "SAME" does.
    """

    def __init__(self, seeds: int, inputs: int, outputs: int, width: int):
        super().__init__((seeds,), width * inputs, outputs, init="lecun")
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        steps, before = x.shape[1:3], (self.width - 1) // 2
        x = factor(x.flatten(1, 2), self.weight).unflatten(1, steps)
        padded = F.pad(x, (0, 0, before, self.width - 1 - before))
        taps = [padded.narrow(2, i, steps[1]) for i in range(self.width)]
        return super().forward(torch.cat(taps, -1).flatten(1, 2)).unflatten(1, steps)


class GroupNorm(LayerNorm):
    """Group normalisation of (S, B, L, features), with a scale and an offset per channel and member.

    The statistics are of one time step and one group of features / groups channels.  PyTorch's are of all time steps;
    Flax, given one sequence (L, features) at a time as in the official code of PGD, takes the time for a batch.
    """

    def __init__(self, seeds: int, features: int, groups: int):
        super().__init__((seeds, 1), features)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.unflatten(-1, (self.groups, -1))
        normal = F.layer_norm(grouped, grouped.shape[-1:], eps=LAYER_NORM_EPS).flatten(-2)
        return torch.addcmul(self.bias, normal, self.weight)


def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias over any leading member axes, as one batched product."""
    if x.dim() == 3:
        return affine(bias, x, weight)
    flat = affine(bias.flatten(0, -3), x.flatten(0, -3), weight.flatten(0, -3))
    return flat.unflatten(0, weight.shape[:-2])


def reset(module: nn.Module, generators: list[torch.Generator]) -> None:
    """Initialise member s of every layer from generators[s]."""
    for member, generator in enumerate(generators):
        for layer in module.modules():
            if layer is not module and isinstance(layer, Resettable):
                layer.reset(member, generator)
