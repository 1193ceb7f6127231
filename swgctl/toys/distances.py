"""How far samples of the plane are from each other."""

from functools import cached_property

import torch
from torch import Generator, Tensor


class Cloud:
    """Points of the plane (n, 2), with what distances from them to others need, computed once."""

    def __init__(self, points: Tensor, onto: Tensor):
        """onto (2, D): the directions of `sliced_wasserstein`."""
        self.points, self.onto = points.double(), onto

    @cached_property
    def projections(self) -> Tensor:
        """Along each direction, in order (D, n)."""
        return (self.points @ self.onto).T.sort(1).values

    @cached_property
    def spread(self) -> float:
        """The mean distance of two of the points, each with itself as well."""
        return 2 * torch.pdist(self.points).sum().item() / len(self.points) ** 2


def directions(generator: Generator, count: int = 256) -> Tensor:
    """Random unit vectors (2, count)."""
    angle = torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])


def sliced_wasserstein(x: Cloud, y: Cloud) -> float:
    """Mean over the directions of the 1-Wasserstein distance of the projections; as many points in both."""
    return (x.projections - y.projections).abs().mean().item()


def energy_distance(x: Cloud, y: Cloud) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of both empirical laws: never below 0; of one law's draws 2 E|X - X'| / n."""
    return 2 * torch.cdist(x.points, y.points).mean().item() - x.spread - y.spread
