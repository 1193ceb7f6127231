"""What this machine does a second."""

from typing import Annotated

import typer

from swgctl.cli.app import app
from swgctl.cli.options import Device, Json


@app.command("bench")
def measure(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="critic, diffuse, sample, eval, scaling, inference. [default: the first four]"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Members trained as one, beside one alone; inference has one.")] = 5,
    repeats: Annotated[
        int, typer.Option(min=1, help="Of which the median counts; of inference, at least so many, and their mean.")
    ] = 5,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure training, sampling and evaluation at the paper's sizes, beside the machine's limit."""
    from swgctl import bench
    from swgctl.training.execution import pick_device

    bench.report(what or [], seeds, repeats, pick_device(device), as_json)
