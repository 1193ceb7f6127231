"""Variance of the posterior of the action given z_k, a number for each step (AEPO, equations 22, 24 and 42)."""

import torch
from torch import Tensor

from swgctl.diffusion import Schedule
from swgctl.diffusion.guidance import Denoise
from swgctl.diffusion.schedule import Noise, posterior_mean


def variances(
    eps: Tensor, mean: Tensor, actions: Tensor, centre: Tensor, alpha: Tensor | float, sigma: Tensor | float
) -> Tensor:
    """The three estimates of a step's s^2 (..., 3) from rows of noisy actions, before any limit.

    eps      predicted noise of the action, (..., B, A)
    mean     mu~, (..., B, A)
    actions  a_0, (..., B, A)
    centre   mean of the data's actions, broadcastable to these

    s^2 = sigma^2 / alpha^2 (1 - E |eps|^2 / A)              (AEPO, equation 22)
    s^2 = E (|a_0 - centre|^2 - |mu~ - centre|^2) / A        (equation 24, over the same rows)
    s^2 = E |a_0 - mu~|^2 / A                                (equation 42)

    Each is a mean over the rows, so that of several blocks of equal size is the mean of theirs.  The first multiplies a
    difference of nearly equal numbers by up to sigma^2 / alpha^2, 155 at the last step of `Schedule.vp`.
    """

    def average(square: Tensor) -> Tensor:
        return square.double().mean((-1, -2))

    first = (sigma / alpha) ** 2 * (1 - average(eps.square()))
    second = average((actions - centre).square() - (mean - centre).square())
    return torch.stack([first, second, average((actions - mean).square())], -1)


@torch.no_grad()
def by_step(
    denoise: Denoise,
    schedule: Schedule,
    z0: Tensor,
    noise: Noise,
    centre: Tensor,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """`variances` at every step, (S, 3, K), of the rows z0 (S, B, C), whose first A channels are the action.

    denoise  eps(z (S, B, C), k) at the rows' own observations
    noise    the function from a shape to standard normal noise, called once a step
    centre   mean of the data's actions, (A,)
    bounds   (low, high), to which mu~ is clipped; None: no clipping
    """
    A, steps = len(centre), []
    for k in range(len(schedule)):
        alpha, sigma = schedule.at(k)
        z = alpha * z0 + sigma * noise(z0.shape)
        eps = denoise(z, k)[..., :A]
        mean = posterior_mean(z[..., :A], eps, alpha, sigma)
        mean = mean if bounds is None else mean.clamp(*bounds)
        steps.append(variances(eps, mean, z0[..., :A], centre, alpha, sigma))
    return torch.stack(steps, -1)


def data_variance(actions: Tensor) -> Tensor:
    """Variance of the actions (N, A), the mean over their coordinates, ()."""
    return actions.double().var(0, correction=0).mean()


def limited(variance: Tensor, largest: Tensor) -> Tensor:
    """The variance in [0, largest].

    By the law of total variance the posterior's is on average at most the data's (`data_variance`).
    """
    return variance.clamp(min=0).minimum(largest)
