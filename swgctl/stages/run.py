"""Run a stage, or a chain of them: from a task and settings to artifacts."""

import importlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import yaml

from swgctl import config, console, tasks, trackers
from swgctl.config import (
    AUGMENT,
    CRITIC,
    EVAL,
    GUIDE,
    PLAIN_WEIGHT,
    GuideSettings,
    Resolved,
    Settings,
    Stage,
    stage_named,
    stages,
)
from swgctl.console import quoted, say
from swgctl.errors import UsageError, closest, nearest
from swgctl.seeds import parse, ranges
from swgctl.stages.graph import Node, graph
from swgctl.stages.inputs import by_role, choose, complete
from swgctl.stages.job import Job, Result
from swgctl.store import Artifact, Store
from swgctl.tasks import Task

RUN = "run"  # the command that builds a whole chain
FLAGS = {"scale": "lambda"}  # settings whose option has another name


def run_stage(
    stage: str,
    task: str | Path | None = None,
    *,
    environment: str | None = None,
    source: str | Path | Iterable[str | Path] | None = None,
    critic: str | Path | None = None,
    seeds: str | None = None,
    recipe: str | None = None,
    assignments: tuple[str, ...] = (),
    flags: dict | None = None,
    store: str | Path | Store | None = None,
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
    log: Iterable[str] = (),
) -> Result:
    """Run one stage, unless its artifact exists.  Plain arguments in, one artifact out.

    task         for a stage that can start from one, and no input is named: a task's name or an HDF5 file (critic),
                 a density (toy); for the others, the task that their input must have
    environment  gymnasium id, for a file; or that of the input's record, whose module it allows to be imported
    source       REF of the artifact to start from, or ROLE=REF, or several of them; None: the one that this shell made
                 last, else the only one that fits
    critic       short for source="critic=REF"
    seeds        "0-4", for a stage without inputs; the others take their input's
    recipe, assignments, flags   layers of the configuration: `config.resolve`
    device, mode where and how training runs: `execution.runner`; "auto": CUDA where there is one, and `pick_mode`
    force        build again; wait: let another process that builds the same finish first
    log          trackers, such as tensorboard:DIR, to which another process sends what is measured; none: $SWGCTL_LOG
    Raises SwgError and its subclasses.
    """
    started = time.monotonic()
    row, target = stage_named(stage), _store(store)
    check_owners(assignments, (stage,), stage)
    check_execution(device, mode)
    to = trackers.chosen(log)
    task = None if task is None else os.fspath(task)
    sources = [source] if isinstance(source, str | Path) else list(source or ())
    refs = by_role(row, [*(os.fspath(one) for one in sources), *([f"critic={critic}"] if critic else [])])
    primary: list[Artifact] = []
    why = None
    if not row.primary or (row.optional and task is not None and row.primary not in refs):
        problem = task_of(row, task, environment)
    else:
        primary, why = choose(target, row, refs.get(row.primary, []), task)
        say(f"{stage}: from {', '.join(f'{one.stage} {one.id} ({one.task})' for one in primary)}, {why}")
        problem = Task.from_json(primary[0].meta["task"])
        tasks.trust(problem, environment)
        if seeds is not None and parse(seeds) != primary[0].seeds:
            theirs = ranges(primary[0].seeds)
            raise UsageError(
                f"--seeds {seeds}: {stage} takes the seeds of its input, {theirs}", f"--seeds {theirs}, or none"
            )
    flags = {f"{stage}.{name}": value for name, value in (flags or {}).items()} | {"seeds": seeds}
    resolved = config.resolve(problem.name, problem.recipe, recipe=recipe, assignments=assignments, flags=flags)
    inputs = complete(target, row, resolved[stage], refs, primary)
    check_read(row, resolved, resolved[stage], inputs)
    job = prepare(row, problem, resolved[stage], primary[0].seeds if primary else resolved.seeds, inputs)
    return _build(job, resolved, why, target, started, device=device, mode=mode, force=force, wait=wait, log=to)


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
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
    log: Iterable[str] = (),
) -> Result:
    """Run a method's stages, each on those before it; returns the last one's result, with the wall_s of all.

    flags  by stage; until: the stage to end with; the other arguments are those of `run_stage`
    """
    started, target = time.monotonic(), _store(store)
    check_execution(device, mode)
    trackers.chosen(log)
    problem = tasks.get(task, environment)
    # Everything is checked before the first stage is built.
    dotted = {f"{stage}.{name}": value for stage, settings in flags.items() for name, value in settings.items()}
    resolved = resolve_run(problem, recipe, assignments, dotted | {"seeds": seeds})
    last = chain(problem, resolved, until)
    results = build_nodes([last], resolved, target, device=device, mode=mode, force=force, wait=wait, log=log)
    result = results[last.identity]
    return Result(result.artifact, result.status, round(time.monotonic() - started, 3))


