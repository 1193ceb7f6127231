"""An artifact, finished or being built, as trackers see it: one run for each seed, in a group."""

import contextlib
import glob
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from swgctl.console import quoted, shown
from swgctl.errors import CorruptError, InputError
from swgctl.files import open_regular, parse, read_regular, write_text
from swgctl.seeds import ranges
from swgctl.store import KEY_LENGTH, Artifact, Store, schema

METRICS = "metrics.jsonl"
RECORD = "record.json"  # of an unfinished run, beside its checkpoint


@contextlib.contextmanager
def announced(record: dict, work: Path) -> Iterator[None]:
    """Keep in `work` what an unfinished run builds, by which others find it, within the block.

    record  that with which `Store.build` begins
    It stays where the block fails beside a checkpoint, with which the run can go on.
    """
    write_text(work / RECORD, json.dumps(record), durable=False, links=False)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if [path.name for path in work.iterdir()] == [RECORD]:
                shutil.rmtree(work)
        raise


@dataclass(frozen=True)
class Run:
    """One seed of an artifact, as a tracker's run.

    id      key and seed: the same whenever and wherever it is logged
    group   the artifact's: task/stage-key
    config  parameters and lineage, JSON
    """

    id: str
    group: str
    stage: str
    task: str
    seed: int
    config: dict

    @property
    def name(self) -> str:
        return f"{self.task} {self.stage} {self.id.partition('-')[0]} seed {self.seed}"


@dataclass(frozen=True)
class Subject:
    """An artifact to log.

    record    the fields of its artifact.json that are known before it is built, at least
    artifact  None while it is unfinished: then its rows are in `work`
    """

    store: Store
    record: dict
    work: Path
    artifact: Artifact | None = None

    @property
    def key(self) -> str:
        return self.record["key"]

    @property
    def id(self) -> str:
        return self.key[:KEY_LENGTH]

    @property
    def stage(self) -> str:
        return self.record["stage"]

    @property
    def task(self) -> str:
        return self.record["task"]["name"]

    @property
    def seeds(self) -> list[int]:
        return self.record["seeds"]

    @property
    def path(self) -> Path:
        """The directory that it is read from."""
        return self.artifact.path if self.artifact else self.work

    def __str__(self) -> str:
        return f"{self.stage} {self.id} ({self.task}, seeds {ranges(self.seeds)})"

    def rows(self) -> list[dict]:
        """The rows of metrics.jsonl that exist by now; none of a stage that does not train.  Raises CorruptError."""
        path = self.path / METRICS
        try:
            with open_regular(path) as file:
                rows = [json.loads(line) for line in file]
            if not all(self._measured(row) for row in rows):
                raise ValueError("its lines are not rows")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise CorruptError(f"{path} cannot be read: {error}", "swgctl verify") from None
        return rows

    def _measured(self, row: object) -> bool:
        """True for a row with its two numbers, not negative and below 2^63, and numbers for each seed."""
        if not isinstance(row, dict):
            return False
        step, clock = row.get("step"), row.get("train_s")
        if (
            type(step) is not int
            or not isinstance(clock, int | float)
            or not (0 <= step < 2**63 and 0 <= clock < 2**63)
        ):
            return False
        lists = [value for value in row.values() if isinstance(value, list)]
        numbers = [x for one in lists for x in one]
        sound = all(type(x) is float or (type(x) is int and abs(x) < 2**63) for x in numbers)
        return sound and all(len(one) == len(self.seeds) for one in lists)

    def clock(self, rows: list[dict]) -> list[float]:
        """When each row was measured, in seconds since 1970: by train_s, back from the last one."""
        if self.artifact:
            end = datetime.fromisoformat(self.artifact.meta["made"]["at"]).timestamp()
        else:
            end = (self.path / METRICS).stat().st_mtime
        return [end - rows[-1]["train_s"] + row["train_s"] for row in rows]

    def runs(self) -> list[Run]:
        group = f"{self.task}/{self.stage}-{self.id}"
        return [
            Run(f"{self.id}-{seed}", group, self.stage, self.task, seed, self._config | {"seed": seed})
            for seed in self.seeds
        ]

    @cached_property
    def _config(self) -> dict:
        """Parameters and lineage: of every ancestor its key, its digest and, where it is in reach, its parameters.

        Paths and host names stay on this machine.
        """
        names = ("stage", "key", "revision", "params")
        about = {name: self.record[name] for name in names if name in self.record}
        about["params"] = {**self.record["params"]}
        lineage = {role: _brief(parent) for role, parent in self.record["inputs"].items()}
        for role, parent in self._parents():
            lineage[role] = _brief(parent.meta) | {"params": {**parent.params}}
        source = self.record.get("source")
        return about | {
            "task": self.task,
            "environment": self.record["task"].get("environment"),
            "seeds": self.seeds,
            "lineage": lineage,
            "data": source and source["sha256"],
        }

    def _parents(self) -> Iterator[tuple[str, Artifact]]:
        """The ancestors that are in reach, by their paths of roles."""
        queue = []
        for role, parent in self.record["inputs"].items():
            path = self.store.place(parent["stage"], parent["task"], parent["key"])
            if path.is_dir():
                queue.append((role, Artifact(path)))
        for role, artifact in queue:  # grows in the loop
            yield role, artifact
            for name in artifact.meta["inputs"]:
                try:
                    queue.append((f"{role}/{name}", artifact.parent(name)))
                except InputError:  # gone
                    continue


