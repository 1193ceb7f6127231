"""Distances between samples in the plane."""

from functools import cached_property

import torch
from torch import Generator, Tensor


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
        return 2 * torch.pdist(self.points).sum().item() / len(self.points) ** 2


def directions(generator: Generator, count: int = 256) -> Tensor:
    """Random unit vectors (2, count)."""
    angle = torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])


def sliced_wasserstein(x: Cloud, y: Cloud) -> float:
    """Mean over the directions of the 1-Wasserstein distance of the projections; both clouds of the same size."""
    return (x.projections - y.projections).abs().mean().item()


def energy_distance(x: Cloud, y: Cloud) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of the empirical laws: >= 0; its mean for equal laws is 2 E|X - X'| / n."""
    return 2 * torch.cdist(x.points, y.points).mean().item() - x.spread - y.spread
