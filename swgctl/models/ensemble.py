"""Ensemble of Gaussian one-step models of the dynamics (PETS, arXiv 1805.12114; MOPO, arXiv 2005.13239)."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import Linear

LOG_VAR = (-10.0, 0.5)  # the first bounds of the log-variance


def soft_clamp(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x smoothly bounded, with a gradient everywhere: first by high, then by low (PETS, appendix A.1).

    The second softplus lifts the upper bound by softplus(low - high), 3e-5 for the bounds -10 and 0.5.
    """
    x = high - F.softplus(high - x)
    return low + F.softplus(x - low)


class Ensemble(nn.Module):
    """M networks a seed, each (s, a) -> mean and log-variance of an independent Gaussian of (s' - s, r).

    Inputs are z-scored by the buffers `mean` and `std` (S, 1, 1, O + A); swish between the layers.  The log-variance is
    softly clamped to bounds (S, 1, 1, O + 1) that are learnt, the same for the networks of a seed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, seeds: int, members: int, observation_dim: int, action_dim: int, hidden: Sequence[int]):
        super().__init__()
        self.members, self.observation_dim, self.action_dim = members, observation_dim, action_dim
        inputs, outputs = observation_dim + action_dim, observation_dim + 1
        sizes = itertools.pairwise([inputs, *hidden, 2 * outputs])
        self.layers = nn.ModuleList(_SmallLinear((seeds, members), a, b) for a, b in sizes)
        self.low, self.high = (nn.Parameter(torch.full((seeds, 1, 1, outputs), bound)) for bound in LOG_VAR)
        self.register_buffer("mean", torch.zeros(seeds, 1, 1, inputs))
        self.register_buffer("std", torch.ones(seeds, 1, 1, inputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log-variance) (S, M, B, O + 1) for raw x = [s, a] (S, M, B, O + A), or (S, 1, B, O + A) for all M."""
        h = ((x - self.mean) / self.std).expand(-1, self.members, -1, -1)
        *hidden, last = self.layers
        for layer in hidden:
            h = F.silu(layer(h))
        mean, log_var = last(h).chunk(2, -1)
        return mean, soft_clamp(log_var, self.low, self.high)


class _SmallLinear(Linear):
    """Affine map whose weights begin normal with sd 1 / (2 sqrt(inputs)), cut at 2: four or more sd (OfflineRL-Kit)."""

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        weight = self.weight[member]
        nn.init.trunc_normal_(weight, std=1 / (2 * math.sqrt(weight.shape[-2])), generator=generator)
