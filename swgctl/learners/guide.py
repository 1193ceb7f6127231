"""Learning of the intermediate energy E(z_k, k, s) of a weight, by each of the methods that have one."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from swgctl.config import GuideSettings
from swgctl.diffusion import Schedule
from swgctl.learners import energies
from swgctl.learners.averaged import Averaged
from swgctl.learners.expansion import BLOCK, Expansion, LogWeight, in_blocks
from swgctl.learners.losses import Loss
from swgctl.models import Denoiser, Energy
from swgctl.randomness import generator
from swgctl.training import Streams

RATIOS = ("emse", "ddice")  # methods of w divided by its mean
WEIGHTS = (1e-40, 100.0)  # limits of ddice's w, as published


class GuideLearner(Averaged[Energy]):
    """Energies of log w and their running averages, on the walk of a denoiser.

    mse    (f - log w)^2 at the data's actions (Diffuser)
    emse   (e^f - w / w_mean)^2 there
    ddice  w / w_mean e^-f + f there, `settings.noises` noisy copies of a row at one step (D-DICE)
    cep    contrast of the candidates of a state at one step (QGPO)
    aepo   (f - the expansion of log w)^2 (`Expansion`)

    log w at rows or candidates is computed once; k is uniform in 0 .. K-1.
    """

    chunk = 50

    def __init__(
        self,
        observations: Tensor,
        z0: Tensor,
        log_weight: LogWeight,
        settings: GuideSettings,
        seeds: list[int],
        device: torch.device,
        *,
        action_dim: int,
        schedule: Schedule,
        candidates: tuple[Tensor, Tensor] | None = None,
        denoiser: Denoiser | None = None,
        fourier: float = 0.2,
        name: str = "guide",
    ):
        """observations (N, O); z0 (S, N, C), or (1, N, C) if all members share it: the action, then other channels.

        log_weight  log w(s (S, B, O), a (S, B, A)) -> (S, B), differentiable in a
        schedule    the denoiser's
        candidates  for cep: row numbers (N',) of observations, and z_0 (S, N', M, C) at them
        denoiser    for aepo: with averaged parameters, on the device
        fourier     standard deviation of the step's first frequencies
        name        prefix of the random streams, the stage's name

        Raises ValueError where the method lacks candidates or a denoiser.
        """
        self.settings = settings
        self.schedule = schedule.to(device, torch.float32)
        self.observations, z0 = observations.to(device), z0.to(device).expand(len(seeds), -1, -1)
        if settings.method == "cep":
            if candidates is None:
                raise ValueError("the method cep learns from candidates")
            rows, grouped = (value.to(device) for value in candidates)
            self.observations, self.z0 = self.observations[rows], grouped
        else:
            self.z0 = z0.unsqueeze(2)
        self.energy = Energy(
            len(seeds), z0.shape[-1], observations.shape[1], len(schedule), settings.hidden, fourier=fourier
        )
        super().__init__(self.energy, settings, seeds, device, name, decay=settings.decay)

        self.expansion = None
        if settings.method == "aepo":
            if denoiser is None:
                raise ValueError("the method aepo expands about what a denoiser predicts")
            sources = [generator(seed, f"{name}/moments", 0, device) for seed in seeds]
            self.expansion = Expansion(
                settings, self.observations, z0, action_dim, log_weight, schedule, denoiser, sources
            )
        else:
            self.targets, self.mean = self._targets(log_weight, action_dim)
        self.loss = self._loss()

    def _targets(self, log_weight: LogWeight, action_dim: int) -> tuple[Tensor, Tensor]:
        """What the loss reads at z0, (S, N, G): log w or w / w_mean; and w_mean (S, 1, 1)."""

        def at(states: Tensor, z0: Tensor) -> Tensor:
            states = states.unsqueeze(2).expand(-1, -1, z0.shape[2], -1)
            return log_weight(states.flatten(1, 2), z0[..., :action_dim].flatten(1, 2)).view(z0.shape[:-1])

        with torch.no_grad():
            states = self.observations.expand(len(self.z0), -1, -1)
            log_w = in_blocks(at, states, self.z0, size=max(1, BLOCK // self.z0.shape[2])).double()
        if self.settings.method == "ddice":
            low, high = torch.tensor(WEIGHTS, dtype=log_w.dtype, device=log_w.device).log()
            log_w = log_w.clamp(low, high)
        mean = log_w.exp().mean((1, 2), keepdim=True)
        targets = log_w.exp() / mean if self.settings.method in RATIOS else log_w
        return targets.float(), mean.float()

    def _loss(self) -> Callable[[Tensor, Tensor], Loss]:
        """The loss of f and its target, (S, B, G) each."""
        if self.settings.method == "cep":
            return partial(energies.contrastive, normalise=self.settings.normalise, w_mean=self.mean)
        losses = {"emse": energies.exponential_regression, "ddice": energies.in_sample}
        loss = losses.get(self.settings.method, energies.regression)
        return lambda f, target: loss(f.flatten(1), target.expand_as(f).flatten(1))

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        cep = self.settings.method == "cep"
        size = (self.chunk, self.settings.states if cep else self.settings.batch)
        copies = self.settings.noises if self.settings.method == "ddice" else self.z0.shape[2]
        shape, rows, K = (*size, copies, self.z0.shape[-1]), self.z0.shape[1], len(self.schedule)
        drawn = {
            "rows": [torch.randint(rows, size, generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(K, size, generator=g, device=g.device) for g in streams("k")],
            "eps": [torch.randn(shape, generator=g, device=g.device) for g in streams("noise")],
        }
        return {name: torch.stack(values, 1) for name, values in drawn.items()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, eps = drawn["rows"], drawn["k"], drawn["eps"]
        copies = eps.shape[2]
        z = self.schedule.noisy(self.z0[self.members, rows], eps, k.unsqueeze(-1)).flatten(1, 2)
        f = self.energy(
            z, k.repeat_interleave(copies, 1), self.observations[rows].repeat_interleave(copies, 1)
        ).unflatten(1, (-1, copies))
        if self.expansion:
            target, statistics = self.expansion(rows, k, z).unsqueeze(-1), self.expansion.statistics
        else:
            target, statistics = self.targets[self.members, rows], {}
        loss, info = self.loss(f, target)
        self.descend(loss, self.settings.ema)
        return {"loss": loss.detach()} | {name: value.detach() for name, value in (info | statistics).items()}

    def tensors(self) -> dict[str, Tensor]:
        """What an artifact keeps: `ema.*`, `raw.*` and, of aepo, `posterior` (S, 3, K) and `variance` (S, K)."""
        tensors = super().tensors()
        if self.expansion:
            tensors |= {"posterior": self.expansion.posterior.float(), "variance": self.expansion.variance}
        return tensors
