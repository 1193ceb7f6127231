"""Diffusion training of the toys (SWG, appendix B.1)."""

import torch
from torch import Tensor

from swgctl.config import ToySettings
from swgctl.diffusion import Schedule, self_weighted
from swgctl.learners.averaged import Averaged, Network
from swgctl.models import TOY_ARCHITECTURE, ToyDenoiser
from swgctl.toys.densities import EnergyWeights
from swgctl.toys.experiment import Walk
from swgctl.training import Streams


class PlaneLearner(Averaged[Network]):
    """Networks of a toy, their running averages, and the draws of their training.

    channels  C, of z
    scale     of the weights: `EnergyWeights`
    """

    chunk = 100

    def __init__(
        self,
        network: Network,
        points: Tensor,
        labels: Tensor,
        settings: ToySettings,
        seeds: list[int],
        device: torch.device,
        *,
        channels: int,
        scale: str,
    ):
        """points (N, 2) in [-1, 1]; labels (N,)."""
        self.settings, self.channels = settings, channels
        self.points, self.labels = points.float().to(device), labels.double().to(device)
        self.weigh = EnergyWeights(self.labels, settings.beta_max, scale)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        super().__init__(network, settings, seeds, device, "toy", decay=settings.decay)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        s, size = self.settings, (self.chunk, self.settings.batch)
        drawn = {
            "rows": [torch.randint(len(self.points), size, generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(s.K, size, generator=g, device=g.device) for g in streams("k")],
            "beta": [torch.rand(size, generator=g, device=g.device) for g in streams("beta")],
            "eps": [torch.randn(*size, self.channels, generator=g, device=g.device) for g in streams("noise")],
        }
        if s.draws == "focused":
            # Details of a density are learnt at the least noisy steps and, without help from the weight, near beta = 0:
            # half of the k come from the first eighth, half of the beta are squares of uniform draws.
            near = [torch.rand(2, *size, generator=g, device=g.device) < 0.5 for g in streams("near")]
            drawn["k"] = [torch.where(fine, k // 8, k) for (fine, _), k in zip(near, drawn["k"], strict=True)]
            drawn["beta"] = [torch.where(low, b**2, b) for (_, low), b in zip(near, drawn["beta"], strict=True)]
        stacked = {name: torch.stack(values, 1) for name, values in drawn.items()}
        return stacked | {"beta": s.beta_max * stacked["beta"]}

    def follow(self) -> Tensor:
        """Rate () of the averages: a plain mean over the first 1 / ema steps, so that short runs forget the start."""
        return (1 / (self.adam.done + 1)).clamp(min=self.settings.ema)

    def number(self, value: float) -> Tensor:
        """A number as a tensor (), on the device."""
        return torch.tensor(value, device=self.points.device)


class ToyLearner(PlaneLearner[ToyDenoiser]):
    """Denoisers of z = [a, w], conditioned on beta, which guide themselves (SWG, appendix B.1)."""

    def __init__(self, points: Tensor, labels: Tensor, settings: ToySettings, seeds: list[int], device: torch.device):
        """points (N, 2) in [-1, 1]; labels (N,)."""
        self.denoiser = ToyDenoiser(len(seeds), 3, **settings.model_dump(include=set(TOY_ARCHITECTURE)))
        scale = settings.weight_scale
        super().__init__(self.denoiser, points, labels, settings, seeds, device, channels=3, scale=scale)

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, beta, eps = drawn["rows"], drawn["k"], drawn["beta"], drawn["eps"]
        z0 = torch.cat([self.points[rows], self.weigh(self.labels[rows], beta).unsqueeze(-1)], -1)
        error = self.denoiser(self.schedule.noisy(z0, eps, k), k, beta) - eps
        channels = error.square().mean(1)
        loss = channels.sum(-1)
        self.descend(loss, self.follow())
        channels = channels.detach()
        return {"loss": loss.detach(), "action_loss": channels[:, :2].sum(-1), "weight_loss": channels[:, 2]}

    def walk(self, beta: float) -> Walk:
        """The averaged denoisers at one beta, and the guidance by their weight channel."""
        s = self.settings
        # The weight's upper bound is the target's, not the data's: where labels have a tail, the data's greatest
        # weight is a thousand times the target's, and was hardly ever trained.
        bounds = (self.points.new_tensor([-1, -1, 0]), self.points.new_tensor([1, 1, self.weigh.top(beta)]))
        guidance = self_weighted(s.rho, w_min=s.w_min * self.weigh.mean(beta))
        return Walk(lambda z, k: self.average(z, self.number(k), self.number(beta)), guidance, bounds)
