"""Channels of a trajectory model: observation, action, reward and terminal of each row, z-scored (PGD, section 3)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

LIMIT = 0.999  # to which actions are clipped before their arctanh


@dataclass(frozen=True)
class Channels:
    """The D = O + A + 2 channels of a row: observation, arctanh of the action, reward, terminal flag; and their scale.

    mean, std  (D,) float32, by which channels are z-scored
    """

    observation_dim: int
    action_dim: int
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return self.observation_dim + self.action_dim + 2

    @property
    def actions(self) -> slice:
        """Positions of the action channels."""
        return slice(self.observation_dim, self.observation_dim + self.action_dim)

    @classmethod
    def of(
        cls, observations: Tensor, actions: Tensor, rewards: Tensor, terminals: Tensor, counts: Tensor | None = None
    ) -> "Channels":
        """The channels of N rows, with their population mean and standard deviation; 1 for a constant channel.

        observations (N, O); actions (N, A) in [-1, 1]; rewards, terminals (N,)
        counts  (N,) how often a row counts, such as the windows that hold it; None: once
        """
        rows = _stacked(observations, actions, rewards, terminals)
        if counts is not None:
            rows, counts = rows[counts > 0], counts[counts > 0]
        share = torch.ones(len(rows), 1, dtype=torch.float64) if counts is None else counts.double().unsqueeze(1)
        share = share / share.sum()
        exact = rows.double()
        mean = (share * exact).sum(0)
        std = (share * (exact - mean).square()).sum(0).sqrt()
        # compared as it is, since rounding leaves a constant channel a deviation above 0
        std = torch.where(rows.amax(0) > rows.amin(0), std, 1.0)
        return cls(observations.shape[-1], actions.shape[-1], mean.float(), std.float())

    def inside(self, observations: Tensor, actions: Tensor, rewards: Tensor, terminals: Tensor) -> Tensor:
        """Channels (..., D) of observations (..., O), actions (..., A) in [-1, 1], rewards and terminals (...)."""
        return (_stacked(observations, actions, rewards, terminals) - self.mean) / self.std

    def outside(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Observations (..., O), actions (..., A), rewards (...) and terminals (...), bool, of channels x (..., D).

        A row is terminal where its flag is nearer to 1 than to 0.
        """
        raw = x * self.std + self.mean
        return raw[..., : self.observation_dim], raw[..., self.actions].tanh(), raw[..., -2], raw[..., -1] > 0.5

    def observations(self, x: Tensor) -> Tensor:
        """The observations (..., O) of channels x (..., D), in the data's units."""
        return x[..., : self.observation_dim] * self.std[: self.observation_dim] + self.mean[: self.observation_dim]

    def with_actions(self, x: Tensor, actions: Tensor) -> Tensor:
        """Channels x (..., D) with other action channels (..., A), z-scored."""
        return torch.cat([x[..., : self.actions.start], actions, x[..., self.actions.stop :]], -1)

    def to(self, device: torch.device | str) -> "Channels":
        return replace(self, mean=self.mean.to(device), std=self.std.to(device))


def _stacked(observations: Tensor, actions: Tensor, rewards: Tensor, terminals: Tensor) -> Tensor:
    """The channels (..., D) before they are z-scored."""
    unbounded = actions.clamp(-LIMIT, LIMIT).arctanh()
    return torch.cat([observations, unbounded, rewards.unsqueeze(-1), terminals.unsqueeze(-1).to(rewards)], -1)
