"""The interface of a policy, as roll-outs see it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from swgctl.diffusion.schedule import Noise

Cell = Mapping[str, float]  # how to act, such as {"rho": 5, "candidates": 8}; {} for a policy without such choices


class Propose(Protocol):
    """A policy for rows of fixed cells."""

    def __call__(self, observations: Tensor, noise: Noise | torch.Generator, /) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions (S, E, A) in [-1, 1] for observations (S, E, O); statistics (S, E) by name.

        noise  called once for each draw of all candidates, of shape (S, sum of candidates, ...)
        """


class Policy(Protocol):
    """S members that act side by side.

    noise_shape  shape of the noise of one candidate for one action, its first axis the draws; (0,) without noise
    statistics   names of the quantities that a proposal counts
    """

    @property
    def seeds(self) -> list[int]: ...

    @property
    def action_dim(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def noise_shape(self) -> tuple[int, ...]: ...

    @property
    def statistics(self) -> tuple[str, ...]: ...

    def prepare(self, cells: Sequence[Cell]) -> Propose:
        """The policy for E rows, row e by `cells[e]`; its parameters stay as they are from here on."""
