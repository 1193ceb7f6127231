"""The choice among several candidates (SWG-R, section 5)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.models import Critic
from swgctl.training.execution import products
from swgctl.weights import select


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
        self, observations: Tensor, actions: Tensor, weights: Tensor, counts: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Index (S, E) of each row's chosen candidate among all B = sum of counts.

        observations (S, B, O), actions (S, B, A), the model's weights (S, B); counts (E,) candidates a row, which lie
        side by side; noise (S, B), standard normal, by which candidates are drawn
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
        first = counts.cumsum(0) - counts
        row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        slot = torch.arange(len(row), device=counts.device) - first[row]
        grid = weights.new_full((2, len(weights), len(counts), int(counts.max())), -torch.inf)
        grid[0][:, row, slot], grid[1][:, row, slot] = weights, advantages
        return first + select(grid[0], grid[1])
