"""The command `toy`."""

from typing import Annotated

import typer

from swgctl.cli.options import (
    DENSITIES,
    TOYS,
    Sampler,
    Seeds,
    Steps,
    choices,
    completing,
)
from swgctl.cli.stages import numbers, stage
from swgctl.console import quoted, say


def _draw_all(results: list) -> None:
    """Draw several toys in one picture, and print the methods of each density in one table."""
    if len(results) > 1:
        from swgctl.plots.toys import all_toys
        from swgctl.reports.results import print_toys

        toys = [result.artifact for result in results]
        print_toys(toys)
        say(f"all in one picture: {all_toys(toys[0].store, toys)}")


@stage(
    "toy",
    """
    swgctl toy 8gaussians --beta 0,5,20
    swgctl toy all --seeds 0-2
    swgctl toy 8gaussians --method all
    """,
    after=_draw_all,
)
def toy(
    density: Annotated[
        str,
        typer.Argument(help=f"{', '.join(DENSITIES)}, or all.", autocompletion=completing((*DENSITIES, "all"))),
    ],
    method: Annotated[
        str | None,
        typer.Option(metavar=choices(TOYS), help="Guidance, or all. [default: swg]", autocompletion=completing(TOYS)),
    ] = None,
    seeds: Seeds = None,
    beta: Annotated[
        list[str] | None, typer.Option(metavar="BETA[,BETA...]", help="Inverse temperatures to sample at.")
    ] = None,
    rho: Annotated[
        float | None, typer.Option(metavar="RHO", help="Guidance scale; 1 samples the weighted density itself.")
    ] = None,
    steps: Steps = None,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Samples for each beta.")] = None,
    sampler: Sampler = None,
) -> list[dict]:
    """Learn a 2-D density and sample it under guidance.

    These are the toy experiments of the paper: a density with an energy, sampled at several inverse temperatures.
    Shows how far the samples are from the ground truth, next to the distance between two ground truths, and what no
    guidance and exact reweighting reach. The artifact has the picture.
    """
    from swgctl.stages.toy import NAMES

    betas = numbers(beta, float, f"swgctl toy {quoted(density)} --beta")
    flags = {"beta": betas, "rho": rho, "steps": steps, "samples": samples, "sampler": sampler}
    names = NAMES if density == "all" else [density]
    methods = TOYS[:-1] if method == "all" else [method]
    return [{"task": name, "seeds": seeds, "flags": flags | {"method": one}} for name in names for one in methods]
