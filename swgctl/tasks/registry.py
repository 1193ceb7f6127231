"""The tasks by name, from the YAML file of each family in families/."""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from swgctl import plugins
from swgctl.console import say
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
    registered, facts = table().get(task.name, (None, Facts()))
    return facts if registered == task else Facts()


def names() -> list[str]:
    """The names of all tasks, family by family."""
    return list(table())


def named(name: str) -> Task | None:
    """The task of a name; None where no family has it."""
    task, _ = table().get(name, (None, None))
    return task
