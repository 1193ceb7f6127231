"""Noise schedules: the coefficients of signal and noise at each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Noise = Callable[[tuple[int, ...]], Tensor]  # from a shape to standard normal noise


def posterior_mean(z: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The mean of z_0 given z_k that a predicted noise implies: (z_k - sigma_k eps) / alpha_k (AEPO, equation 18; for
    the weight's channel SWG, equation 11), of tensors of one shape, alpha and sigma broadcastable to it."""
    if isinstance(sigma, Tensor):
        return (z - sigma * eps) / alpha
    return torch.sub(z, eps, alpha=sigma) / alpha


@dataclass(frozen=True)
class Schedule:
    """The alpha_k and sigma_k of z_k = alpha_k z_0 + sigma_k eps, k = 0 .. K-1 (SWG, section 2.2).

    `alpha` and `sigma` are float64 tensors (K,) with alpha_k^2 + sigma_k^2 = 1.  alpha_k is the paper's, the root of
    DDPM's alpha-bar.  Index 0 is the least noisy step; the data itself lies one step below it.
    """

    alpha: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def step_alpha(self) -> Tensor:
        """DDPM's alpha_k = (alpha_k / alpha_{k-1})^2, (K,): the share of variance that step k keeps."""
        return (self.alpha / torch.cat([torch.ones(1, dtype=self.alpha.dtype), self.alpha[:-1]])) ** 2

    def at(self, k: int) -> tuple[float, float]:
        """alpha_k and sigma_k as numbers; k = -1 is the data, (1, 0)."""
        return (1.0, 0.0) if k == -1 else (self.alpha[k].item(), self.sigma[k].item())

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Schedule":
        return Schedule(self.alpha.to(device, dtype), self.sigma.to(device, dtype))

    def noisy(self, z0: Tensor, eps: Tensor, k: Tensor) -> Tensor:
        """z_k = alpha_k z_0 + sigma_k eps, for z0 and eps (..., D) and integer k (...)."""
        alpha, sigma = self.alpha.to(z0)[k], self.sigma.to(z0)[k]
        return alpha.unsqueeze(-1) * z0 + sigma.unsqueeze(-1) * eps

    @classmethod
    def from_betas(cls, betas: Tensor) -> "Schedule":
        """Schedule from DDPM's variances beta_k (K,): alpha_k^2 is the running product of 1 - beta."""
        alpha_bar = torch.cumprod(1 - betas.double(), 0)
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    @classmethod
    def vp(cls, K: int, beta_min: float = 0.1, beta_max: float = 10.0) -> "Schedule":
        """Variance preserving (Song et al., 2021), as IDQL and SWG discretise it: alpha_{K-1}^2 = exp(-5.05)."""
        k = torch.arange(1, _steps(K) + 1, dtype=torch.float64)
        return cls.from_betas(1 - torch.exp(-beta_min / K - 0.5 * (beta_max - beta_min) * (2 * k - 1) / K**2))

    @classmethod
    def cosine(cls, K: int, s: float = 0.008) -> "Schedule":
        """Cosine (Nichol & Dhariwal, 2021, equation 17), beta clipped at 0.999."""
        t = torch.arange(_steps(K) + 1, dtype=torch.float64) / K
        alpha_bar = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
        return cls.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(0, 0.999))

    @classmethod
    def linear(cls, K: int, beta_min: float = 1e-4, beta_max: float = 2e-2) -> "Schedule":
        """Linear (Ho et al., 2020)."""
        return cls.from_betas(torch.linspace(beta_min, beta_max, _steps(K), dtype=torch.float64))


def _steps(K: int) -> int:
    if K < 2:
        raise ValueError(f"a schedule needs at least 2 steps, not {K}")
    return K
