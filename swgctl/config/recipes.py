"""Recipes: safe YAML, shipped recipes by name, and the shape of a recipe."""

import os
import re
from collections.abc import Hashable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from swgctl.config.stage import stages
from swgctl.console import shown
from swgctl.errors import UsageError, nearest
from swgctl.files import read_regular
from swgctl.tasks.registry import plugged

NAMED = 20  # most problems of a kind that a message names
MOST_BYTES, MOST_VALUES, DEEPEST = 1_000_000, 100_000, 50  # of a YAML text, its aliases expanded


class _Loader(yaml.SafeLoader):
    """YAML without its traps: 3e-4 is a number; 010, 1:30 and dates stay text; a repeated key is an error.

    Nor does it grow beyond MOST_VALUES or DEEPEST by its aliases.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute in the parent, too
        first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node and (size := _size(node, {}, 0)) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"{size:,} values, of at most {MOST_VALUES:,}")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():  # the parent refuses another
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


def _size(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """The number of values in a node, all aliases expanded; `sizes` has those of nodes that were counted before.

    Raises RecursionError for a node that holds itself, or goes deeper than DEEPEST.
    """
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in sizes:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        inner = [one for pair in pairs for one in pair] if pairs else node.value
        inner = inner if isinstance(node, yaml.CollectionNode) else []
        sizes[id(node)] = 1 + sum(_size(one, sizes, depth + 1) for one in inner)
    return sizes[id(node)]


@cache  # a plan reads the same recipe for every run
def read_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.  Raises UsageError, with `where` it stands."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
    except RecursionError:
        why = f"it is nested more than {DEEPEST} levels deep"
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # as of thousands of digits, or !!int ""
        why = f"{type(error).__name__}: {error}"
    raise UsageError(f"{where}: {why}", "swgctl recipe show demo")


def recipes_folder() -> Path:
    inside = Path(str(resources.files("swgctl"))) / "recipes"  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"


def _recipes() -> dict[str, Path]:
    """Paths of the recipes by name, plugins' and shipped ones."""
    files = [*(path for family in plugged() for path in family.recipes), *_shipped(recipes_folder())]
    return {path.stem: path for path in files}


@cache  # a plan asks for every run
def _shipped(folder: Path) -> tuple[Path, ...]:
    return tuple(folder.glob("*.yaml"))


def recipe_names() -> list[str]:
    return sorted(_recipes())


def recipe_path(name: str) -> Path:
    """Path of a shipped recipe by name, or of a file.  Raises UsageError."""
    if path := _recipes().get(name):
        return path
    if os.path.isfile(name):
        return Path(name)
    raise UsageError(f"no recipe '{shown(name)}'{nearest(name, recipe_names())}", "swgctl recipe ls")


def read_recipe(path: Path) -> dict:
    """Read a recipe as a nested dict; its contents are checked by `resolve`.  Raises UsageError."""
    try:
        content = read_yaml(read_regular(path, MOST_BYTES).decode(), str(path)) or {}
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"the recipe {path} cannot be read: {why}", "swgctl recipe show demo") from None
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
    unknown = [str(k) for k in section if k not in allowed]
    problems = [f"unknown key '{shown(f'{prefix}{k}')}'{nearest(k, allowed)}" for k in unknown[:NAMED]]
    problems += [f"and {len(unknown) - NAMED} more unknown keys"] if len(unknown) > NAMED else []
    return problems + [
        f"'{prefix}{k}' must be a section"
        for k in ("tasks", *stages())
        if k in section and k in allowed and not isinstance(section[k] or {}, dict)
    ]
