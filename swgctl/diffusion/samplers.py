"""Samplers: the reverse walk from noise to a sample, z_K .. z_0."""

from collections.abc import Callable

import torch
from torch import Tensor

from swgctl.diffusion.guidance import Denoise, Guidance
from swgctl.diffusion.schedule import Noise, Schedule, posterior_mean

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
    nfe: int = 0,
    temperature: float | Tensor = 1.0,
    bounds: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | Noise,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sample z_0 of `shape` (..., D), with `denoise(z_k, k) -> eps` as the noise predictor (SWG, Algorithm 2).

    guidance     turns the predicted noise into the guided one; None samples from the data's distribution.
    sampler      a name in SAMPLERS.  "ddpm" adds noise at every step and so forgets a learnt denoiser's errors at small
                 alpha; the others are deterministic: they need fewer steps and better denoisers.
    nfe          number of steps that are visited, uniform in k from K - 1 down to 0, with one call of the denoiser
                 each; 0: all K.  "dpm-solver-2s" counts as its authors do: nfe calls lead to k = 0, where one more
                 predicts z_0, so that nfe < K.
    temperature  scales every draw of noise, the first included; 0 is deterministic and starts from zero.  A number,
                 or a tensor broadcastable to `shape`, such as one temperature a row.
    bounds       (low, high), each broadcastable to `shape`, to which every predicted z_0 is clipped.
    generator    a torch.Generator, or any function from a shape to standard normal noise, called once for the start
                 and, where the sampler adds noise, once per noisy step, in the order of the walk.

    Raises ValueError for an unknown sampler, and where nfe is negative or the schedule has too few steps for it.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler '{sampler}', know {', '.join(SAMPLERS)}")
    steps = _visited(len(schedule), sampler, nfe)
    noise = _standard_normal(generator, dtype) if isinstance(generator, torch.Generator) else generator

    def predict(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """The guided noise eps at the visited step k = steps[i], and the `posterior_mean` z_0 that it implies."""
        k = steps[i]
        alpha, sigma = schedule.at(k)
        eps = guidance(denoise, z, k, alpha, sigma) if guidance else denoise(z, k)
        z0 = posterior_mean(z, eps, alpha, sigma)
        if bounds is not None:
            z0 = z0.clamp(*bounds)
            eps = torch.sub(z, z0, alpha=alpha) / sigma
        return eps, z0

    visited = Schedule(schedule.alpha[steps], schedule.sigma[steps])
    return SAMPLERS[sampler](predict, visited, shape, temperature, noise)


def _visited(K: int, sampler: str, nfe: int) -> list[int]:
    """The steps k that a walk of `nfe` calls visits, in ascending order; see `sample`."""
    uncounted = int(sampler == "dpm-solver-2s")
    if not 0 <= nfe <= K - uncounted:
        raise ValueError(f"nfe must lie in 0 .. {K - uncounted} for {sampler} on {K} steps, not {nfe}")
    down = torch.linspace(0, K - 1, nfe + uncounted if nfe else K, dtype=torch.float64)
    steps: list[int] = (K - 1 - down).round().long().flip(0).tolist()
    return steps


def _standard_normal(generator: torch.Generator, dtype: torch.dtype) -> Noise:
    def noise(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)

    return noise


def ddpm(
    predict: Predict, schedule: Schedule, shape: tuple[int, ...], temperature: float | Tensor, noise: Noise
) -> Tensor:
    """Ancestral sampling with variance beta_k (Ho et al., 2020, Algorithm 2)."""
    step_alpha, noisy = schedule.step_alpha.tolist(), temperature != 0
    if isinstance(temperature, Tensor):  # one on an accelerator is not waited for
        noisy = temperature.device.type != "cpu" or bool(temperature.any())
    z = temperature * noise(shape)
    for k in reversed(range(len(schedule))):
        eps, _ = predict(z, k)
        beta, sigma = 1 - step_alpha[k], schedule.at(k)[1]
        z = torch.sub(z, eps, alpha=beta / sigma) / step_alpha[k] ** 0.5
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
    makes h infinite.  So the result is a prediction, within its bounds, and never an extrapolation.  On all steps of vp
    and cosine D lies at most 0.83 of the last change of z_0 beyond z_0, so it needs no other limit; on a few steps of
    many it is up to 2.6, for which dpm_solver_2s is more accurate.
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
        z, before = _towards(D, z, schedule.at(k), schedule.at(k - 1)), z0
    return z


def dpm_solver_2s(
    predict: Predict, schedule: Schedule, shape: tuple[int, ...], temperature: float | Tensor, noise: Noise
) -> Tensor:
    """DPM-Solver++(2S), deterministic, singlestep and of second order (Lu et al., 2022, Algorithm 1).

    A step leads from k over a middle step m = k - 1 to k - 2.  With lambda = log(alpha / sigma), h = lambda_{k-2} -
    lambda_k and r = (lambda_m - lambda_k) / h, it is DDIM's step towards D = z_0 + (z_0m - z_0) / (2 r), where z_0m is
    predicted at m, which DDIM's step towards z_0 reaches.  An odd number of intervals ends with a step of first order.

    The walk ends at k = 0.  What is returned is the z_0 predicted there, within its bounds.
    """
    log_snr = (schedule.alpha / schedule.sigma).log().tolist()
    z = temperature * noise(shape)
    k = len(schedule) - 1
    while k > 0:
        _, D = predict(z, k)
        following = max(k - 2, 0)
        if k > 1:
            _, z0_m = predict(_towards(D, z, schedule.at(k), schedule.at(k - 1)), k - 1)
            r = (log_snr[k - 1] - log_snr[k]) / (log_snr[following] - log_snr[k])
            D = D + (z0_m - D) / (2 * r)
        z, k = _towards(D, z, schedule.at(k), schedule.at(following)), following
    return predict(z, 0)[1]


def _towards(D: Tensor, z: Tensor, here: tuple[float, float], there: tuple[float, float]) -> Tensor:
    """DDIM's step between two (alpha, sigma), towards the sample D: alpha' D + sigma' (z - alpha D) / sigma."""
    (alpha, sigma), (alpha_next, sigma_next) = here, there
    return alpha_next * D + sigma_next / sigma * (z - alpha * D)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpm-solver++": dpm_solver_pp, "dpm-solver-2s": dpm_solver_2s}
