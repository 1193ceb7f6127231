"""What is in the store: looking at it, checking it, clearing it up."""

from pathlib import Path
from typing import Annotated

import typer

from swgctl.cli.app import app, plot_app
from swgctl.cli.options import Json, OptionalRef, Out, Ref, StoreOption


@app.command()
def ls(
    stage: Annotated[str | None, typer.Option(help="Of this stage only.")] = None,
    task: Annotated[str | None, typer.Option(help="Of this task only.")] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """List the artifacts: a table for people on stderr, their directories on stdout where that is no terminal."""
    from swgctl import look
    from swgctl.store import Store

    look.ls(Store.locate(store), stage, task, as_json)


@app.command()
def show(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact holds: parameters, shapes, statistics, parents."""
    from swgctl import look
    from swgctl.store import Store

    look.show(Store.locate(store).resolve(ref), as_json)


@app.command()
def diff(a: Ref, b: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """In what two artifacts differ: parameters, seeds, inputs, results."""
    from swgctl import look
    from swgctl.store import Store

    found = Store.locate(store)
    look.diff(found.resolve(a), found.resolve(b), as_json)


@app.command()
def tree(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact was made from, up to the data."""
    from swgctl import look
    from swgctl.store import Store

    look.tree(Store.locate(store).resolve(ref), as_json)


def _plot(kind: str, stage: str, ref: str | None, out: str | None, store: str | None) -> None:
    from swgctl import report
    from swgctl.store import Store

    print(report.plot(Store.locate(store), kind, stage, ref, out and Path(out)))


@plot_app.command("rho")
def plot_rho(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Return against the guidance scale, a line for each number of candidates."""
    _plot("rho", "eval", ref, out, store)


@plot_app.command("weights")
def plot_weights(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Histogram of the weights of an augmented data set."""
    _plot("weights", "augment", ref, out, store)


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(help="REFs. [default: all artifacts]")] = None,
    store: StoreOption = None,
) -> None:
    """Compare every byte with what was recorded. Prints the directories when all are whole; exit 4 where one is not."""
    from swgctl import look
    from swgctl.store import Store

    look.verify(Store.locate(store), refs or [])


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove what nobody needs: leftovers of killed writers, day-old unfinished work. Never a finished artifact."""
    from swgctl import look
    from swgctl.store import Store

    look.gc(Store.locate(store), dry_run)
