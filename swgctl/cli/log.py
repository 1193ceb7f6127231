"""The command `log`."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import SHARE
from swgctl.cli.options import StoreOption
from swgctl.errors import UsageError


@command(
    app,
    "log",
    SHARE,
    """
    swgctl log 1348b5d690eb6fd5 --to tensorboard:runs
    swgctl log b007eb --to trackio:hopper --follow
    swgctl ls --task demo | swgctl log - --to wandb
    """,
)
def log(
    refs: Annotated[
        list[str],
        typer.Argument(
            metavar="REF",
            help="Artifacts, also unfinished ones: directories, the first characters of ids, or - for standard input.",
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="TRACKER",
            help="tensorboard:DIR, trackio[:PROJECT] or wandb[:[ENTITY/]PROJECT]. Repeatable.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until what is being built is finished.")] = False,
    store: StoreOption = None,
) -> None:
    """Send metrics and figures to a tracker, once or live.

    Each seed is a run, those of an artifact a group, and parameters and lineage their configuration; a report comes
    last. What a tracker has already is not sent again, so the same command goes on where it stopped. Prints the
    directories that were read. Offline, wandb is WANDB_MODE=offline; the folder of trackio is TRACKIO_DIR.
    """
    from swgctl.store import Store
    from swgctl.trackers import named
    from swgctl.trackers.follow import send
    from swgctl.trackers.subject import find, finished, of

    chosen = named(to or [])
    if not chosen:
        raise UsageError("--to names no tracker", "swgctl log REF --to tensorboard:runs")
    located = Store.locate(store)
    subjects = [
        one for ref in refs for one in (map(of, located.resolve_all([ref])) if ref == "-" else [find(located, ref)])
    ]
    send(subjects, chosen, follow)
    for subject in subjects:
        print((finished(subject) or subject).path)
