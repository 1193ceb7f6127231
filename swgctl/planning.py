"""Planning: resolved recipes as text, and what a set of runs would build."""

import itertools
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from swgctl import config, seeds, stages, tasks
from swgctl.console import say
from swgctl.errors import SwgError, UsageError, closest, nearest
from swgctl.files import canonical
from swgctl.stages import toy
from swgctl.store import CHAIN, Artifact, Store

FORMATS = ("table", "commands", "json")


def recipe_text(task: str, environment: str | None, recipe: str | None, assignments: tuple[str, ...]) -> str:
    """The resolved settings of a task as YAML that `--recipe FILE` takes, each line with where its value comes from."""
    if task in toy.NAMES:
        found, own, command = toy.task_of(task), ("toy",), "toy"
    else:
        found, own, command = tasks.get(task, environment), CHAIN, "run"
    stages.check_owners(assignments, own, command)
    resolved = config.resolve(found.name, found.recipe, recipe=recipe, assignments=assignments)
    lines = [f"# swgctl {command} {found.argument}"]
    lines.append(_line("seeds", seeds.ranges(resolved.seeds), resolved.origin["seeds"], ""))
    for stage in own:
        lines.append(f"{stage}:")
        for name, value in resolved[stage].model_dump().items():
            lines.append(_line(name, value, resolved.origin[f"{stage}.{name}"], "  "))
    return "\n".join(lines) + "\n"


def _line(name: str, value, origin: str, indent: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    return f"{indent}{name}: {text}".ljust(38) + f"  # {origin}"


def validate(files: list[str], every: bool) -> list[Path]:
    """The paths of sound recipes: `swgctl run` would take them.  Raises UsageError.

    A recipe has to be sound for every task that takes or names it; one that none does, on top of some family's own.
    """
    if not files and not every:
        raise UsageError("which recipes?", "swgctl recipe validate --all")
    paths = [config.recipe_path(name) for name in [*files, *(config.recipe_names() if every else [])]]
    known = {name: tasks.get(name).recipe for name in tasks.names()}
    one_of = {"demo": "demo", "default": None} | {family: name for name, family in known.items()}
    families = {name: family for family, name in one_of.items()}
    for path in paths:
        content = config.read_recipe(path)
        special = config.task_sections(content)
        unknown = [f"unknown task '{name}'{nearest(str(name), known)}" for name in special if name not in known]
        takers = {name: family for name, family in known.items() if family == path.stem or name in special}
        others = {toy.NAMES[0]: "toy"} if "toy" in content and not content.keys() & set(CHAIN) else families
        found = {name: _problems(name, family, path) for name, family in (takers or others).items()}
        wrong = {name: problems for name, problems in found.items() if problems}
        if unknown or (wrong if takers else len(wrong) == len(found)):
            problems = dict.fromkeys([*unknown, *itertools.chain(*wrong.values())])
            name = next(filter(None, wrong), "demo")
            raise UsageError(f"{path}: {'; '.join(problems)}", f"swgctl recipe show {name}   # lists every key")
        for name, problems in wrong.items():
            say(f"{path}: not on top of the recipe {others[name]}: {'; '.join(problems)}")
    return paths


def _problems(task: str | None, family: str, path: Path) -> list[str]:
    """What `swgctl run` would refuse a recipe for, on top of a family's own."""
    resolved, problems = config.merge(task, family, str(path))
    try:
        if resolved:
            stages.check(resolved)
    except UsageError as error:
        problems.append(str(error))
    return problems


@dataclass(frozen=True)
class Run:
    """One chain of stages, as `swgctl run` would be told.  Its paths are absolute: it may run in any directory."""

    task: str
    seeds: str | None
    assignments: tuple[str, ...]
    recipe: str | None
    environment: str | None
    store: str
    until: str | None

    @property
    def chain(self) -> tuple[str, ...]:
        return stages.chain(self.until)

    def command(self) -> str:
        """A line for a shell, of this chain's own settings only: what ends in the same artifact reads the same."""
        words = ["swgctl", "run", self.task]
        for option, value in (
            ("--env", self.environment),
            ("--seeds", self.seeds),
            ("--recipe", self.recipe),
            ("--store", self.store),
            ("--until", self.until),
        ):
            words += [option, value] if value else []
        for text in self.assignments:
            words += ["--set", text] if stages.owner(text) in self.chain else []
        return shlex.join(words)

    @cached_property
    def resolved(self) -> tuple[tasks.Task, config.Resolved]:
        """Raises UsageError for a setting that cannot be, of whichever stage, InputError for an endless task."""
        task = tasks.get(self.task, self.environment)
        stages.check_owners(self.assignments, CHAIN, "run")
        layers = {"recipe": self.recipe, "assignments": self.assignments, "flags": {"seeds": self.seeds}}
        resolved = config.resolve(task.name, task.recipe, **layers)
        stages.check(resolved)
        if "eval" in self.chain:
            stages.check_horizon(task)
        return task, resolved

    def identity(self, stage: str) -> str:
        """The same for two runs whose artifacts of a stage are the same, however they are written."""
        task, resolved = self.resolved
        return canonical([task.to_json(), resolved.seeds, [resolved[s].keyed() for s in stages.chain(stage)]])


def expand(names, seed_lists, grid, assignments, recipe, environment, store: Store, until=None) -> list[Run]:
    """All runs: every task, every --seeds, every point of the grid; those that end in the same artifact come once.

    Raises UsageError for a grid that is none, or that varies a setting twice.
    """
    if recipe and recipe not in config.recipe_names():
        recipe = str(Path(recipe).absolute())
    last = stages.chain(until)[-1]
    root = str(store.root.absolute())
    axes: dict[str, list[str]] = {}
    for text in grid:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values):
            raise UsageError(f"--grid '{text}' is not NAME=VALUE,VALUE", "--grid diffuse.lr=1e-4,3e-4")
        if name in axes:
            raise UsageError(f"two --grid of {name}", f"--grid {name}={','.join([*axes[name], values])}")
        axes[name] = [value.strip() for value in _COMMA.split(values)]
    points = itertools.product(*([f"{name}={value}" for value in values] for name, values in axes.items()))
    distinct: dict[str, Run] = {}
    for task, chosen, point in itertools.product(names, seed_lists or [None], points):
        run = Run(_absolute(task, environment), chosen, (*assignments, *point), recipe, environment, root, until)
        distinct.setdefault(run.identity(last), run)
    return list(distinct.values())


