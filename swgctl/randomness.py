"""Counter-based randomness: one generator for each (seed, stream, index)."""

import hashlib

import torch


def generator(seed: int, stream: str, index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of (seed, stream, index).  No other randomness exists, so there is no random state to save."""
    counter = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(counter[:8], "little") >> 1)
