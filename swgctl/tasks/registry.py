"""The tasks by name, from the YAML file of each family in families/."""

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from swgctl import plugins
from swgctl.console import say, shown
from swgctl.errors import UsageError, closest, nearest
from swgctl.tasks.task import Facts, Task

FAMILIES = Path(__file__).parent / "families"


@dataclass(frozen=True)
class Family:
    """Tasks of another package, brought by an entry point of the group swgctl.tasks.

    tables   YAML files like those in families/
    recipes  YAML files of recipes, each named by its file without the suffix
    sources  kinds of data sources that the tasks need (`sources.Source`)
    """

    tables: tuple[Path, ...]
    recipes: tuple[Path, ...] = ()
    sources: tuple[Any, ...] = ()


@cache
def plugged() -> list[Family]:
    """The families of plugins."""
    families = []
    for name, family in plugins.load(plugins.TASKS).items():
        if isinstance(family, Family):
            families.append(family)
        else:
            say(f"plugin {name} of {plugins.TASKS} is left out: it is a {type(family).__name__}, not a Family")
    return families


@cache
def table() -> dict[str, tuple[Task, Facts]]:
    """Every task by name with its facts, family by family."""
    files = [*sorted(FAMILIES.glob("*.yaml")), *(file for family in plugged() for file in family.tables)]
    families = [yaml.safe_load(file.read_text())["tasks"] for file in files]
    rows = {}
    for name, row in ((name, row) for family in families for name, row in family.items()):
        extra = {field.name: row.pop(field.name) for field in fields(Facts) if field.name in row}
        dimensions = extra.get("dimensions")
        facts = Facts(**extra | {"dimensions": dimensions and tuple(dimensions)})
        rows[name] = Task.from_json({"name": name} | row), facts
    return rows


def facts(task: Task) -> Facts:
    """The facts of a task; empty for one that is made of a user's data."""
    registered, facts = table().get(task.name) or by_rule(task.name) or (None, Facts())
    return facts if registered == task else Facts()


def names(family: str | None = None) -> list[str]:
    """The names of the tasks of one family, or of all that are listed: not those that are named by a rule.

    Raises UsageError for an unknown family.
    """
    if family is None:
        return list(table())
    if family == RULED:
        return [
            f"{one}-{kind}-singletask-task{n}-v0"
            for one, about in sets().items()
            for kind in about["kinds"]
            for n in range(1, 6)
        ]
    files = {file.stem: file for file in FAMILIES.glob("*.yaml")}
    if family not in files:
        known = sorted(files)
        raise UsageError(
            f"no family '{shown(family)}'{nearest(family, known)}",
            f"swgctl task ls --family {closest(family, known) or known[0]}   # one of {', '.join(known)}",
        )
    return list(yaml.safe_load(files[family].read_text())["tasks"])


def named(name: str) -> Task | None:
    """The task of a name; None where no family has it."""
    task, _ = table().get(name) or by_rule(name) or (None, None)
    return task


# -- tasks by rule -----------------------------------------------------------------------------------------------------

RULED = "ogbench"  # the family whose tasks follow from their names
SINGLE = re.compile(r"(?P<set>[a-z0-9-]+)-(?P<kind>[a-z]+)-singletask(-task(?P<n>[1-5]))?-v0")


@cache
def sets() -> dict[str, dict[str, Any]]:
    """OGBench's sets by name: kinds, horizon, dimensions, default task and recipe."""
    return yaml.safe_load((FAMILIES / f"{RULED}.yaml").read_text())["sets"]


def by_rule(name: str) -> tuple[Task, Facts] | None:
    """The single task of an OGBench set by its name, with its facts; None for another name.

    A name without a number is that of the set's default task.
    """
    match = SINGLE.fullmatch(name)
    about = sets().get(match["set"]) if match else None
    if match is None or about is None or match["kind"] not in about["kinds"]:
        return None
    single = f"singletask-task{match['n'] or about['default']}-v0"
    name, environment = f"{match['set']}-{match['kind']}-{single}", f"{match['set']}-{single}"
    task = Task(name, environment, f"{RULED}:{name}", "none", about["recipe"], None, about["horizon"], "success")
    return task, Facts(dimensions=tuple(about["dimensions"]), terminal="success")


def set_of(name: str) -> str:
    """The set that a single task of OGBench learns from: cube-single-play-v0."""
    return re.sub(r"-singletask(-task[1-5])?", "", name)
