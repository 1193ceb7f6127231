"""Rows of a table: all members' alike, or each member's own."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Rows:
    """Row numbers that minibatches are drawn from: (n,) the same for all members, or (S, n) each member's."""

    numbers: Tensor

    def draw(self, size: tuple[int, int], generators: list[torch.Generator]) -> Tensor:
        """Row numbers (chunk, S, batch) for size (chunk, batch), uniform with replacement; a generator a member."""
        n = self.numbers.shape[-1]
        picks = torch.stack([torch.randint(n, size, generator=g, device=g.device) for g in generators], 1)
        members = torch.arange(len(generators), device=self.numbers.device).unsqueeze(1)
        return self.numbers.expand(len(generators), -1)[members, picks]

    def of(self, values: Tensor) -> Tensor:
        """The members' rows of values (S, N), (S, n)."""
        return values.gather(1, self.numbers.expand(len(values), -1))


@dataclass
class Candidates:
    """Actions of a behaviour model at states of a table's rows, and the weight of each by its member's critic.

    states   (n,), the row of the table at whose state each action is
    actions  (S, n, A)
    weights  (S, n)
    """

    states: Tensor
    actions: Tensor
    weights: Tensor

    @classmethod
    def at(cls, rows: Tensor, actions: Tensor, weights: Tensor) -> "Candidates":
        """Of M actions (S, N, M, A) and weights (S, N, M) at each of the rows (N,).  Raises ValueError for others."""
        if rows.shape != weights.shape[1:2] or weights.shape != actions.shape[:-1]:
            raise ValueError("the candidates' rows, actions and weights are not of one shape")
        return cls(rows.repeat_interleave(actions.shape[2]), actions.flatten(1, 2), weights.flatten(1))

    def to(self, device: torch.device) -> "Candidates":
        return Candidates(self.states.to(device), self.actions.to(device), self.weights.to(device))
