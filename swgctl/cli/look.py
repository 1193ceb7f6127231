"""The commands on artifacts that exist: to look at them, report and plot them, export, verify and remove them."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command, plot_app
from swgctl.cli.layout import LOOK, METHODS, SHARE, STAGES
from swgctl.cli.options import (
    PAPERS,
    REPORTS,
    Json,
    Leave,
    OptionalRef,
    Out,
    Ref,
    StoreOption,
    choices,
    complete_tasks,
    completing,
)

Evaluations = Annotated[
    list[str] | None, typer.Argument(metavar="REF", help="Evaluations. [default: all of the store]")
]
OfTask = Annotated[
    str | None,
    typer.Option("--task", metavar="TASK", help="Evaluations of this task only.", autocompletion=complete_tasks),
]

Sets = Annotated[
    list[str] | None, typer.Argument(metavar="REF", help="Synthetic data sets. [default: all of the store]")
]
OfModel = Annotated[
    str | None,
    typer.Option("--task", metavar="TASK", help="Data sets of this task only.", autocompletion=complete_tasks),
]


def complete_stages(ctx: typer.Context) -> list[str]:
    """The names of the stages, those of plugins as well."""
    commands = getattr(ctx.find_root().command, "commands", {})
    return [name for name, one in commands.items() if one.rich_help_panel == STAGES]


@command(
    app,
    "ls",
    LOOK,
    """
    swgctl ls
    swgctl ls --stage eval --task demo
    swgctl ls s3://my-bucket/swg-store
    """,
)
def ls(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="A remote store. [default: the one of --store]")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Artifacts of this stage only.", autocompletion=complete_stages),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Artifacts of this task only.", autocompletion=complete_tasks),
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """List the artifacts of the store.

    The table goes to stderr; unless stdout is a terminal, the artifacts' directories go there.
    """
    if url is not None:
        from swgctl.reports import remote

        remote.ls(url, stage, task, as_json)
        return
    from swgctl.reports import look
    from swgctl.store import Store

    look.ls(Store.locate(store), stage, task, as_json)


@command(app, "show", LOOK, "swgctl run demo | swgctl show -")
def show(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """Show an artifact: settings, shapes, statistics, inputs."""
    from swgctl import stages
    from swgctl.reports import look
    from swgctl.store import Store, remote

    look.show(remote.resolve(Store.locate(store), ref), as_json, stages.show)


@command(app, "diff", LOOK, "swgctl diff 3f9a1c 8b02de")
def diff(a: Ref, b: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """Compare two artifacts: settings, seeds, inputs, results."""
    from swgctl.reports import look
    from swgctl.store import Store, remote

    target = Store.locate(store)
    look.diff(remote.resolve(target, a), remote.resolve(target, b), as_json)


@command(app, "tree", LOOK, "swgctl run demo | swgctl tree -")
def tree(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """Trace an artifact back to the data that it came from."""
    from swgctl.reports import look
    from swgctl.store import Store, remote

    look.tree(remote.resolve(Store.locate(store), ref), as_json)


@command(
    app,
    "report",
    METHODS,
    """
    swgctl report
    swgctl report --task demo --format csv
    swgctl report --out scores.html
    """,
)
def report(
    refs: Evaluations = None,
    task: OfTask = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar=choices(REPORTS),
            help="Output. [default: what the suffix of --out says, else table]",
            autocompletion=completing(REPORTS),
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="File to write. [default: stdout]")] = None,
    paper: Annotated[
        str | None,
        typer.Option(
            metavar=choices(PAPERS),
            help="Paper to compare with. [default: swg, else one that has the task]",
            autocompletion=completing(PAPERS),
        ),
    ] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Report scores by task and family, with intervals.

    Evaluations of one task under one protocol form a group, whose seeds are pooled; the others are groups of their
    own. What the paper prints stands beside every cell. The table goes to stderr and the evaluations' directories to
    stdout; the other formats go to stdout, or to --out.
    """
    from swgctl.reports import publish
    from swgctl.store import Store

    publish.publish(Store.locate(store), refs or [], task, form, out, paper, as_json)


