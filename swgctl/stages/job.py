"""A job, which is one run of one stage with all its inputs resolved; and its result."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swgctl import console, tasks
from swgctl.config import Settings, Stage, a
from swgctl.console import say
from swgctl.errors import InputError
from swgctl.files import SCHEMA
from swgctl.store import Artifact, make_key
from swgctl.tasks import Task

if TYPE_CHECKING:
    from swgctl.tasks.transitions import Transitions
    from swgctl.training import Learner

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Job(Generic[S]):
    """One run of one stage, all its inputs resolved.

    params  the resolved parameters as they enter the key
    inputs  role -> artifact
    source  the data file of the task, where the stage reads it; `source_sha256` its checksum
    walks   True if the build walks a diffusion in `mode`, as it trains in it; what does neither runs eagerly
    """

    stage: Stage[S]
    task: Task
    settings: S
    params: dict
    seeds: list[int]
    inputs: Mapping[str, Artifact] = field(default_factory=dict)
    source: Path | None = None
    source_sha256: str | None = None
    device: str = "cpu"
    mode: str = "eager"
    walks: bool = False

    @property
    def key(self) -> str:
        digests = {role: artifact.digest for role, artifact in self.inputs.items()}
        return make_key(self.stage.name, self.stage.revision, self.params, self.seeds, digests, self.source_sha256)

    @property
    def steps(self) -> int:
        """Number of training steps; 0 for what takes none, as the guides that nothing is learnt for."""
        return self.params.get("steps", 0)

    @property
    def data(self) -> Path:
        """The data file of a job that reads one."""
        assert self.source
        return self.source

    def record(self, origin: dict[str, str], chosen: str | None) -> dict:
        """The fields of artifact.json that are known before the job runs.

        origin  where each setting other than a default comes from; chosen: why this input was taken
        """
        return {
            "stage": self.stage.name,
            "revision": self.stage.revision,
            "task": self.task.to_json(),
            "key": self.key,
            "params": self.params,
            "seeds": self.seeds,
            "inputs": {
                role: {"stage": a.stage, "task": a.task, "key": a.key, "digest": a.digest, "path": str(a.path)}
                for role, a in self.inputs.items()
            },
            "source": self._source(),
            "origin": origin,
            "chosen": chosen,
        }

    def _source(self) -> dict | None:
        """The data file; `checksum` says how it stands to the one that was published for the task, if one was."""
        if self.source is None or self.source_sha256 is None:
            return None
        stands = tasks.standing(self.task, self.source, self.source_sha256)
        return {"path": str(self.source), "sha256": self.source_sha256} | ({"checksum": stands} if stands else {})

    def made(self) -> dict:
        """Host, device, mode, precision and versions of the build: recorded, and outside the key."""
        from swgctl.training.execution import card, effective

        name, mode = card(self.device), self.mode if self.steps or self.walks else "eager"
        precision = self.params.get("precision", "fp32")  # keys leave out fp32, and what a build does not read
        return {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": platform.node(),
            "device": self.device,
            **({"card": name} if name else {}),
            "mode": mode,
            "precision": effective(precision, self.device, mode if self.steps else "eager"),
            "versions": _versions(),
        }


@dataclass(frozen=True)
class Result:
    """The artifact of a stage, its status ("built", "resumed" or "cached") and the seconds that it took."""

    artifact: Artifact
    status: str
    wall_s: float

    def to_json(self) -> dict:
        meta = self.artifact.meta
        return {
            "schema": SCHEMA,
            "stage": meta["stage"],
            "task": self.artifact.task,
            "key": meta["key"],
            "digest": meta["digest"],
            "path": str(self.artifact.path),
            "status": self.status,
            "seeds": meta["seeds"],
            "wall_s": self.wall_s,
            "metrics": meta["metrics"],
        }


def train(job: Job[Any], learner: "Learner", directory: Path, work: Path) -> dict:
    """Train a learner by its job's settings, write metrics.jsonl, and return the summary of the last rows."""
    import torch

    from swgctl import training

    rows = training.train(
        learner,
        name=job.stage.name,
        seeds=job.seeds,
        steps=job.settings.steps,
        work=work,
        device=torch.device(job.device),
        mode=job.mode,
        precision=job.settings.precision,
    )
    (directory / "metrics.jsonl").write_text(training.to_lines(rows))
    return training.summary(rows)


def locate_source(task: Task, reader: Artifact | None = None) -> tuple[Path, str]:
    """The task's data file and its sha256: the one that `reader` has read, also where a file has been moved since and
    named where it is now.  Raises InputError where that is gone or has changed."""
    before = reader.meta["source"]["sha256"] if reader else None
    with console.downloads(f"fetching {task.name}") as update:
        path, digest = tasks.locate(task, say, update, before)
    if reader and before and digest != before:
        raise InputError(
            f"{path} has changed since {a(reader.stage)} learnt from it: sha256 {digest[:12]}, then {before[:12]}",
            f"swgctl {reader.stage} {tasks.argument(task)}",
        )
    return path, digest


def source_job(stage: Stage[S], task: Task, settings: S, seeds: list[int], inputs: Mapping[str, Artifact]) -> Job[S]:
    """The job of a stage that learns from the task's data file alone."""
    return Job(stage, task, settings, settings.keyed() | task.keyed(), seeds, inputs, *locate_source(task))


def read_data(job: Job[Any], clip_actions: bool) -> "Transitions":
    """The rows of a job's data file.  Raises InputError, also where the file is not the one any more that the key is
    of, CorruptError.
    """
    from swgctl.tasks import cache, transitions

    data = transitions.read(job.data, clip_actions=clip_actions, horizon=job.task.horizon)
    if cache.digest(job.data) != job.source_sha256:
        raise InputError(f"{job.data} was changed while this waited or read it", "the same command again")
    return data


def read_source(job: Job[Any]) -> "Transitions":
    """The data of a stage that starts from a task, as its settings have it; the task's environment fits it.

    Raises InputError, CorruptError.
    """
    from swgctl.tasks import environments

    data = read_data(job, job.settings.clip_actions)
    environments.check(environments.make(job.task.environment), data)
    return data


def facts_of(data: "Transitions") -> dict:
    """What an artifact's metrics say of the data that it learnt from."""
    least, mean, best = data.returns()
    return {
        "rows": len(data),
        "episodes": len(data.episodes()),
        "return_least": least,
        "return_mean": mean,
        "return_best": best,
        "observation_dim": data.observations.shape[1],
        "action_dim": data.actions.shape[1],
    }


def check_horizon(task: Task) -> None:
    """Refuse a task without a horizon, whose evaluation might never end.  Raises InputError."""
    if task.horizon is None:
        raise InputError(
            f"{task.environment} never ends an episode by the clock, so an evaluation might not end",
            "register it with max_episode_steps, and name that id: swgctl critic FILE --env ENV_ID",
        )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("swgctl", "torch", "numpy", "h5py", "safetensors", "gymnasium", "mujoco"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
