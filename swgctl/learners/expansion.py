"""Target of AEPO's energy: log w expanded about an action, with a measured variance of the posterior."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from swgctl.config import GuideSettings
from swgctl.diffusion import Schedule
from swgctl.diffusion.schedule import Noise, posterior_mean
from swgctl.learners import posterior
from swgctl.learners.energies import analytic
from swgctl.models import Denoiser
from swgctl.randomness import normal

LogWeight = Callable[[Tensor, Tensor], Tensor]

BLOCK = 8192  # rows whose critic and denoiser are evaluated at once
ACTIONS = (-1.0, 1.0)  # range of mu~


def in_blocks(function: Callable[..., Tensor], *columns: Tensor, size: int = BLOCK) -> Tensor:
    """function(*columns), each (S, N, ...) -> (S, N, ...), a block of rows at a time."""
    blocks = zip(*(column.split(size, 1) for column in columns), strict=True)
    return torch.cat([function(*block) for block in blocks], 1)


def slope(log_weight: LogWeight, observations: Tensor, actions: Tensor) -> Tensor:
    """grad_a log w (S, B, A) at observations (S, B, O) and actions (S, B, A)."""
    with torch.enable_grad():
        actions = actions.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_weight(observations, actions).sum(), actions)
    return gradient


class Expansion:
    """AEPO's target energy (equations 25 and 46) of noisy rows, for S members.

    With `settings.expansion` "data" the point a_bar of the expansion is a_0 + eta c / |c|, and c = grad_a log w at a_0
    stands for the gradient at a_bar, too; both log w and c are computed once for all rows.  With "posterior_mean" a_bar
    is mu~, where the critic is asked at every step.

    With `settings.curvature` "secant" the last term is s^2 |c|^2 / (2 (1 + s^2 h)) with u = c / |c|, c taken at a, and
    h = max(0, -u.(grad log w(a + s u) - c) / s): a secant, since the Hessian of a network of rectifiers is 0.  It is
    exact for an isotropic quadratic log w, where equation 25 pushes the wrong way from s^2 h = 1 on.

    posterior      the three estimates of s_k^2 before any limit (S, 3, K), from `settings.moments` rows
    data_variance  variance of the data's actions, ()
    variance       s_k^2 (S, K): the estimate that `settings.posterior` names, in [0, data_variance]
    statistics     means over the members' own rows, (S,): `reversed`, the share with s^2 h > 1; `second_order`, the
                   median of s^2 |c|^2 / 2; `limited`, the share of steps whose estimate is not in [0, data_variance]
    """

    def __init__(
        self,
        settings: GuideSettings,
        observations: Tensor,
        z0: Tensor,
        action_dim: int,
        log_weight: LogWeight,
        schedule: Schedule,
        denoiser: Denoiser,
        sources: list[torch.Generator],
    ):
        """observations (N, O) and z0 (S, N, C), of which the first channels are the action, on one device.

        denoiser  with averaged parameters
        sources   of each member's rows and noise for the estimates
        """
        self.settings, self.observations, self.z0, self.action_dim = settings, observations, z0, action_dim
        self.log_weight, self.denoiser = log_weight, denoiser
        self.schedule = schedule.to(z0.device, torch.float32)
        self.members = torch.arange(len(z0), device=z0.device).unsqueeze(1)
        self.actions = z0[..., :action_dim]
        if settings.expansion == "data":
            states = observations.expand(len(z0), -1, -1)
            self.gradient = in_blocks(lambda s, a: slope(log_weight, s, a), states, self.actions)
            self.point = self.actions + settings.eta * _direction(self.gradient)
            with torch.no_grad():
                self.log_w = in_blocks(log_weight, states, self.point)

        def integers(high: int) -> Tensor:
            shape = (settings.moments,)
            return torch.stack([torch.randint(high, shape, generator=g, device=g.device) for g in sources])

        rows = integers(len(observations))
        self.posterior = self._posterior(schedule, rows, partial(normal, sources))
        self.data_variance = posterior.data_variance(self.actions[0])
        estimate = self.posterior[:, settings.posterior - 1]
        self.variance = posterior.limited(estimate, self.data_variance).float()
        self.deviation = self.variance.sqrt()

        k = integers(len(schedule))
        z = schedule.noisy(z0[self.members, rows], normal(sources, (*k.shape, z0.shape[-1])), k)
        bend, term = in_blocks(self._terms, rows, k, z).unbind(-1)
        self.statistics = {
            "reversed": (bend > 1).float().mean(1),
            "second_order": term.median(1).values,
            "limited": ((estimate < 0) | (estimate > self.data_variance)).float().mean(1),
        }

    def __call__(self, rows: Tensor, k: Tensor, z: Tensor) -> Tensor:
        """Target (S, B) at z (S, B, C), the noisy rows (S, B) at steps k (S, B)."""
        log_w, gradient, a, offset = self._about(rows, k, z)
        h = self._curvature(rows, k, gradient, a) if self.settings.curvature == "secant" else 0.0
        return analytic(log_w, gradient, offset, self.variance[self.members, k], h)

    def _about(self, rows: Tensor, k: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log w at a_bar, (S, B); its gradient c, the action where that was taken, and mu~ - a_bar, each (S, B, A)."""
        A, states = self.action_dim, self.observations[rows]
        alpha, sigma = (value[k].unsqueeze(-1) for value in (self.schedule.alpha, self.schedule.sigma))
        with torch.no_grad():
            eps = self.denoiser(z, k, states)[..., :A]
            mean = posterior_mean(z[..., :A], eps, alpha, sigma).clamp(*ACTIONS)
            if self.settings.expansion == "data":
                point, log_w, gradient, actions = (
                    value[self.members, rows] for value in (self.point, self.log_w, self.gradient, self.actions)
                )
                return log_w, gradient, actions, mean - point
            log_w = self.log_weight(states, mean)
        return log_w, slope(self.log_weight, states, mean), mean, torch.zeros_like(mean)

    def _curvature(self, rows: Tensor, k: Tensor, gradient: Tensor, a: Tensor) -> Tensor:
        """h (S, B), the mean curvature >= 0 of -log w along its gradient from a on, over one deviation s."""
        u, s = _direction(gradient), self.deviation[self.members, k].clamp(min=1e-3)  # 0 would be no secant
        beyond = slope(self.log_weight, self.observations[rows], a + s.unsqueeze(-1) * u)
        return (-(u * (beyond - gradient)).sum(-1) / s).clamp(min=0)

    def _terms(self, rows: Tensor, k: Tensor, z: Tensor) -> Tensor:
        """s^2 h and s^2 |c|^2 / 2 of the noisy rows, (S, B, 2)."""
        _, gradient, a, _ = self._about(rows, k, z)
        variance = self.variance[self.members, k]
        bend = variance * self._curvature(rows, k, gradient, a)
        return torch.stack([bend, variance * gradient.square().sum(-1) / 2], -1)

    def _posterior(self, schedule: Schedule, rows: Tensor, noise: Noise) -> Tensor:
        """`posterior.by_step` of the rows (S, B), in blocks: (S, 3, K)."""
        centre = self.actions[0].mean(0)
        total = torch.zeros((), dtype=torch.float64, device=rows.device)
        for block in rows.split(BLOCK, 1):
            with torch.no_grad():
                denoise = self.denoiser.bind(self.observations[block])
            z0 = self.z0[self.members, block]
            total = total + block.shape[1] * posterior.by_step(denoise, schedule, z0, noise, centre, ACTIONS)
        return total / rows.shape[1]


def _direction(gradient: Tensor) -> Tensor:
    """gradient / |gradient|, and 0 where it is 0."""
    return gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