def _brief(record: dict) -> dict:
    task = record["task"]["name"] if isinstance(record["task"], dict) else record["task"]
    return {"stage": record["stage"], "task": task, "key": record["key"], "digest": record["digest"]}


def find(store: Store, ref: str) -> Subject:
    """The artifact of a REF, else the unfinished one of which it is a directory or the first characters of a key.

    Raises InputError where there is none, or several.
    """
    running = _running(store, ref)
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(sorted(one.id for one in running))
        raise InputError(
            f"'{shown(ref)}' fits {len(running)} unfinished artifacts: {names}", f"ls {store.root / 'work'}"
        )
    return of(store.resolve(ref))


def of(artifact: Artifact) -> Subject:
    """A finished artifact."""
    return Subject(artifact.store, artifact.meta, artifact.store.work(artifact.key), artifact)


def finished(subject: Subject) -> Subject | None:
    """The same once it is whole; None before that."""
    artifact = subject.artifact or subject.store.find(subject.stage, subject.task, subject.key)
    return of(artifact) if artifact else None


def _running(store: Store, ref: str) -> list[Subject]:
    """Unfinished artifacts that a REF names; one whose key is being built is unfinished even if an older one exists."""
    if not ref or ref == "-":
        return []
    folder = Path(ref)
    if (folder / RECORD).is_file():
        return list(filter(None, [_read(store, folder.absolute())]))
    if "/" in ref or not store.root.is_dir():
        return []
    named = sorted(store.root.glob(f"work/{glob.escape(ref[:KEY_LENGTH])}*/{RECORD}"))
    subjects = filter(None, (_read(store, path.parent) for path in named))
    fits = [one for one in subjects if one.key.startswith(ref) or one.work.name == ref]
    return [one for one in fits if store.busy(one.key) or not finished(one)]


def _read(store: Store, work: Path) -> Subject | None:
    """The unfinished artifact of a work directory; None where it has just been finished.  Raises InputError."""
    try:
        record = parse(read_regular(work / RECORD, schema.MOST))
        if wrong := schema.problem_of_unfinished(record):
            raise ValueError(wrong)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        remove = f"rm {quoted(work / RECORD)}   # the run writes it anew when it goes on"
        raise InputError(f"{work / RECORD} cannot be read: {shown(error)}", remove) from None
    return Subject(store, record, work)
