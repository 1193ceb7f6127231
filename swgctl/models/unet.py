"""Denoiser of trajectories: a U-Net over time (PGD, arXiv 2404.06356; Ronneberger et al., 2015)."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swgctl.models.layers import Conv, GroupNorm, Linear

SLOWEST = 1e-4  # lowest frequency of the noise level's embedding, in radians; the highest is 1


class UNet(nn.Module):
    """S networks F(x, c_noise) side by side: windows of L time steps, channels last, at one noise level each.

    The encoder's block i has C_i = `features` 2^i channels and halves the length after it; the decoder goes back up,
    and each of its blocks reads the encoder's of the same length too.  Nothing is residual, nothing attends.

    channels  D, of a time step: observation, action, reward, terminal
    features  C_0
    blocks    of the encoder; the decoder has one fewer
    groups    of channels that are normalised together, a time step at a time; divides `features`
    """

    frequencies: Tensor

    def __init__(self, seeds: int, channels: int, features: int, blocks: int, groups: int):
        super().__init__()
        widths = [features * 2**i for i in range(blocks)]
        half = max(1, features // 8)
        frequencies = torch.exp(torch.arange(half) * (math.log(SLOWEST) / max(1, half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.level_in = Linear((seeds,), 2 * half, features, init="lecun")
        self.level_out = Linear((seeds,), features, features, init="lecun")
        self.encoder = nn.ModuleList(
            Block(seeds, inputs, width, features, groups) for inputs, width in itertools.pairwise([channels, *widths])
        )
        self.decoder = nn.ModuleList(UpBlock(seeds, width, features, groups) for width in reversed(widths[:-1]))
        self.out = Conv(seeds, features, channels, width=1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """(S, B, L, D) for x (S, B, L, D) and c_noise (S, B).  Raises ValueError for L < 2^(blocks - 1)."""
        if x.shape[2] < 2 ** len(self.decoder):
            raise ValueError(f"{len(self.encoder)} blocks halve {x.shape[2]} time steps to less than one")
        level = F.silu(self.embed(c_noise))
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(pool(x) if i else x, level)
            skips.append(x)
        skips.pop()
        for up in self.decoder:
            x = up(x, skips.pop(), level)
        result: Tensor = self.out(x)
        return result

    def embed(self, c_noise: Tensor) -> Tensor:
        """Embedding (S, B, features) of the noise level (S, B)."""
        phase = c_noise.unsqueeze(-1) * self.frequencies
        level: Tensor = self.level_out(F.silu(self.level_in(torch.cat([phase.sin(), phase.cos()], -1))))
        return level


class Block(nn.Module):
    """Two convolutions (S, B, L, inputs) -> (S, B, L, width), each normalised and rectified; the level enters first."""

    def __init__(self, seeds: int, inputs: int, width: int, level_width: int, groups: int):
        super().__init__()
        self.conv_1 = Conv(seeds, inputs, width, width=3)
        self.level = Linear((seeds,), level_width, width, init="lecun")
        self.norm_1 = GroupNorm(seeds, width, groups)
        self.conv_2 = Conv(seeds, width, width, width=3)
        self.norm_2 = GroupNorm(seeds, width, groups)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        x = F.relu(self.norm_1(self.conv_1(x) + self.level(level).unsqueeze(2)))
        return F.relu(self.norm_2(self.conv_2(x)))


class UpBlock(nn.Module):
    """(S, B, L', 2 width) and the encoder's (S, B, L, width) -> (S, B, L, width), for L' = L // 2.

    What comes from below is stretched and convolved by a kernel of two; the level enters; two convolutions join it
    with the encoder's.
    """

    def __init__(self, seeds: int, width: int, level_width: int, groups: int):
        super().__init__()
        self.conv_1 = Conv(seeds, 2 * width, width, width=2)
        self.level = Linear((seeds,), level_width, width, init="lecun")
        self.norm_1 = GroupNorm(seeds, width, groups)
        self.conv_2 = Conv(seeds, 2 * width, width, width=3)
        self.norm_2 = GroupNorm(seeds, width, groups)
        self.conv_3 = Conv(seeds, width, width, width=3)
        self.norm_3 = GroupNorm(seeds, width, groups)

    def forward(self, x: Tensor, skip: Tensor, level: Tensor) -> Tensor:
        x = self.conv_1(upsample(x, skip.shape[2]))
        x = F.relu(self.norm_1(x + self.level(level).unsqueeze(2)))
        x = F.relu(self.norm_2(self.conv_2(torch.cat([x, skip], -1))))
        return F.relu(self.norm_3(self.conv_3(x)))


def pool(x: Tensor) -> Tensor:
    """Maximum of each pair of time steps, (S, B, L, C) -> (S, B, L // 2, C); an odd last step is left out."""
    pairs = x.shape[2] // 2
    return x.narrow(2, 0, 2 * pairs).unflatten(2, (pairs, 2)).amax(3)


def upsample(x: Tensor, length: int) -> Tensor:
    """Nearest neighbours, (S, B, L, C) -> (S, B, length, C), for a length of 2 L or 2 L + 1.

    Step j is step floor((j + 1/2) L / length) of x, PyTorch's "nearest-exact": each step twice, and of an odd length
    step L // 2 a third time.
    """
    # Not an index, whose gradient on a GPU is a sum in any order: with three terms its bytes would vary.
    steps, middle = x.shape[2], x.shape[2] // 2
    doubled = x.unsqueeze(3).expand(-1, -1, -1, 2, -1).flatten(2, 3)
    if length == 2 * steps:
        return doubled
    return torch.cat([doubled[:, :, : 2 * middle], x[:, :, middle : middle + 1], doubled[:, :, 2 * middle :]], 2)
