"""Losses and targets of the intermediate energy E(z_k, k, s) of a weight w(s, a).

Each loss returns (loss (...), info), one value a member: a mean over the batch, the last axis; leading axes are members
(seeds).  f is the network's energy at z_k; w is the weight at the z_0 that z_k was made from.  The exact energy is
log E[w given z_k, s] (AEPO, equation 12; SWG, equations 11 to 13), up to a constant that does not change its gradient.
"""

import math

from torch import Tensor

from swgctl.learners.losses import Loss

EXPONENTS = (-100.0, 4.5)  # of the exponential regression


def analytic(
    log_w: Tensor, gradient: Tensor, offset: Tensor, variance: Tensor | float, curvature: Tensor | float = 0.0
) -> Tensor:
    """First-order expansion of the energy (AEPO, equation 25): log w + c.(mu~ - a_bar) + s^2 |c|^2 / (2 (1 + s^2 h)).

    log_w      (...,) at the expansion point a_bar
    gradient   c = grad_a log w there, (..., A)
    offset     mu~ - a_bar, (..., A): from a_bar to the posterior mean of the action
    variance   s^2 of the posterior, one number or (...,)
    curvature  h >= 0 of -log w along c, by the secant; 0 is the paper's equation, whose last term is too large where
               log w is concave and points the wrong way where s^2 h > 1
    """
    square = gradient.square().sum(-1)
    return log_w + (gradient * offset).sum(-1) + variance * square / (2 * (1 + variance * curvature))


def regression(f: Tensor, target: Tensor) -> Loss:
    """L = E (f - target)^2: f becomes E[target given z_k, s] (AEPO, equation 26, of its target `analytic`).

    With the target log w it is the energy of Diffuser, which by Jensen's inequality lies below the exact one (AEPO,
    equation 10).
    """
    return (f - target).square().mean(-1), _mean(f)


def exponential_regression(f: Tensor, ratio: Tensor) -> Loss:
    """L = E (e^f - w / w_mean)^2: f becomes log E[w / w_mean given z_k, s] (QGPO, "emse" in the published code).

    ratio  w / w_mean, (..., B).  As published, exponents are clipped to [-100, 4.5], of both terms; f has no gradient
           beyond.
    """
    low, high = EXPONENTS
    error = f.clamp(low, high).exp() - ratio.clamp(max=math.exp(high))
    return error.square().mean(-1), _mean(f)


def contrastive(f: Tensor, log_w: Tensor, normalise: str, w_mean: Tensor | float = 1.0) -> Loss:
    """L = -E sum_i p_i log softmax_i f over the M candidates of a state: f becomes log E[w given z_k, s] + const(s, k).

    f, log_w   (..., B, M)
    normalise  "none": p_i = w_i / (M w_mean) (SWG, equation 12); "self": p = softmax of log w over the candidates (the
               code of QGPO), whose optimum is biased like 1 / M
    w_mean     mean weight, a number or broadcastable to log_w; read by "none" alone, which it scales
    """
    p = log_w.softmax(-1) if normalise == "self" else log_w.exp() / (f.shape[-1] * w_mean)
    return -(p * f.log_softmax(-1)).sum(-1).mean(-1), _mean(f.flatten(-2))


def in_sample(f: Tensor, ratio: Tensor) -> Loss:
    """L = E[w / w_mean e^-f + f]: f becomes log E[w / w_mean given z_k, s] (D-DICE; SWG, equation 13).

    ratio  w / w_mean, (..., B)

    The loss is e^-m times this, as published: m is the greatest -f of a member's batch, -1 at least and without
    gradient, so that no exponential overflows.  Below -80 the gradient of the first term grows no further.
    """
    c = (f + 80).clamp(max=0).detach()
    exponent = c - f
    m = exponent.detach().amax(-1, keepdim=True).clamp(min=-1)
    return (ratio * (exponent - m).exp() + (-m).exp() * f).mean(-1), _mean(f)


def _mean(f: Tensor) -> dict[str, Tensor]:
    return {"energy": f.mean(-1)}
