"""The command `bench`."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import MEASURE
from swgctl.cli.options import BENCHMARKS, Device, Json, complete_recipes, completing


@command(
    app,
    "bench",
    MEASURE,
    """
    swgctl bench
    swgctl bench critic diffuse --seeds 5 --device cpu
    swgctl bench scaling --json | swgctl plot scaling -
    swgctl bench --peers
    swgctl bench trajectories synth agent --recipe pgd --seeds 1
    """,
)
def measure(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"{', '.join(BENCHMARKS[:-1])} or {BENCHMARKS[-1]}. [default: the first four]",
            autocompletion=completing(BENCHMARKS),
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Seeds trained together, compared with one alone; not for inference."),
    ] = 5,
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Measurements, whose median is shown; for inference at least so many, and their mean.",
        ),
    ] = 5,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Sizes of trajectories, synth and agent: a recipe's file, or the name of a shipped one. "
            "[default: local]",
            autocompletion=complete_recipes,
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Compare critic and diffuse, on the processor, with plain PyTorch and JAX."),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure the speed of training, sampling and evaluation.

    The sizes are the paper's, and what the machine could do at most stands beside them. trajectories, synth and
    agent have a recipe's sizes, and how long its steps take.
    """
    from swgctl import bench
    from swgctl.bench import peers as other
    from swgctl.errors import UsageError
    from swgctl.training.execution import pick_device

    if peers:
        if recipe or device not in ("auto", "cpu"):
            raise UsageError("--peers compares at the paper's sizes, on the processor", "swgctl bench --peers")
        other.report(what or [], seeds, repeats, as_json)
        return
    bench.report(what or [], seeds, repeats, pick_device(device), as_json, recipe)
