"""The commands `task ...` and `data ...`."""

from pathlib import Path
from typing import Annotated

import typer

from swgctl.cli.app import command, data_app, task_app
from swgctl.cli.options import ClipActions, Env, Json, TaskArgument, Tasks, complete_tasks
from swgctl.console import quoted
from swgctl.errors import UsageError

Trust = Annotated[
    bool, typer.Option("--trust", help="Take another file than the published one; records and reports say so.")
]


@command(task_app, "ls")
def task_ls(
    family: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY", help="Of one family alone, such as ogbench, whose 235 tasks are named by a rule."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the tasks.

    The table goes to stderr; unless stdout is a terminal, the names go there.
    """
    from swgctl.tasks import catalogue

    catalogue.ls(as_json, family)


@command(task_app, "show", examples="swgctl task show antmaze-umaze-v0")
def task_show(task: TaskArgument, env: Env = None, as_json: Json = False) -> None:
    """Show a task: data, environment, rewards, scores, recipe."""
    from swgctl.tasks import catalogue

    catalogue.show(task, env, as_json)


@command(data_app, "fetch", examples="swgctl data fetch hopper-medium-v2 hopper-expert-v2")
def data_fetch(tasks: Tasks, trust: Trust = False) -> None:
    """Download or generate the data of tasks.

    Prints the files' paths. Stages do this by themselves.
    """
    from swgctl.tasks import catalogue

    catalogue.fetch(tasks, trust)


@command(data_app, "sources", examples="swgctl data sources hopper-medium-v2")
def data_sources(task: Annotated[str, typer.Argument(help="A task's name.", autocompletion=complete_tasks)]) -> None:
    """Ask the sources of a task's file whether they have it.

    Downloads nothing. Prints the path or the URL that the file would come from.
    """
    from swgctl.tasks import catalogue

    catalogue.sources(task)


@command(data_app, "verify")
def data_verify(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="Tasks. [default: every file of the cache]", autocompletion=complete_tasks),
    ] = None,
) -> None:
    """Check data files against their checksums.

    Says of each whether its checksum is published, pinned (kept here since its first use, as nobody published one) or
    overruled by --trust. Prints the paths if all are whole; exits with 4 if one is damaged.
    """
    from swgctl.tasks import catalogue

    catalogue.verify(tasks or [])


@command(data_app, "import", examples="swgctl data import hopper-medium-v2 downloads/hopper_medium-v2.hdf5")
def data_import(
    task: Annotated[str, typer.Argument(help="A D4RL task's name.", autocompletion=complete_tasks)],
    file: Annotated[Path, typer.Argument(help="The HDF5 file that D4RL publishes for it.")],
    trust: Trust = False,
) -> None:
    """Import a downloaded file as the data of a D4RL task."""
    from swgctl.tasks import catalogue

    catalogue.bring(task, file, trust)


@command(
    data_app,
    "info",
    examples="""
    swgctl data info demo
    swgctl data info my-data.hdf5 --env Pendulum-v1
    """,
)
def data_info(task: TaskArgument, env: Env = None, as_json: Json = False) -> None:
    """Summarise a data set: rows, episodes, returns, ranges, NaN.

    Says whether it is what D4RL published. TASK may be any HDF5 file; nothing is downloaded.
    """
    from swgctl.tasks import catalogue

    catalogue.info(task, env, as_json)


@command(data_app, "export", examples="swgctl data export demo --minari --id me/halfcheetah-v0")
def data_export(
    task: TaskArgument,
    env: Env = None,
    minari: Annotated[bool, typer.Option("--minari", help="Write a Minari data set.")] = False,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Id of the new data set. [default: swgctl/TASK-v0]")
    ] = None,
    clip_actions: ClipActions = None,
) -> None:
    """Export a task's data as a Minari data set.

    Prints the new data set's id.
    """
    from swgctl.tasks import catalogue

    if not minari:
        raise UsageError("export to what?", f"swgctl data export {quoted(task)} --minari")
    catalogue.export(task, env, identity, bool(clip_actions))
