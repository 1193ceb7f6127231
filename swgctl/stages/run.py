"""Run a stage, or a chain of them: from a task and settings to artifacts."""

import importlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import yaml

from swgctl import config, console, tasks
from swgctl.config import AUGMENT, CRITIC, EVAL, Resolved, Settings, Stage, stage_named, stages
from swgctl.console import say
from swgctl.errors import UsageError, nearest
from swgctl.seeds import ranges
from swgctl.stages.graph import Node, graph
from swgctl.stages.inputs import by_role, choose, complete
from swgctl.stages.job import Job, Result
from swgctl.store import Artifact, Store
from swgctl.tasks import Task

RUN = "run"  # the command that builds a whole chain


def run_stage(
    stage: str,
    task: str | None = None,
    *,
    environment: str | None = None,
    source: str | Iterable[str] | None = None,
    critic: str | None = None,
    seeds: str | None = None,
    recipe: str | None = None,
    assignments: tuple[str, ...] = (),
    flags: dict | None = None,
    store: str | Path | Store | None = None,
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
) -> Result:
    """Runs one stage, or finds that it has been run.  Plain arguments in, one artifact out.

    task         of a stage without inputs what it starts from: a task's name or an HDF5 file (critic), a density
                 (toy); elsewhere the task that the input must be of
    environment  gymnasium id, for a file
    source       REF of the artifact to start from, or ROLE=REF, or several of them; None: the one that this shell made
                 last, else the only one that fits
    critic       another way to say source="critic=REF"
    seeds        "0-4" (of a stage without inputs; the others take their input's)
    recipe, assignments, flags   layers of the configuration: `config.resolve`
    device, mode where and how training runs: `execution.runner`; "auto": CUDA, and captured, where there is one
    force        build again; wait: let another process that builds the same finish first
    Raises SwgError and its subclasses.
    """
    started = time.monotonic()
    row, place = stage_named(stage), _store(store)
    check_owners(assignments, (stage,), stage)
    sources = [source] if isinstance(source, str) else list(source or ())
    refs = by_role(row, [*sources, *([f"critic={critic}"] if critic else [])])
    primary: list[Artifact] = []
    why = None
    if row.primary:
        primary, why = choose(place, row, refs.get(row.primary, []), task)
        say(f"{stage}: from {', '.join(f'{one.stage} {one.id} ({one.task})' for one in primary)}, {why}")
        problem = Task.from_json(primary[0].meta["task"])
    else:
        problem = task_of(row, task, environment)
    flags = {f"{stage}.{name}": value for name, value in (flags or {}).items()} | {"seeds": seeds}
    resolved = config.resolve(problem.name, problem.recipe, recipe=recipe, assignments=assignments, flags=flags)
    inputs = complete(place, row, resolved[stage], refs, primary)
    job = prepare(row, problem, resolved[stage], primary[0].seeds if primary else resolved.seeds, inputs)
    return _build(job, resolved, why, place, started, device=device, mode=mode, force=force, wait=wait)


def run_all(
    task: str,
    *,
    environment: str | None = None,
    seeds: str | None = None,
    recipe: str | None = None,
    assignments: tuple[str, ...] = (),
    flags: dict[str, dict],
    store: str | Path | Store | None = None,
    until: str | None = None,
    **how,
) -> Result:
    """A method's stages, each from those before it; the last one's result, its wall_s that of all.

    flags  by stage; until: the stage to end with; how: device, mode, force and wait; the other arguments are those of
           `run_stage`.
    """
    started, place = time.monotonic(), _store(store)
    problem = tasks.get(task, environment)
    # Everything is checked before the first stage is built.
    dotted = {f"{stage}.{name}": value for stage, given in flags.items() for name, value in given.items()}
    resolved = resolve_run(problem, recipe, assignments, dotted | {"seeds": seeds})
    built: dict[Node, Artifact] = {}
    for node in chain(problem, resolved, until).walk():
        begun = time.monotonic()
        job = prepare_node(node, built)
        for role, artifact in job.inputs.items():
            if role == node.stage.primary:
                say(f"{node.stage.name}: from {artifact.stage} {artifact.id} ({artifact.task})")
        result = _build(job, resolved, "made by the same run" if job.inputs else None, place, begun, **how)
        built[node] = result.artifact
    return Result(result.artifact, result.status, round(time.monotonic() - started, 3))


def _store(store: str | Path | Store | None) -> Store:
    return store if isinstance(store, Store) else Store.locate(store and str(store))