_COMMA = re.compile(r",(?![^\[]*\])")  # one that is not inside a list


def _absolute(task: str, environment: str | None) -> str:
    """The name of a task, or the path of a file."""
    kind, _, where = tasks.get(task, environment).source.partition(":")
    return where if kind == "file" else task


def report(runs: list[Run], store: Store, form: str) -> None:
    if form not in FORMATS:
        raise UsageError(
            f"unknown format '{form}'{nearest(form, FORMATS)}", f"--format {closest(form, FORMATS) or 'commands'}"
        )
    if form == "commands":
        for run in runs:
            print(run.command())
        say(_sharing(runs))
        return
    rows = []
    for run in runs:
        for stage, state, why in _states(run, store):
            rows.append({"run": run.command(), "stage": stage, "state": state, "why": why})
    if form == "json":
        for row in rows:
            print(json.dumps(row))
        return
    for run in runs:
        say(run.command())
        for row in rows:
            if row["run"] == run.command():
                say(f"  {row['stage']:8} {row['state']:7} {row['why']}")
    built = sum(row["state"] != "cached" for row in rows)
    say(f"{len(runs)} run(s), {len(rows) - built} stage(s) cached, {built} to build")


def _sharing(runs: list[Run]) -> str:
    """How many artifacts of each stage the runs need, and which to make first where several wait for one."""
    counts = {stage: len({run.identity(stage) for run in runs}) for stage in runs[0].chain}
    text = f"{len(runs)} run(s): {', '.join(f'{count} {stage}' for stage, count in counts.items())}"
    shared = [f"--until {stage}" for stage, after in itertools.pairwise(counts) if counts[stage] < counts[after]]
    return f"{text}; run the lines of {', then of '.join(shared)} first, and none waits for another" if shared else text


def _states(run: Run, store: Store):
    """(stage, "cached" | "build", why) for each stage, as far as the keys can be known before they are built."""
    task, resolved = run.resolved
    given: dict[str, Artifact] = {}
    for i, stage in enumerate(run.chain):
        if i and not given:
            yield stage, "build", f"its input is to be built: {CHAIN[i - 1]}"
            continue
        try:
            if not i and not tasks.at_hand(task):
                yield stage, "build", "its data is not on this machine yet"
                continue
            job = stages.prepare(stage, task, resolved, given)
        except SwgError as error:
            yield stage, "build", str(error)
            given = {}
            continue
        artifact = store.find(stage, task.name, job.key)
        if artifact:
            yield stage, "cached", f"{artifact.id}"
            given = {stage: artifact}
        else:
            resumable = (store.work(job.key) / "checkpoint.safetensors").exists()
            yield (
                stage,
                "build",
                "unfinished: would be resumed" if resumable else f"no artifact {job.key[:16]}",
            )
            given = {}
