"""The one training loop: chunks, counter-based randomness, checkpoints, signals, metrics."""

import functools
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import Tensor

from swgctl import runtime, signals
from swgctl.console import progress, quoted, say, shown
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import CHECKPOINT, read_signed, write_signed, write_text
from swgctl.randomness import generator
from swgctl.training.execution import arithmetic, card, products, runner

CHECKPOINT_EVERY, DAY = 30.0, 86_400.0  # seconds; not in any key
UNREADABLE = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)

Streams = Callable[[str], list[torch.Generator]]


class Learner(Protocol):
    """The loop's view of a training problem.  Every learnt tensor has the seeds as its leading axis."""

    chunk: int  # steps whose randomness is drawn at once; results depend on it, so it belongs to the stage's revision

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        """Draw all randomness of `chunk` steps, (chunk, S, ...); `streams(name)` has one generator a member."""

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take one step on one slice of `draw`; returns losses and statistics (S,)."""

    def state(self) -> dict[str, Tensor]:
        """Live tensors by name: all that a later step reads, and the target of a checkpoint's restoration."""


@runtime_checkable
class Refreshed(Learner, Protocol):
    """A learner whose data is made anew every `period` steps."""

    period: int

    def refresh(self, step: int, work: Path) -> None:
        """Take the data of the period that a step is in, from `work` if it is there, else made and kept there.

        Called before the first step of each period, and again where a run goes on inside of one: what it makes depends
        on `state` alone, and what it puts in place is not part of it.
        """


