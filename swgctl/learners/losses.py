"""Losses of V and Q (SWG, Algorithm 3; IQL; IDQL; CQL; QGPO; D-DICE) and of actors (TD3+BC; IQL), each (loss (...),
info), one value a member.

The loss is a mean over the batch, the last axis of all values and the one before the last of all actions; leading axes
are members (seeds).
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

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


def dice_loss(q: Tensor, v: Tensor, alpha: float) -> Loss:
    """L_V = E f(u) + V / alpha with u = (Q - V) / alpha; f is u^2 / 4 + u for u >= 0, else e^u - 1 (D-DICE, arXiv
    2407.20109; the published code).  At its optimum the weights f'(u), `weights.dice`, have mean 1."""
    u = (q - v) / alpha
    # clamped: an overflow would make the gradient NaN
    conjugate = torch.where(u < 0, torch.expm1(u.clamp(max=0)), u.square() / 4 + u)
    return (conjugate + v / alpha).mean(-1), {"v": v.mean(-1)}


# Critic's loss -> loss of V(s) and the setting that it takes beside Q(s, a) and V(s).
VALUE_LOSSES = {
    "expectile": (expectile_loss, "tau"),
    "quantile": (quantile_loss, "tau"),
    "linex": (linex_loss, "alpha"),
    "cql": (expectile_loss, "tau"),
    "dice": (dice_loss, "alpha"),
}


def in_support_value(q: Tensor, beta: float) -> Tensor:
    """sum_i softmax_i(beta Q(s, a_i)) Q(s, a_i) over candidates (..., M) -> (...): the value of the policy that weighs
    a behaviour model's actions by exp(beta Q) (in-support softmax Q-learning, QGPO, arXiv 2304.12824)."""
    return (torch.softmax(beta * q, -1) * q).sum(-1)


def in_support_loss(value: Tensor, v: Tensor, terminals: Tensor) -> Loss:
    """L_V = E (1 - done) (value(s') - V(s'))^2, for V beside in-support Q-learning, which itself needs none."""
    return ((1 - terminals) * (value - v).square()).mean(-1), {"v": v.mean(-1)}


def q_loss(q: Tensor, rewards: Tensor, terminals: Tensor, next_v: Tensor, gamma: float) -> Loss:
    """L_Q = E (r + gamma (1 - done) V(s') - Q(s, a))^2, summed over the twins q (..., 2, B)."""
    target = rewards + gamma * (1 - terminals) * next_v
    return (target.unsqueeze(-2) - q).square().mean(-1).sum(-1), {"q": q.mean((-1, -2))}


def conservative_penalty(q_uniform: Tensor, q: Tensor) -> Loss:
    """E log mean_j exp Q(s, u_j) - Q(s, a), summed over the twins (CQL, arXiv 2006.04779, equation 4).

    q_uniform  (..., 2, B, J), Q at J uniform actions of each state; q (..., 2, B), Q at the data's
    The equation's log-sum-exp is over all actions; uniform draws estimate it up to a constant, the log-volume.
    """
    soft_maximum = q_uniform.logsumexp(-1) - math.log(q_uniform.shape[-1])
    penalty = (soft_maximum - q).mean(-1).sum(-1)
    return penalty, {"penalty": penalty}


def td3bc_loss(q: Tensor, policy_actions: Tensor, actions: Tensor, alpha: float) -> Loss:
    """L_pi = -alpha E Q(s, pi(s)) / E |Q(s, pi(s))| + E |pi(s) - a|^2 / A (TD3+BC, arXiv 2106.06860, equations 4 and 5;
    without a gradient through E |Q|, to which the published code of PGD adds 1e-7).

    q (..., B) at the policy's actions (..., B, A); the data's actions (..., B, A)
    """
    scale = alpha / (q.detach().abs().mean(-1) + 1e-7)
    cloning = (policy_actions - actions).square().mean((-1, -2))
    return cloning - scale * q.mean(-1), {"cloning_error": cloning}


def weighted_cloning_loss(
    advantages: Tensor, actions: Tensor, mean: Tensor, sd: Tensor, beta: float, clip: float
) -> Loss:
    """L_pi = -E min(exp(beta A(s, a)), clip) log N(a; mean, sd^2), the density of all dimensions (IQL, arXiv
    2110.06169, equation 7; the clip as published).

    advantages (..., B), actions and mean (..., B, A), sd broadcastable to them
    """
    weights = (beta * advantages).exp().clamp(max=clip)
    log_density = Normal(mean, sd, validate_args=False).log_prob(actions).sum(-1)
    return -(weights * log_density).mean(-1), {"log_density": log_density.mean(-1)}
