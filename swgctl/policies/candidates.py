"""Which of several candidates is kept (SWG-R, section 5)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.models import Critic
from swgctl.training.execution import products
from swgctl.weights import select


@dataclass
class Ranking:
    """The candidate of greatest weight w(s, a), ties broken by the advantage.

    critic  None: the weight that the model itself has given each candidate
    weigh   advantage -> weight
    """

    critic: Critic | None = None
    weigh: Callable[[Tensor], Tensor] | None = None

    def best(self, observations: Tensor, actions: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """The index (S, E) of each row's best candidate among all B = sum of counts.

        observations (S, B, O), actions (S, B, A), the model's weights (S, B); the candidates of one row lie side by
        side, counts (E,) of them.
        """
        advantages = weights
        if self.critic is not None and self.weigh is not None:
            with products("fp32"):  # an advantage is a small difference of large numbers
                q, v = self.critic.value(observations, actions)
            advantages = q - v
            weights = self.weigh(advantages)
        # Rows with fewer candidates are filled up with ones that cannot win.
        first = counts.cumsum(0) - counts
        row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        place = torch.arange(len(row), device=counts.device) - first[row]
        grid = weights.new_full((2, len(weights), len(counts), int(counts.max())), -torch.inf)
        grid[0][:, row, place], grid[1][:, row, place] = weights, advantages
        return first + select(grid[0], grid[1])
