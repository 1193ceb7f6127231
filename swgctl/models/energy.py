"""Intermediate energy E(z_k, k, s), a multi-layer perceptron (AEPO, Table 4; QGPO, appendix)."""

import itertools
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.conditioned import Conditioned
from swgctl.models.layers import Linear


class Energy(Conditioned):
    """S energies side by side, for K steps: swish between the layers, one output.

    channels  C, of z
    hidden    widths of the hidden layers
    fourier   standard deviation of the step's first frequencies
    """

    def __init__(
        self, seeds: int, channels: int, observation_dim: int, K: int, hidden: Sequence[int], fourier: float = 0.2
    ):
        super().__init__(seeds, channels, observation_dim, K, fourier)
        self.entry = self.entry_layer(hidden[0])
        self.layers = nn.ModuleList(Linear(self.members, a, b) for a, b in itertools.pairwise([*hidden, 1]))

    def forward(self, z: Tensor, k: Tensor, observations: Tensor) -> Tensor:
        """E (S, B) for z (S, B, C), integer k (S, B), observations (S, B, O)."""
        return self._rest(self.enter(self.entry, z, k, observations))

    def bind(
        self, observations: Tensor, row: Tensor | None = None, steps: Tensor | None = None
    ) -> Callable[[Tensor, int], Tensor]:
        """The energy at fixed observations (S, E, O), as a function of z (S, B, C) and k.

        Row b of z is at observation row[b], for integer `row` (B,); None: row b at observation b.
        steps  `step_table` of the entry layer; None: computed here
        """
        entrance = self.entrance(self.entry, observations, row, steps)
        return lambda z, k: self._rest(entrance(z, k))

    def _rest(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = layer(F.silu(h))
        return h.squeeze(-1)
