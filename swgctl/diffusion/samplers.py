"""From noise to a sample: the reverse walk z_K .. z_0."""

from collections.abc import Callable

import torch
from torch import Tensor

from swgctl.diffusion.guidance import Guidance
from swgctl.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, int], Tensor]
Noise = Callable[[tuple[int, ...]], Tensor]


@torch.no_grad()
def sample(
    denoise: Denoise,
    schedule: Schedule,
    shape: tuple[int, ...],
    *,
    guidance: Guidance | None = None,
    sampler: str = "ddpm",
    temperature: float = 1.0,
    bounds: tuple[Tensor, Tensor] | None = None,
    generator: torch.Generator | Noise,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Samples z_0 of `shape` (..., D), where `denoise(z_k, k) -> eps` predicts the noise (SWG, Algorithm 2).

    guidance     turns the predicted noise into the guided one; None samples from the data's own distribution.
    sampler      a name in SAMPLERS.
    temperature  scales every draw of noise, the first included; 0 is deterministic and starts from zero.
    bounds       (low, high), each broadcastable to `shape`: where every predicted z_0 is clipped to.
    generator    a torch.Generator, or any function from a shape to standard normal noise, which is then called once
                 for the start and once per noisy step, in the order of the walk.
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
        alpha, sigma = schedule.alpha[k].item(), schedule.sigma[k].item()
        eps = guidance(denoise, z, k, alpha, sigma) if guidance else denoise(z, k)
        z0 = (z - sigma * eps) / alpha
        if bounds is not None:
            z0 = z0.clamp(*bounds)
            eps = (z - alpha * z0) / sigma
        return eps, z0

    return SAMPLERS[sampler](predict, schedule, shape, temperature, noise)


def ddpm(predict, schedule: Schedule, shape, temperature: float, noise: Noise) -> Tensor:
    """Ancestral sampling with variance beta_k (Ho et al., 2020, Algorithm 2)."""
    step_alpha = schedule.step_alpha.tolist()
    z = temperature * noise(shape)
    for k in reversed(range(len(schedule))):
        eps, _ = predict(z, k)
        beta, sigma = 1 - step_alpha[k], schedule.sigma[k].item()
        z = (z - beta / sigma * eps) / step_alpha[k] ** 0.5
        if k > 0 and temperature > 0:
            z = z + temperature * beta**0.5 * noise(shape)
    return z


SAMPLERS = {"ddpm": ddpm}