def _plot(kind: str, ref: str | None, out: str | None, store: str | None) -> None:
    from swgctl.plots import artifacts
    from swgctl.store import Store

    print(artifacts.plot(Store.locate(store), kind, ref, out))


@command(plot_app, "rho", examples="swgctl plot rho --out return.svg")
def plot_rho(
    refs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REF", help="Evaluations. [default: the one that this shell made last, else the only one]"
        ),
    ] = None,
    out: Out = None,
    store: StoreOption = None,
) -> None:
    """Plot the return against the guidance scale.

    A panel for each evaluation, and in it a line for each temperature and number of candidates.
    """
    from swgctl.plots import artifacts
    from swgctl.store import Store

    print(artifacts.rho(Store.locate(store), refs or [], out))


@command(plot_app, "weights", examples="swgctl plot weights --out weights.png")
def plot_weights(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot the histogram of an augmented data set's weights.

    REF is an augmented data set, or an artifact made from one. Of a calibrated
    guide it also shows how much the policy knows of its weight, by step.
    """
    _plot("weights", ref, out, store)


@command(plot_app, "training", examples="swgctl plot training --out losses.svg")
def plot_training(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot training losses against steps.

    REF is a trained model, such as a critic or an agent, or an evaluation: then all that it was made from.
    """
    _plot("training", ref, out, store)


@command(plot_app, "posterior", examples="swgctl plot posterior --out posterior.svg")
def plot_posterior(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot AEPO's posterior variances against diffusion steps.

    REF is a guide of aepo, or an evaluation of one. All three estimates are shown, and the clipped one in use.
    """
    _plot("posterior", ref, out, store)


@command(plot_app, "guidance", examples="swgctl plot guidance --out guidance.svg")
def plot_guidance(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot what guidance knows and what it reaches.

    REF is a joint policy, a guide on one, or an evaluation. By step of the walk: how far the predicted weight goes with
    the critic's, over the data and among actions of one state. By rho: the advantage of guided actions, and of the
    density that they are meant to have.
    """
    from swgctl.plots import diagnosis
    from swgctl.store import Store

    print(diagnosis.guidance(Store.locate(store), ref, out))


@command(plot_app, "compare", examples="swgctl plot compare --task demo --out compare.svg")
def plot_compare(refs: Evaluations = None, task: OfTask = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot evaluations side by side, with the paper's scores.

    Each cell has its interval; what the paper prints is hollow.
    """
    from swgctl.plots import comparison
    from swgctl.store import Store

    print(comparison.compare(Store.locate(store), refs or [], task, out))


@command(plot_app, "synthetic", examples="swgctl plot synthetic --out synthetic.svg")
def plot_synthetic(refs: Evaluations = None, task: OfTask = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot agents' scores by the data that they learnt from.

    A panel by environment and one by behaviour policy, averaged over TD3+BC and IQL: the task's data, unguided and
    guided synthetic data, and that of continuous regeneration (agent.keep above 1).
    """
    from swgctl.plots import agents
    from swgctl.store import Store

    print(agents.synthetic(Store.locate(store), refs or [], task, out))


@command(plot_app, "likelihood", examples="swgctl plot likelihood --task demo --out likelihood.svg")
def plot_likelihood(refs: Sets = None, task: OfModel = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot the likelihood of synthetic actions against lambda.

    A line for each agent and kind of guidance, beside the likelihood of the agent's own actions and that of roll-outs
    of a dynamics model. A line begins at lambda 0 with `swgctl synth --lambda 0 --agent REF`.
    """
    from swgctl.plots import trajectories
    from swgctl.store import Store

    print(trajectories.likelihood(Store.locate(store), refs or [], task, out))


@command(plot_app, "error", examples="swgctl plot error --task demo --out error.svg")
def plot_error(refs: Sets = None, task: OfModel = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot errors of synthetic states against the simulator.

    A line for each set, by the number of steps from a window's first state.
    """
    from swgctl.plots import trajectories
    from swgctl.store import Store

    print(trajectories.error(Store.locate(store), refs or [], task, out))


@command(plot_app, "maze", examples="swgctl plot maze --task local-maze2d-umaze --out maze.svg")
def plot_maze(refs: Sets = None, task: OfModel = None, out: Out = None, store: StoreOption = None) -> None:
    """Plot trajectories in a maze: simulated, data, synthetic.

    A panel for each set of a Maze2D task, beside its data and the agents' roll-outs in the simulator from states of
    the data.
    """
    from swgctl.plots import maze
    from swgctl.stages.inputs import locate_data
    from swgctl.store import Store

    print(maze.maze(Store.locate(store), refs or [], task, out, locate_data))


@command(plot_app, "scaling", examples="swgctl bench scaling --json | swgctl plot scaling - --out scaling.svg")
def plot_scaling(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Output of `swgctl bench scaling --json`, or - for standard input."),
    ],
    out: Out = None,
    store: StoreOption = None,
) -> None:
    """Plot what `swgctl bench scaling` has measured.

    Steps a second against batch, width, seeds and rows; or, of `swgctl bench inference --json`, the time of an action.
    """
    from swgctl.plots import scaling
    from swgctl.store import Store

    print(scaling.scaling(Store.locate(store), files, out))


@command(plot_app, "convergence", examples="swgctl plot convergence --beta 5 --out convergence.svg")
def plot_convergence(
    beta: Annotated[
        float, typer.Option(metavar="BETA", help="Inverse temperature of the target: weights exp(-beta (1 - e)).")
    ] = 3.0,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples for each sampler, schedule and number of steps K.")
    ] = 5_000,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="Seed of the sampling noise.")] = 0,
    out: Out = None,
    store: StoreOption = None,
) -> None:
    """Plot the samplers' own error against diffusion steps.

    The denoisers are exact, so that nothing is trained and all error is the samplers'.
    """
    from swgctl.plots import convergence
    from swgctl.store import Store

    print(convergence.convergence(Store.locate(store), beta, samples, seed, out))


