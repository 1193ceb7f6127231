"""What acts: the one interface that roll-outs know of a policy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

Cell = Mapping[str, float]  # how to act, such as {"rho": 5, "candidates": 8}; {} of a policy without such choices
Noise = Callable[[tuple[int, ...]], Tensor]  # from a shape to standard normal noise


class Policy(Protocol):
    """S members that act side by side.

    noise_shape  of what one candidate draws for one action, its first axis the draws; (0,) of a policy without noise
    statistics   the names of what `propose` counts
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

    def propose(self, observations: Tensor, cells: Sequence[Cell], noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions (S, E, A) in [-1, 1] for observations (S, E, O), row e as `cells[e]` says; statistics (S, E) by name.

        noise  called once for each draw of all candidates, of shape (S, sum of candidates, ...)
        """
