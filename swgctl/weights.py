"""Weights w(s, a) > 0 as element-wise functions of the advantage A(s, a) = min Q(s, a) - V(s), of any shape.

Every weight belongs to the losses that its critic's V can be trained with (`config.LOSS`): the same tau and alpha.
Gradients are finite everywhere: what a clip removes is bounded before, since 0 times an overflow would be NaN.
"""

import math

import torch
from torch import Tensor

W_MAX = 80.0
OVERFLOW = 80.0  # an exponent whose exponential fp32 still holds, and beyond any weight


def expectile(advantage: Tensor, tau: float, scale: float = 1.0) -> Tensor:
    """Smooth expectile: g tau + (1 - g)(1 - tau) with g = sigmoid(A), in (1 - tau, tau) (SWG, equation 15).

    `scale` multiplies the advantage; the official code uses 3, the paper 1.
    """
    return (1 - tau) + (2 * tau - 1) * torch.sigmoid(scale * advantage)


def hard_expectile(advantage: Tensor, tau: float) -> Tensor:
    """|tau - 1(A < 0)|: tau where the action is at least as good as V, else 1 - tau (IDQL; SWG, section 5)."""
    return torch.full_like(advantage, tau).masked_fill(advantage < 0, 1 - tau)


def exponential(advantage: Tensor, beta: float = 3.0, w_max: float = W_MAX) -> Tensor:
    """exp(beta A), clipped to (0, w_max] (SWG, sections 5 and 6.3)."""
    exponent = (beta * advantage).clamp(max=math.log(w_max) + 1)
    return torch.exp(exponent).clamp(min=torch.finfo(advantage.dtype).tiny, max=w_max)


def linex(advantage: Tensor, alpha: float = 1.0, w_max: float = W_MAX) -> Tensor:
    """alpha |exp(alpha A) - 1| / |A|, with its limit alpha^2 at A = 0, clipped at w_max (SWG, equation 16)."""
    zero = advantage == 0
    ratio = alpha * torch.expm1((alpha * advantage).clamp(max=OVERFLOW)) / advantage.masked_fill(zero, 1)
    ratio = torch.where(zero, alpha**2 * (1 + alpha * advantage / 2), ratio)  # the series, for its slope
    return ratio.clamp(min=torch.finfo(advantage.dtype).tiny, max=w_max)


def quantile(advantage: Tensor, tau: float, w_max: float = W_MAX) -> Tensor:
    """|tau - 1(A < 0)| / |A|, clipped at w_max, where it diverges (IDQL, section 4)."""
    clipped = min(tau, 1 - tau) / (2 * w_max)  # any smaller |A| has w_max
    return (hard_expectile(advantage, tau) / advantage.abs().clamp(min=clipped)).clamp(max=w_max)


def dice(advantage: Tensor, alpha: float = 1.0, w_max: float = W_MAX) -> Tensor:
    """u / 2 + 1 where u = A / alpha >= 0, else e^u, clipped to (0, w_max]: the ratio of the optimal policy's actions to
    the data's, of mean 1 at the optimum of `losses.dice_loss` (D-DICE, arXiv 2407.20109; the published code).

    The published code has alpha 0.5 and w_max 100.
    """
    u = advantage / alpha
    ratio = torch.where(u < 0, u.clamp(max=0).exp(), u / 2 + 1)
    return ratio.clamp(min=torch.finfo(advantage.dtype).tiny, max=w_max)


def select(weights: Tensor, advantages: Tensor) -> Tensor:
    """Index (...) of the candidate of greatest weight among (..., M); the greatest advantage breaks ties.

    The tie-break matters: in float32 sigmoid(A) is 1 from A = 17 on, and the hard expectile has only two values.
    """
    best = weights == weights.amax(-1, keepdim=True)
    return advantages.masked_fill(~best, -torch.inf).argmax(-1)


def channel(scale: str, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Offset and factor (S, 1) with w = offset + factor z_w, z_w being a joint denoiser's channel of the weight.

    raw: 0 and 1; unit: 0 and the mean of the weights (S, N); standard: their mean and standard deviation, so that the
    channel is z-scored, with a factor of 1 where all weights are equal.
    """
    zero, mean = weights.new_zeros(len(weights), 1), weights.mean(1, keepdim=True)
    if scale == "raw":
        return zero, torch.ones_like(zero)
    if scale == "unit":
        return zero, mean
    if scale == "standard":
        varies = weights.amax(1, keepdim=True) > weights.amin(1, keepdim=True)  # rounding leaves equal ones a deviation
        return mean, torch.where(varies, weights.std(1, correction=0, keepdim=True), 1.0)
    raise ValueError(f"unknown scale '{scale}', know raw, unit, standard")


def weigh(name: str, advantage: Tensor, *, tau: float, alpha: float, scale: float, beta: float, w_max: float) -> Tensor:
    """Weight by name; tau and alpha are those of the critic's loss."""
    if name == "expectile":
        return expectile(advantage, tau, scale)
    if name == "hard_expectile":
        return hard_expectile(advantage, tau)
    if name == "exponential":
        return exponential(advantage, beta, w_max)
    if name == "linex":
        return linex(advantage, alpha, w_max)
    if name == "quantile":
        return quantile(advantage, tau, w_max)
    if name == "dice":
        return dice(advantage, alpha, w_max)
    raise ValueError(f"unknown weight '{name}', know expectile, hard_expectile, exponential, linex, quantile, dice")
