"""Measurement of rates and of their limit."""

import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from swgctl.console import say
from swgctl.errors import CompileError, UsageError
from swgctl.training.execution import MODES, effective, products


def modes(device: torch.device) -> list[str]:
    return [mode for mode in MODES if mode != "graph" or device.type == "cuda"]


def precisions(device: torch.device) -> list[str]:
    """Full precision, and the one that settings have by default where the device has such products."""
    return ["fp32"] + ["bf16"] * (device.type == "cuda" or effective("bf16", str(device)) != "fp32")


@dataclass
class Case:
    """A case to measure: `run(n)` takes n steps, which the other fields describe.

    labels  distinguish this case from the others of its table
    flop    floating-point operations of a step's matrix products, summed over the seeds
    draw    draws the inputs of `chunk` steps, where `run` repeats the same ones
    most    number of steps available
    """

    labels: dict
    seeds: int
    precision: str
    flop: float
    run: Callable[[int], None]
    draw: Callable[[], object] | None = None
    chunk: int = 1
    most: int = sys.maxsize


def measure(
    makers: Iterable[Callable[[], Case]], device: torch.device, repeats: int, seconds: float = 0.5
) -> Iterator[dict]:
    """A row for each case: steps_per_s, seed_steps_per_s, flop_per_step, flop_per_s, limit_flop_per_s, share_of_limit,
    peak_bytes.

    seconds  approximate duration of a repeat of one case
    A case's peak is the device memory for making and warming it up, on top of that held by earlier cases; on a CPU it
    is the peak of the whole process so far, which can only grow from row to row.
    A case that cannot be compiled is left out with a message.
    Raises UsageError where a case has too few steps for the repeats.
    """
    cases: list[Case] = []
    counts: list[int] = []
    peaks: list[int] = []
    for make in makers:
        held = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
        try:
            case = make()
            counts.append(warm_up(case, device, repeats, seconds))
        except CompileError as error:
            say(f"bench: a row is left out: {error}")
            continue
        cases.append(case)
        peaks.append(_peak(device) - held)
    times = turns(cases, counts, repeats, device)
    rounded = [ran(case, device) for case in cases]
    limits = {precision: limit(device, precision) for precision in dict.fromkeys(rounded)}
    for case, precision, durations, peak in zip(cases, rounded, times, peaks, strict=True):
        rate = 1 / statistics.median(durations)
        yield {
            **case.labels,
            "seeds": case.seeds,
            "precision": precision,
            "device": device_name(device),
            "steps_per_s": rate,
            "seed_steps_per_s": case.seeds * rate,
            "flop_per_step": case.flop,
            "flop_per_s": case.flop * rate,
            "limit_flop_per_s": limits[precision],
            "share_of_limit": case.flop * rate / limits[precision],
            "peak_bytes": peak,
        }


def turns(cases: Sequence[Case], counts: Sequence[int], repeats: int, device: torch.device) -> list[list[float]]:
    """Seconds of a step of each case, `repeats` of them, of so many steps each; the cases take turns."""
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(repeats):
        for case, n, durations in zip(cases, counts, times, strict=True):
            durations.append(step_seconds(case, n, device))
    return times


def ran(case: Case, device: torch.device) -> str:
    """The precision to which a case's factors were rounded; on CUDA its mode has a say."""
    if case.precision == "fp32":
        return "fp32"
    return effective(case.precision, str(device), case.labels.get("mode", "eager"))


def step_seconds(case: Case, n: int, device: torch.device) -> float:
    """Seconds of a step, the mean of n, including its share of a chunk's draws; n may be less than a chunk."""
    drawing = _time(case, case.draw, device) / case.chunk if case.draw else 0.0
    return drawing + _time(case, partial(case.run, n), device) / n


def warm_up(case: Case, device: torch.device, repeats: int, seconds: float) -> int:
    """Warm up; returns the number of steps of a repeat."""
    step_seconds(case, 1, device)  # the first step compiles, allocates and pages in
    durations: list[float] = []
    while len(durations) < 4 and sum(durations) < 10:
        durations.append(_time(case, partial(case.run, 1), device))
    n = min(max(1, round(seconds / min(durations))), (case.most - 1 - len(durations)) // repeats)
    if n < 1:
        what, fewer = case.labels["what"], case.most // 10
        raise UsageError(
            f"{repeats} repeats are too many for {what}: an episode has {case.most} steps",
            f"swgctl bench {what} --repeats {fewer}",
        )
    return n


def _time(case: Case, work: Callable[[], object], device: torch.device) -> float:
    with products(case.precision, case.labels.get("mode", "eager")):
        started = time.perf_counter()
        work()
        wait(device)
        return time.perf_counter() - started


def limit(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of one large matrix product, the upper limit of any training step."""
    n, best = 8192 if device.type == "cuda" else 2048, float("inf")
    # Noise: a processor that runs into its limit of power multiplies ones faster.
    x = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device)
    if precision == "bf16" and (device.type == "cuda" or effective(precision, str(device)) == "bf16"):
        x = x.bfloat16()
    with products(precision):
        for _ in range(8):
            started = time.perf_counter()
            x @ x
            wait(device)
            best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> int:
    """Peak memory in bytes: the device's since its reset; on a CPU the whole process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
