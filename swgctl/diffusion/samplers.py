"""Samplers: the reverse walk from noise to a sample, z_K .. z_0."""

from collections.abc import Callable

import torch
from torch import Tensor

from swgctl.diffusion.guidance import Denoise, Guidance
from swgctl.diffusion.schedule import Schedule

Noise = Callable[[tuple[int, ...]], Tensor]
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@torch.inference_mode(False)  # guidance needs a gradient even where the caller disables them
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
    """Sample z_0 of `shape` (..., D), with `denoise(z_k, k) -> eps` as the noise predictor (SWG, Algorithm 2).

    guidance     turns the predicted noise into the guided one; None samples from the data's distribution.
    sampler      a name in SAMPLERS.  "ddpm" adds noise at every step and so forgets a learnt denoiser's errors at small
                 alpha; the others are deterministic: they need fewer steps and better denoisers.
    temperature  scales every draw of noise, the first included; 0 is deterministic and starts from zero.  A number,
                 or a tensor broadcastable to `shape`, such as one temperature a row.
    bounds       (low, high), each broadcastable to `shape`, to which every predicted z_0 is clipped.
    generator    a torch.Generator, or any function from a shape to standard normal noise, called once for the start
                 and, where the sampler adds noise, once per noisy step, in the order of the walk.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler '{sampler}', know {', '.join(SAMPLERS)}")
    noise = _standard_normal(generator, dtype) if isinstance(generator, torch.Generator) else generator

    def predict(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The guided noise eps at step k, and the z_0 that it implies, (z_k - sigma_k eps) / alpha_k."""
        alpha, sigma = schedule.at(k)
        eps = guidance(denoise, z, k, alpha, sigma) if guidance else denoise(z, k)
        z0 = (z - sigma * eps) / alpha
        if bounds is not None:
            z0 = z0.clamp(*bounds)
            eps = (z - alpha * z0) / sigma
        return eps, z0

    return SAMPLERS[sampler](predict, schedule, shape, temperature, noise)


def _standard_normal(generator: torch.Generator, dtype: torch.dtype) -> Noise:
    def noise(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)

    return noise


def ddpm(
    predict: Predict, schedule: Schedule, shape: tuple[int, ...], temperature: float | Tensor, noise: Noise
) -> Tensor:
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


def ddim(
    predict: Predict, schedule: Schedule, shape: tuple[int, ...], temperature: float | Tensor, noise: Noise
) -> Tensor:
    """DDIM, deterministic: z_{k-1} = alpha_{k-1} z_0 + sigma_{k-1} eps (J. Song et al., 2021, equation 12, eta = 0).

    The last step returns the predicted z_0 itself: the data is at alpha = 1, sigma = 0.
    """
    z = temperature * noise(shape)
    for k in reversed(range(len(schedule))):
        eps, z0 = predict(z, k)
        alpha, sigma = schedule.at(k - 1)
        z = alpha * z0 + sigma * eps
    return z


def dpm_solver_pp(
    predict: Predict, schedule: Schedule, shape: tuple[int, ...], temperature: float | Tensor, noise: Noise
) -> Tensor:
    """DPM-Solver++(2M), deterministic and of second order (Lu et al., 2022, Algorithm 2).

    With lambda = log(alpha / sigma), h = lambda_{k-1} - lambda_k and D = z_0 extrapolated, linearly in lambda, to the
    middle of the step: z_{k-1} = sigma_{k-1} / sigma_k z_k - alpha_{k-1} (e^-h - 1) D, which is DDIM's step towards D.

    Two steps are of first order, D = z_0: the first, which has no earlier prediction, and the last, where sigma = 0
    makes h infinite.  So the result is a prediction, within its bounds, and never an extrapolation.  On vp and cosine
    the extrapolation is at most 0.83 of the last change of z_0, so it needs no other limit.
    """
    log_snr = (schedule.alpha / schedule.sigma).log().tolist()
    z = temperature * noise(shape)
    before = z  # z_0 of the step before; not read at the first step
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
