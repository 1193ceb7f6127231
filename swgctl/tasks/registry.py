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
    """Tasks that another package brings, by an entry point of the group swgctl.tasks.

    tables   YAML files of the form of those in families/
    recipes  YAML files of recipes, each known by its name without the suffix
    sources  kinds of data sources that the tasks need (`sources.Source`)
    """

    tables: tuple[Path, ...]
    recipes: tuple[Path, ...] = ()
    sources: tuple[Any, ...] = ()


@cache
def plugged() -> list[Family]:
    """The families that plugins bring."""
    families = []
    for name, family in plugins.load(plugins.TASKS).items():
        if isinstance(family, Family):
            families.append(family)
        else:
            say(f"plugin {name} of {plugins.TASKS} is left out: it is a {type(family).__name__}, not a Family")
    return families


@cache
def _known() -> dict[str, tuple[Task, Facts]]:
    files = [*sorted(FAMILIES.glob("*.yaml")), *(table for family in plugged() for table in family.tables)]
    tables = [yaml.safe_load(file.read_text())["tasks"] for file in files]
    known = {}
    for name, row in ((name, row) for table in tables for name, row in table.items()):
        told = {field.name: row.pop(field.name) for field in fields(Facts) if field.name in row}
        dimensions = told.get("dimensions")
        facts = Facts(**told | {"dimensions": dimensions and tuple(dimensions)})
        known[name] = Task.from_json({"name": name} | row), facts
    return known


def facts(task: Task) -> Facts:
    """What is known of a task; nothing of one that is made of a user's data."""
    known, facts = _known().get(task.name, (None, Facts()))
    return facts if known == task else Facts()


def names() -> list[str]:
    """Every known task, family by family."""
    return list(_known())


def named(name: str) -> Task | None:
    """The task of a name; None where no family has it."""
    task, _ = _known().get(name, (None, None))
    return task
