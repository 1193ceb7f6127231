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
