"""Noise predictor eps(z_k, k, s) for z = [action, weight]: IDQL's LN-ResNet with a weight head (SWG, B.2)."""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import LayerNorm, Linear

FOURIER = 64  # frequencies of the step's embedding
STEP_WIDTH = 256  # width of the embedding's two layers
ARCHITECTURE = (
    "K",
    "width",
    "blocks",
    "weight_block",
    "weight_net",
    "dropout",
)  # the settings that define a `Denoiser`


class Block(nn.Module):
    """Residual block h + W2 swish(W1 LayerNorm(dropout(h))), four times as wide inside."""

    def __init__(self, members: tuple[int, ...], width: int):
        super().__init__()
        self.norm = LayerNorm(members, width)
        self.up = Linear(members, width, 4 * width, init="lecun")
        self.down = Linear(members, 4 * width, width, init="lecun")

    def forward(self, h: Tensor, keep: Tensor | None = None) -> Tensor:
        x = h if keep is None else h * keep
        return h + self.down(F.silu(self.up(self.norm(x))))


class Fourier(nn.Module):
    """Learnt embedding of the integer step k: [cos, sin](2 pi k W), (S, K, 1) -> (S, K, 2 FOURIER)."""

    def __init__(self, seeds: int):
        super().__init__()
        self.frequency = nn.Parameter(torch.zeros(seeds, 1, FOURIER))

    def forward(self, k: Tensor) -> Tensor:
        phase = 2 * math.pi * k * self.frequency
        return torch.cat([phase.cos(), phase.sin()], -1)

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        self.frequency[member].normal_(std=0.2, generator=generator)


class Denoiser(nn.Module):
    """S denoisers side by side, for K steps.

    The weight's channel comes from a head on the output of block `weight_block` (1-based; the second of three in the
    paper), so guidance, which differentiates that channel alone, never enters the later blocks.

    channels      C, of z: the action's, then the weight's
    weight_block  0: no head; the last layer predicts the weight beside the actions
    weight_net    width of a sub-network for the weight alone (SWG, section 7), `weight_block` blocks deep, with the
                  same inputs and without dropout; 0: the weight shares the trunk's blocks
    """

    steps: Tensor

    def __init__(
        self,
        seeds: int,
        observation_dim: int,
        channels: int,
        K: int,
        width: int = 256,
        blocks: int = 3,
        weight_block: int = 2,
        weight_net: int = 0,
        dropout: float = 0.1,
    ):
        super().__init__()
        members, self.width, self.weight_block, self.dropout = (seeds,), width, weight_block, dropout
        self.channels, self.observation_dim = channels, observation_dim
        self.inputs = channels + observation_dim
        self.fourier = Fourier(seeds)
        self.step_in = Linear(members, 2 * FOURIER, STEP_WIDTH)
        self.step_out = Linear(members, STEP_WIDTH, STEP_WIDTH)
        self.entry = Linear(members, self.inputs + STEP_WIDTH, width)
        self.blocks = nn.ModuleList(Block(members, width) for _ in range(blocks))
        if weight_net:
            self.weight_entry = Linear(members, self.inputs + STEP_WIDTH, weight_net)
            self.weight_blocks = nn.ModuleList(Block(members, weight_net) for _ in range(weight_block))
        if weight_block:
            self.weight_in = Linear(members, weight_net or width, weight_net or width)
            self.weight_out = Linear(members, weight_net or width, 1)
        self.action_out = Linear(members, width, channels - 1 if weight_block else channels)
        self.register_buffer("steps", torch.arange(K, dtype=torch.float32).view(1, K, 1), persistent=False)

    @property
    def apart(self) -> bool:
        """True if the weight has its own sub-network."""
        return hasattr(self, "weight_entry")

    def step_table(self, entry: Linear) -> Tensor:
        """Contribution of each step to an entry layer's output, bias included: (S, K, width).

        k has only K values, so its embedding is computed K times a call instead of once a row.
        """
        condition = self.step_out(F.silu(self.step_in(self.fourier(self.steps))))
        return torch.baddbmm(entry.bias, condition, entry.weight[:, self.inputs :])

    def forward(self, z: Tensor, k: Tensor, observations: Tensor, keep: Tensor | None = None) -> Tensor:
        """eps (S, B, C) for z (S, B, C), integer k (S, B), observations (S, B, O).

        `keep` (S, blocks, B, width) is dropout's mask in training; kept activations are scaled up here.
        """
        one_hot = F.one_hot(k, self.steps.shape[1]).to(z.dtype)
        inputs = torch.cat([z, observations, one_hot], -1)
        h, scale = self._enter(self.entry, inputs), 1 / (1 - self.dropout)
        eps_w = self.weight_of(self._enter(self.weight_entry, inputs)) if self.apart else None
        for i, block in enumerate(self.blocks, 1):
            h = block(h, None if keep is None else keep[:, i - 1] * scale)
            if i == self.weight_block and not self.apart:
                eps_w = self.weight_of(h)
        return self.join(h, eps_w)

    def _enter(self, entry: Linear, inputs: Tensor) -> Tensor:
        # one product for all three: the step's row of the table is picked by a one-hot column
        return torch.bmm(inputs, torch.cat([entry.weight[:, : self.inputs], self.step_table(entry)], 1))

    def weight_of(self, h: Tensor) -> Tensor:
        """eps_w (S, B, 1) from the trunk's features, or from the input of the weight's own blocks."""
        for block in self.weight_blocks if self.apart else ():
            h = block(h)
        return self.weight_out(F.silu(self.weight_in(h)))

    def join(self, h: Tensor, eps_w: Tensor | None) -> Tensor:
        """eps (S, B, C) from the last block's output and the noise of a separately predicted weight."""
        out = self.action_out(F.silu(h))
        return out if eps_w is None else torch.cat([out, eps_w], -1)

    def bind(self, observations: Tensor, row: Tensor | None = None) -> "Bound":
        """The denoiser at fixed observations (S, E, O), as a function of z (S, B, C) and k.

        Row b of z is at observation row[b], for integer `row` (B,); None: row b at observation b.
        """
        return Bound(self, observations, row)


