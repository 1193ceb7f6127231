"""Networks of (z_k, k, s): the step's embedding, and the layers that z, step and observation enter."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.batched import affine, bmm
from swgctl.models.layers import Linear

FOURIER = 64  # frequencies of the step's embedding
STEP_WIDTH = 256  # width of the embedding's two layers
ONE_HOT = 64  # number of steps below which a row's step is picked by a product with a one-hot column


class Fourier(nn.Module):
    """Learnt embedding of the integer step k: [cos, sin](2 pi k W), (S, K, 1) -> (S, K, 2 FOURIER).

    std  standard deviation of the first W, normal with mean 0
    """

    def __init__(self, seeds: int, std: float = 0.2):
        super().__init__()
        self.std = std
        self.frequency = nn.Parameter(torch.zeros(seeds, 1, FOURIER))

    def forward(self, k: Tensor) -> Tensor:
        phase = 2 * math.pi * k * self.frequency
        return torch.cat([phase.cos(), phase.sin()], -1)

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        self.frequency[member].normal_(std=self.std, generator=generator)


class Conditioned(nn.Module):
    """S networks side by side, for K steps, of z (C channels), the step and the observation (O numbers).

    A layer that these enter is made by `entry_layer`; its weight has a row for each channel of z, each number of the
    observation and each unit of the step's embedding, in this order.

    fourier  standard deviation of the step's first frequencies, in cycles a step
    """

    steps: Tensor

    def __init__(self, seeds: int, channels: int, observation_dim: int, K: int, fourier: float):
        super().__init__()
        self.members, self.channels, self.observation_dim = (seeds,), channels, observation_dim
        self.inputs = channels + observation_dim
        self.fourier = Fourier(seeds, fourier)
        self.step_in = Linear(self.members, 2 * FOURIER, STEP_WIDTH)
        self.step_out = Linear(self.members, STEP_WIDTH, STEP_WIDTH)
        self.register_buffer("steps", torch.arange(K, dtype=torch.float32).view(1, K, 1), persistent=False)

    def entry_layer(self, width: int) -> Linear:
        """A new entry layer."""
        return Linear(self.members, self.inputs + STEP_WIDTH, width)

    def step_table(self, entry: Linear) -> Tensor:
        """Contribution of each step to an entry layer's output, bias included: (S, K, width).

        k has only K values, so its embedding is computed K times a call instead of once a row.
        """
        condition = self.step_out(F.silu(self.step_in(self.fourier(self.steps))))
        return affine(entry.bias, condition, entry.weight[:, self.inputs :])

    def enter(self, entry: Linear, z: Tensor, k: Tensor, observations: Tensor) -> Tensor:
        """An entry layer's output (S, B, width) for z (S, B, C), integer k (S, B), observations (S, B, O)."""
        table, weight = self.step_table(entry), entry.weight[:, : self.inputs]
        K = table.shape[1]
        # One product for all three; compiled at any K, since there the gradient of an index is a sum in any order.
        if K < ONE_HOT or torch.compiler.is_compiling():
            inputs = torch.cat([z, observations, F.one_hot(k, K).to(z.dtype)], -1)
            return bmm(inputs, torch.cat([weight, table], 1))
        members = torch.arange(len(k), device=k.device).unsqueeze(1)
        return affine(table[members, k], torch.cat([z, observations], -1), weight)

    def entrance(
        self, entry: Linear, observations: Tensor, row: Tensor | None = None, steps: Tensor | None = None
    ) -> Callable[[Tensor, int], Tensor]:
        """`enter` at fixed observations (S, E, O), whose contribution is computed once: (z (S, B, C), k) -> output.

        Row b of z is at observation row[b], for integer `row` (B,); None: row b at observation b.
        steps  the layer's `step_table`; None: computed here
        """
        of_z, of_state = entry.weight[:, : self.channels], entry.weight[:, self.channels : self.inputs]
        table, state = self.step_table(entry) if steps is None else steps, bmm(observations, of_state)
        state = state if row is None else state[:, row]
        return lambda z, k: affine(state + table[:, k : k + 1], z, of_z)
