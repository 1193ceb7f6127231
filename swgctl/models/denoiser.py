"""The noise predictor eps(z_k, k, s) over z = [action, weight]: IDQL's LN-ResNet with a weight head (SWG, B.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import LayerNorm, Linear

FOURIER = 64  # frequencies of the step's embedding
ARCHITECTURE = ("K", "width", "blocks", "weight_block", "dropout")  # the settings that make a `Denoiser`


class Block(nn.Module):
    """h + W2 swish(W1 LayerNorm(dropout(h))), four times as wide inside."""

    def __init__(self, members: tuple[int, ...], width: int):
        super().__init__()
        self.norm = LayerNorm(members, width)
        self.up = Linear(members, width, 4 * width, init="lecun")
        self.down = Linear(members, 4 * width, width, init="lecun")

    def forward(self, h: Tensor, keep: Tensor | None = None) -> Tensor:
        x = h if keep is None else h * keep
        return h + self.down(F.silu(self.up(self.norm(x))))


class Fourier(nn.Module):
    """[cos, sin](2 pi k W): a learnt embedding of the integer step k, (S, K, 1) -> (S, K, 2 FOURIER)."""

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
    """

    def __init__(
        self,
        seeds: int,
        observation_dim: int,
        action_dim: int,
        K: int,
        width: int = 256,
        blocks: int = 3,
        weight_block: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        members, self.width, self.weight_block, self.dropout = (seeds,), width, weight_block, dropout
        self.inputs = action_dim + 1 + observation_dim
        self.fourier = Fourier(seeds)
        self.step_in = Linear(members, 2 * FOURIER, 256)
        self.step_out = Linear(members, 256, 256)
        self.entry = Linear(members, self.inputs + 256, width)
        self.blocks = nn.ModuleList(Block(members, width) for _ in range(blocks))
        self.weight_in = Linear(members, width, width)
        self.weight_out = Linear(members, width, 1)
        self.action_out = Linear(members, width, action_dim)
        self.register_buffer("steps", torch.arange(K, dtype=torch.float32).view(1, K, 1), persistent=False)

    def step_table(self) -> Tensor:
        """What each of the K steps adds to the entry layer's output, its bias included: (S, K, width).

        k takes K values only, so its embedding is computed K times a call and not once a row.
        """
        condition = self.step_out(F.silu(self.step_in(self.fourier(self.steps))))
        return torch.baddbmm(self.entry.bias, condition, self.entry.weight[:, self.inputs :])

    def forward(self, z: Tensor, k: Tensor, observations: Tensor, keep: Tensor | None = None) -> Tensor:
        """eps (S, B, A + 1) for z (S, B, A + 1), integer k (S, B), observations (S, B, O).

        `keep` (S, blocks, B, width) is dropout's mask in training; the rows that stay are scaled up here.
        """
        one_hot = F.one_hot(k, self.steps.shape[1]).to(z.dtype)
        inputs = torch.cat([z, observations, one_hot], -1)
        # one product for all three: the step's row of the table is picked by a one-hot column
        h = torch.bmm(inputs, torch.cat([self.entry.weight[:, : self.inputs], self.step_table()], 1))
        scale = 1 / (1 - self.dropout)
        for i, block in enumerate(self.blocks, 1):
            h = block(h, None if keep is None else keep[:, i - 1] * scale)
            if i == self.weight_block:
                eps_w = self._weight(h)
        return torch.cat([self.action_out(F.silu(h)), eps_w], -1)

    def _weight(self, h: Tensor) -> Tensor:
        return self.weight_out(F.silu(self.weight_in(h)))

    def bind(self, observations: Tensor, row: Tensor | None = None) -> "Bound":
        """The denoiser at fixed observations (S, E, O), as a function of z (S, B, A + 1) and k.

        Row b of z is at the observation row[b], for integer `row` (B,); None: B is E.
        """
        return Bound(self, observations, row)


class Bound:
    """eps(z, k) for z (S, B, A + 1) at fixed observations; everything that depends on them alone is computed once."""

    def __init__(self, denoiser: Denoiser, observations: Tensor, row: Tensor | None):
        a = denoiser.inputs - observations.shape[-1]
        weight = denoiser.entry.weight
        self.denoiser = denoiser
        self.entry = weight[:, :a]
        self.steps = denoiser.step_table()
        state = torch.bmm(observations, weight[:, a : denoiser.inputs])
        self.state = state if row is None else state[:, row]

    def weight_first(self, z: Tensor, k: int):
        """(eps_w (S, B), finish): `finish()` runs the other blocks without autograd, to eps (S, B, A + 1)."""
        net = self.denoiser
        h = torch.baddbmm(self.state + self.steps[:, k : k + 1], z, self.entry)
        for block in net.blocks[: net.weight_block]:
            h = block(h)
        eps_w = net._weight(h)

        @torch.no_grad()
        def finish() -> Tensor:
            rest = h.detach()
            for block in net.blocks[net.weight_block :]:
                rest = block(rest)
            return torch.cat([net.action_out(F.silu(rest)), eps_w.detach()], -1)

        return eps_w.squeeze(-1), finish

    def __call__(self, z: Tensor, k: int) -> Tensor:
        _, finish = self.weight_first(z, k)
        return finish()