def _build(
    planned: Job,
    resolved: Resolved,
    why: str | None,
    store: Store,
    started: float,
    *,
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
) -> Result:
    """The artifact of a job, found or built; then `config.yaml` and `log.txt` are written beside its files."""
    stage = planned.stage.name

    def make(directory: Path, work: Path) -> dict:
        # here, since a cached stage must not cost a torch import
        from swgctl.training.execution import pick_device, pick_mode

        chosen = pick_device(device)
        job = replace(planned, device=chosen, mode=pick_mode(mode, chosen))
        with console.logged_to(directory / "log.txt"):
            text = yaml.safe_dump({stage: job.params, "seeds": job.seeds}, sort_keys=False)
            (directory / "config.yaml").write_text(text)
            say(f"{stage}: building {job.key[:16]} for {job.task.name}, seeds {ranges(job.seeds)}, on {job.device}")
            return {"metrics": module_of(job.stage).build(job, directory, work), "made": job.made()}

    prefix = f"{stage}."
    origin = {k: v for k, v in resolved.origin.items() if k.startswith(prefix) and v != "default"}
    artifact, status = store.build(planned.record(origin, why), make, force=force, wait=wait)
    store.remember(artifact)
    wall = round(time.monotonic() - started, 3)
    say(f"{stage}: {status} {artifact.id} in {wall:.1f} s")
    return Result(artifact, status, wall)


# -- a stage's module --------------------------------------------------------------------------------------------------


def module_of(row: Stage) -> ModuleType:
    """The module of a stage, imported on demand so that planning and looking stay fast."""
    return importlib.import_module(row.module or f"swgctl.stages.{row.name}")


def task_of(row: Stage, argument: str | None, environment: str | None = None) -> Task:
    """The task of a stage that starts from one.  Raises UsageError, InputError."""
    return getattr(module_of(row), "task_of", tasks.get)(argument, environment)


def prepare(row: Stage, task: Task, settings: Settings, seeds: list[int], inputs: Mapping[str, Artifact]) -> Job:
    """The job of a stage, by which its key is known; builds nothing."""
    return module_of(row).prepare(task, settings, seeds, inputs)


def prepare_node(node: Node, built: Mapping[Node, Artifact]) -> Job:
    """The job of a node whose inputs exist."""
    inputs = {role: built[parent] for role, parent in node.inputs.items()}
    return prepare(node.stage, node.task, node.settings, node.seeds, inputs)


def show(artifact: Artifact) -> bool:
    """Prints the table with which an artifact's stage ends; False where it has none."""
    row = stages().get(artifact.stage)
    table = row and getattr(module_of(row), "show", None)
    if table:
        table(artifact)
    return bool(table)


# -- chains ------------------------------------------------------------------------------------------------------------


def chain(task: Task, resolved: Resolved, until: str | None = None) -> Node:
    """The last node of the resolved method's chain, or of the stage to end with.

    Raises UsageError for another stage than the method's, and what a stage's `check` raises.
    """
    last = graph(task, resolved, stages_of(resolved.of(EVAL).method, until)[-1])
    for node in last.walk():
        if check_stage := getattr(module_of(node.stage), "check", None):
            check_stage(task, node.settings)
    return last


def stages_of(method: str, until: str | None = None) -> tuple[str, ...]:
    """The names of a method's stages, up to one of them.  Raises UsageError."""
    whole = config.methods()[method].stages
    if until not in (None, *whole):
        raise UsageError(f"--until '{until}' is no stage of a run{nearest(until, whole)}", f"one of {', '.join(whole)}")
    return whole[: whole.index(until) + 1] if until else whole


def of_runs() -> tuple[str, ...]:
    """Every stage that is part of some method's chain, in the table's order."""
    chained = {stage for method in config.methods().values() for stage in method.stages}
    return tuple(stage for stage in stages() if stage in chained)


def resolve_run(task: Task, recipe: str | None, assignments: tuple[str, ...], flags: dict) -> Resolved:
    """The settings of a run.  Raises UsageError for one that cannot be, of whichever stage, and InputError for an
    endless task."""
    check_owners(assignments, of_runs(), RUN)
    resolved = config.resolve(task.name, task.recipe, recipe=recipe, assignments=assignments, flags=flags)
    check(resolved)
    return resolved


def owner(assignment: str) -> str:
    """The stage that a --set is for."""
    return assignment.partition("=")[0].partition(".")[0].strip()


def check_owners(assignments: Iterable[str], allowed: tuple[str, ...], command: str) -> None:
    """Raises UsageError for a --set that is of another stage than a command's own.

    The seeds are set where a chain starts: the other stages take their input's.
    """
    for text in assignments:
        whose = owner(text)
        starts = [stage for stage in allowed if not stages()[stage].primary]
        if whose == "seeds" and not starts:
            raise UsageError(
                f"--set {text}: {command} takes the seeds of its input", f"swgctl critic TASK --set {text}"
            )
        if whose in stages() and whose not in allowed:
            other = RUN if whose in of_runs() else whose
            raise UsageError(
                f"{command} has no setting {text.partition('=')[0].strip()}", f"swgctl {other} TASK --set {text}"
            )


def check(resolved: Resolved) -> None:
    """Raises UsageError for settings of a run that no stage sees together."""
    loss, weight = resolved.of(CRITIC).loss, resolved.of(AUGMENT).weight
    if loss != config.LOSS[weight]:
        raise UsageError(
            f"the weight '{weight}' needs V trained with the {config.LOSS[weight]} loss, not {loss}",
            f"--set critic.loss={config.LOSS[weight]}",
        )
