"""The commands `plan` and `recipe ...`, which build nothing."""

import shlex
from typing import Annotated

import typer

from swgctl.cli.app import app, command, recipe_app
from swgctl.cli.layout import PLAN
from swgctl.cli.options import (
    PLANS,
    Assignments,
    Env,
    Grid,
    Json,
    Methods,
    Recipe,
    SeedLists,
    StoreOption,
    TaskArgument,
    Tasks,
    Until,
    choices,
    complete_recipes,
    completing,
)
from swgctl.errors import UsageError


@command(recipe_app, "ls")
def recipe_ls() -> None:
    """List the shipped recipes, one a line."""
    from swgctl import config

    for name in config.recipe_names():
        print(name)


@command(
    recipe_app,
    "show",
    examples="""
    swgctl recipe show demo
    swgctl recipe show hopper-medium-v2 --recipe official
    """,
)
def recipe_show(task: TaskArgument, recipe: Recipe = None, assignments: Assignments = None, env: Env = None) -> None:
    """Print a task's settings as YAML, each with its source.

    The output is a recipe itself, which --recipe takes.
    """
    from swgctl.sweeps import recipes

    print(recipes.recipe_text(task, env, recipe, tuple(assignments or ())), end="")


@command(recipe_app, "validate", examples="swgctl recipe validate my-recipe.yaml")
def recipe_validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Files, or names of shipped recipes.", autocompletion=complete_recipes),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Check all shipped recipes, for all tasks.")] = False,
) -> None:
    """Check recipes and report all their problems at once.

    Prints the paths of the valid ones.
    """
    from swgctl.sweeps import recipes

    for path in recipes.validate(files or [], every):
        print(path)


@command(
    app,
    "plan",
    PLAN,
    """
    swgctl plan demo
    swgctl plan demo --seeds 0-4 --grid diffuse.lr=1e-4,3e-4 --format commands
    swgctl plan demo --method swg,cep,ddice
    """,
)
def plan(
    tasks: Tasks,
    seeds: SeedLists = None,
    grid: Grid = None,
    method: Methods = None,
    assignments: Assignments = None,
    recipe: Recipe = None,
    env: Env = None,
    store: StoreOption = None,
    until: Until = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar=choices(PLANS),
            help="Output; commands is one shell line a run.",
            autocompletion=completing(PLANS),
        ),
    ] = "table",
    as_json: Json = False,
) -> None:
    """Show what is cached and what would be built, and why.

    With --format commands, prints lines for a shell, xargs, GNU parallel or a Slurm array: each is complete, and runs
    in any directory. Add --until to get the stages that several runs share once each, so that they can be built
    first.
    """
    from swgctl.store import Store
    from swgctl.sweeps.plan import expand, show

    if as_json and form not in ("table", "json"):
        line = shlex.join(["swgctl", "plan", *tasks, "--format", form])
        raise UsageError(f"--json and --format {form} are two formats", f"{line}   # or --json alone")
    location = Store.locate(store)
    runs = expand(tasks, seeds or [], grid or [], tuple(assignments or ()), recipe, env, location, until, method)
    if form == "slurm":
        from swgctl.sweeps import slurm

        print(slurm.script(runs, location), end="")
        return
    show(runs, location, "json" if as_json else form)
