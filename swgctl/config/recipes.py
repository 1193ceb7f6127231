"""Recipes: safe YAML, shipped recipes by name, and the shape of a recipe."""

import re
from collections.abc import Hashable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from swgctl.config.stage import stages
from swgctl.errors import UsageError, nearest
from swgctl.tasks.registry import plugged


class _Loader(yaml.SafeLoader):
    """YAML without its traps: 3e-4 is a number; 010, 1:30 and dates stay text; a repeated key is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute in the parent, too
        first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the parent refuses it
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' comes twice (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?((\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.(inf|nan))$", re.IGNORECASE
    ),
    list("-+.0123456789"),
)

_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][\d_]*)$"), list("-+0123456789"))


@cache  # a plan reads the same recipe for every run
def read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: {' '.join(str(error).split())}", "swgctl recipe show demo") from None


def recipes_folder() -> Path:
    inside = Path(str(resources.files("swgctl"))) / "recipes"  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"


def _recipes() -> dict[str, Path]:
    """Paths of the recipes by name, plugins' and shipped ones."""
    files = [*(path for family in plugged() for path in family.recipes), *recipes_folder().glob("*.yaml")]
    return {path.stem: path for path in files}


def recipe_names() -> list[str]:
    return sorted(_recipes())


def recipe_path(name: str) -> Path:
    """Path of a shipped recipe by name, or of a file.  Raises UsageError."""
    if path := _recipes().get(name):
        return path
    if (path := Path(name)).is_file():
        return path
    raise UsageError(f"no recipe '{name}'{nearest(name, recipe_names())}", "swgctl recipe ls")


def read_recipe(path: Path) -> dict:
    """Read a recipe as a nested dict; its contents are checked by `resolve`.  Raises UsageError."""
    try:
        content = read_yaml(path.read_text(), str(path)) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}", "swgctl recipe show demo") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} has no recipe sections", "swgctl recipe show demo")
    return content


def task_sections(content: dict) -> dict:
    """Sections of a recipe for single tasks, by name."""
    tasks = content.get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def misplaced(content: dict) -> list[str]:
    """Problems with the shape of a recipe, one a line."""
    problems = _unknown(content, {"about", "seeds", "tasks", *stages()}, "")
    for task, section in task_sections(content).items():
        problems += _unknown(section or {}, {"seeds", *stages()}, f"tasks.{task}.")
    return problems


def _unknown(section: dict, allowed: set[str], prefix: str) -> list[str]:
    if not isinstance(section, dict):
        return [f"'{prefix.rstrip('.')}' must be a section"]
    problems = [f"unknown key '{prefix}{k}'{nearest(str(k), allowed)}" for k in section if k not in allowed]
    return problems + [
        f"'{prefix}{k}' must be a section"
        for k in ("tasks", *stages())
        if k in section and k in allowed and not isinstance(section[k] or {}, dict)
    ]
