"""Merging of a configuration's layers: defaults < recipe < --recipe FILE < --set < named flag."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from swgctl import seeds
from swgctl.config.recipes import (
    NAMED,
    misplaced,
    read_recipe,
    read_yaml,
    recipe_names,
    recipe_path,
    task_sections,
)
from swgctl.config.settings import Settings
from swgctl.config.stage import S, Stage, stages
from swgctl.console import shown
from swgctl.errors import UsageError
from swgctl.tasks import names as task_names


@dataclass(frozen=True)
class Resolved:
    """Settings of every stage and the seeds; `origin` names the source of every value, by dotted name."""

    settings: dict[str, Settings]
    seeds: list[int]
    origin: dict[str, str]

    def __getitem__(self, stage: str) -> Settings:
        return self.settings[stage]

    def of(self, stage: Stage[S]) -> S:
        """The settings of a stage, with the type of its row."""
        settings = self.settings[stage.name]
        assert isinstance(settings, stage.settings)
        return settings


def resolve(
    task: str | None,
    family: str,
    *,
    recipe: str | None = None,
    assignments: Iterable[str] = (),
    flags: dict[str, Any] | None = None,
) -> Resolved:
    """Merge the layers for a task of a recipe family.

    recipe       --recipe: a shipped recipe's name or a file, on top of the family's
    assignments  --set: "critic.lr=3e-4"
    flags        values by dotted name; None: not given
    Raises UsageError that names all problems at once.
    """
    resolved, problems = merge(task, family, recipe, assignments, flags)
    if resolved is None or problems:
        example = task if family == "toy" or task in task_names() else "demo"
        more = [f"and {len(problems) - NAMED} more problems"] if len(problems) > NAMED else []
        raise UsageError("; ".join(problems[:NAMED] + more), f"swgctl recipe show {example}   # lists every key")
    return resolved


def merge(
    task: str | None,
    family: str,
    recipe: str | None,
    assignments: Iterable[str] = (),
    flags: dict[str, Any] | None = None,
) -> tuple[Resolved | None, list[str]]:
    """Merge like `resolve`, with problems as lines.  Raises UsageError for a layer that cannot be read."""
    layers = [(f"recipe {family}", read_recipe(recipe_path(family)))] if family in recipe_names() else []
    if recipe:
        layers.append((f"--recipe {recipe}", read_recipe(recipe_path(recipe))))
    values: dict[str, tuple[Any, str]] = {}
    problems = []
    for origin, content in layers:
        problems += [f"{problem} ({origin})" for problem in misplaced(content)]
        special = task_sections(content).get(task) or {}
        for section, where in ((content, origin), (special, f"{origin}, {task}")):
            values |= {name: (value, where) for name, value in _leaves(section)}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set '{shown(text)}' is not NAME=VALUE", "--set critic.lr=3e-4")
        values[name.strip()] = (read_yaml(value, f"--set {shown(name)}"), "--set")
    values |= {name: (value, "flag") for name, value in (flags or {}).items() if value is not None}
    resolved, wrong = _validate(values)
    return resolved, problems + wrong


def _leaves(section: dict) -> Iterable[tuple[str, Any]]:
    if not isinstance(section, dict):
        return
    for stage in stages():
        if isinstance(section.get(stage), dict):
            yield from ((f"{stage}.{name}", value) for name, value in section[stage].items())
    if "seeds" in section:
        yield "seeds", section["seeds"]


def _validate(values: dict[str, tuple[Any, str]]) -> tuple[Resolved | None, list[str]]:
    problems: list[str] = []
    settings: dict[str, Settings] = {}
    origin: dict[str, str] = {}
    places = {f"{stage}.{name}": (stage, name) for stage, row in stages().items() for name in row.settings.model_fields}
    names = ["seeds", *places]
    unknown = [name for name in values if name != "seeds" and name not in places]
    for name in unknown[:NAMED]:  # the nearest name takes a while
        problems.append(f"unknown key '{shown(name)}'{_nearest_setting(name, names)} ({values[name][1]})")
    problems += [f"and {len(unknown) - NAMED} more unknown keys"] if len(unknown) > NAMED else []
    given: dict[str, dict[str, Any]] = {stage: {} for stage in stages()}
    for full, (value, _) in values.items():
        if full in places:
            stage, name = places[full]
            given[stage][name] = value
    for stage, row in stages().items():
        try:
            settings[stage] = row.settings.model_validate(given[stage])
        except ValidationError as error:
            for item in error.errors():
                name = f"{stage}.{item['loc'][0]}"
                where = values.get(name, (None, "default"))[1]
                message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
                problems.append(f"{name} = {shown(_text(item['input']))}: {message} ({where})")
        origin |= {f"{stage}.{name}": "default" for name in row.settings.model_fields}
    members, where = values.get("seeds", ("0", "default"))
    try:
        members = seeds.parse(members)
    except UsageError as error:
        problems.append(f"{error} ({where})")
    if problems:
        return None, problems
    origin |= {"seeds": "default"} | {name: where for name, (_, where) in values.items()}
    return Resolved(settings, members, origin), []


def _text(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # Python refuses to print a very long one
        return "an integer beyond 64 bits"
    return repr(value)


def _nearest_setting(name: str, names: list[str]) -> str:
    """Hint at the nearest full name, or at the setting of the same bare name in another stage."""
    same = [k for k in names if k.rpartition(".")[2] == name.rpartition(".")[2]]
    match = same or difflib.get_close_matches(name[:100], names, n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
