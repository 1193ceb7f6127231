"""In-sample losses of V and Q (SWG, Algorithm 3; IQL; IDQL).  Each returns (loss (...), info), one value a member.

The loss is a mean over the batch, the last axis of all predictions; leading axes are members (seeds).
"""

import math

import torch
from torch import Tensor

Loss = tuple[Tensor, dict[str, Tensor]]

LINEX_CLIP = math.log(6.0)


def expectile_loss(q: Tensor, v: Tensor, tau: float) -> Loss:
    """L_V = E |tau - 1(u < 0)| u^2 with u = Q - V: V becomes the tau-expectile of Q over the data's actions."""
    u = q - v
    return (torch.where(u < 0, (1 - tau) * u, tau * u) * u).mean(-1), {"v": v.mean(-1)}


def quantile_loss(q: Tensor, v: Tensor, tau: float) -> Loss:
    """L_V = E |tau - 1(u < 0)| |u|: V becomes the tau-quantile of Q (IDQL, section 4)."""
    u = q - v
    return torch.where(u < 0, (tau - 1) * u, tau * u).mean(-1), {"v": v.mean(-1)}


def linex_loss(q: Tensor, v: Tensor, alpha: float) -> Loss:
    """L_V = E exp(alpha u) - alpha u (IDQL; SWG, section 5), continued by its tangent from alpha u = log 6 on.

    The tangent bounds the gradient, as the official code does, and unlike clipping keeps it non-zero.
    """
    x = alpha * (q - v)
    inner = x.clamp(max=LINEX_CLIP)
    return (inner.exp() * (1 + x - inner) - x).mean(-1), {"v": v.mean(-1)}


VALUE_LOSSES = {"expectile": expectile_loss, "quantile": quantile_loss, "linex": linex_loss}


def q_loss(q: Tensor, rewards: Tensor, terminals: Tensor, next_v: Tensor, gamma: float) -> Loss:
    """L_Q = E (r + gamma (1 - done) V(s') - Q(s, a))^2, summed over the twins q (..., 2, B)."""
    target = rewards + gamma * (1 - terminals) * next_v
    return (target.unsqueeze(-2) - q).square().mean(-1).sum(-1), {"q": q.mean((-1, -2))}
