"""The command `compare`."""

import shlex
from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import METHODS
from swgctl.cli.options import (
    GUIDES,
    Assignments,
    Device,
    Env,
    Episodes,
    Json,
    Mode,
    Recipe,
    Rho,
    Seeds,
    StoreOption,
    Tasks,
    Temperature,
    Weight,
    complete_methods,
)
from swgctl.cli.stages import numbers


@command(
    app,
    "compare",
    METHODS,
    """
    swgctl compare demo
    swgctl compare demo --methods swg,dps,resample --weight exponential --rho 1,4
    """,
)
def compare(
    tasks: Tasks,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            metavar="METHOD[,METHOD...]",
            help=f"Guidances: swg, {', '.join(GUIDES)}. [default: all]",
            autocompletion=complete_methods,
        ),
    ] = None,
    env: Env = None,
    seeds: Seeds = None,
    weight: Weight = None,
    rho: Rho = None,
    resample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M[,M...]", help="Candidates of no guidance, swg and ddice; the others have 1. [default: 1,8]"
        ),
    ] = None,
    temperature: Temperature = None,
    episodes: Episodes = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Guide the behaviour model instead of the joint policy, except swg.")
    ] = False,
    recipe: Recipe = None,
    assignments: Assignments = None,
    store: StoreOption = None,
    device: Device = "auto",
    mode: Mode = "auto",
    as_json: Json = False,
) -> None:
    """Compare all guidances on one critic and one denoiser.

    All methods have the weight of the augmented data set. What is missing is built; then a table for each task shows
    where a method asks the critic, what it costs, and its score at every scale. The path of the picture is printed.
    """
    from swgctl.sweeps.compare import compare

    usage = f"swgctl compare {shlex.join(tasks)}"
    compare(
        tasks,
        environment=env,
        only=[part.strip() for text in only for part in text.split(",")] if only else None,
        flags={
            "seeds": seeds,
            "augment.weight": weight,
            "eval.rho": numbers(rho, float, f"{usage} --rho"),
            "eval.resample": numbers(resample, int, f"{usage} --resample"),
            "eval.temperature": numbers(temperature, float, f"{usage} --temperature"),
            "eval.episodes": episodes,
        },
        plain=plain,
        recipe=recipe,
        assignments=tuple(assignments or ()),
        store=store,
        device=device,
        mode=mode,
        as_json=as_json,
    )
