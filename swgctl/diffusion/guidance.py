"""Guidance: functions that turn the predicted noise into the noise of a weighted distribution.

A guidance is any `guide(denoise, z, k, alpha, sigma) -> eps` with z (..., D), the integer step k, and alpha_k and
sigma_k of the schedule as numbers.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from swgctl.diffusion.schedule import posterior_mean

Denoise = Callable[[Tensor, int], Tensor]
Energy = Callable[[Tensor, int], Tensor]
Guidance = Callable[[Denoise, Tensor, int, float, float], Tensor]
WeightFirst = Callable[[Tensor, int], tuple[Tensor, Tensor, Callable[[], Tensor]]]
Line = Callable[[int], tuple[Tensor | float, Tensor | float]]  # step k -> intercept and slope

W_MIN = 1e-4


class Counting(Protocol):
    """A guidance that counts its calls, as the denominator of its other counters (`config.Method.statistics`)."""

    @property
    def calls(self) -> int: ...

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float, /) -> Tensor: ...


def check_scale(rho: float | list[float] | Tensor) -> None:
    """Raise ValueError unless rho is a number >= 0, or several of them."""
    values = torch.as_tensor(rho)
    if not bool(((values >= 0) & values.isfinite()).all()):
        raise ValueError(f"rho must be a number >= 0, not {rho}")


class _Scaled:
    """A guidance with a scale.

    rho  a number >= 0, or a tensor of them broadcastable to z (..., D), such as one a row, (B, 1)

    `calls` counts its calls.  Raises ValueError for another rho, but for a tensor on an accelerator, which the host
    would have to wait for: its maker calls `check_scale`.
    """

    def __init__(self, rho: float | Tensor):
        if not isinstance(rho, Tensor) or rho.device.type == "cpu":
            check_scale(rho)
        self.rho = rho
        self.calls = 0


class self_weighted(_Scaled):
    """Self-weighted guidance (SWG, Theorem 3.5 with the guidance scale of section 5).

    eps~ = eps - rho sigma_k grad_{z_k} log w_hat,  w_hat = (z_{k,w} - sigma_k eps_w) / alpha_k  (equation 11),

    where _w is the last of the D channels.  With rho = 1 samples follow q(z) w exactly; with another rho the score is
    that of q(z) w^rho in the limit of sigma_k = 0 only.

    w_min  lower clamp of w_hat before its logarithm, since predicted weights need not be positive; a row below it has
           zero gradient.  There is no upper clamp: weights may exceed 1.
    line   calibrates w_hat, by intercept + slope w_hat before the clamp: the best linear estimate of w by what the
           denoiser says of it at step k, each broadcastable to z[..., 0].  None: w_hat itself, as for an exact
           denoiser (intercept 0, slope 1)

    `clamped` counts, for each row, the calls with w_hat < w_min; `calls` counts all.

    A denoiser that can compute eps_w before the rest has a method `weight_first(z, k) -> (eps_w (...), its gradient in
    z (..., D), finish)` with `finish() -> eps`; others are differentiated as a whole.
    """

    def __init__(self, rho: float | Tensor, w_min: float = W_MIN, line: Line | None = None):
        super().__init__(rho)
        if not 0 < w_min < math.inf:
            raise ValueError(f"w_min must be a number > 0, not {w_min}")
        self.w_min, self.line = w_min, line
        self.clamped: int | Tensor = 0

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        z = z.detach()
        eps_w, of_eps_w, finish = getattr(denoise, "weight_first", whole(denoise))(z, k)
        w_hat = posterior_mean(z[..., -1], eps_w, alpha, sigma)
        slope: Tensor | float = 1.0
        if self.line:
            intercept, slope = self.line(k)
            w_hat = intercept + slope * w_hat
        clamped = w_hat < self.w_min
        # sigma grad log w_hat = pull (e_w - sigma grad eps_w), with e_w the unit vector of the weight
        pull = (sigma / alpha * slope / w_hat.clamp(min=self.w_min)).masked_fill(clamped, 0)
        pull = self.rho * pull.unsqueeze(-1)
        eps = torch.addcmul(finish(), pull, of_eps_w, value=sigma)
        eps[..., -1:] -= pull[..., -1:]
        self.clamped, self.calls = self.clamped + clamped, self.calls + 1
        return eps


class energy_guided(_Scaled):
    """Guidance by an energy of the noisy sample (AEPO, equation 13): eps~ = eps - rho sigma_k grad_{z_k} E(z_k, k).

    energy  E(z_k (..., D), k) -> (...,), differentiable in z.  All D channels are guided.

    With rho = 1 and E = log E[w given z_k] (equation 12) samples follow q(z) w exactly.  The denoiser is not
    differentiated.
    """

    def __init__(self, rho: float | Tensor, energy: Energy):
        super().__init__(rho)
        self.energy = energy

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        with torch.enable_grad():
            x = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.energy(x, k).sum(), x)
        self.calls += 1
        with torch.no_grad():
            return denoise(z, k) - self.rho * sigma * gradient


class posterior_guided(_Scaled):
    """Guidance by the weight at the posterior mean of z_0: DPS (Chung et al., 2023; AEPO, equation 10).

    eps~ = eps - rho sigma_k grad_{z_k} log w(mu~),  mu~ = (z_k - sigma_k eps) / alpha_k  (AEPO, equation 18).

    log_weight  log w(z_0 (..., D)) -> (...,), differentiable in z_0
    bounds      (low, high), each broadcastable to z, to which mu~ is clipped; a clipped channel has no gradient

    Nothing is trained: the gradient goes through the denoiser.  It is that of log E[w given z_k] where log w is linear
    and the posterior of z_0 is a Gaussian whose covariance does not depend on z_k, and an approximation elsewhere.
    """

    def __init__(
        self,
        rho: float | Tensor,
        log_weight: Callable[[Tensor], Tensor],
        bounds: tuple[Tensor, Tensor] | None = None,
    ):
        super().__init__(rho)
        self.log_weight, self.bounds = log_weight, bounds

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps = denoise(z, k)
            mean = posterior_mean(z, eps, alpha, sigma)
            if self.bounds is not None:
                mean = mean.clamp(*self.bounds)
            (gradient,) = torch.autograd.grad(self.log_weight(mean).sum(), z)
        self.calls += 1
        return eps.detach() - self.rho * sigma * gradient


class wrapped:
    """A guidance inside another: its counters, such as `calls` and `clamped`, are those of the inner one."""

    calls: int

    def __init__(self, guidance: Guidance):
        self.guidance = guidance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guidance, name)


class late(wrapped):
    """Guidance in the last `steps` steps of the walk alone, those of k < steps; nothing guides before."""

    def __init__(self, guidance: Guidance, steps: int):
        super().__init__(guidance)
        self.steps = steps

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        if k < self.steps:
            return self.guidance(denoise, z, k, alpha, sigma)
        with torch.no_grad():
            return denoise(z, k)


class rescaled(wrapped):
    """Guidance that turns the noise and keeps its length (AEPO, equation 45): eps~ |eps| / |eps~|, norms over channels.

    eps~ is another guidance's, and eps what the denoiser gave to it, so that nothing is computed twice.  A row with
    eps~ = 0 stays 0.  Rescaled samples do not follow q(z) w, even where those of the guidance itself do.
    """

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        recorded = _Recorded(denoise)
        guided = self.guidance(recorded, z, k, alpha, sigma)
        return normalize(guided, dim=-1) * recorded.eps.norm(dim=-1, keepdim=True)


class _Recorded:
    """A denoiser that keeps its last answer, `eps` (..., D), without its graph."""

    eps: Tensor

    def __init__(self, denoise: Denoise):
        self.denoise = denoise

    def __call__(self, z: Tensor, k: int) -> Tensor:
        eps = self.denoise(z, k)
        self.eps = eps.detach()
        return eps

    def weight_first(self, z: Tensor, k: int) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        eps_w, of_eps_w, finish = getattr(self.denoise, "weight_first", whole(self.denoise))(z, k)

        def kept() -> Tensor:
            self.eps = finish()
            return self.eps

        return eps_w, of_eps_w, kept


def whole(denoise: Denoise) -> WeightFirst:
    """`weight_first` for a denoiser that has none: everything is computed, and differentiated, at once."""

    def weight_first(z: Tensor, k: int) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps = denoise(z, k)
            varies = eps.requires_grad  # False for a constant
            of_eps_w = torch.autograd.grad(eps[..., -1].sum(), z)[0] if varies else torch.zeros_like(z)
        eps = eps.detach()
        return eps[..., -1], of_eps_w, lambda: eps

    return weight_first
