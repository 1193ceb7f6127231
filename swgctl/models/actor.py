"""Actors: the mean action of TD3+BC (arXiv 2106.06860), the Gaussian of IQL (arXiv 2110.06169)."""

import torch
from torch import Tensor, nn

from swgctl.models.critic import MLP

STD_OFFSET = 1e-3  # added to the standard deviation of an observation (TD3+BC, section 5)
LOG_STD = (-20.0, 2.0)  # range of a Gaussian's log_std


class Actor(nn.Module):
    """S actors tanh(net((s - mean) / std)) in [-1, 1]^A, of raw observations s.

    gaussian  adds `log_std` (S, A), the logarithm of a standard deviation that depends on no state, 0 at first

    The buffers `mean` and `std` (S, O) are 0 and 1 until `standardise` sets them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, seeds: int, observation_dim: int, action_dim: int, hidden: list[int], gaussian: bool):
        super().__init__()
        self.seeds, self.observation_dim, self.action_dim = seeds, observation_dim, action_dim
        self.net = MLP((seeds,), observation_dim, hidden, action_dim, init="lecun")
        self.log_std = nn.Parameter(torch.zeros(seeds, action_dim)) if gaussian else None
        self.register_buffer("mean", torch.zeros(seeds, observation_dim))
        self.register_buffer("std", torch.ones(seeds, observation_dim))

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Z-score observations by a mean and a standard deviation, (O,) or (S, O) each: (s - mean) / (std + 1e-3)."""
        self.mean.copy_(mean)
        self.std.copy_(std + STD_OFFSET)

    def z_scored(self, observations: Tensor) -> Tensor:
        """(s - mean) / std, (S, B, O) -> (S, B, O)."""
        return (observations - self.mean.unsqueeze(1)) / self.std.unsqueeze(1)

    def forward(self, observations: Tensor) -> Tensor:
        """Mean actions (S, ..., A) at observations (S, ..., O); a single member acts for any number of them.

        Raises ValueError for observations of another number of members.
        """
        if self.seeds not in (1, len(observations)):
            raise ValueError(f"observations of {len(observations)} members, for actors of {self.seeds}")
        flat = observations.reshape(self.seeds, -1, self.observation_dim)
        return self.net(self.z_scored(flat)).tanh().view(*observations.shape[:-1], self.action_dim)

    def act(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (S, ..., A) and standard deviation, which broadcasts to it, of the Gaussian policy at observations
        (S, ..., O).  Where none is learnt the standard deviation is 1 (PGD's code, for TD3+BC)."""
        mean = self(observations)
        if self.log_std is None:
            return mean, mean.new_ones(())
        sd = self.log_std.clamp(*LOG_STD).exp()
        return mean, sd.view(self.seeds, *[1] * (mean.dim() - 2), self.action_dim)
