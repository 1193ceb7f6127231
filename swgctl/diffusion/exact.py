"""Exact denoiser of a finite set of points: guidance and samplers against closed forms, without training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from swgctl.diffusion.guidance import self_weighted
from swgctl.diffusion.samplers import SAMPLERS, sample
from swgctl.diffusion.schedule import Schedule


class Exact:
    """Exact denoiser of a discrete distribution: point i of (N, D), z = [a, w], has probability mass[i] / sum(mass).

    z_k = alpha z_0 + sigma eps makes the posterior of z_0 a softmax over the points.  So E[z_0 | z_k], and with it
    eps = (z_k - alpha E[z_0 | z_k]) / sigma, the global minimum of the diffusion loss (SWG, equation 9), is a sum.
    `mass` (N,); None: uniform.
    """

    def __init__(self, points: Tensor, schedule: Schedule, mass: Tensor | None = None):
        mass = torch.ones_like(points[:, -1]) if mass is None else mass
        self.points, self.schedule, self.mass = points, schedule, mass / mass.sum()

    def tilted(self, rho: float = 1.0) -> "Exact":
        """Exact denoiser of p(z) ~ q(z) w^rho (SWG, equation 8), whose `mass` is the target of guided samples."""
        return Exact(self.points, self.schedule, self.mass * self.points[:, -1] ** rho)

    def posterior(self, z: Tensor, k: int) -> Tensor:
        """Posterior p(point | z_k), (..., N), for z (..., D)."""
        alpha, sigma = self.schedule.at(k)
        distance = (z.unsqueeze(-2) - alpha * self.points).square().sum(-1)
        return torch.softmax(self.mass.log() - distance / (2 * sigma**2), -1)

    def __call__(self, z: Tensor, k: int) -> Tensor:
        alpha, sigma = self.schedule.at(k)
        return (z - alpha * self.posterior(z, k) @ self.points) / sigma


def ring(beta: float, modes: int = 8) -> Tensor:
    """Points [a, w] (modes, 3): actions evenly on the unit circle, energies e = 0 .. 1, w = exp(-beta (1 - e))."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    energy = torch.linspace(0, 1, modes, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin(), torch.exp(-beta * (1 - energy))], -1)


def shares(actions: Tensor, points: Tensor) -> Tensor:
    """Share (N,) of the actions (B, A) that are nearest to each of the points [a, w] (N, A + 1), by action."""
    nearest = torch.cdist(actions, points[:, :-1]).argmin(-1)
    return torch.bincount(nearest, minlength=len(points)) / len(actions)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of |p - q|, for two distributions over the same points (N,): 0 for equal ones, 1 for disjoint."""
    return 0.5 * (p - q).abs().sum().item()


def sampling_floor(p: Tensor, n: int) -> float:
    """Expected total variation between p (N,) and the shares of n independent draws from p itself.

    Half the sum of the binomials' mean deviations, each 2 v C(n, v) p^v (1 - p)^(n - v + 1) / n with
    v = floor(n p) + 1 (de Moivre, 1730; Diaconis & Zabell, 1991).
    """
    v = torch.floor(n * p) + 1
    choose = math.lgamma(n + 1) - torch.lgamma(v + 1) - torch.lgamma(n - v + 1)
    return (v * (choose + torch.xlogy(v, p) + torch.xlogy(n - v + 1, 1 - p)).exp()).sum().item() / n


def convergence(
    beta: float = 3.0,
    *,
    samplers: Sequence[str] = tuple(SAMPLERS),
    schedules: Sequence[str] = ("vp", "cosine"),
    steps: Sequence[int] = (5, 10, 15, 25, 50, 100),
    samples: int = 5_000,
    seed: int = 0,
) -> list[dict]:
    """Error of self-weighted samples of the ring against their target q w, with the sampler as its only source.

    One row a cell: schedule, sampler, K, then
    total_variation  between the shares of the eight modes and the target;
    floor            its expectation for as many exact draws;
    distance         root mean square distance of actions from their nearest modes, to which total variation is blind;
                     the modes themselves lie 0.77 apart.

    Every walk starts from N(0, I) instead of p_{K-1}, which differs slightly where the schedule keeps some of the data
    (alpha_{K-1} = 0.08 on vp).  Sampling noise forgets this error; the deterministic samplers carry it to the end, and
    more steps do not lower it.

    `schedules` names constructors of Schedule.  Raises ValueError for an unknown sampler and for K < 2.
    """
    points = ring(beta)
    rows: list[dict] = []
    for schedule in schedules:
        for K in steps:
            exact = Exact(points, getattr(Schedule, schedule)(K))
            for sampler in samplers:
                z = sample(
                    exact,
                    exact.schedule,
                    (samples, points.shape[1]),
                    guidance=self_weighted(1.0),
                    sampler=sampler,
                    generator=torch.Generator().manual_seed(seed),
                    dtype=points.dtype,
                )
                actions, target = z[:, :-1], exact.tilted().mass
                distance = torch.cdist(actions, points[:, :-1]).amin(-1).square().mean().sqrt()
                rows.append(
                    {
                        "schedule": schedule,
                        "sampler": sampler,
                        "K": K,
                        "total_variation": total_variation(shares(actions, points), target),
                        "floor": sampling_floor(target, samples),
                        "distance": distance.item(),
                    }
                )
    return rows