@command(
    app,
    "export",
    SHARE,
    """
    swgctl run demo | swgctl export - --policy demo-policy
    swgctl export 3f9a1c --policy demo-policy --seeds 0-1 --rho 10 --force
    """,
)
def export(
    ref: Ref,
    policy: Annotated[str, typer.Option("--policy", metavar="DIR", help="Directory to create.")],
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", "--seed", metavar="0-4", help="Seeds of the policy to export. [default: all]"),
    ] = None,
    rho: Annotated[
        float | None,
        typer.Option(metavar="RHO", help="Guidance scale; not of an agent. [default: the first above 0 as evaluated]"),
    ] = None,
    resample: Annotated[
        int | None,
        typer.Option(metavar="M", help="Number of candidate actions. [default: the first as evaluated]"),
    ] = None,
    env: Leave = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    store: StoreOption = None,
) -> None:
    """Export a policy that runs without swgctl.

    REF is a policy (diffuse, behaviour, guide), an agent, or an evaluation of one.
    The directory has the tensors and a script that acts; its path is printed.
    """
    from swgctl.policies import export
    from swgctl.store import Store

    print(export.export(Store.locate(store), ref, policy, seeds, rho, resample, force, env))


@command(app, "verify", SHARE)
def verify(
    refs: Annotated[
        list[str] | None, typer.Argument(metavar="REF", help="Artifacts. [default: all of the store]")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Check every byte of artifacts against its checksum.

    Prints the directories if all are whole; exits with 4 if one is damaged.
    """
    from swgctl.reports import look
    from swgctl.store import Store

    look.verify(Store.locate(store), refs or [])


@command(app, "gc", SHARE, "swgctl gc --dry-run")
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove the leftovers of interrupted work.

    That is what killed processes left behind, and unfinished work of more than a day ago; never a finished artifact.
    """
    from swgctl.reports import look
    from swgctl.store import Store

    look.gc(Store.locate(store), dry_run)
