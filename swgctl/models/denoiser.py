"""Noise predictor eps(z_k, k, s): IDQL's LN-ResNet, with a weight head where z = [action, weight] (SWG, B.2)."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.diffusion.guidance import whole
from swgctl.diffusion.schedule import Schedule
from swgctl.models.batched import bmm
from swgctl.models.conditioned import Conditioned
from swgctl.models.layers import LAYER_NORM_EPS, LayerNorm, Linear

silu_gradient, norm_gradient = torch.ops.aten.silu_backward, torch.ops.aten.native_layer_norm_backward


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

    def kept(self, h: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output at h (S, B, width), and what `pulled` needs of the way to it."""
        normal, mean, rstd = torch.native_layer_norm(h, h.shape[-1:], None, None, LAYER_NORM_EPS)
        inside = self.up(torch.addcmul(self.norm.bias, normal, self.norm.weight))
        return h + self.down(F.silu(inside)), (h, mean, rstd, inside)

    def pulled(self, d: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        """A gradient d (S, B, width) at the output, pulled back to the input."""
        h, mean, rstd, inside = kept
        back = silu_gradient(bmm(d, self.down.weight.mT), inside)
        back = bmm(back, self.up.weight.mT) * self.norm.weight
        return d + norm_gradient(back, h, h.shape[-1:], mean, rstd, None, None, [True, False, False])[0]


class Denoiser(Conditioned):
    """S denoisers side by side, for K steps.

    The weight's channel comes from a head on the output of block `weight_block` (1-based; the second of three in the
    paper), so guidance, which differentiates that channel alone, never enters the later blocks.

    channels      C, of z: the action's, then the weight's if there is one
    weight_block  0: no head; the last layer predicts all channels
    weight_net    width of a sub-network for the weight alone (SWG, section 7), `weight_block` blocks deep, with the
                  same inputs and without dropout; 0: the weight shares the trunk's blocks
    weight_form   what the head predicts: "noise", eps_w, or "data", the clean channel w_0, of which the noise
                  eps_w = (z_w - alpha_k w_0) / sigma_k of the schedule follows
    fourier       standard deviation of the step's first frequencies
    """

    alpha: Tensor
    sigma: Tensor

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
        weight_form: str = "noise",
        dropout: float = 0.1,
        fourier: float = 0.2,
        schedule: Schedule | None = None,
    ):
        """schedule  of z, which the form "data" reads; raises ValueError without it."""
        super().__init__(seeds, channels, observation_dim, K, fourier)
        self.width, self.weight_block, self.dropout = width, weight_block, dropout
        self.entry = self.entry_layer(width)
        self.blocks = nn.ModuleList(Block(self.members, width) for _ in range(blocks))
        if weight_net:
            self.weight_entry = self.entry_layer(weight_net)
            self.weight_blocks = nn.ModuleList(Block(self.members, weight_net) for _ in range(weight_block))
        if weight_block:
            self.weight_in = Linear(self.members, weight_net or width, weight_net or width)
            self.weight_out = Linear(self.members, weight_net or width, 1)
        self.clean = weight_form == "data"
        if self.clean:
            if schedule is None or not weight_block:
                raise ValueError("a head that predicts the clean weight needs a schedule, and a block to read")
            self.register_buffer("alpha", schedule.alpha.float(), persistent=False)
            self.register_buffer("sigma", schedule.sigma.float(), persistent=False)
        self.action_out = Linear(self.members, width, channels - 1 if weight_block else channels)

    @property
    def apart(self) -> bool:
        """True if the weight has its own sub-network."""
        return hasattr(self, "weight_entry")

    def forward(self, z: Tensor, k: Tensor, observations: Tensor, keep: Tensor | None = None) -> Tensor:
        """eps (S, B, C) for z (S, B, C), integer k (S, B), observations (S, B, O).

        `keep` (S, blocks, B, width) is dropout's mask in training; kept activations are scaled up here.
        """
        h = self.enter(self.entry, z, k, observations)
        own = self.enter(self.weight_entry, z, k, observations) if self.apart else None
        return self.through(h, own, z, k, None if keep is None else keep * (1 / (1 - self.dropout)))

    def through(self, h: Tensor, own: Tensor | None, z: Tensor, k: Tensor | int, keep: Tensor | None = None) -> Tensor:
        """eps from the outputs of the entry layers, that of the weight's sub-network where there is one."""
        eps_w = None if own is None else self.weight_of(own, z, k)
        for i, block in enumerate(self.blocks, 1):
            h = block(h, None if keep is None else keep[:, i - 1])
            if i == self.weight_block and not self.apart:
                eps_w = self.weight_of(h, z, k)
        return self.join(h, eps_w)

    def weight_of(self, h: Tensor, z: Tensor, k: Tensor | int) -> Tensor:
        """eps_w (S, B, 1) from the trunk's features, or from the input of the weight's own blocks, at z (S, B, C) and
        integer k (S, B), or one for all."""
        for block in self.weight_blocks if self.apart else ():
            h = block(h)
        out = self.weight_out(F.silu(self.weight_in(h)))
        if not self.clean:
            return out
        alpha, sigma = self.alpha[k].unsqueeze(-1), self.sigma[k].unsqueeze(-1)
        return (z[..., -1:] - alpha * out) / sigma

    def weight_gradient(self, h: Tensor, z: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """(eps_w (S, B, 1), its gradient in z (S, B, C), the features that the head reads) from the output of the entry
        layer that leads to the weight.  By hand, since autograd would take as long for its records as for its products.
        """
        entry, blocks = (self.weight_entry, self.weight_blocks) if self.apart else (self.entry, self.blocks)
        way = []
        for block in cast("list[Block]", list(blocks)[: self.weight_block]):
            h, kept = block.kept(h)
            way.append((block, kept))
        inside = self.weight_in(h)
        out = self.weight_out(F.silu(inside))
        d = silu_gradient(self.weight_out.weight.mT.expand_as(inside), inside)
        d = bmm(d, self.weight_in.weight.mT)
        for block, kept in reversed(way):
            d = block.pulled(d, kept)
        gradient = bmm(d, entry.weight[:, : self.channels].mT)
        if not self.clean:
            return out, gradient, h
        alpha, sigma = self.alpha[k], self.sigma[k]
        gradient = -alpha / sigma * gradient
        gradient[..., -1] += 1 / sigma
        return (z[..., -1:] - alpha * out) / sigma, gradient, h

    def join(self, h: Tensor, eps_w: Tensor | None) -> Tensor:
        """eps (S, B, C) from the last block's output and the noise of a separately predicted weight."""
        out = self.action_out(F.silu(h))
        return out if eps_w is None else torch.cat([out, eps_w], -1)

    def tables(self) -> list[Tensor]:
        """`step_table` of the entry layers, which `bind` takes: the same for all observations."""
        return [self.step_table(entry) for entry in (self.entry, *([self.weight_entry] if self.apart else []))]

    def bind(self, observations: Tensor, row: Tensor | None = None, tables: list[Tensor] | None = None) -> "Bound":
        """The denoiser at fixed observations (S, E, O), as a function of z (S, B, C) and k.

        Row b of z is at observation row[b], for integer `row` (B,); None: row b at observation b.
        tables  the denoiser's `tables`; None: computed here
        """
        return Bound(self, observations, row, self.tables() if tables is None else tables)


class Bound:
    """Denoiser eps(z, k) for z (S, B, C) at fixed observations, whose contribution is computed once."""

    def __init__(self, denoiser: Denoiser, observations: Tensor, row: Tensor | None, tables: list[Tensor]):
        self.denoiser = denoiser
        self.trunk = denoiser.entrance(denoiser.entry, observations, row, tables[0])
        self.weight_trunk = (
            denoiser.entrance(denoiser.weight_entry, observations, row, tables[1]) if denoiser.apart else None
        )

    def __call__(self, z: Tensor, k: int) -> Tensor:
        own = self.weight_trunk(z, k) if self.weight_trunk else None
        return self.denoiser.through(self.trunk(z, k), own, z, k)

    def weight_first(self, z: Tensor, k: int) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """(eps_w (S, B), its gradient in z (S, B, C), finish): `finish()` computes the rest and returns eps (S, B, C).
        Nothing of it can be differentiated."""
        net = self.denoiser
        if not net.weight_block:
            return whole(self)(z, k)
        with torch.no_grad():
            eps_w, gradient, h = net.weight_gradient((self.weight_trunk or self.trunk)(z, k), z, k)

        @torch.no_grad()
        def finish() -> Tensor:
            x = self.trunk(z, k) if net.apart else h
            for block in net.blocks[0 if net.apart else net.weight_block :]:
                x = block(x)
            return net.join(x, eps_w)

        return eps_w.squeeze(-1), gradient, finish
