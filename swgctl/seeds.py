"""Seeds as text: "0-4" and back."""

import re

from swgctl.errors import UsageError


def parse(text: str | int | list[int]) -> list[int]:
    """Sorted distinct seeds from "0-4", "3" or "0,2,5-7".  Raises UsageError."""
    if isinstance(text, list):
        text = ",".join(map(str, text))
    seeds: set[int] = set()
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UsageError(f"seeds '{text}' must be numbers and ranges", "--seeds 0-4")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 1000:
            raise UsageError(f"seeds '{part}' must be an ascending range of at most 1000", "--seeds 0-4")
        seeds.update(range(first, last + 1))
    return sorted(seeds)


def ranges(seeds: list[int]) -> str:
    """Text of sorted seeds: [0, 1, 2, 5] -> "0-2,5"."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
