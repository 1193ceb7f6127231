"""The trajectory model as single-file implementations write it: one seed, channels first, PyTorch's own layers, eager.

What the speed of training several seeds as one is measured beside.
"""

import copy
import itertools
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.config import TrajectoriesSettings
from swgctl.diffusion import edm
from swgctl.models.layers import LAYER_NORM_EPS
from swgctl.models.unet import SLOWEST


class PlainBlock(nn.Module):
    """Convolutions (inputs, outputs, width of the kernel), each normalised a time step at a time, and rectified.

    The level enters after the first, the encoder's output before the second.
    """

    def __init__(self, level_width: int, groups: int, *convolutions: tuple[int, int, int]):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(i, o, k, padding=(k - 1) // 2) for i, o, k in convolutions)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, o, eps=LAYER_NORM_EPS) for _, o, _ in convolutions)
        self.level = nn.Linear(level_width, convolutions[0][1])

    def forward(self, x: Tensor, level: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, outputs, L) for x (B, inputs, L), level (B, level_width), skip (B, C, L)."""
        if skip is not None:
            x = F.pad(F.interpolate(x, skip.shape[-1], mode="nearest-exact"), (0, 1))
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x if i != 1 or skip is None else torch.cat([x, skip], 1))
            if not i:
                x = x + self.level(level).unsqueeze(-1)
            steps = norm(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[2]))
            x = F.relu(steps.transpose(1, 2))
        return x


class PlainUNet(nn.Module):
    """`UNet` of one seed, with torch.nn.Conv1d, GroupNorm and Linear: F(x (B, L, D), c_noise (B,)) -> (B, L, D)."""

    frequencies: Tensor

    def __init__(self, channels: int, features: int, blocks: int, groups: int):
        super().__init__()
        widths, half = [features * 2**i for i in range(blocks)], max(1, features // 8)
        self.register_buffer("frequencies", torch.exp(torch.arange(half) * (math.log(SLOWEST) / max(1, half - 1))))
        self.level_in, self.level_out = nn.Linear(2 * half, features), nn.Linear(features, features)
        block = partial(PlainBlock, features, groups)
        pairs = itertools.pairwise([channels, *widths])
        self.encoder = nn.ModuleList(block((inputs, w, 3), (w, w, 3)) for inputs, w in pairs)
        self.decoder = nn.ModuleList(block((2 * w, w, 2), (2 * w, w, 3), (w, w, 3)) for w in reversed(widths[:-1]))
        self.out = nn.Conv1d(features, channels, 1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        phase = c_noise.unsqueeze(-1) * self.frequencies
        level = F.silu(self.level_out(F.silu(self.level_in(torch.cat([phase.sin(), phase.cos()], -1)))))
        x, skips = x.transpose(1, 2), []
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool1d(x, 2) if i else x, level)
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = block(x, level, skips.pop())
        result: Tensor = self.out(x).transpose(1, 2)
        return result


class PlainTraining:
    """One seed's training on windows of `rows` (N, D): Adam at a constant rate, and a running average."""

    def __init__(self, rows: Tensor, settings: TrajectoriesSettings):
        self.rows, self.settings, self.steps = rows, settings, 0
        s = settings
        self.net = PlainUNet(rows.shape[1], s.features, s.blocks, s.groups).to(rows.device)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=s.lr, fused=True)

    def step(self) -> None:
        """Draw a minibatch and descend the loss of EDM."""
        s, rows = self.settings, self.rows
        starts = torch.randint(len(rows) - s.length + 1, (s.batch, 1), device=rows.device)
        x0 = rows[starts + torch.arange(s.length, device=rows.device)]
        sigma = torch.exp(s.log_sigma_mean + s.log_sigma_sd * torch.randn(s.batch, device=rows.device))
        self.adam.zero_grad()
        edm.loss(self.net, x0, torch.randn_like(x0), sigma)[0].backward()
        self.adam.step()
        self.steps += 1
        if self.steps % s.ema_every == 0:
            with torch.no_grad():
                for average, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                    average.lerp_(now, s.ema)
