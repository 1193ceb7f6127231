"""The command `sweep`."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import PLAN
from swgctl.cli.options import (
    ENGINES,
    Assignments,
    Env,
    Grid,
    Json,
    Methods,
    Mode,
    Recipe,
    SeedLists,
    StoreOption,
    Tasks,
    Until,
    choices,
    completing,
)


@command(
    app,
    "sweep",
    PLAN,
    """
    swgctl sweep demo --seeds 0-4 --grid critic.tau=0.7,0.9
    swgctl sweep demo --method swg,cep,ddice --slots 2
    swgctl sweep demo --grid diffuse.lr=1e-4,3e-4 --dry-run
    """,
)
def sweep(
    tasks: Tasks,
    seeds: SeedLists = None,
    grid: Grid = None,
    method: Methods = None,
    assignments: Assignments = None,
    recipe: Recipe = None,
    env: Env = None,
    store: StoreOption = None,
    until: Until = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar=choices(ENGINES),
            help="What runs the processes: this machine, or a Ray cluster.",
            autocompletion=completing(ENGINES),
        ),
    ] = "local",
    slots: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes at a time. [default: one for each GPU, else for each core]"),
    ] = None,
    gpu: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Part of a GPU for each process, such as 0.25; 0 is none. [default: 1]"),
    ] = None,
    cpu: Annotated[
        int | None,
        typer.Option(metavar="N", help="Threads of each process. [default: the cores divided among the slots]"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ray cluster to join, or auto. [default: one is started here]"),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="Further tries of a process that was stopped or killed.")
    ] = 3,
    device: Annotated[
        str,
        typer.Option(
            metavar="[auto|cpu|cuda]",
            help="Where to compute; auto takes CUDA if there is a GPU.",
            autocompletion=completing(("auto", "cpu", "cuda")),
        ),
    ] = "auto",
    mode: Mode = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be built.")] = False,
    as_json: Json = False,
) -> None:
    """Build the artifacts of many runs, side by side.

    Takes what `plan` takes. What several runs share is built once and first, and each stage starts when its inputs
    exist. The same command goes on where it stopped. Prints the path of each run's last artifact; with --json, an
    object for every artifact.
    """
    from swgctl.stages.run import check_execution
    from swgctl.store import Store
    from swgctl.sweeps.plan import expand
    from swgctl.sweeps.sweep import sweep

    check_execution(device, mode)
    location = Store.locate(store)
    sweep(
        expand(tasks, seeds or [], grid or [], tuple(assignments or ()), recipe, env, location, until, method),
        location,
        engine=engine,
        slots=slots,
        gpu=gpu,
        cpu=cpu,
        address=address,
        retries=retries,
        device=device,
        mode=mode,
        dry_run=dry_run,
        as_json=as_json,
    )
