"""Guidance: functions that turn the predicted noise into the noise of a weighted distribution.

A guidance is any `guide(denoise, z, k, alpha, sigma) -> eps` with z (..., D), the integer step k and the schedule's
alpha_k and sigma_k as numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Guidance = Callable[[Callable[[Tensor, int], Tensor], Tensor, int, float, float], Tensor]

W_MIN = 1e-4


class self_weighted:
    """Self-weighted guidance (SWG, Theorem 3.5 with the guidance scale of section 5).

    eps~ = eps - rho sigma_k grad_{z_k} log w_hat,  w_hat = (z_{k,w} - sigma_k eps_w) / alpha_k  (equation 11),

    where _w is the last of the D channels.  With rho = 1 samples follow q(z) w exactly; with another rho the score is
    that of q(z) w^rho in the limit of sigma_k = 0 only.

    rho    the guidance scale: a number, or a tensor broadcastable to z (..., D), one scale a row.
    w_min  weights are positive, predictions of them need not be: the logarithm is of max(w_hat, w_min), so the
           gradient of a row below w_min is zero.  There is no upper bound: weights may exceed 1.

    `clamped` counts, for each row, the calls in which w_hat lay below w_min; `calls` counts all.

    A denoiser that can compute eps_w before the rest says so with a method
    `weight_first(z, k) -> (eps_w (...), finish)`, `finish() -> eps`.  Then only what eps_w needs is differentiated.
    """

    def __init__(self, rho: float | Tensor, w_min: float = W_MIN):
        if not bool(((torch.as_tensor(rho) >= 0) & torch.as_tensor(rho).isfinite()).all()):
            raise ValueError(f"rho must be a number >= 0, not {rho}")
        if not 0 < w_min < math.inf:
            raise ValueError(f"w_min must be a number > 0, not {w_min}")
        self.rho, self.w_min = rho, w_min
        self.clamped, self.calls = 0, 0

    def __call__(self, denoise, z: Tensor, k: int, alpha: float, sigma: float) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps_w, finish = getattr(denoise, "weight_first", _whole(denoise))(z, k)
            w_hat = (z[..., -1] - sigma * eps_w) / alpha
            log_w = w_hat.clamp(min=self.w_min).log()
            (gradient,) = torch.autograd.grad(log_w.sum(), z)
        self.clamped, self.calls = self.clamped + (w_hat.detach() < self.w_min), self.calls + 1
        return finish().detach() - self.rho * sigma * gradient


def _whole(denoise):
    """`weight_first` of a denoiser that cannot split: everything is computed, and differentiated, at once."""

    def weight_first(z: Tensor, k: int):
        eps = denoise(z, k)
        return eps[..., -1], lambda: eps

    return weight_first
