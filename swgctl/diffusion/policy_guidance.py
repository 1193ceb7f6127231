"""Guidance of trajectories by a target policy (PGD, arXiv 2404.06356, section 4).

x (..., L, D) are z-scored windows (`Channels`), of which u (..., L, A) are the action channels; the action is
a = tanh(std u + mean).  The policy is a Gaussian of the action, N(m, s^2).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from swgctl.diffusion.edm import Denoise, per_window
from swgctl.diffusion.trajectories import LIMIT, Channels

# observations (..., L, O) -> the action's mean (..., L, A) in [-1, 1], and its sd, broadcastable to it
Act = Callable[[Tensor], tuple[Tensor, Tensor]]


def ramp(N: int, beta: float) -> Tensor:
    """1 - n/N + beta sin(pi (n + 1)/N) for the steps n < N - 1, and 0 for the last; (N,) float64.

    It is the published code's form of PGD's equation 14, whose sigma cannot be EDM's: steps of guidance would diverge.
    """
    n = torch.arange(N, dtype=torch.float64)
    factors = 1 - n / N + beta * torch.sin(math.pi * (n + 1) / N)
    factors[-1] = 0
    return factors


def gradient(act: Act, channels: Channels, x: Tensor) -> Tensor:
    """The gradient (..., L, A) of log N(a; m, s^2), summed over rows, in u: std (1 - a^2) (m - a) / s^2.

    States are fixed, and the tanh's Jacobian is no part of the density (PGD, equation 12; the published code).
    """
    where = channels.actions
    a = torch.tanh(channels.std[where] * x[..., where] + channels.mean[where])
    mean, sd = act(channels.observations(x))
    return channels.std[where] * (1 - a.square()) * (mean - a) / sd.square()


class policy_shift:
    """A shift of x's action channels along the policy's gradient before each step: u + lambda_n g (PGD, Algorithm 1).

    scale     lambda; lambda_n = lambda ramp(N, beta)[n].  The shifts of all steps add up: lambda belongs to N.
    unit      divide g by its Frobenius norm over the window's L x A actions
    denoised  take g at D(x, sigma), one more call of the denoiser, instead of at x; the denoiser is not differentiated
    """

    def __init__(
        self,
        act: Act,
        channels: Channels,
        scale: float,
        *,
        beta: float = 0.3,
        unit: bool = True,
        denoised: bool = True,
    ):
        self.act, self.channels, self.scale, self.beta = act, channels, scale, beta
        self.unit, self.denoised = unit, denoised

    def scales(self, levels: int) -> Tensor:
        """lambda_n at each step of a walk with N levels, (N,) float64."""
        return self.scale * ramp(levels, self.beta)

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Tensor, scale: float | Tensor) -> Tensor:
        """The shifted x (..., L, D), at level sigma () with lambda_n = scale ()."""
        g = gradient(self.act, self.channels, denoise(x, sigma) if self.denoised else x)
        if self.unit:
            g = g / (torch.linalg.vector_norm(g, dim=(-2, -1), keepdim=True) + 1e-8)
        return self.channels.with_actions(x, x[..., self.channels.actions] + scale * g)


def policy_posterior(denoise: Denoise, act: Act, channels: Channels, scale: float) -> Denoise:
    """The denoiser of data times policy^lambda, lambda = scale (PGD, equation 13), at the states that are predicted.

    The actions of D(x, sigma) become u + v / (v + s_u^2 / lambda) (u_m - u): the mean of a Gaussian N(u, v) times
    N(u_m, s_u^2)^lambda.  v = sigma^2 / (1 + sigma^2) is the variance of x_0 given x for standard normal data;
    u_m = (arctanh m - mean) / std and s_u = s / (std (1 - m^2)) are the policy's mean and sd in u, to first order.

    Where data and policy are Gaussians in u, the data's standard normal and the policy's mean the same at all states,
    samples follow equation 13 exactly.  The gradient that a mean has in the state is left out, as in equation 12.
    """
    std, mean = channels.std[channels.actions], channels.mean[channels.actions]

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        x0 = denoise(x, sigma)
        m, s = act(channels.observations(x0))
        m = m.clamp(-LIMIT, LIMIT)
        u_m, s_u = (m.arctanh() - mean) / std, s / (std * (1 - m.square()))
        variance = sigma.to(x).square()
        precision = scale * per_window(variance / (1 + variance))
        u = x0[..., channels.actions]
        return channels.with_actions(x0, u + precision / (precision + s_u.square()) * (u_m - u))

    return guided
