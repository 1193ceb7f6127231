"""Rates beside their limit."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from swgctl.execution import products


@dataclass
class Case:
    """One thing to measure: `run(n)` does n steps; the rest says what a step is.

    labels  what tells this case from the others of its table
    flop    floating-point operations of a step's matrix products, of all seeds
    """

    labels: dict
    seeds: int
    precision: str
    flop: float
    run: Callable[[int], None]


def measure(cases: list[Case], device: torch.device, repeats: int, seconds: float = 0.5) -> Iterator[dict]:
    """A row for each case: steps_per_s, seed_steps_per_s, flop_per_step, flop_per_s, limit_flop_per_s, share_of_limit,
    peak_bytes.

    seconds  that a repeat of one case takes, about
    """
    counts, times = [], [[] for _ in cases]
    for case in cases:
        taken = [_time(case, 1, device) for _ in range(2)]  # the first steps compile, allocate and page in
        while len(taken) < 5 and sum(taken) < 10:
            taken.append(_time(case, 1, device))
        counts.append(max(1, round(seconds / min(taken[1:]))))
    peaks = [0] * len(cases)
    for _ in range(repeats):
        for i, (case, n) in enumerate(zip(cases, counts, strict=True)):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            times[i].append(_time(case, n, device) / n)
            peaks[i] = max(peaks[i], _peak(device))
    limits = {precision: limit(device, precision) for precision in dict.fromkeys(case.precision for case in cases)}
    for case, taken, peak in zip(cases, times, peaks, strict=True):
        rate = 1 / statistics.median(taken)
        yield {
            **case.labels,
            "seeds": case.seeds,
            "precision": case.precision,
            "device": device_name(device),
            "steps_per_s": rate,
            "seed_steps_per_s": case.seeds * rate,
            "flop_per_step": case.flop,
            "flop_per_s": case.flop * rate,
            "limit_flop_per_s": limits[case.precision],
            "share_of_limit": case.flop * rate / limits[case.precision],
            "peak_bytes": peak,
        }


def _time(case: Case, steps: int, device: torch.device) -> float:
    with products(case.precision):
        started = time.perf_counter()
        case.run(steps)
        wait(device)
        return time.perf_counter() - started


def limit(device: torch.device, precision: str) -> float:
    """The rate (1/s) of floating-point operations in one large matrix product: what no training step can exceed."""
    n, best = 8192 if device.type == "cuda" else 2048, float("inf")
    x = torch.ones(n, n, device=device)
    with products(precision):
        for _ in range(8):
            started = time.perf_counter()
            x @ x
            wait(device)
            best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> int:
    """The device's, since it was reset; on a CPU the whole process's, since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