def build_nodes(
    ends: Iterable[Node],
    resolved: Resolved,
    store: Store,
    *,
    device: str = "auto",
    mode: str = "auto",
    force: bool = False,
    wait: bool = True,
    log: Iterable[str] = (),
) -> dict[str, Result]:
    """Build nodes and all that they are made from, what they share once; returns the results by `Node.identity`."""
    results: dict[str, Result] = {}
    to = trackers.chosen(log)
    for node in (node for end in ends for node in end.walk()):
        if node.identity in results:
            continue
        begun = time.monotonic()
        job = prepare_node(node, {identity: result.artifact for identity, result in results.items()})
        for role, artifact in job.inputs.items():
            if node.stage.inputs[role].primary:
                say(f"{node.stage.name}: from {artifact.stage} {artifact.id} ({artifact.task})")
        why = "made by the same run" if job.inputs else None
        result = _build(job, resolved, why, store, begun, device=device, mode=mode, force=force, wait=wait, log=to)
        results[node.identity] = result
    return results


def _store(store: str | Path | Store | None) -> Store:
    return store if isinstance(store, Store) else Store.locate(str(store) if store else None)


def check_execution(device: str, mode: str) -> None:
    """Refuse a device or a mode that no machine has, before any data is located.  Raises UsageError.

    A name of the usual form passes without an import of torch: whether this machine has a CUDA device shows when a
    stage is built.  Any other is for `pick_device` and `pick_mode` to judge.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        from swgctl.training.execution import pick_device

        device = pick_device(device)
    if mode not in ("auto", "eager", "compiled") and not (mode == "graph" and device.startswith(("auto", "cuda"))):
        from swgctl.training.execution import pick_mode

        pick_mode(mode, device)


def _build(
    planned: Job,
    resolved: Resolved,
    why: str | None,
    store: Store,
    started: float,
    *,
    device: str,
    mode: str,
    force: bool,
    wait: bool,
    log: list[trackers.Target],
) -> Result:
    """The artifact of a job, found or built, with `config.yaml` and `log.txt` beside its files."""
    stage = planned.stage.name

    def make(directory: Path, work: Path) -> dict:
        # imported here since a cached stage must not cost an import of torch
        from swgctl.training import begun_in
        from swgctl.training.execution import pick_device, pick_mode

        chosen = pick_device(device)
        begun = begun_in(work, chosen) if mode == "auto" else None
        job = replace(planned, device=chosen, mode=pick_mode(begun or mode, chosen, planned.steps))
        with console.logged_to(directory / "log.txt"), trackers.announced(record, work):
            trackers.start(store, job.key, log)
            text = yaml.safe_dump({stage: job.params, "seeds": job.seeds}, sort_keys=False)
            (directory / "config.yaml").write_text(text)
            where = chosen if (chosen, job.mode) == ("cpu", "eager") else f"{chosen}, {job.mode}"
            say(f"{stage}: building {job.key[:16]} for {job.task.name}, seeds {ranges(job.seeds)}, on {where}")
            return {"metrics": module_of(job.stage).build(job, directory, work), "made": job.made()}

    prefix = f"{stage}."
    origin = {k: v for k, v in resolved.origin.items() if k.startswith(prefix) and v != "default"}
    record = planned.record(origin, why)
    artifact, status = store.build(record, make, force=force, wait=wait)
    if status == "cached":
        trackers.start(store, artifact.key, log, follow=False)
    store.remember(artifact)
    wall = round(time.monotonic() - started, 3)
    say(f"{stage}: {status} {artifact.id} in {wall:.1f} s")
    return Result(artifact, status, wall)


# -- a stage's module --------------------------------------------------------------------------------------------------


def module_of(row: Stage) -> ModuleType:
    """The module of a stage, imported on demand so that planning and looking stay fast."""
    return importlib.import_module(row.module or f"swgctl.stages.{row.name}")


def task_of(row: Stage, argument: str | None, environment: str | None = None) -> Task:
    """The task of a stage that starts from one, by its module's rule if it has one.  Raises UsageError, InputError."""
    if special := getattr(module_of(row), "task_of", None):
        return special(argument, environment)
    if argument is None:
        raise UsageError(f"{row.name} starts from a task", f"swgctl {row.name} TASK")
    return tasks.get(argument, environment)


