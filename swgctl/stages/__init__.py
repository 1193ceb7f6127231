"""The stages: one file each, saying what it reads, does and writes; and the one function that runs any of them."""

import importlib
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from swgctl import config, console, tasks
from swgctl.console import say
from swgctl.errors import InputError, UsageError, nearest
from swgctl.files import SCHEMA
from swgctl.lineage import choose
from swgctl.seeds import ranges
from swgctl.store import CHAIN, STAGES, Artifact, Store, make_key
from swgctl.tasks import Task


@dataclass(frozen=True)
class Job:
    """One run of one stage, all its inputs known.

    params  the resolved parameters as they enter the key
    inputs  role -> artifact
    source  the data file that the task's transitions come from, and its sha256
    """

    stage: str
    revision: int
    task: Task
    settings: config.Settings
    params: dict
    seeds: list[int]
    inputs: dict[str, Artifact] = field(default_factory=dict)
    source: Path | None = None
    source_sha256: str | None = None
    device: str = "cpu"
    mode: str = "eager"

    @property
    def key(self) -> str:
        digests = {role: artifact.digest for role, artifact in self.inputs.items()}
        return make_key(self.stage, self.revision, self.params, self.seeds, digests, self.source_sha256)

    def record(self, origin: dict[str, str], chosen: str | None) -> dict:
        """What artifact.json says beside the files and the metrics.

        origin  where each setting that is no default comes from; chosen: why this input was taken
        """
        return {
            "stage": self.stage,
            "revision": self.revision,
            "task": self.task.to_json(),
            "key": self.key,
            "params": self.params,
            "seeds": self.seeds,
            "inputs": {
                role: {"stage": a.stage, "task": a.task, "key": a.key, "digest": a.digest, "path": str(a.path)}
                for role, a in self.inputs.items()
            },
            "source": self.source and {"path": str(self.source), "sha256": self.source_sha256},
            "origin": origin,
            "chosen": chosen,
        }

    def made(self) -> dict:
        """Where and with what the artifact was built: recorded, and no part of its key."""
        from swgctl.execution import effective

        asked = getattr(self.settings, "precision", "fp32")
        return {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": platform.node(),
            "device": self.device,
            "mode": self.mode,
            "precision": effective(asked, self.device),
            "versions": _versions(),
        }


@dataclass(frozen=True)
class Result:
    """What a stage answers: the artifact and whether it was "built", "resumed" or "cached"."""

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


def run_stage(
    stage: str,
    task: str | None = None,
    *,
    environment: str | None = None,
    source: str | None = None,
    critic: str | None = None,
    seeds: str | None = None,
    recipe: str | None = None,
    assignments: tuple[str, ...] = (),
    flags: dict | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
) -> Result:
    """Runs one stage, or finds that it has been run.  Plain arguments in, one artifact out.

    task         a task's name or an HDF5 file (critic), a density (toy); elsewhere the task that the input must be of
    environment  gymnasium id, for a file
    source       REF of the artifact to start from; None: the one that the previous stage made in this shell, else the
                 only one that fits
    critic       REF of another critic to select candidates by (eval)
    seeds        "0-4" (critic; the later stages take their input's)
    recipe, assignments, flags   layers of the configuration: `config.resolve`
    device, mode where and how training runs: `execution.runner`; "auto": CUDA, and captured, where there is one
    force        build again; wait: let another process that builds the same finish first
    Raises SwgError and its subclasses.
    """
    started = time.monotonic()
    if stage not in STAGES:
        raise UsageError(f"unknown stage '{stage}'", f"one of {', '.join(STAGES)}")
    store = store if isinstance(store, Store) else Store.locate(store and str(store))
    check_owners(assignments, (stage,), stage)
    flags = {f"{stage}.{name}": value for name, value in (flags or {}).items()} | {"seeds": seeds}
    layers = {"recipe": recipe, "assignments": assignments, "flags": flags}
    inputs: dict[str, Artifact] = {}
    why = None
    if stage == "critic":
        found = tasks.get(task, environment)
    elif stage == "toy":
        found = _module(stage).task_of(task)
    else:
        given, why = choose(store, stage, source, task)
        say(f"{stage}: from {given.stage} {given.id} ({given.task}), {why}")
        inputs[given.stage] = given
        found = Task.from_json(given.meta["task"])
    resolved = config.resolve(found.name, found.recipe, **layers)
    if stage == "eval" and critic:
        inputs["critic"] = store.resolve(critic)
    planned = prepare(stage, found, resolved, inputs)

    def make(directory: Path, work: Path) -> dict:
        # here, since a cached stage must not cost a torch import
        chosen = pick_device(device)
        job = replace(planned, device=chosen, mode=pick_mode(mode, chosen))
        with console.logged_to(directory / "log.txt"):
            text = yaml.safe_dump({stage: job.params, "seeds": job.seeds}, sort_keys=False)
            (directory / "config.yaml").write_text(text)
            say(f"{stage}: building {job.key[:16]} for {found.name}, seeds {ranges(job.seeds)}, on {job.device}")
            return {"metrics": _module(stage).build(job, directory, work), "made": job.made()}

    prefix = f"{stage}."
    origin = {k: v for k, v in resolved.origin.items() if k.startswith(prefix) and v != "default"}
    artifact, status = store.build(planned.record(origin, why), make, force=force, wait=wait)
    store.remember(artifact)
    wall = round(time.monotonic() - started, 3)
    say(f"{stage}: {status} {artifact.id} in {wall:.1f} s")
    return Result(artifact, status, wall)


