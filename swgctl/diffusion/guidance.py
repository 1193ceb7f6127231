"""Guidance: functions that turn the predicted noise into the noise of a weighted distribution.

A guidance is any `guide(denoise, z, k, alpha, sigma) -> eps` with z (..., D), the integer step k, and alpha_k and
sigma_k of the schedule as numbers.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]
Guidance = Callable[[Denoise, Tensor, int, float, float], Tensor]
WeightFirst = Callable[[Tensor, int], tuple[Tensor, Callable[[], Tensor]]]

W_MIN = 1e-4


class Counting(Protocol):
    """A guidance that counts its calls, as the denominator of its other counters (`config.Method.statistics`)."""

    @property
    def calls(self) -> int: ...

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float, /) -> Tensor: ...


class self_weighted:
    """Self-weighted guidance (SWG, Theorem 3.5 with the guidance scale of section 5).

    eps~ = eps - rho sigma_k grad_{z_k} log w_hat,  w_hat = (z_{k,w} - sigma_k eps_w) / alpha_k  (equation 11),

    where _w is the last of the D channels.  With rho = 1 samples follow q(z) w exactly; with another rho the score is
    that of q(z) w^rho in the limit of sigma_k = 0 only.

    rho    guidance scale: a number, or a tensor broadcastable to z (..., D), one scale a row.
    w_min  lower clamp of w_hat before its logarithm, since predicted weights need not be positive; a row below it has
           zero gradient.  There is no upper clamp: weights may exceed 1.

    `clamped` counts, for each row, the calls with w_hat < w_min; `calls` counts all.

    A denoiser that can compute eps_w before the rest has a method `weight_first(z, k) -> (eps_w (...), finish)` with
    `finish() -> eps`; then only the path to eps_w is differentiated.
    """

    def __init__(self, rho: float | Tensor, w_min: float = W_MIN):
        if not bool(((torch.as_tensor(rho) >= 0) & torch.as_tensor(rho).isfinite()).all()):
            raise ValueError(f"rho must be a number >= 0, not {rho}")
        if not 0 < w_min < math.inf:
            raise ValueError(f"w_min must be a number > 0, not {w_min}")
        self.rho, self.w_min = rho, w_min
        self.clamped: int | Tensor = 0
        self.calls = 0

    def __call__(self, denoise: Denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps_w, finish = getattr(denoise, "weight_first", _whole(denoise))(z, k)
            w_hat = (z[..., -1] - sigma * eps_w) / alpha
            log_w = w_hat.clamp(min=self.w_min).log()
            (gradient,) = torch.autograd.grad(log_w.sum(), z)
        self.clamped, self.calls = self.clamped + (w_hat.detach() < self.w_min), self.calls + 1
        return finish().detach() - self.rho * sigma * gradient


def _whole(denoise: Denoise) -> WeightFirst:
    """`weight_first` for a denoiser that has none: everything is computed, and differentiated, at once."""

    def weight_first(z: Tensor, k: int) -> tuple[Tensor, Callable[[], Tensor]]:
        eps = denoise(z, k)
        return eps[..., -1], lambda: eps

    return weight_first
