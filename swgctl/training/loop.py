"""The one training loop: chunks, counter-based randomness, checkpoints, signals, metrics."""

import functools
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from swgctl import runtime, signals
from swgctl.console import progress, say
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import canonical, read_tensors, write_atomically, write_text
from swgctl.randomness import generator
from swgctl.training.execution import products, runner

CHECKPOINT_EVERY = 30.0  # seconds; not in any key

Streams = Callable[[str], list[torch.Generator]]


class Learner(Protocol):
    """What the loop trains.  Every tensor that it learns has the seeds as its leading axis."""

    chunk: int  # steps whose randomness is drawn at once; part of what a run means, so of the stage's revision

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        """All randomness of `chunk` steps, (chunk, S, ...), from one generator a member for each named stream."""

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step on one slice of `draw`; losses and statistics (S,)."""

    def state(self) -> dict[str, Tensor]:
        """Everything that a later step reads, by name: live tensors, into which a checkpoint is copied."""


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
    """Trains to `steps`, from work/checkpoint.safetensors where there is one; returns the rows of metrics.jsonl.

    A run that was killed and started again is bit-identical, on one machine, to one that was not.
    mode, precision   how a step runs: `execution.runner`, `execution.products`
    checkpoint_every  seconds; None: $SWGCTL_CHECKPOINT_EVERY, else 30
    Raises Interrupted after a checkpoint when a signal has come, SwgError when a loss is no longer finite, CorruptError
    when the checkpoint cannot be read, InputError when it was begun on another kind of device or in another mode.
    """
    runtime.prepare()
    every = _checkpoint_every() if checkpoint_every is None else checkpoint_every
    how = {"device": device.type, "mode": mode}
    checkpoint, meter = work / "checkpoint.safetensors", _Meter(name, seeds)
    done = _restore(learner, checkpoint, meter, how) if checkpoint.exists() else 0
    if done:
        say(f"{name}: going on from step {done:,} of {steps:,}")
    log_every = max(1, steps // 200)
    step, drawn = runner(learner.step, learner.state, mode, device), draws(learner, name, seeds, device, done)
    saved = shown = time.monotonic()

    with signals.deferred(), progress(name, steps) as bar, products(precision):
        while done < steps:
            meter.add(step(next(drawn)))
            done += 1

            now = time.monotonic()
            if done % log_every == 0 or done == steps:
                meter.close_row(done)
                write_text(work / "metrics.jsonl", to_lines(meter.rows), durable=False)
            if now - shown > 0.5:
                bar.update(done, meter.note)
                shown = now
            if signals.interrupted() or now - saved > every:
                _save(learner, checkpoint, meter, done, how)
                saved = time.monotonic()
                signals.check()
    _require_finite_state(learner, name, done)
    return meter.rows


def draws(learner: Learner, name: str, seeds: list[int], device: torch.device, start: int = 0) -> Iterator[dict]:
    """What each step is given, from step `start` on: slices of the learner's draws, a chunk at a time."""
    for done in itertools.count(start):
        chunk, i = divmod(done, learner.chunk)
        if i == 0 or done == start:
            drawn = learner.draw(functools.partial(_generators, name, seeds, chunk, device))
        yield {key: value[i] for key, value in drawn.items()}


class _Meter:
    """The rows of metrics.jsonl, and the sums over the steps since the last one."""

    def __init__(self, name: str, seeds: list[int]):
        self.name, self.seeds, self.rows = name, seeds, []
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
        """Since the last row, a list over the seeds for each name.  Where the host waits for the device."""
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
        return float(text)
    except ValueError:
        raise UsageError(
            f"SWGCTL_CHECKPOINT_EVERY '{text}' is no number of seconds", f"SWGCTL_CHECKPOINT_EVERY={CHECKPOINT_EVERY:g}"
        ) from None


def to_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def summary(rows: list[dict]) -> dict:
    """What `--json` says of a training: steps, steps/s over the whole run, the last losses (mean over the seeds)."""
    last = rows[-1]
    means = {key: sum(values) / len(values) for key, values in last.items() if isinstance(values, list)}
    return {"steps": last["step"], "steps_per_s": round(last["step"] / max(last["train_s"], 1e-3), 2), **means}


def _generators(name: str, seeds: list[int], chunk: int, device, stream: str) -> list[torch.Generator]:
    return [generator(seed, f"{name}/{stream}", chunk, device) for seed in seeds]


def _diverged(name: str, what: str, step: int, whose: str = "") -> SwgError:
    return SwgError(
        f"{name}: {what} is not finite at step {step:,}{whose}",
        f"a lower learning rate, such as --set {name}.lr=1e-4, or data of another scale",
    )


def _require_finite_state(learner: Learner, name: str, step: int) -> None:
    """The last update may break what the losses before it did not show."""
    for key, value in learner.state().items():
        if not value.isfinite().all():
            raise _diverged(name, key, step)


def _save(learner: Learner, path: Path, meter: _Meter, step: int, how: dict) -> None:
    meter.means(step)
    _require_finite_state(learner, meter.name, step)
    state = {key: value.contiguous() for key, value in learner.state().items()}
    sums = {key: total.tolist() for key, total in meter.sums.items()} if meter.counted else {}
    meta = {"stage": meter.name, **how, "step": step, "rows": meter.rows}
    meta |= {"sums": sums, "counted": meter.counted}
    signed = {**meta, "sha256": _checksum(state, meta)}
    write_atomically(path, lambda to: save_file(state, to, metadata={"swg": canonical(signed)}))


def _restore(learner: Learner, path: Path, meter: _Meter, how: dict) -> int:
    """Copies a checkpoint into the learner and the meter; returns the step."""

    def layout(tensors: dict[str, Tensor]) -> dict:
        return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}

    try:
        found, meta = read_tensors(path)
        live = learner.state()
        if meta.pop("sha256") != _checksum(found, meta):
            raise ValueError("its contents are not what was written")
        if layout(found) != layout(live):
            raise ValueError("it holds other tensors than this version trains")
    except FileNotFoundError:  # another process, where locks do nothing, has finished meanwhile
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"the checkpoint {path} of an unfinished {meter.name} cannot be read: {error}",
            f"rm -r {path.parent}   # then start again",
        ) from None
    for what, now in how.items():
        then = meta.get(what, "eager")  # checkpoints did not always say their mode
        if then != now:  # another generator's draws, or other roundings: each half would be of a run of its own
            raise InputError(
                f"the unfinished {meter.name} in {path.parent} was begun with --{what} {then}, not {now}",
                f"--{what} {then}   # or, to start over: rm -r {path.parent}",
            )
    for key, value in live.items():
        value.copy_(found[key])
    meter.rows, meter.counted = meta["rows"], meta["counted"]
    device = next(iter(live.values())).device
    meter.sums = {key: torch.tensor(total, device=device) for key, total in meta["sums"].items()}
    return meta["step"]


def _checksum(state: dict[str, Tensor], meta: dict) -> str:
    total = hashlib.sha256(canonical(meta).encode())
    for key in sorted(state):
        total.update(f"{key} {state[key].dtype} {tuple(state[key].shape)}".encode())
        total.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
