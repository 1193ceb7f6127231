"""From noise to a sample: the reverse walk z_K .. z_0."""

from collections.abc import Callable

import torch
from torch import Tensor

from swgctl.diffusion.guidance import Guidance
from swgctl.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, int], Tensor]
Noise = Callable[[tuple[int, ...]], Tensor]


@torch.inference_mode(False)  # guidance is a gradient, also where the caller wants none
@torch.no_grad()
def sample(
    denoise: Denoise,
    schedule: Schedule,
    shape: tuple[int, ...],
    *,
    guidance: Guidance | None = None,
    sampler: str = "ddpm",
    temperature: float | Tensor = 1.0,
    bounds: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | Noise,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Samples z_0 of `shape` (..., D), where `denoise(z_k, k) -> eps` predicts the noise (SWG, Algorithm 2).

    guidance     turns the predicted noise into the guided one; None samples from the data's own distribution.
    sampler      a name in SAMPLERS.  "ddpm" takes noise at every step and forgets what a learnt denoiser gets wrong
                 where alpha is small; the others, which are deterministic, need fewer steps and better denoisers.
    temperature  scales every draw of noise, the first included; 0 is deterministic and starts from zero.  A number,
                 or a tensor broadcastable to `shape`, such as one temperature a row.
    bounds       (low, high), each broadcastable to `shape`: where every predicted z_0 is clipped to.
    generator    a torch.Generator, or any function from a shape to standard normal noise, which is then called once
                 for the start and, where the sampler adds noise, once per noisy step, in the order of the walk.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler '{sampler}', know {', '.join(SAMPLERS)}")
    if isinstance(generator, torch.Generator):
        source = generator

        def noise(shape):
            return torch.randn(shape, generator=source, device=source.device, dtype=dtype)

    else:
        noise = generator

    def predict(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The guided noise at step k and the data that it points to, (z_k - sigma_k eps) / alpha_k."""
        alpha, sigma = schedule.at(k)
        eps = guidance(denoise, z, k, alpha, sigma) if guidance else denoise(z, k)
        z0 = (z - sigma * eps) / alpha
        if bounds is not None:
            z0 = z0.clamp(*bounds)
            eps = (z - alpha * z0) / sigma
        return eps, z0

    return SAMPLERS[sampler](predict, schedule, shape, temperature, noise)


def ddpm(predict, schedule: Schedule, shape, temperature: float | Tensor, noise: Noise) -> Tensor:
    """Ancestral sampling with variance beta_k (Ho et al., 2020, Algorithm 2)."""
    step_alpha, noisy = schedule.step_alpha.tolist(), bool(torch.as_tensor(temperature).any())
    z = temperature * noise(shape)
    for k in reversed(range(len(schedule))):
        eps, _ = predict(z, k)
        beta, sigma = 1 - step_alpha[k], schedule.at(k)[1]
        z = (z - beta / sigma * eps) / step_alpha[k] ** 0.5
        if k > 0 and noisy:
            z = z + temperature * beta**0.5 * noise(shape)
    return z


def ddim(predict, schedule: Schedule, shape, temperature: float | Tensor, noise: Noise) -> Tensor:
    """z_{k-1} = alpha_{k-1} z_0 + sigma_{k-1} eps, deterministic (J. Song et al., 2021, equation 12 with eta = 0).

    The last step ends on the predicted z_0 itself: the data is alpha = 1, sigma = 0.
    """
    z = temperature * noise(shape)
    for k in reversed(range(len(schedule))):
        eps, z0 = predict(z, k)
        alpha, sigma = schedule.at(k - 1)
        z = alpha * z0 + sigma * eps
    return z


def dpm_solver_pp(predict, schedule: Schedule, shape, temperature: float | Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M), deterministic and of second order (Lu et al., 2022, Algorithm 2).

    With lambda = log(alpha / sigma), h = lambda_{k-1} - lambda_k and D = z_0 extrapolated, linearly in lambda, to the
    middle of the step: z_{k-1} = sigma_{k-1} / sigma_k z_k - alpha_{k-1} (e^-h - 1) D, which is DDIM's step towards D.

    Two steps are of first order, D = z_0: the first, before which nothing was predicted, and the last, where sigma = 0
    makes h infinite.  So what comes out is a prediction, within its bounds, and never an extrapolation.  Nowhere on vp
    and cosine does the extrapolation go further than 0.83 of the last change of z_0, so nothing else is held back.
    """
    log_snr = (schedule.alpha / schedule.sigma).log().tolist()
    z, before = temperature * noise(shape), None
    for k in reversed(range(len(schedule))):
        _, z0 = predict(z, k)
        D = z0
        if 0 < k < len(schedule) - 1:
            h, h_before = log_snr[k - 1] - log_snr[k], log_snr[k] - log_snr[k + 1]
            D = z0 + h / (2 * h_before) * (z0 - before)
        (alpha, sigma), (alpha_next, sigma_next) = schedule.at(k), schedule.at(k - 1)
        z, before = alpha_next * D + sigma_next / sigma * (z - alpha * D), z0
    return z


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm-solver++": dpm_solver_pp}