def prepare(row: Stage, task: Task, settings: Settings, seeds: list[int], inputs: Mapping[str, Artifact]) -> Job:
    """The job of a stage, and so its key; builds nothing."""
    return module_of(row).prepare(task, settings, seeds, inputs)


def unread(row: Stage, settings: Settings, inputs: Mapping[str, Artifact | Node]) -> set[str]:
    """The names of settings that a stage does not read with these (its module's `unread`)."""
    hook = getattr(module_of(row), "unread", None)
    return hook(inputs, settings) if hook else set()


def check_read(row: Stage, resolved: Resolved, settings: Settings, inputs: Mapping[str, Artifact | Node]) -> None:
    """Refuse settings by flag or --set that a stage does not read with these inputs.

    Raises UsageError.
    """
    for name in sorted(unread(row, settings, inputs)):
        origin = resolved.origin[f"{row.name}.{name}"]
        if origin in ("flag", "--set"):
            what = (
                f"by {settings.method}"
                if isinstance(settings, GuideSettings)
                else f"of {row.filled(inputs) or 'a task'}"
            )
            flag = FLAGS.get(name, name.replace("_", "-"))
            given = f"--{flag}" if origin == "flag" else f"--set {row.name}.{name}"
            raise UsageError(f"{row.name} {what} reads no setting '{name}'", f"leave out {given}")


def prepare_node(node: Node, built: Mapping[str, Artifact]) -> Job:
    """The job of a node whose inputs exist, by `Node.identity`."""
    inputs = {role: built[parent.identity] for role, parent in node.inputs.items()}
    return prepare(node.stage, node.task, node.settings, node.seeds, inputs)


def show(artifact: Artifact) -> bool:
    """Print the table with which an artifact's stage ends; returns False where there is none."""
    row = stages().get(artifact.stage)
    table = row and getattr(module_of(row), "show", None)
    return table(artifact) is not False if table else False


# -- chains ------------------------------------------------------------------------------------------------------------


def chain(task: Task, resolved: Resolved, until: str | None = None) -> Node:
    """The last node of the resolved method's chain, or the node of the stage `until`.

    Raises UsageError for a stage outside the method, and whatever the `check` of a stage raises.
    """
    method = resolved.of(EVAL).method
    last = check_nodes(graph(task, resolved, stages_of(method, until), method))
    check_flags(resolved, method)
    for node in last.walk():
        if node.stage is not GUIDE:  # of several methods in a plan some read what is set
            check_read(node.stage, resolved, node.settings, node.inputs)
    return last


def check_flags(resolved: Resolved, method: str) -> None:
    """Refuse options of a run that no stage of its method reads.  Raises UsageError."""
    flags = [name.partition(".") for name, origin in resolved.origin.items() if origin == "flag" and "." in name]
    read = {setting for stage, _, setting in flags if stage in stages_of(method)}
    for setting in sorted({setting for *_, setting in flags} - read):
        flag = FLAGS.get(setting, setting.replace("_", "-"))
        raise UsageError(f"no stage of {method} reads the setting '{setting}'", f"leave out --{flag}")


