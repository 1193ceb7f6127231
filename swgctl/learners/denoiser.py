"""Diffusion training of z = [action, weight] (SWG, Algorithm 1)."""

import copy

import torch
from torch import Tensor

from swgctl.config import DiffuseSettings
from swgctl.diffusion import Schedule
from swgctl.models import ARCHITECTURE, Denoiser, reset
from swgctl.randomness import generator
from swgctl.training import Streams
from swgctl.training.optimisers import Adam, average_


class DiffuseLearner:
    """Denoisers and their running averages (SWG, Algorithm 1)."""

    chunk = 50

    def __init__(
        self,
        observations: Tensor,
        actions: Tensor,
        weights: Tensor,
        settings: DiffuseSettings,
        seeds: list[int],
        device: torch.device,
    ):
        """observations (N, O), actions (N, A), weights (S, N)."""
        self.settings = settings
        self.observations, self.actions = observations.to(device), actions.to(device)
        self.weights = weights.to(device)
        if settings.weight_scale == "unit":
            self.weights = self.weights / self.weights.mean(1, keepdim=True)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        self.members = torch.arange(len(seeds), device=device).unsqueeze(1)
        channels = settings.channels(actions.shape[1])
        self.denoiser = Denoiser(
            len(seeds), observations.shape[1], channels, **settings.model_dump(include=set(ARCHITECTURE))
        )
        reset(self.denoiser, [generator(seed, "diffuse/init", 0) for seed in seeds])
        self.denoiser.to(device)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.parameters: list[Tensor] = list(self.denoiser.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr, settings.decay, settings.steps)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        c, batch, rows = self.chunk, self.settings.batch, len(self.actions)
        drawn = {
            "rows": [torch.randint(rows, (c, batch), generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(self.settings.K, (c, batch), generator=g, device=g.device) for g in streams("k")],
            "eps": [
                torch.randn(c, batch, self.denoiser.channels, generator=g, device=g.device) for g in streams("noise")
            ],
        }
        if self.settings.dropout:
            shape = (c, self.settings.blocks, batch, self.settings.width)
            drawn["keep"] = [_bernoulli(shape, 1 - self.settings.dropout, g) for g in streams("dropout")]
        return {name: torch.stack(values, 1) for name, values in drawn.items()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, eps = drawn["rows"], drawn["k"], drawn["eps"]
        weights = self.weights[self.members, rows].unsqueeze(-1)
        z0 = torch.cat([self.actions[rows], weights], -1)
        z = self.schedule.noisy(z0, eps, k)
        error = self.denoiser(z, k, self.observations[rows], drawn.get("keep")) - eps
        channels = error.square().mean(1)  # equation 9: the mean over the batch of the sum over the channels
        loss = channels.sum(-1)
        self.adam.descend(loss.sum())  # summed over the seeds, so members never mix
        average_(self.averages, self.parameters, self.settings.ema)
        channels = channels.detach()
        return {
            "loss": loss.detach(),
            "action_loss": channels[:, :-1].sum(-1),
            "weight_loss": channels[:, -1],
        }

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.denoiser.state_dict() | averages | self.adam.tensors("adam")


def _bernoulli(shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """Booleans, True with probability p, from 16 random bits each: on a CPU three times as fast as `bernoulli_`."""
    count = int(torch.tensor(shape).prod())
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:count] <= round(p * 2**16) - 2**15 - 1).view(shape)
