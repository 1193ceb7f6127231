"""Training of the diffusion model of trajectories: EDM over windows of the data (PGD, arXiv 2404.06356, section 3)."""

import torch
from torch import Tensor

from swgctl.config import TrajectoriesSettings
from swgctl.diffusion import edm
from swgctl.learners.averaged import Averaged
from swgctl.learners.rows import Rows
from swgctl.models import UNet
from swgctl.training import Streams

WARMUP_START = 0.1  # of the peak, the learning rate of the first step


class TrajectoryLearner(Averaged[UNet]):
    """Denoisers of windows of rows [observation, arctanh of the action, reward, terminal], and their running averages.

    Windows are drawn with replacement, where the official code permutes those of an epoch.
    """

    chunk = 50

    def __init__(
        self, rows: Tensor, starts: Tensor, settings: TrajectoriesSettings, seeds: list[int], device: torch.device
    ):
        """rows (N, D), each channel z-scored; starts (W,), the row number at which each window begins."""
        self.settings = settings
        self.rows, self.starts = rows.float().to(device), Rows(starts.to(device))
        self.window = torch.arange(settings.length, device=device)
        s = settings
        network = UNet(len(seeds), rows.shape[1], s.features, s.blocks, s.groups)
        schedule = {"decay": "warmup_cosine", "warmup": s.warmup, "start": WARMUP_START}
        super().__init__(network, settings, seeds, device, "trajectories", **schedule)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        s, size = self.settings, (self.chunk, self.settings.batch)
        normal = [torch.randn(size, generator=g, device=g.device) for g in streams("sigma")]
        shape = (*size, s.length, self.rows.shape[1])
        eps = [torch.randn(shape, generator=g, device=g.device) for g in streams("noise")]
        return {
            "starts": self.starts.draw(size, streams("batch")),
            "sigma": torch.exp(s.log_sigma_mean + s.log_sigma_sd * torch.stack(normal, 1)),
            "eps": torch.stack(eps, 1),
        }

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        x0 = self.rows[drawn["starts"].unsqueeze(-1) + self.window]
        loss, info = edm.loss(self.network, x0, drawn["eps"], drawn["sigma"])
        self.descend(loss, self.follow())
        return {"loss": loss.detach()} | info

    def follow(self) -> Tensor:
        """Rate () of the averages in this step: max(ema, 1 / n) in their n-th update, every `ema_every` steps, else 0.

        The average of the first 1 / ema updates is a plain mean.  The official code begins at the random parameters
        with the rate `ema`, and .995^300 = 22 % of them are left after 3,000 steps.
        """
        s, step = self.settings, self.adam.done + 1
        return torch.where(step % s.ema_every == 0, (s.ema_every / step).clamp(min=s.ema), 0.0)
