"""Distances between samples in the plane."""

from functools import cached_property

import torch
from torch import Generator, Tensor

BLOCK = 250  # points whose distances from all others are held at once: they fit into a processor's cache


class Cloud:
    """Points of the plane (n, 2), with the quantities that their distances share, each computed once."""

    def __init__(self, points: Tensor, onto: Tensor):
        """onto (2, D): the directions of `sliced_wasserstein`."""
        self.points, self.onto = points.double(), onto

    @cached_property
    def projections(self) -> Tensor:
        """Sorted projections onto each direction, (D, n)."""
        return (self.points @ self.onto).T.sort(1).values

    @cached_property
    def spread(self) -> float:
        """Mean distance over all ordered pairs of points, each with itself included."""
        return _mean_distance(self.points, self.points)


def directions(generator: Generator, count: int = 256) -> Tensor:
    """Random unit vectors (2, count)."""
    angle = torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])


def sliced_wasserstein(x: Cloud, y: Cloud) -> float:
    """Mean over the directions of the 1-Wasserstein distance of the projections; both clouds of the same size."""
    return (x.projections - y.projections).abs().mean().item()


def energy_distance(x: Cloud, y: Cloud) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of the empirical laws: >= 0; its mean for equal laws is 2 E|X - X'| / n."""
    return 2 * _mean_distance(x.points, y.points) - x.spread - y.spread


def _mean_distance(x: Tensor, y: Tensor) -> float:
    """Mean over all pairs of points (n, 2) and (m, 2); exactly 0 between a point and itself."""
    exact = "donot_use_mm_for_euclid_dist"
    total = sum(torch.cdist(some, y, compute_mode=exact).sum().item() for some in x.split(BLOCK))
    return total / (len(x) * len(y))