def check_nodes(last: Node) -> Node:
    """Call the `check` of every stage of a graph; returns its last node."""
    for node in last.walk():
        check_stage(node.stage, node.task, node.settings)
    return last


def check_stage(stage: Stage, task: Task, settings: Settings) -> None:
    """Call the `check` of a stage, if it has one."""
    if check_settings := getattr(module_of(stage), "check", None):
        check_settings(task, settings)


def stages_of(method: str, until: str | None = None) -> tuple[str, ...]:
    """The names of a method's stages, up to the one named.  Raises UsageError."""
    names = config.methods()[method].stages
    if until is None:
        return names
    if until not in names:
        raise UsageError(
            f"--until '{until}': a run has the stages {', '.join(names)}{nearest(until, names)}",
            f"swgctl run TASK --until {closest(until, names) or names[-1]}",
        )
    return names[: names.index(until) + 1]


def of_runs() -> tuple[str, ...]:
    """The stages that appear in any method's chain, in the table's order."""
    chained = {stage for method in config.methods().values() for stage in method.stages}
    return tuple(stage for stage in stages() if stage in chained)


def resolve_run(task: Task, recipe: str | None, assignments: tuple[str, ...], flags: dict) -> Resolved:
    """The settings of a run, of all its stages.  Raises UsageError for any that is invalid."""
    check_owners(assignments, of_runs(), RUN)
    resolved = config.resolve(task.name, task.recipe, recipe=recipe, assignments=assignments, flags=flags)
    check(resolved)
    return resolved


def owner(assignment: str) -> str:
    """The stage that a --set addresses, or "seeds"."""
    return assignment.partition("=")[0].partition(".")[0].strip()


def check_owners(assignments: Iterable[str], allowed: tuple[str, ...], command: str) -> None:
    """Refuse a --set that addresses a stage outside the command.  Raises UsageError.

    The seeds are set where a chain starts: the other stages take their input's.
    """
    for text in assignments:
        stage = owner(text)
        starts = [one for one in allowed if stages()[one].starts]
        if stage == "seeds" and not starts:
            raise UsageError(
                f"--set {text}: {command} takes the seeds of its input", f"swgctl critic TASK --set {text}"
            )
        if stage in stages() and stage not in allowed:
            other = RUN if stage in of_runs() else stage
            task = "DENSITY " if other == "toy" else "TASK " if other == RUN or stages()[other].starts else ""
            raise UsageError(
                f"{command} has no setting {text.partition('=')[0].strip()}",
                f"swgctl {other} {task}--set {quoted(text)}",
            )


def check(resolved: Resolved) -> None:
    """Check the settings of a method's stages against each other.  Raises UsageError."""
    chain, loss = stages_of(resolved.of(EVAL).method), resolved.of(CRITIC).loss
    if "critic" not in chain:
        return
    weight = resolved.of(AUGMENT).weight
    if "augment" not in chain:
        weight = resolved.of(GUIDE).weight or PLAIN_WEIGHT
    if CRITIC.inputs["candidates"].when(resolved.of(CRITIC), None):
        raise UsageError(
            f"the loss {loss} learns from candidates, which no method's chain has before its critic",
            "swgctl behaviour TASK && swgctl candidates --of next --rows 0 "
            "&& swgctl critic TASK --loss isq --candidates REF",
        )
    if "augment" in chain and AUGMENT.inputs["candidates"].when(resolved.of(AUGMENT), None):
        raise UsageError(
            "augment.share is of candidates, which no method's chain has before its augmented data",
            "swgctl candidates && swgctl augment --candidates REF --share 0.5 && swgctl diffuse",
        )
    if loss not in config.LOSS[weight]:
        usual = config.LOSS[weight][0]
        raise UsageError(
            f"the weight '{weight}' needs V trained with the {usual} loss, not {loss}",
            f"swgctl run TASK --set critic.loss={usual}",
        )
