"""The exact denoiser of a finite set of points: closed forms for samplers, guidance and learnt denoisers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.diffusion import Schedule


@dataclass
class Exact:
    """Of the uniform distribution on points (N, D), whose last coordinate is the weight.

    z_k = alpha z_0 + sigma eps makes the posterior of z_0 a softmax over the points, so that
    E[z_0 | z_k] and with it eps = (z_k - alpha E[z_0 | z_k]) / sigma need no learning.
    """

    points: Tensor
    schedule: Schedule

    def posterior(self, z: Tensor, k: int) -> Tensor:
        """p(point | z_k), (..., N)."""
        alpha, sigma = self.schedule.alpha[k].item(), self.schedule.sigma[k].item()
        distance = (z.unsqueeze(-2) - alpha * self.points).square().sum(-1)
        return torch.softmax(-distance / (2 * sigma**2), -1)

    def __call__(self, z: Tensor, k: int) -> Tensor:
        alpha, sigma = self.schedule.alpha[k].item(), self.schedule.sigma[k].item()
        return (z - alpha * self.posterior(z, k) @ self.points) / sigma

    def grad_log_weight(self, z: Tensor, k: int) -> Tensor:
        """grad_z log E[w | z_k] = (alpha / sigma^2) Cov(z_0, w | z_k) / E[w | z_k], without autograd."""
        alpha, sigma = self.schedule.alpha[k].item(), self.schedule.sigma[k].item()
        p, w = self.posterior(z, k), self.points[:, -1]
        mean = p @ w
        covariance = (p * w) @ self.points - mean.unsqueeze(-1) * (p @ self.points)
        return alpha / sigma**2 * covariance / mean.unsqueeze(-1)


def ring(beta: float, modes: int = 8) -> Tensor:
    """Points [a, w] (modes, 3): actions evenly on the unit circle, energies e = 0 .. 1, w = exp(-beta (1 - e))."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    energy = torch.arange(modes, dtype=torch.float64) / (modes - 1)
    return torch.stack([angle.cos(), angle.sin(), torch.exp(-beta * (1 - energy))], -1)


def shares(actions: Tensor, points: Tensor) -> Tensor:
    """The share (N,) of actions (B, A) whose nearest point it is."""
    nearest = torch.cdist(actions, points[:, :-1]).argmin(-1)
    return torch.bincount(nearest, minlength=len(points)) / len(actions)


def total_variation(p: Tensor, q: Tensor) -> float:
    return 0.5 * (p - q).abs().sum().item()
