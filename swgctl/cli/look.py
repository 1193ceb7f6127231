"""What is in the store: looking at it, checking it, clearing it up."""

from typing import Annotated

import typer

from swgctl.cli.app import app, plot_app
from swgctl.cli.options import Json, OptionalRef, Out, Ref, StoreOption

Evaluations = Annotated[list[str] | None, typer.Argument(help="REFs of evaluations. [default: all of the store]")]
OfTask = Annotated[str | None, typer.Option("--task", help="Evaluations of this task only.")]


@app.command()
def ls(
    stage: Annotated[str | None, typer.Option(help="Of this stage only.")] = None,
    task: Annotated[str | None, typer.Option(help="Of this task only.")] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """List the artifacts: a table for people on stderr, their directories on stdout where that is no terminal."""
    from swgctl.reports import look
    from swgctl.store import Store

    look.ls(Store.locate(store), stage, task, as_json)


@app.command()
def show(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact holds: parameters, shapes, statistics, parents."""
    from swgctl import stages
    from swgctl.reports import look
    from swgctl.store import Store

    look.show(Store.locate(store).resolve(ref), as_json, stages.show)


@app.command()
def diff(a: Ref, b: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """In what two artifacts differ: parameters, seeds, inputs, results."""
    from swgctl.reports import look
    from swgctl.store import Store

    found = Store.locate(store)
    look.diff(found.resolve(a), found.resolve(b), as_json)


@app.command()
def tree(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact was made from, up to the data."""
    from swgctl.reports import look
    from swgctl.store import Store

    look.tree(Store.locate(store).resolve(ref), as_json)


@app.command()
def report(
    refs: Evaluations = None,
    task: OfTask = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json, latex or html. [default: as FILE ends, else table]"),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write it there. [default: stdout]")] = None,
    paper: Annotated[
        str | None, typer.Option(help="Whose numbers stand beside: swg or aepo. [default: swg, where it has the task]")
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Scores by task and family: every cell, with intervals over the seeds, and what the paper prints beside them.

    Evaluations of one task by one protocol are a group, whose seeds are pooled; others are groups of their own. A table
    is for people on stderr, and stdout has the evaluations' directories; the other formats are on stdout, or in FILE.
    """
    from swgctl.reports import publish
    from swgctl.store import Store

    publish.publish(Store.locate(store), refs or [], task, form, out, paper, as_json)


def _plot(kind: str, ref: str | None, out: str | None, store: str | None) -> None:
    from swgctl.plots import artifacts
    from swgctl.store import Store

    print(artifacts.plot(Store.locate(store), kind, ref, out))


@plot_app.command("rho")
def plot_rho(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Return against the guidance scale, a line for each number of candidates."""
    _plot("rho", ref, out, store)


@plot_app.command("weights")
def plot_weights(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Histogram of the weights of an augmented data set."""
    _plot("weights", ref, out, store)


@plot_app.command("training")
def plot_training(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Losses against steps: of a critic or a policy, or of all that an evaluation was made from."""
    _plot("training", ref, out, store)


@plot_app.command("compare")
def plot_compare(refs: Evaluations = None, task: OfTask = None, out: Out = None, store: StoreOption = None) -> None:
    """Evaluations side by side: each cell's score and interval, and what the paper prints, hollow."""
    from swgctl.plots import comparison
    from swgctl.store import Store

    print(comparison.compare(Store.locate(store), refs or [], task, out))


@plot_app.command("scaling")
def plot_scaling(
    files: Annotated[list[str], typer.Argument(help="What `swgctl bench scaling --json` printed; - for stdin.")],
    out: Out = None,
    store: StoreOption = None,
) -> None:
    """Steps a second against batch, width, seeds and rows; of `bench inference`, the time of an action."""
    from swgctl.plots import scaling
    from swgctl.store import Store

    print(scaling.scaling(Store.locate(store), files, out))


@plot_app.command("convergence")
def plot_convergence(
    beta: Annotated[float, typer.Option(help="Inverse temperature of the target: weights exp(-beta (1 - e)).")] = 3.0,
    samples: Annotated[int, typer.Option(min=1, help="For each sampler, schedule and K.")] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling noise.")] = 0,
    out: Out = None,
    store: StoreOption = None,
) -> None:
    """Guided samples of exact denoisers against K: what the samplers alone get wrong. Trains nothing."""
    from swgctl.plots import convergence
    from swgctl.store import Store

    print(convergence.convergence(Store.locate(store), beta, samples, seed, out))


@app.command()
def verify(
    refs: Annotated[list[str] | None, typer.Argument(help="REFs. [default: all artifacts]")] = None,
    store: StoreOption = None,
) -> None:
    """Compare every byte with what was recorded. Prints the directories when all are whole; exit 4 where one is not."""
    from swgctl.reports import look
    from swgctl.store import Store

    look.verify(Store.locate(store), refs or [])


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove what nobody needs: leftovers of killed writers, day-old unfinished work. Never a finished artifact."""
    from swgctl.reports import look
    from swgctl.store import Store

    look.gc(Store.locate(store), dry_run)


@app.command()
def export(
    ref: Ref,
    policy: Annotated[str, typer.Option("--policy", metavar="DIR", help="The directory to make.")],
    seeds: Annotated[str | None, typer.Option("--seeds", "--seed", help="Of the policy's seeds: 0-2. [all]")] = None,
    rho: Annotated[float | None, typer.Option(help="Guidance scale. [as evaluated, else of the recipe]")] = None,
    resample: Annotated[int | None, typer.Option(help="Candidates M. [as evaluated, else of the recipe]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    store: StoreOption = None,
) -> None:
    """Write a policy that runs without swgctl: its tensors, and an example that acts. Prints the directory.

    REF is a policy (diffuse) or an evaluation of one.
    """
    from swgctl.policies import export
    from swgctl.store import Store

    print(export.export(Store.locate(store), ref, policy, seeds, rho, resample, force))
