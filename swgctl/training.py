"""The one training loop: chunks, counter-based randomness, checkpoints, signals, metrics."""

import functools
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from swgctl import signals
from swgctl.console import progress, say
from swgctl.errors import CorruptError, SwgError, UsageError
from swgctl.files import canonical, write_atomically, write_text

CHECKPOINT_EVERY = 30.0  # seconds; not in any key
PRECISION = {"fp32": "highest", "tf32": "high", "bf16": "medium"}

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


def generator(seed: int, stream: str, index: int, device="cpu") -> torch.Generator:
    """The generator of (seed, stream, index).  No other randomness exists, so there is no random state to save."""
    counter = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(counter[:8], "little") >> 1)


def train(
    learner: Learner,
    *,
    name: str,
    seeds: list[int],
    steps: int,
    work: Path,
    device: torch.device,
    precision: str = "fp32",
    checkpoint_every: float | None = None,
) -> list[dict]:
    """Trains to `steps`, from work/checkpoint.safetensors where there is one; returns the rows of metrics.jsonl.

    A run that was killed and started again is bit-identical, on one machine, to one that was not.
    checkpoint_every  seconds; None: $SWGCTL_CHECKPOINT_EVERY, else 30
    Raises Interrupted after a checkpoint when a signal has come, SwgError when a loss is no longer finite, CorruptError
    when the checkpoint cannot be read.
    """
    every = _checkpoint_every() if checkpoint_every is None else checkpoint_every
    checkpoint = work / "checkpoint.safetensors"
    done, rows = _restore(learner, checkpoint, name) if checkpoint.exists() else (0, [])
    if done:
        say(f"{name}: going on from step {done:,} of {steps:,}")
    log_every = max(1, steps // 200)
    sums: dict[str, Tensor] = {}
    counted, drawn, note = 0, None, ""
    saved = logged = shown = time.monotonic()

    torch.set_float32_matmul_precision(PRECISION[precision])
    with signals.deferred(), progress(name, steps) as bar:
        while done < steps:
            chunk, i = divmod(done, learner.chunk)
            if drawn is None or i == 0:
                generators = functools.partial(_generators, name, seeds, chunk, device)
                drawn = learner.draw(generators)
            for key, value in learner.step({key: value[i] for key, value in drawn.items()}).items():
                sums[key] = sums[key] + value if counted else value
            done, counted = done + 1, counted + 1

            now = time.monotonic()
            if done % log_every == 0 or done == steps:
                row = _means(sums, counted, name, seeds, done)
                rows.append({"step": done, **row, "steps_per_s": round(counted / (now - logged), 2)})
                write_text(work / "metrics.jsonl", to_lines(rows))
                note = " ".join(f"{key} {sum(values) / len(values):.4g}" for key, values in row.items())
                counted, logged = 0, now
            if now - shown > 0.5:
                bar.update(done, note)
                shown = now
            if signals.interrupted() or now - saved > every:
                if counted:
                    _means(sums, counted, name, seeds, done)
                _save(learner, checkpoint, name, done, rows)
                saved = time.monotonic()
                signals.check()
    return rows


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
    last = {key: value for key, value in rows[-1].items() if isinstance(value, list)}
    spans = [b["step"] - a["step"] for a, b in itertools.pairwise([{"step": 0}, *rows])]
    seconds = sum(span / row["steps_per_s"] for span, row in zip(spans, rows, strict=True))
    means = {key: sum(values) / len(values) for key, values in last.items()}
    return {"steps": rows[-1]["step"], "steps_per_s": round(rows[-1]["step"] / seconds, 2), **means}


def _generators(name: str, seeds: list[int], chunk: int, device, stream: str) -> list[torch.Generator]:
    return [generator(seed, f"{name}/{stream}", chunk, device) for seed in seeds]


def _means(sums: dict[str, Tensor], counted: int, name: str, seeds: list[int], step: int) -> dict[str, list[float]]:
    """Means since the last row, a list over the seeds for each name; the only place where the host waits."""
    row = {key: (total / counted).tolist() for key, total in sums.items()}
    for key, values in row.items():
        broken = [str(seed) for seed, value in zip(seeds, values, strict=True) if not math.isfinite(value)]
        if broken:
            raise SwgError(
                f"{name}: {key} is not finite at step {step:,} (seed {', '.join(broken)})",
                f"a lower learning rate, say --set {name}.lr=1e-4, or look at the data with: swgctl show",
            )
    return row


def _save(learner: Learner, path: Path, name: str, step: int, rows: list[dict]) -> None:
    state = {key: value.contiguous() for key, value in learner.state().items()}
    meta = {"stage": name, "step": step, "rows": rows, "sha256": _checksum(state)}
    write_atomically(path, lambda to: save_file(state, to, metadata={"swg": canonical(meta)}))


def _restore(learner: Learner, path: Path, name: str) -> tuple[int, list[dict]]:
    """Copies a checkpoint into the learner; returns the step and the rows so far."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["swg"])
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        live = learner.state()
        if _checksum(found) != meta["sha256"] or found.keys() != live.keys():
            raise ValueError("its contents are not what was written")
        for key, value in live.items():
            value.copy_(found[key])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CorruptError(
            f"the checkpoint {path} of an unfinished {name} cannot be read: {error}",
            f"rm -r {path.parent} and start again",
        ) from None
    return meta["step"], meta["rows"]


def _checksum(state: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for key in sorted(state):
        total.update(key.encode())
        total.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
