"""The command `video`."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import LOOK
from swgctl.cli.options import Device, Leave, Ref, StoreOption


@command(
    app,
    "video",
    LOOK,
    """
    swgctl video a69e865d --rho 5
    swgctl video 1348b5d690eb6fd5 --seed 2 --episodes 3 --out cheetah.mp4
    """,
)
def video(
    ref: Ref,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes, one after the other.")] = 1,
    rho: Annotated[
        float | None, typer.Option(metavar="RHO", help="Guidance scale. [default: the greatest that is evaluated]")
    ] = None,
    resample: Annotated[
        int | None, typer.Option(metavar="M", help="Number of candidate actions, of which the best is taken.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Factor of the sampling noise; 0 is deterministic.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="SEED", help="Which of the policy's seeds acts. [default: the first]")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Video to write, .mp4. [default: in plots/ of the store]")
    ] = None,
    env: Leave = None,
    store: StoreOption = None,
    device: Device = "auto",
) -> None:
    """Record a policy, or an evaluation's, as a video.

    Starts and noise are those of an evaluation; its returns differ by rounding, which chaotic dynamics amplify. What
    no option says is as the evaluation, or the task's recipe, has it. The first frame is written beside it, as .png.
    """
    from swgctl.evaluation.video import Choice, record
    from swgctl.store import Store

    choice = Choice(rho, resample, temperature, seed, episodes)
    print(record(Store.locate(store), ref, choice, out, device, env))
