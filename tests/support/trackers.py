"""Runs that measure without training: they stand where a stage would, in a thread of the test.  And what was logged."""

import contextlib
import hashlib
import json
import threading
from pathlib import Path

from swgctl import trackers
from swgctl.store import Artifact, Store, make_key

SEEDS = [0, 3]
TASK = {
    "name": "hopper",
    "environment": "Hopper-v4",
    "source": "file:/private/data.hdf5",
    "rewards": "none",
    "recipe": "default",
    "references": None,
    "horizon": 1000,
}


def rows(steps: int, every: int = 10) -> list[dict]:
    """Rows of two seeds in which loss and q are known functions of step and seed, 5 steps a second."""
    return [
        {
            "step": k,
            "loss": [1 / (k + seed) for seed in SEEDS],
            "q": [k * 0.5 + seed for seed in SEEDS],
            "train_s": k / 5,
        }
        for k in range(every, steps + 1, every)
    ]


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def record(stage: str = "critic", inputs: dict[str, Artifact] | None = None, **params) -> dict:
    """What a stage tells `Store.build` before it runs."""
    used = inputs or {}
    params = {"lr": 3e-4, "hidden": [16, 16], "loss": "expectile"} | params
    source = hashlib.sha256(b"data").hexdigest()
    key = make_key(stage, 1, params, SEEDS, {role: one.digest for role, one in used.items()}, source)
    return {
        "stage": stage,
        "revision": 1,
        "task": TASK,
        "key": key,
        "params": params,
        "seeds": SEEDS,
        "inputs": {
            role: {"stage": a.stage, "task": a.task, "key": a.key, "digest": a.digest, "path": str(a.path)}
            for role, a in used.items()
        },
        "source": {"path": "/private/data.hdf5", "sha256": source},
        "origin": {},
        "chosen": None,
    }


def made(**metrics) -> dict:
    """What a stage tells `Store.build` when it has run."""
    return {"metrics": metrics, "made": {"at": "2026-01-02T03:04:05Z", "device": "cpu", "host": "private-host"}}


class Training:
    """A run in a thread, which measures when it is told to."""

    def __init__(self, store: Store, record: dict):
        self.store, self.record, self.work = store, record, store.work(record["key"])
        self._rows: list[dict] = []
        self._next, self._done = threading.Event(), threading.Event()
        self._fail = self._finish = False
        self._thread = threading.Thread(target=self._build)
        self._thread.start()
        self._wait()

    def _build(self) -> None:
        def make(directory: Path, work: Path) -> dict:
            with trackers.announced(self.record, work):
                while True:
                    self._done.set()
                    self._next.wait(30)
                    self._next.clear()
                    (work / "metrics.jsonl").write_text(lines(self._rows))
                    (work / "checkpoint.safetensors").touch()
                    if self._fail:
                        raise RuntimeError("killed")
                    if self._finish:
                        (directory / "metrics.jsonl").write_text(lines(self._rows))
                        (directory / "model.txt").write_text(self.record["key"])
                        return made(steps=self._rows[-1]["step"], loss=0.25, holdout=[0.5, 0.75])

        with contextlib.suppress(RuntimeError):
            self.store.build(self.record, make)
        self._done.set()

    def _wait(self) -> None:
        assert self._done.wait(30)
        self._done.clear()

    def _go(self) -> None:
        self._next.set()
        self._wait()

    def measure(self, steps: int) -> None:
        self._rows = rows(steps)
        self._go()

    def die(self) -> None:
        self._fail = True
        self._go()
        self._thread.join()

    def finish(self, steps: int) -> Artifact:
        self._finish = True
        self.measure(steps)
        self._thread.join()
        artifact = self.store.find(self.record["stage"], TASK["name"], self.record["key"])
        assert artifact
        return artifact


# -- TensorBoard's event files -----------------------------------------------------------------------------------------


def board(tmp_path, artifact_or_record, seed: int) -> Path:
    one = artifact_or_record.meta if isinstance(artifact_or_record, Artifact) else artifact_or_record
    return tmp_path / "runs" / one["task"]["name"] / f"{one['stage']}-{one['key'][:16]}" / f"seed-{seed}"


def events(folder: Path) -> list:
    """Every event of a run, in the order of its files."""
    from swgctl.trackers.tensorboard import _records, _tensorboardx

    event = _tensorboardx().proto.event_pb2.Event
    return [event.FromString(raw) for path in sorted(folder.iterdir()) for raw in _records(path.read_bytes())]


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """{tag: {step: value}}; a step that was sent twice fails."""
    series: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert event.step not in series.setdefault(value.tag, {}), (value.tag, event.step)
                series[value.tag][event.step] = value.simple_value
    return series
