"""Counter-based randomness: one generator for each (seed, stream, index)."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def generator(seed: int, stream: str, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of (seed, stream, index).  Training, sampling and roll-outs have no other randomness, so that there
    is no random state to save."""
    counter = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(counter[:8], "little") >> 1)


def normal(sources: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of a shape (S, ...), member s's by sources[s], so that it is what it draws alone."""
    return torch.stack([torch.randn(shape[1:], generator=source, device=source.device) for source in sources])
