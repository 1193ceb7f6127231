"""The tasks, and the files that they learn from."""

from pathlib import Path
from typing import Annotated

import typer

from swgctl.cli.app import data_app, task_app
from swgctl.cli.options import ClipActions, Env, Json, TaskArgument, Tasks
from swgctl.errors import UsageError


@task_app.command("ls")
def task_ls(as_json: Json = False) -> None:
    """The known tasks: a table for people on stderr, their names on stdout where that is no terminal."""
    from swgctl.tasks import catalogue

    catalogue.ls(as_json)


@task_app.command("show")
def task_show(task: TaskArgument, env: Env = None, as_json: Json = False) -> None:
    """Everything about a task: its data, environment, rewards, reference scores, the papers' scores, its recipe."""
    from swgctl.tasks import catalogue

    catalogue.show(task, env, as_json)


@data_app.command("fetch")
def data_fetch(tasks: Tasks) -> None:
    """Bring the data of tasks to this machine: download it, or roll it out."""
    from swgctl.tasks import catalogue

    catalogue.fetch(tasks)


@data_app.command("verify")
def data_verify(
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks. [default: every file of the cache]")] = None,
) -> None:
    """Compare files with the checksums that are kept beside them. Exit 4 where one is damaged."""
    from swgctl.tasks import catalogue

    catalogue.verify(tasks or [])


@data_app.command("import")
def data_import(task: str, file: Path) -> None:
    """Take a file that was downloaded by other means as the data of a D4RL task."""
    from swgctl.tasks import catalogue

    catalogue.bring(task, file)


@data_app.command("info")
def data_info(task: TaskArgument, env: Env = None, as_json: Json = False) -> None:
    """What is in a task's file, or in any file: rows, episodes, returns, ranges, NaN; and is it what D4RL published?"""
    from swgctl.tasks import catalogue

    catalogue.info(task, env, as_json)


@data_app.command("export")
def data_export(
    task: TaskArgument,
    env: Env = None,
    minari: Annotated[bool, typer.Option("--minari", help="As a Minari data set.")] = False,
    identity: Annotated[str | None, typer.Option("--id", help="Its id. [default: swgctl/TASK-v0]")] = None,
    clip_actions: ClipActions = None,
) -> None:
    """Hand a task's data to another ecosystem. Prints the new data set's id."""
    from swgctl.tasks import catalogue

    if not minari:
        raise UsageError("export to what?", f"swgctl data export {task} --minari")
    catalogue.export(task, env, identity, bool(clip_actions))
