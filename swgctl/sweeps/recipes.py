"""Resolved recipes as text, and the check that `swgctl run` would accept a recipe."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from swgctl import config, seeds, tasks
from swgctl.console import say
from swgctl.errors import UsageError, nearest
from swgctl.stages import run, toy
from swgctl.tasks.registry import RULED


def recipe_text(task: str, environment: str | None, recipe: str | None, assignments: tuple[str, ...]) -> str:
    """The resolved settings of a task as YAML that `--recipe FILE` takes; a comment gives the origin of each value."""
    stages: tuple[str, ...]
    if task in config.recipe_names() and task not in (*tasks.names(), *toy.NAMES):
        raise UsageError(
            f"'{task}' is a recipe, and what is shown is a task's", f"swgctl recipe show TASK --recipe {task}"
        )
    if task in toy.NAMES:
        problem, stages, command = toy.task_of(task), ("toy",), "toy"
    else:
        problem, command = tasks.get(task, environment), run.RUN
        stages = tuple(name for name in config.stages() if name != "toy")  # of a run, or read by their own command
    run.check_owners(assignments, stages, command)
    resolved = config.resolve(problem.name, problem.recipe, recipe=recipe, assignments=assignments)
    lines = [f"# swgctl {command} {tasks.argument(problem)}"]
    lines.append(_line("seeds", seeds.ranges(resolved.seeds), resolved.origin["seeds"], ""))
    for stage in stages:
        lines.append(f"{stage}:")
        for name, value in resolved[stage].model_dump().items():
            lines.append(_line(name, value, resolved.origin[f"{stage}.{name}"], "  "))
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, origin: str, indent: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    return f"{indent}{name}: {text}".ljust(38) + f"  # {origin}"


def validate(files: list[str], every: bool) -> Iterator[Path]:
    """The paths of the recipes that `swgctl run` would accept; at the end raises UsageError that names all others.

    A recipe must be valid for every task that uses or names it; an unused one, on top of at least one family recipe.
    """
    if not files and not every:
        raise UsageError("which recipes?", "swgctl recipe validate --all")
    check = _check()
    refused: list[UsageError] = []
    for name in [*files, *(config.recipe_names() if every else [])]:
        try:
            path = config.recipe_path(name)
            check(path)
        except UsageError as error:
            refused.append(error)
        else:
            yield path
    if refused:
        helps = itertools.chain(*(error.helps for error in refused))
        raise UsageError("; ".join(map(str, refused)), list(dict.fromkeys(helps)))


def _check() -> Callable[[Path], None]:
    """The check of one recipe, for the tasks that there are.  It raises UsageError."""
    listed = {name: tasks.get(name).recipe for name in tasks.names()}
    ruled = tasks.names(RULED)
    by_rule = {tasks.get(name).recipe: name for name in reversed(ruled)}  # the first of each recipe
    listed |= {name: family for family, name in by_rule.items()}
    one_task: dict[str, str | None] = {"demo": "demo", "default": None}
    one_task |= {family: name for name, family in listed.items()}
    families = {name: family for family, name in one_task.items()}  # one task of each

    def check(path: Path) -> None:
        content = config.read_recipe(path)
        sections = config.task_sections(content)
        family_of = listed | {task.name: task.recipe for name in sections if (task := tasks.named(str(name)))}
        unknown = [
            f"unknown task '{name}'{nearest(str(name), [*listed, *ruled])}"
            for name in sections
            if name not in family_of
        ]
        users: dict[str | None, str] = {}
        users |= {name: family for name, family in family_of.items() if family == path.stem or name in sections}
        of_toys = "toy" in content and not content.keys() & set(run.of_runs())
        others: dict[str | None, str] = {toy.NAMES[0]: "toy"} if of_toys else families
        checked = {name: _problems(name, family, path) for name, family in (users or others).items()}
        wrong = {name: problems for name, problems in checked.items() if problems}
        if unknown or (wrong if users else len(wrong) == len(checked)):
            distinct = dict.fromkeys([*unknown, *itertools.chain(*wrong.values())])
            example = next(filter(None, wrong), "demo")
            raise UsageError(f"{path}: {'; '.join(distinct)}", f"swgctl recipe show {example}   # lists every key")
        for name, problems in wrong.items():
            say(f"{path}: not on top of the recipe {others[name]}: {'; '.join(problems)}")

    return check


def _problems(task: str | None, family: str, path: Path) -> list[str]:
    """The reasons why `swgctl run`, by whatever method, would refuse a recipe on top of a family's own."""
    resolved, problems = config.merge(task, family, str(path))
    try:
        if resolved:
            run.check(resolved)
            problem = tasks.get("demo" if task is None or task in toy.NAMES else task)
            for stage in run.of_runs():
                run.check_stage(config.stages()[stage], problem, resolved[stage])
    except UsageError as error:
        problems.append(str(error))
    return problems
