"""Diffusion training of the toys (SWG, appendix B.1)."""

import copy

import torch
from torch import Tensor

from swgctl.config import ToySettings
from swgctl.diffusion import Schedule
from swgctl.models import TOY_ARCHITECTURE, ToyDenoiser, reset
from swgctl.randomness import generator
from swgctl.toys.densities import EnergyWeights
from swgctl.training import Streams
from swgctl.training.optimisers import Adam, average_


class ToyLearner:
    """Denoisers of a toy, conditioned on beta, and their running averages (SWG, appendix B.1)."""

    chunk = 100

    def __init__(self, points: Tensor, labels: Tensor, settings: ToySettings, seeds: list[int], device: torch.device):
        """points (N, 2) in [-1, 1]; labels (N,)."""
        self.settings = settings
        self.points, self.labels = points.float().to(device), labels.double().to(device)
        self.weigh = EnergyWeights(self.labels, settings.beta_max, settings.weight_scale)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        self.denoiser = ToyDenoiser(len(seeds), 3, **settings.model_dump(include=set(TOY_ARCHITECTURE)))
        reset(self.denoiser, [generator(seed, "toy/init", 0) for seed in seeds])
        self.denoiser.to(device)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.parameters: list[Tensor] = list(self.denoiser.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr, settings.decay, settings.steps)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        s, size = self.settings, (self.chunk, self.settings.batch)
        drawn = {
            "rows": [torch.randint(len(self.points), size, generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(s.K, size, generator=g, device=g.device) for g in streams("k")],
            "beta": [torch.rand(size, generator=g, device=g.device) for g in streams("beta")],
            "eps": [torch.randn(*size, 3, generator=g, device=g.device) for g in streams("noise")],
        }
        if s.draws == "focused":
            # Details of a density are learnt at the least noisy steps and, without help from the weight, near beta = 0:
            # half of the k come from the first eighth, half of the beta are squares of uniform draws.
            near = [torch.rand(2, *size, generator=g, device=g.device) < 0.5 for g in streams("near")]
            drawn["k"] = [torch.where(fine, k // 8, k) for (fine, _), k in zip(near, drawn["k"], strict=True)]
            drawn["beta"] = [torch.where(low, b**2, b) for (_, low), b in zip(near, drawn["beta"], strict=True)]
        stacked = {name: torch.stack(values, 1) for name, values in drawn.items()}
        return stacked | {"beta": s.beta_max * stacked["beta"]}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, beta, eps = drawn["rows"], drawn["k"], drawn["beta"], drawn["eps"]
        z0 = torch.cat([self.points[rows], self.weigh(self.labels[rows], beta).unsqueeze(-1)], -1)
        error = self.denoiser(self.schedule.noisy(z0, eps, k), k, beta) - eps
        channels = error.square().mean(1)
        loss = channels.sum(-1)
        self.adam.descend(loss.sum())
        # The plain mean over the first 1 / ema steps, so that short runs leave the initial values behind.
        average_(self.averages, self.parameters, (1 / self.adam.done).clamp(min=self.settings.ema))
        channels = channels.detach()
        return {"loss": loss.detach(), "action_loss": channels[:, :2].sum(-1), "weight_loss": channels[:, 2]}

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.denoiser.state_dict() | averages | self.adam.tensors("adam")