def train(
    learner: Learner,
    *,
    name: str,
    seeds: list[int],
    steps: int,
    work: Path,
    device: torch.device,
    mode: str = "eager",
    precision: str = "fp32",
    checkpoint_every: float | None = None,
) -> list[dict]:
    """Train to `steps`, resuming from work/checkpoint.safetensors if it exists; returns the rows of metrics.jsonl.

    On one machine, or one model of GPU, a run that was killed and started again is bit-identical to an uninterrupted
    one.
    mode, precision   see `execution.runner` and `execution.products`
    checkpoint_every  seconds; None: $SWGCTL_CHECKPOINT_EVERY, from 0 to a day, else 30
    Raises Interrupted after a checkpoint when a signal has come, SwgError when a loss is not finite, CorruptError when
    the checkpoint cannot be read, InputError when it was begun on another kind of device, another GPU, with products of
    another precision, or in another mode.
    """
    runtime.prepare()
    every = _checkpoint_every() if checkpoint_every is None else checkpoint_every
    gpu = card(device)
    how = {"device": device.type, "mode": mode, "products": arithmetic(precision, str(device), mode)} | (
        {"card": gpu} if gpu else {}
    )
    checkpoint, meter = work / CHECKPOINT, _Meter(name, seeds)
    done = _restore(learner, checkpoint, meter, how, steps) if checkpoint.exists() else 0
    if done:
        say(f"{name}: going on from step {done:,} of {steps:,}")
    log_every = max(1, steps // 200)
    step, drawn = runner(learner.step, learner.state, mode, device), draws(learner, name, seeds, device, done)
    saved = updated = time.monotonic()
    while done < steps:
        end = steps
        if isinstance(learner, Refreshed):
            if done % learner.period == 0:
                _save(learner, checkpoint, meter, done, how)  # a run that is killed while it refreshes goes on here
            learner.refresh(done, work)
            end = min(steps, (done // learner.period + 1) * learner.period)
        with signals.deferred(), progress(name, steps) as bar, products(precision, mode):
            while done < end:
                meter.add(step(next(drawn)))
                done += 1

                now = time.monotonic()
                if done % log_every == 0 or done == steps:
                    meter.close_row(done)
                    write_text(work / "metrics.jsonl", to_lines(meter.rows), durable=False, links=False)
                if now - updated > 0.5:
                    bar.update(done, meter.note)
                    updated = now
                if signals.interrupted() or now - saved > every:
                    _save(learner, checkpoint, meter, done, how)
                    saved = time.monotonic()
                    signals.check(f"{signals.AGAIN} to go on")
    _require_finite_state(learner, name, done)
    return meter.rows


def draws(learner: Learner, name: str, seeds: list[int], device: torch.device, start: int = 0) -> Iterator[dict]:
    """The input of each step from `start` on: slices of the learner's draws, a chunk at a time."""
    for done in itertools.count(start):
        chunk, i = divmod(done, learner.chunk)
        if i == 0 or done == start:
            drawn = learner.draw(functools.partial(_generators, name, seeds, chunk, device))
        yield {key: value[i] for key, value in drawn.items()}


class _Meter:
    """The rows of metrics.jsonl, and sums over the steps since the last row."""

    def __init__(self, name: str, seeds: list[int]):
        self.name, self.seeds = name, seeds
        self.rows: list[dict] = []
        self.sums: dict[str, Tensor] = {}
        self.counted, self.since = 0, time.monotonic()
        self.note = ""

    def add(self, info: dict[str, Tensor]) -> None:
        if not self.counted:
            self.sums = {key: value.clone() for key, value in info.items()}
        else:
            torch._foreach_add_([self.sums[key] for key in info], list(info.values()))
        self.counted += 1

    def means(self, step: int) -> dict[str, list[float]]:
        """Means since the last row, a list over the seeds for each name.  Here the host waits for the device."""
        row = {key: (total / self.counted).tolist() for key, total in self.sums.items()} if self.counted else {}
        for key, values in row.items():
            broken = [str(seed) for seed, value in zip(self.seeds, values, strict=True) if not math.isfinite(value)]
            if broken:
                raise _diverged(self.name, key, step, f" (seed {', '.join(broken)})")
        return row

    def close_row(self, step: int) -> None:
        row, now = self.means(step), time.monotonic()
        seconds = self.rows[-1]["train_s"] if self.rows else 0.0
        self.rows.append({"step": step, **row, "train_s": round(seconds + now - self.since, 3)})
        self.note = " ".join(f"{key} {sum(values) / len(values):.4g}" for key, values in row.items())
        self.counted, self.since = 0, now


def _checkpoint_every() -> float:
    text = os.environ.get("SWGCTL_CHECKPOINT_EVERY") or str(CHECKPOINT_EVERY)
    try:
        every = float(text)
    except ValueError:
        every = math.nan
    if not 0 <= every <= DAY:
        raise UsageError(
            f"SWGCTL_CHECKPOINT_EVERY must be a number of seconds from 0 to {DAY:,.0f}, not '{shown(text)}'",
            f"SWGCTL_CHECKPOINT_EVERY={CHECKPOINT_EVERY:g}",
        )
    return every


def to_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def summary(rows: list[dict]) -> dict:
    """Summary of a training for `--json`: steps, steps/s over the whole run, the last losses (means over the seeds)."""
    last = rows[-1]
    means = {key: sum(values) / len(values) for key, values in last.items() if isinstance(values, list)}
    return {"steps": last["step"], "steps_per_s": round(last["step"] / max(last["train_s"], 1e-3), 2), **means}


def _generators(name: str, seeds: list[int], chunk: int, device: torch.device, stream: str) -> list[torch.Generator]:
    return [generator(seed, f"{name}/{stream}", chunk, device) for seed in seeds]


def _diverged(name: str, what: str, step: int, whose: str = "") -> SwgError:
    return SwgError(
        f"{name}: {what} is not finite at step {step:,}{whose}",
        f"--set {name}.lr=1e-4   # a lower learning rate; or rescale the data",
    )


def _require_finite_state(learner: Learner, name: str, step: int) -> None:
    """Raise SwgError if the last update broke the state, which the losses before it could not show."""
    for key, value in learner.state().items():
        if not value.isfinite().all():
            raise _diverged(name, key, step)


def _save(learner: Learner, path: Path, meter: _Meter, step: int, how: dict) -> None:
    meter.means(step)
    _require_finite_state(learner, meter.name, step)
    state = {key: value.detach().cpu().contiguous() for key, value in learner.state().items()}  # one download
    sums = {key: total.tolist() for key, total in meter.sums.items()} if meter.counted else {}
    meta = {"stage": meter.name, **how, "step": step, "rows": meter.rows}
    meta |= {"sums": sums, "counted": meter.counted}
    write_signed(path, state, meta)


def begun_in(work: Path, device: str) -> str | None:
    """The mode in which the unfinished training in `work` was begun on such a device; None without one to be read."""
    try:
        _, meta = read_signed(work / CHECKPOINT)
        return meta.get("mode", "eager") if meta["device"] == torch.device(device).type else None
    except UNREADABLE:
        return None


def _restore(learner: Learner, path: Path, meter: _Meter, how: dict, steps: int) -> int:
    """Copy a checkpoint into the learner and the meter; returns its step."""

    def layout(tensors: dict[str, Tensor]) -> dict:
        return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}

    try:
        saved, meta = read_signed(path)
        live = learner.state()
        if layout(saved) != layout(live):
            raise ValueError("it holds other tensors than this version trains")
        sums = _checked(meta, len(meter.seeds), steps)
    except FileNotFoundError:  # on a file system without locks, another process has just finished
        raise
    except PermissionError as error:
        raise InputError(
            f"the checkpoint {path} of an unfinished {meter.name} cannot be read: {error.strerror}",
            f"chmod a+r {quoted(path)}   # by its owner",
        ) from None
    except UNREADABLE as error:
        raise CorruptError(
            f"the checkpoint {path} of an unfinished {meter.name} cannot be read: {error}",
            f"rm -r {quoted(path.parent)}   # then start again",
        ) from None
    again = f"rm -r {quoted(path.parent)}"
    for what, now in how.items():
        older = {"mode": "eager", "products": now}  # what checkpoints did not record from the first
        then = meta.get(what, older.get(what, "unknown"))
        if then == now:
            continue
        # Other draws or other rounding: the halves would belong to two different runs.
        begun = f"the unfinished {meter.name} in {path.parent} was begun"
        if what == "card":
            raise InputError(f"{begun} on another GPU ({shown(then)}) than {now}", f"{again}   # to start over here")
        if what == "products":
            raise InputError(
                f"{begun} where products are {shown(then)}, and here they are {now}", f"{again}   # to start over here"
            )
        raise InputError(
            f"{begun} with --{what} {shown(then)}, not {now}", f"--{what} {quoted(then)}   # or, to start over: {again}"
        )
    for key, value in live.items():
        value.copy_(saved[key])
    meter.rows, meter.counted = meta["rows"], meta["counted"]
    device = next(iter(live.values())).device
    meter.sums = {key: total.to(device) for key, total in sums.items()}
    return meta["step"]


def _checked(meta: dict, seeds: int, steps: int) -> dict[str, Tensor]:
    """The sums of a checkpoint's metadata, all of whose fields are as `_save` wrote them.  Raises ValueError."""

    def columns(row: dict) -> bool:
        """True if all columns but two have a number a seed."""
        values = [value for name, value in row.items() if name not in ("step", "train_s")]
        return all(isinstance(value, list) and len(value) == seeds for value in values)

    counts = (meta["step"], meta["counted"])
    if any(type(count) is not int or not 0 <= count <= steps for count in counts):
        raise ValueError(f"its steps are not from 0 to {steps:,}")
    if not all(isinstance(row, dict) and {"step", "train_s"} <= row.keys() and columns(row) for row in meta["rows"]):
        raise ValueError("its rows are not of this training")
    sums = {key: torch.tensor(total) for key, total in meta["sums"].items()}
    if any(total.shape != (seeds,) for total in sums.values()) or bool(sums) != bool(meta["counted"]):
        raise ValueError("its sums are not of this training")
    return sums
