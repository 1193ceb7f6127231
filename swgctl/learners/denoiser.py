"""Diffusion training of z = [action, weight] (SWG, Algorithm 1) or of the action alone (AEPO, equation 7)."""

import torch
from torch import Tensor

from swgctl.config import BehaviourSettings, DiffuseSettings
from swgctl.diffusion import Schedule
from swgctl.learners.averaged import Averaged
from swgctl.learners.rows import Rows
from swgctl.models import Denoiser
from swgctl.training import Streams


class DiffuseLearner(Averaged[Denoiser]):
    """Denoisers and their running averages (SWG, Algorithm 1; without weights, AEPO's equation 7)."""

    chunk = 50

    def __init__(
        self,
        observations: Tensor,
        actions: Tensor,
        weights: Tensor | None,
        settings: DiffuseSettings | BehaviourSettings,
        seeds: list[int],
        device: torch.device,
        name: str = "diffuse",
        rows: Tensor | None = None,
    ):
        """observations (N, O), actions (N, A), weights (S, N); None: z is the action alone.

        name  prefix of the random streams, the stage's name
        rows  row numbers that each member learns from, (S, n), of a synthetic set; None: all rows
        """
        self.settings = settings
        self.observations, self.actions = observations.to(device), actions.to(device)
        numbers = torch.arange(len(actions)) if rows is None else rows
        self.rows = Rows(numbers.to(device))
        self.weights = None if weights is None else weights.to(device)
        if self.weights is not None and isinstance(settings, DiffuseSettings) and settings.weight_scale == "unit":
            self.weights = self.weights / self.rows.of(self.weights).mean(1, keepdim=True)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        self.denoiser = Denoiser(
            len(seeds), observations.shape[1], settings.channels(actions.shape[1]), **settings.network()
        )
        super().__init__(self.denoiser, settings, seeds, device, name, decay=settings.decay)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        c, batch = self.chunk, self.settings.batch
        drawn = {
            "k": [torch.randint(self.settings.K, (c, batch), generator=g, device=g.device) for g in streams("k")],
            "eps": [
                torch.randn(c, batch, self.denoiser.channels, generator=g, device=g.device) for g in streams("noise")
            ],
        }
        if self.settings.dropout:
            shape = (c, self.settings.blocks, batch, self.settings.width)
            drawn["keep"] = [_bernoulli(shape, 1 - self.settings.dropout, g) for g in streams("dropout")]
        rows = self.rows.draw((c, batch), streams("batch"))
        return {"rows": rows} | {name: torch.stack(values, 1) for name, values in drawn.items()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, eps = drawn["rows"], drawn["k"], drawn["eps"]
        z0 = self.actions[rows]
        if self.weights is not None:
            z0 = torch.cat([z0, self.weights[self.members, rows].unsqueeze(-1)], -1)
        z = self.schedule.noisy(z0, eps, k)
        error = self.denoiser(z, k, self.observations[rows], drawn.get("keep")) - eps
        channels = error.square().mean(1)  # equation 9: the mean over the batch of the sum over the channels
        loss = channels.sum(-1)
        self.descend(loss, self.settings.ema)
        if self.weights is None:
            return {"loss": loss.detach()}
        channels = channels.detach()
        return {"loss": loss.detach(), "action_loss": channels[:, :-1].sum(-1), "weight_loss": channels[:, -1]}


def _bernoulli(shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """Booleans, True with probability p, from 16 random bits each: on a CPU three times as fast as `bernoulli_`."""
    count = int(torch.tensor(shape).prod())
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:count] <= round(p * 2**16) - 2**15 - 1).view(shape)
