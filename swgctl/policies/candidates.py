"""The choice among several candidates (SWG-R, section 5)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.models import Critic
from swgctl.training.execution import products
from swgctl.weights import select


class Layout:
    """Where the candidates of E rows lie among all B: side by side, those of row e from first[e] on.

    counts (E,)  candidates a row
    row (B,)     the row of each candidate; slot (B,): its number in it
    most         the greatest count, 1 without rows

    All of it is computed on the host, so that nothing waits for the device.
    """

    def __init__(self, counts: Sequence[int], device: torch.device):
        counted = self.counted = torch.tensor(counts, dtype=torch.long)  # on the host
        first = counted.cumsum(0) - counted
        row = torch.repeat_interleave(torch.arange(len(counted)), counted)
        slot = torch.arange(len(row)) - first[row]
        self.counts, self.first, self.row, self.slot = (x.to(device) for x in (counted, first, row, slot))
        self.most = max(counts, default=1)

    def places_of(self, chosen: Sequence[bool]) -> tuple[Tensor | slice, Tensor]:
        """Places (b,) of the chosen rows' candidates among all, or the slice of all, and the row (b,) of each."""
        if all(chosen):
            return slice(None), self.row
        places = torch.tensor(chosen).repeat_interleave(self.counted).nonzero().squeeze(-1).to(self.row.device)
        return places, self.row[places]

    def spread(self, values: Sequence[float]) -> Tensor:
        """A row's number to each of its candidates, (B, 1) in fp32."""
        return torch.tensor(values, dtype=torch.float32, device=self.row.device)[self.row].unsqueeze(-1)


@dataclass
class Ranking:
    """Ranking by the weight w(s, a), ties broken by the advantage.

    critic  source of the advantage; None: candidates are ranked by the model's own weight
    weigh   advantage -> weight
    draw    draw a candidate in proportion to its weight (SfBC), instead of the one of greatest weight
    """

    critic: Critic | None = None
    weigh: Callable[[Tensor], Tensor] | None = None
    draw: bool = False

    def best(
        self, observations: Tensor, actions: Tensor, weights: Tensor, layout: Layout, noise: Tensor | None = None
    ) -> Tensor:
        """Index (S, E) of each row's chosen candidate among all B.

        observations (S, B, O), actions (S, B, A), the model's weights (S, B); noise (S, B), standard normal, by which
        candidates are drawn
        """
        advantages = weights
        if self.critic is not None and self.weigh is not None:
            with products("fp32"):  # an advantage is a small difference of large numbers
                q, v = self.critic.value(observations, actions)
            advantages = q - v
            weights = self.weigh(advantages)
        if noise is not None:
            # The greatest of log w plus Gumbel noise is a draw in proportion to w.
            uniform = torch.special.ndtr(noise.double()).clamp(min=1e-300)
            weights = weights.log() - (-uniform.log()).log().to(weights.dtype)
        # Rows with fewer candidates are padded with ones that cannot win.
        grid = weights.new_full((2, len(weights), len(layout.counts), layout.most), -torch.inf)
        grid[0][:, layout.row, layout.slot], grid[1][:, layout.row, layout.slot] = weights, advantages
        return layout.first + select(grid[0], grid[1])
