"""Planning: resolved recipes as text, and what a set of runs would build."""

import itertools
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from swgctl import config, seeds, stages, tasks
from swgctl.console import say
from swgctl.errors import SwgError, UsageError, nearest
from swgctl.stages import toy
from swgctl.store import CHAIN, Artifact, Store


def recipe_text(task: str, environment: str | None, recipe: str | None, assignments: tuple[str, ...]) -> str:
    """The resolved settings of a task as YAML that `--recipe FILE` takes, each line with where its value comes from."""
    if task in toy.NAMES:
        found, own, command = toy.task_of(task), ("toy",), "toy"
    else:
        found, own, command = tasks.get(task, environment), CHAIN, "run"
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
    """The paths of sound recipes, each resolved for every task that takes or names it.  Raises UsageError."""
    if not files and not every:
        raise UsageError("which recipes?", "swgctl recipe validate --all")
    paths = [config.recipe_path(name) for name in [*files, *(config.recipe_names() if every else [])]]
    known = {name: tasks.get(name) for name in tasks.names()}
    for path in paths:
        special = config.task_sections(config.read_recipe(path))
        problems = [f"unknown task '{name}'{nearest(str(name), known)}" for name in special if name not in known]
        takers = [name for name, task in known.items() if task.recipe == path.stem or name in special]
        for name in takers or [None]:
            problems += config.merge(name, "", str(path))[1]
        if problems:
            raise UsageError(
                f"{path}: {'; '.join(dict.fromkeys(problems))}", "swgctl recipe show demo   # lists every key"
            )
    return paths


@dataclass(frozen=True)
class Run:
    """One chain of the four stages, as `swgctl run` would be told.  Its paths are absolute: it may run elsewhere."""

    task: str
    seeds: str | None
    assignments: tuple[str, ...]
    recipe: str | None
    environment: str | None
    store: str | None

    def command(self) -> str:
        words = ["swgctl", "run", self.task]
        for option, value in (
            ("--env", self.environment),
            ("--seeds", self.seeds),
            ("--recipe", self.recipe),
            ("--store", self.store),
        ):
            words += [option, value] if value else []
        for text in self.assignments:
            words += ["--set", text]
        return shlex.join(words)


def expand(names, seed_lists, grid, assignments, recipe, environment, store=None) -> list[Run]:
    """All runs: every task, every --seeds, every point of the grid."""
    if recipe and recipe not in config.recipe_names():
        recipe = str(Path(recipe).absolute())
    store = store and str(Path(store).absolute())
    axes = []
    for text in grid:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--grid '{text}' is not NAME=VALUE,VALUE", "--grid diffuse.lr=1e-4,3e-4")
        axes.append([f"{name.strip()}={value.strip()}" for value in _COMMA.split(values)])
    runs = [
        Run(_absolute(task, environment), chosen, (*assignments, *point), recipe, environment, store)
        for task in names
        for chosen in seed_lists or [None]
        for point in itertools.product(*axes)
    ]
    for run in runs:
        found = tasks.get(run.task, environment)
        flags = {"seeds": run.seeds}
        config.resolve(found.name, found.recipe, recipe=recipe, assignments=run.assignments, flags=flags)
    return list(dict.fromkeys(runs))


_COMMA = re.compile(r",(?![^\[]*\])")  # one that is not inside a list


def _absolute(task: str, environment: str | None) -> str:
    """The name of a task, or the path of a file."""
    kind, _, where = tasks.get(task, environment).source.partition(":")
    return where if kind == "file" else task


def report(runs: list[Run], store: Store, form: str) -> None:
    if form not in ("table", "commands", "json"):
        raise UsageError(f"unknown format '{form}'", "--format table, or --format commands")
    if form == "commands":
        for run in runs:
            print(run.command())
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


def _states(run: Run, store: Store):
    """(stage, "cached" | "build", why) for the four stages, as far as the keys can be known before they are built."""
    task = tasks.get(run.task, run.environment)
    resolved = config.resolve(
        task.name, task.recipe, recipe=run.recipe, assignments=run.assignments, flags={"seeds": run.seeds}
    )
    given: dict[str, Artifact] = {}
    for i, stage in enumerate(CHAIN):
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
