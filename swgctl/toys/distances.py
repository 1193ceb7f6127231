"""How far two samples of the plane are from each other."""

import torch
from torch import Generator, Tensor


def sliced_wasserstein(x: Tensor, y: Tensor, generator: Generator, directions: int = 256) -> float:
    """Mean over random directions of the 1-Wasserstein distance of the projections; x and y (n, 2), as many points."""
    angle = torch.pi * torch.rand(directions, generator=generator, dtype=torch.float64)
    onto = torch.stack([angle.cos(), angle.sin()])
    apart = (x.double() @ onto).sort(0).values - (y.double() @ onto).sort(0).values
    return apart.abs().mean().item()


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased, so that it may fall below 0; x (n, 2), y (m, 2)."""

    def within(points: Tensor) -> Tensor:
        return torch.cdist(points, points).sum() / (len(points) * (len(points) - 1))

    x, y = x.double(), y.double()
    return (2 * torch.cdist(x, y).mean() - within(x) - within(y)).item()
