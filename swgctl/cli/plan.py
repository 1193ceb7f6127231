"""Before anything is built: recipes and plans."""

from typing import Annotated

import typer

from swgctl.cli.app import app, recipe_app
from swgctl.cli.options import Env, Json, Recipe, Set, StoreOption, Tasks, Until
from swgctl.errors import UsageError


@recipe_app.command("ls")
def recipe_ls() -> None:
    """The shipped recipes, one a line."""
    from swgctl import config

    for name in config.recipe_names():
        print(name)


@recipe_app.command("show")
def recipe_show(task: str, recipe: Recipe = None, set: Set = (), env: Env = None) -> None:
    """The resolved settings of a task as YAML, each with where its value comes from."""
    from swgctl.sweeps import recipes

    print(recipes.recipe_text(task, env, recipe, tuple(set)), end="")


@recipe_app.command("validate")
def recipe_validate(
    files: Annotated[list[str] | None, typer.Argument(help="Files or names of recipes.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All shipped recipes, for all tasks.")] = False,
) -> None:
    """Check recipes: every problem of a file at once. Prints the paths of those that are sound."""
    from swgctl.sweeps import recipes

    for path in recipes.validate(files or [], all):
        print(path)


@app.command()
def plan(
    tasks: Tasks,
    seeds: Annotated[list[str], typer.Option(help="Seeds of one run: 0-4. May be repeated, one run each.")] = (),
    grid: Annotated[list[str], typer.Option(help="NAME=VALUE,VALUE ...: one run for each. May be repeated.")] = (),
    set: Set = (),
    recipe: Recipe = None,
    env: Env = None,
    store: StoreOption = None,
    until: Until = None,
    format: Annotated[str, typer.Option(help="table, json, or commands: one shell line a run.")] = "table",
    as_json: Json = False,
) -> None:
    """What is cached, what would be built, and why. Builds nothing.

    With --format commands, lines for a shell, xargs, GNU parallel or a Slurm array: each is whole, and runs anywhere.
    With --until as well, what several runs share comes once, to be built before they wait for each other.
    """
    from swgctl.store import Store
    from swgctl.sweeps.plan import expand, show

    if as_json and format not in ("table", "json"):
        raise UsageError(f"--json and --format {format} are two formats", "leave out one of them")
    where = Store.locate(store)
    runs = expand(tasks, list(seeds), list(grid), tuple(set), recipe, env, where, until)
    show(runs, where, "json" if as_json else format)
