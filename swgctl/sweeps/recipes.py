"""Resolved recipes as text, and which recipes `swgctl run` would take."""

import itertools
from pathlib import Path

import yaml

from swgctl import config, seeds, tasks
from swgctl.console import say
from swgctl.errors import UsageError, nearest
from swgctl.stages import run, toy


def recipe_text(task: str, environment: str | None, recipe: str | None, assignments: tuple[str, ...]) -> str:
    """The resolved settings of a task as YAML that `--recipe FILE` takes, each line with where its value comes from."""
    if task in toy.NAMES:
        problem, own, command = toy.task_of(task), ("toy",), "toy"
    else:
        problem, own, command = tasks.get(task, environment), run.of_runs(), run.RUN
    run.check_owners(assignments, own, command)
    resolved = config.resolve(problem.name, problem.recipe, recipe=recipe, assignments=assignments)
    lines = [f"# swgctl {command} {tasks.argument(problem)}"]
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
        others = {toy.NAMES[0]: "toy"} if "toy" in content and not content.keys() & set(run.of_runs()) else families
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
            run.check(resolved)
    except UsageError as error:
        problems.append(str(error))
    return problems