def prepare(stage: str, task: Task, resolved: config.Resolved, inputs: dict[str, Artifact]) -> Job:
    """The job of a stage, by which its key is known; builds nothing."""
    return _module(stage).prepare(task, resolved, inputs)


def owner(assignment: str) -> str:
    """The stage that a --set is for; the seeds are the critic's."""
    section = assignment.partition("=")[0].partition(".")[0].strip()
    return "critic" if section == "seeds" else section


def check_owners(assignments: Iterable[str], stages: tuple[str, ...], command: str) -> None:
    """Raises UsageError for a --set that is of another stage than a command's own."""
    for text in assignments:
        if (whose := owner(text)) in STAGES and whose not in stages:
            raise UsageError(
                f"--set {text} says nothing to {command}", f"swgctl {'run' if whose in CHAIN else whose} takes it"
            )


def _module(stage: str):
    """Of a stage; imported here, so that planning and looking stay quick."""
    return importlib.import_module(f"swgctl.stages.{stage}")


def chain(until: str | None = None) -> tuple[str, ...]:
    """The stages of a run, up to one of them.  Raises UsageError."""
    if until not in (None, *CHAIN):
        raise UsageError(f"--until '{until}' is no stage of a run{nearest(until, CHAIN)}", f"one of {', '.join(CHAIN)}")
    return CHAIN[: CHAIN.index(until) + 1] if until else CHAIN


def run_all(
    task: str, *, environment=None, seeds=None, assignments=(), flags: dict[str, dict], store=None, until=None, **common
) -> Result:
    """critic, augment, diffuse, eval, each from the one before; the last one's result, its wall_s that of all.

    flags  by stage; until: the stage to end with; the other arguments are those of `run_stage`.
    """
    started, wanted = time.monotonic(), chain(until)
    check_owners(assignments, CHAIN, "run")
    store = Store.locate(store)
    found = tasks.get(task, environment)
    # Everything is checked before the first stage is built; then each stage is told its own.
    dotted = {f"{stage}.{name}": value for stage, given in flags.items() for name, value in given.items()}
    resolved = config.resolve(
        found.name, found.recipe, recipe=common.get("recipe"), assignments=assignments, flags=dotted | {"seeds": seeds}
    )
    check(resolved)
    if "eval" in wanted:
        check_horizon(found)
    own = {"task": task, "environment": environment, "seeds": seeds}
    for stage in wanted:
        told = {"flags": flags.get(stage), "assignments": tuple(t for t in assignments if owner(t) == stage)}
        result = run_stage(stage, store=store, **own, **told, **common)
        own = {"source": str(result.artifact.path)}
    return Result(result.artifact, result.status, round(time.monotonic() - started, 3))


def check(resolved: config.Resolved) -> None:
    """Raises UsageError for settings of a run that no stage sees together."""
    loss, weight = resolved["critic"].loss, resolved["augment"].weight
    if loss != config.LOSS[weight]:
        raise UsageError(
            f"the weight '{weight}' needs V trained with the {config.LOSS[weight]} loss, not {loss}",
            f"--set critic.loss={config.LOSS[weight]}",
        )


def check_horizon(task: Task) -> None:
    """Raises InputError for a task that no evaluation would end of."""
    if task.horizon is None:
        raise InputError(
            f"{task.environment} never ends an episode by the clock, so an evaluation might not end",
            "register it with max_episode_steps, and name that id: swgctl critic FILE --env ENV_ID",
        )


def locate_source(task: Task, expected: str | None = None) -> tuple[Path, str]:
    """The task's data file and its sha256.  Raises InputError when it is no longer the file that was learnt from."""
    with console.downloads(f"fetching {task.name}") as update:
        path, found = tasks.locate(task, say, update)
    if expected and found != expected:
        raise InputError(
            f"{path} has changed since the critic was fitted: sha256 {found[:12]}, then {expected[:12]}",
            f"swgctl critic {task.argument}",
        )
    return path, found


def pick_device(name: str) -> str:
    """ "auto" -> "cuda" where there is one.  Raises UsageError for a device that is not here, or of another kind."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.empty(0, device=name).device.type not in ("cpu", "cuda"):
            raise RuntimeError("it runs on cpu and cuda")
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device '{name}' here: {str(error).splitlines()[0]}", "--device cpu") from None
    return name


def pick_mode(name: str, device: str) -> str:
    """ "auto" -> "graph" on CUDA, else "eager".  Raises UsageError for a mode that the device does not have."""
    from swgctl.execution import MODES

    if name == "auto":
        return "graph" if device.startswith("cuda") else "eager"
    if name not in MODES:
        raise UsageError(f"unknown mode '{name}'{nearest(name, MODES)}", f"one of auto, {', '.join(MODES)}")
    if name == "graph" and not device.startswith("cuda"):
        raise UsageError(f"mode graph is CUDA's, and this runs on {device}", "--mode eager, or --mode compiled")
    return name


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("swgctl", "torch", "numpy", "h5py", "safetensors", "gymnasium", "mujoco"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
