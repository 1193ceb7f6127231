"""EDM: preconditioning, loss, noise levels and a stochastic sampler of second order (Karras et al., 2022).

x_sigma = x_0 + sigma eps, with data x_0 (..., L, D) of unit variance: windows of L rows with D channels.  A noise level
sigma is one number a window, (...), or one for all, ().  A network F(c_in x, c_noise) predicts in units of its own; the
denoiser D(x, sigma) that it makes is the mean of x_0 given x.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from swgctl.diffusion.schedule import Noise

Network = Callable[[Tensor, Tensor], Tensor]  # F(x (..., L, D), c_noise (...)) -> (..., L, D)
Denoise = Callable[[Tensor, Tensor], Tensor]  # D(x (..., L, D), sigma (...) or ()) -> (..., L, D)

SIGMA_MAX, SIGMA_MIN, RHO = 80.0, 0.002, 7.0  # Karras et al., table 1
GAMMA_MAX = math.sqrt(2) - 1


class Shift(Protocol):
    """Guidance that moves x before each step of the walk."""

    def scales(self, levels: int) -> Tensor:
        """Scale of the shift at each step of a walk with N levels, (N,) float64."""

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Tensor, scale: Tensor, /) -> Tensor:
        """The shifted x (..., L, D), at level sigma () with scale ()."""


# -- the denoiser and its training -------------------------------------------------------------------------------------


def preconditioning(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in and c_noise, each of sigma's shape, for data of unit variance (Karras et al., table 1)."""
    c_in = (sigma.square() + 1).rsqrt()
    return c_in.square(), sigma * c_in, c_in, sigma.log() / 4


def denoised(network: Network, x: Tensor, sigma: Tensor) -> Tensor:
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), (..., L, D) (Karras et al., equation 7)."""
    c_skip, c_out, c_in, c_noise = preconditioning(sigma.to(x).expand(x.shape[:-2]))
    return per_window(c_skip) * x + per_window(c_out) * network(per_window(c_in) * x, c_noise)


def loss(network: Network, x0: Tensor, eps: Tensor, sigma: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """(loss (S,), info): the mean of |D - x_0|^2 / c_out^2 over windows, rows and channels (Karras et al., equation 8).

    x0, eps (S, B, L, D); sigma (S, B).  Since D - x_0 = c_out (F - c_in (sigma x_0 - eps)), the difference of F and its
    target is squared: at a small sigma D and x_0 would cancel.  F = 0 has loss 1 at every sigma if E x_0^2 = 1.

    info  `error`, the unweighted mean of |D - x_0|^2
    """
    _, c_out, c_in, c_noise = preconditioning(sigma)
    scale, level = per_window(c_in), per_window(sigma)
    target = scale * (level * x0 - eps)
    squared = (network(scale * (x0 + level * eps), c_noise) - target).square().mean((-2, -1))
    return squared.mean(-1), {"error": (c_out.square() * squared).detach().mean(-1)}


def per_window(values: Tensor) -> Tensor:
    """Numbers (...), one a window, as (..., 1, 1), which broadcasts over its rows and channels."""
    return values[..., None, None]


# -- the walk ----------------------------------------------------------------------------------------------------------


def noise_levels(N: int) -> Tensor:
    """sigma_0 = 80 > ... > sigma_{N-1} = 0.002, and sigma_N = 0; (N + 1,) float64 (Karras et al., equation 5)."""
    first, last = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    levels = torch.linspace(first, last, N, dtype=torch.float64) ** RHO
    return torch.cat([levels, levels.new_zeros(1)])


def churns(levels: Tensor, churn: float, low: float, high: float) -> Tensor:
    """gamma_n, the relative increase of the noise level at step n, (N,) for levels (N + 1,) (Karras et al., 2022).

    It is Algorithm 2's min(churn / N, sqrt(2) - 1) for levels in [low, high], else 0.
    """
    sigma = levels[:-1]
    gamma = torch.full_like(sigma, min(churn / len(sigma), GAMMA_MAX))
    return torch.where((sigma >= low) & (sigma <= high), gamma, 0.0)


@dataclass(frozen=True)
class Walk:
    """Noise levels and churn of a stochastic sampler (Karras et al., Algorithm 2 and table 5).

    levels       N, the number of steps
    churn        S_churn; 0: deterministic after the start
    churn_min    S_tmin, and churn_max, S_tmax: the levels between which steps churn
    churn_noise  S_noise, a factor of the churn's noise
    rule         "karras"; "published": Euler's step starts at the point before the churn, as PGD's code has it, by
                 which samples are too wide where the levels are few
    """

    levels: int = 256
    churn: float = 80.0
    churn_min: float = 0.05
    churn_max: float = 50.0
    churn_noise: float = 1.003
    rule: Literal["karras", "published"] = "karras"

    def table(self, shift: Shift | None = None) -> dict[str, Tensor]:
        """The numbers that `step` reads at each step, by name, (N,) float64.

        sigma   the level of x
        raised  the level after the churn, sigma (1 + gamma)
        churn   standard deviation of the churn's noise
        after   the level to which the step leads
        shift   the scale of the shift, where there is one
        """
        levels = noise_levels(self.levels)
        sigma = levels[:-1]
        raised = sigma * (1 + churns(levels, self.churn, self.churn_min, self.churn_max))
        churn = self.churn_noise * (raised.square() - sigma.square()).sqrt()
        scales = {"shift": shift.scales(self.levels)} if shift else {}
        return {"sigma": sigma, "raised": raised, "churn": churn, "after": levels[1:], **scales}


def step(
    denoise: Denoise,
    x: Tensor,
    at: Mapping[str, Tensor],
    eps: Tensor,
    *,
    published: bool = False,
    shift: Shift | None = None,
) -> Tensor:
    """One step of the walk, from x (..., L, D) to the next level: Heun's (Karras et al., Algorithm 2).

    at         a row of `Walk.table`, tensors () of x's type on its device, so that a CUDA graph can read them anew
    eps        standard normal noise (..., L, D)
    published  as `Walk.rule`
    """
    if shift is not None:
        x = shift(denoise, x, at["sigma"], at["shift"])
    raised, after = at["raised"], at["after"]
    churned = x + at["churn"] * eps
    slope = (churned - denoise(churned, raised)) / raised
    euler = (x if published else churned) + (after - raised) * slope
    # The last step, to level 0, is Euler's.  Its second slope is computed at another level, and not used: all steps
    # are then one sequence of operations.
    level = torch.where(after > 0, after, raised)
    slope_after = (euler - denoise(euler, level)) / level
    heun = churned + (after - raised) * (slope + slope_after) / 2
    return torch.where(after > 0, heun, euler)


@torch.no_grad()
def sample(denoise: Denoise, shape: tuple[int, ...], walk: Walk, noise: Noise, shift: Shift | None = None) -> Tensor:
    """Sample x_0 of `shape` (..., L, D).

    noise  from a shape to standard normal noise: called once for the start, then once for each step
    """
    x = noise(shape)
    table = {name: column.to(x) for name, column in walk.table(shift).items()}
    x = table["sigma"][0] * x
    for n in range(walk.levels):
        at = {name: column[n] for name, column in table.items()}
        x = step(denoise, x, at, noise(shape), published=walk.rule == "published", shift=shift)
    return x
