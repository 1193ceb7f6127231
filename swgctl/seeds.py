"""Seeds as text: "0-4" and back."""

import re

from swgctl.console import shown
from swgctl.errors import UsageError

MOST = 1001  # seeds of one run
DIGITS = 18  # of a seed, at most


def parse(text: str | int | list[int]) -> list[int]:
    """Sorted distinct seeds, at most 1,001 and below 10^18, from "0-4", "3" or "0,2,5-7".  Raises UsageError."""
    given = text if isinstance(text, list) else [text]
    if any(isinstance(one, int) and one >= 10**DIGITS for one in given):  # too long, maybe, even for a text
        raise UsageError(f"seeds must have at most {DIGITS} digits", "--seeds 0-4")
    seeds: set[int] = set()
    for part in (part for one in given for part in str(one).split(",")):
        match = re.fullmatch(rf"\s*([0-9]{{1,{DIGITS}}})(?:-([0-9]{{1,{DIGITS}}}))?\s*", part)
        if not match:
            raise UsageError(
                f"seeds '{shown(part)}' must be numbers of at most {DIGITS} digits, and ranges", "--seeds 0-4"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MOST:
            raise UsageError(f"seeds '{shown(part)}' must be an ascending range of at most {MOST:,}", "--seeds 0-4")
        seeds.update(range(first, last + 1))
        if len(seeds) > MOST:
            raise UsageError(f"more than {MOST:,} seeds", "--seeds 0-4")
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
