"""What a joint denoiser knows of its weight: the regression of w on w_hat, step by step."""

import torch
from torch import Tensor

from swgctl.diffusion.guidance import Denoise
from swgctl.diffusion.schedule import Noise, Schedule, posterior_mean


@torch.no_grad()
def predicted_weights(denoise: Denoise, schedule: Schedule, z0: Tensor, noise: Noise) -> Tensor:
    """w_hat (SWG, equation 11) of noisy rows at every step, (S, K, B), for z0 = [action, weight] (S, B, D).

    denoise  eps(z (S, B, D), k) at the rows' observations
    noise    the function from a shape to standard normal noise, called once a step
    """
    steps = []
    for k in range(len(schedule)):
        alpha, sigma = schedule.at(k)
        z = alpha * z0 + sigma * noise(z0.shape)
        steps.append(posterior_mean(z[..., -1], denoise(z, k)[..., -1], alpha, sigma))
    return torch.stack(steps, 1)


def regression(w: Tensor, w_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intercept, slope and correlation (S, K), float64, of the least-squares line of w (S, B) on w_hat (S, K, B).

    Intercept + slope w_hat is the best linear estimate of w from what the denoiser says of it at a step.  The exact
    denoiser's w_hat is E[w given z_k], whose line has intercept 0 and slope 1; where w_hat says nothing of w the slope
    is 0.  Rows of equal w_hat, or of equal w, have slope and correlation 0.
    """
    w, w_hat = w.double().unsqueeze(1), w_hat.double()
    centre, centre_hat = w.mean(-1, keepdim=True), w_hat.mean(-1, keepdim=True)
    together = ((w - centre) * (w_hat - centre_hat)).mean(-1)
    variance, variance_hat = (w - centre).square().mean(-1), (w_hat - centre_hat).square().mean(-1)
    slope = torch.where(variance_hat > 0, together / variance_hat, 0.0)
    both = (variance * variance_hat).sqrt()
    correlation = torch.where(both > 0, together / both, 0.0)
    return centre.squeeze(-1) - slope * centre_hat.squeeze(-1), slope, correlation


def line(w: Tensor, w_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Intercept and slope (S, K) of the `regression` without negative slopes, by which a weight would be avoided where
    nothing is known: such a step has slope 0 and the mean of w (S, B)."""
    intercept, slope, _ = regression(w, w_hat)
    mean = w.double().mean(-1, keepdim=True).expand_as(slope)
    return torch.where(slope > 0, intercept, mean), slope.clamp(min=0)