class Bound:
    """Denoiser eps(z, k) for z (S, B, C) at fixed observations, whose contribution is computed once."""

    def __init__(self, denoiser: Denoiser, observations: Tensor, row: Tensor | None):
        self.denoiser = denoiser
        self.trunk = self._entrance(denoiser.entry, observations, row)
        self.weight_trunk = self._entrance(denoiser.weight_entry, observations, row) if denoiser.apart else None

    def _entrance(self, entry: Linear, observations: Tensor, row: Tensor | None) -> Callable[[Tensor, int], Tensor]:
        """The function (z, k) -> an entry layer's output."""
        split = self.denoiser.inputs - observations.shape[-1]
        of_z, of_state = entry.weight[:, :split], entry.weight[:, split : self.denoiser.inputs]
        steps, state = self.denoiser.step_table(entry), torch.bmm(observations, of_state)
        state = state if row is None else state[:, row]
        return lambda z, k: torch.baddbmm(state + steps[:, k : k + 1], z, of_z)

    def weight_first(self, z: Tensor, k: int) -> tuple[Tensor, Callable[[], Tensor]]:
        """(eps_w (S, B), finish): `finish()` computes the rest without autograd and returns eps (S, B, C)."""
        net = self.denoiser
        if not net.weight_block:
            eps = self._rest(self.trunk(z, k), net.blocks, None)
            return eps[..., -1], lambda: eps
        h = self.weight_trunk(z, k) if self.weight_trunk else self.trunk(z, k)
        done = 0 if self.weight_trunk else net.weight_block
        for block in net.blocks[:done]:
            h = block(h)
        eps_w = net.weight_of(h)

        @torch.no_grad()
        def finish() -> Tensor:
            start = self.trunk(z, k) if self.weight_trunk else h.detach()
            return self._rest(start, net.blocks[done:], eps_w.detach())

        return eps_w.squeeze(-1), finish

    def _rest(self, h: Tensor, blocks: Iterable[nn.Module], eps_w: Tensor | None) -> Tensor:
        for block in blocks:
            h = block(h)
        return self.denoiser.join(h, eps_w)

    def __call__(self, z: Tensor, k: int) -> Tensor:
        _, finish = self.weight_first(z, k)
        return finish()
