"""Diffusion training of z = [action, weight] (SWG, Algorithm 1) or of the action alone (AEPO, equation 7)."""

import torch
from torch import Tensor

from swgctl.config import BehaviourSettings, DiffuseSettings
from swgctl.diffusion import Schedule
from swgctl.learners.averaged import Averaged
from swgctl.learners.rows import Candidates, Rows
from swgctl.models import Denoiser
from swgctl.training import Streams
from swgctl.weights import channel


class DiffuseLearner(Averaged[Denoiser]):
    """Denoisers and their running averages (SWG, Algorithm 1; without weights, AEPO's equation 7).

    With candidates a part of each batch is drawn from them, uniformly, and the rest from the data.  They are samples of
    the behaviour policy at states of the data, so that p(a|s), and with it every moment of the action, stays the
    behaviour's, as far as the denoiser that drew them is right and drew at temperature 1.  What the mixture adds is
    w(s, a) at several actions of a state.

    channel  offset and factor (S, 1): w = offset + factor times the channel (`weights.channel`, over the data's rows)
    """

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
        candidates: Candidates | None = None,
        candidate_rows: int = 0,
    ):
        """observations (N, O), actions (N, A), weights (S, N); None: z is the action alone.

        name  prefix of the random streams, the stage's name
        rows  row numbers that each member learns from, (S, n), of a synthetic set; None: all rows
        candidates  drawn beside the data's rows; `candidate_rows` of a batch
        """
        self.settings = settings
        self.observations, self.actions = observations.to(device), actions.to(device)
        numbers = torch.arange(len(actions)) if rows is None else rows
        self.rows = Rows(numbers.to(device))
        self.weights = None if weights is None else weights.to(device)
        self.candidates = None if candidates is None else candidates.to(device)
        self.candidate_rows = candidate_rows
        if self.weights is not None and isinstance(settings, DiffuseSettings):
            offset, factor = self.channel = channel(settings.weight_scale, self.rows.of(self.weights))
            self.weights = (self.weights - offset) / factor
            if self.candidates:
                self.candidates.weights = (self.candidates.weights - offset) / factor
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        sizes = len(seeds), observations.shape[1], settings.channels(actions.shape[1])
        self.denoiser = Denoiser(*sizes, **settings.network(), schedule=self.schedule)
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
        if self.candidates:
            size, n = (c, self.candidate_rows), len(self.candidates.states)
            drawn["candidates"] = [torch.randint(n, size, generator=g, device=g.device) for g in streams("candidates")]
        rows = self.rows.draw((c, batch - self.candidate_rows), streams("batch"))
        return {"rows": rows} | {name: torch.stack(values, 1) for name, values in drawn.items()}

    def batch(self, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Observations (S, B, O) and z_0 (S, B, C) of what was drawn, candidates last."""
        rows = drawn["rows"]
        actions = self.actions[rows]
        if self.weights is None:
            return self.observations[rows], actions
        weights = self.weights[self.members, rows]
        if self.candidates:
            picks = drawn["candidates"]
            rows = torch.cat([rows, self.candidates.states[picks]], 1)
            actions = torch.cat([actions, self.candidates.actions[self.members, picks]], 1)
            weights = torch.cat([weights, self.candidates.weights[self.members, picks]], 1)
        return self.observations[rows], torch.cat([actions, weights.unsqueeze(-1)], -1)

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        k, eps = drawn["k"], drawn["eps"]
        observations, z0 = self.batch(drawn)
        z = self.schedule.noisy(z0, eps, k)
        error = self.denoiser(z, k, observations, drawn.get("keep")) - eps
        if self.denoiser.clean:  # the weight's loss is that of its clean channel
            of_w = error[..., -1:] * (self.schedule.sigma / self.schedule.alpha)[k].unsqueeze(-1)
            error = torch.cat([error[..., :-1], of_w], -1)
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
