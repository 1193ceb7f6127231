"""The walk from noise to z_0 = [action, ...] at given observations (SWG, Algorithm 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.diffusion import Guidance, Schedule, sample
from swgctl.diffusion.schedule import Noise
from swgctl.models import Denoiser


@dataclass
class Sampler:
    """A walk from noise to z_0 (S, B, channels) at given observations.

    denoiser  with averaged parameters; the first channels of z are the action
    bounds    (low, high), each broadcastable to (S, B, channels), to which every predicted z_0 is clipped; None: no
              clipping
    nfe       calls of the denoiser; 0: one for each of its steps
    channel   (S, 2), offset and factor by which a joint denoiser's last channel becomes the weight; None: it is w, up
              to a factor
    """

    denoiser: Denoiser
    schedule: Schedule
    bounds: tuple[Tensor, Tensor] | None
    name: str = "ddpm"
    nfe: int = 0
    channel: Tensor | None = None

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Noise of one candidate: (draws, channels)."""
        return self.nfe or len(self.schedule), self.denoiser.channels

    def draw(
        self,
        observations: Tensor,
        row: Tensor,
        guidance: Guidance | None,
        temperature: float | Tensor,
        noise: Noise | torch.Generator,
        tables: list[Tensor] | None = None,
    ) -> Tensor:
        """Draw z_0 (S, B, channels); candidate b is at row[b] (B,) of the observations (S, E, O).

        temperature  a number, or one a candidate (B, 1)
        tables       see `Denoiser.bind`
        """
        return sample(
            self.denoiser.bind(observations, row, tables),
            self.schedule,
            (len(observations), len(row), self.denoiser.channels),
            guidance=guidance,
            sampler=self.name,
            nfe=self.nfe,
            temperature=temperature,
            bounds=self.bounds,
            generator=noise,
        )


def bounds(action_dim: int, weight_range: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bounds (low, high) of z_0, (1, 1, A) or (S, 1, A + 1) each: actions in [-1, 1], the weight of a joint model in
    the range (S, 2) of the data's.

    Guidance pulls on the weight's channel as well.  Without bounds, a large rho drives it to where the denoiser was
    never trained, and the actions with it.
    """
    if weight_range is None:
        ones = torch.ones(1, 1, action_dim)
        return -ones, ones
    ones = weight_range.new_ones(len(weight_range), action_dim)
    low, high = (torch.cat([sign * ones, weight_range[:, i : i + 1]], 1) for i, sign in ((0, -1), (1, 1)))
    return low.unsqueeze(1), high.unsqueeze(1)
