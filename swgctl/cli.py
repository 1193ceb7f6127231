"""The command line: flags in, one path out.  No work of its own, and nothing heavy imported before it is needed."""

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from swgctl.errors import SwgError, UsageError

# The class that every complaint of the parser derives from, whichever package defines it.
PARSER_ERROR = typer.BadParameter.__base__.__base__


class Group(TyperGroup):
    """Errors are one line that says what and where, and a `help:` line; each has its exit code (`swgctl.errors`)."""

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        sys.exit(self._run(args, prog_name, extra))

    def _run(self, args, prog_name, extra) -> int:
        from swgctl import signals

        try:
            with signals.handled():
                code = super().main(args, prog_name or "swgctl", standalone_mode=False, **extra)
                sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except SwgError as error:
            return fail(str(error), error.help, error.code)
        except PARSER_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.format_message(), file=sys.stderr)
                return 2
            context = getattr(error, "ctx", None)
            return fail(error.format_message(), f"{context.command_path if context else 'swgctl'} --help", 2)
        except (KeyboardInterrupt, typer.Abort):
            return fail("stopped by SIGINT", "run the same command again to go on", 130)
        except BrokenPipeError:  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error):
                return fail(f"out of memory: {error}", "a smaller batch or fewer seeds, or --device cpu", 1)
            where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return fail(f"internal: {where}", "SWGCTL_DEBUG=1 shows where", 1)


def fail(message: str, help: str | list[str] | None, code: int) -> int:
    if os.environ.get("SWGCTL_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    for line in [help] if isinstance(help, str) else help or []:
        print(f"help: {line}", file=sys.stderr)
    return code


app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
recipe_app = typer.Typer(no_args_is_help=True, help="Hyper-parameters of a family of tasks.")
task_app = typer.Typer(no_args_is_help=True, help="The tasks by name.")
plot_app = typer.Typer(no_args_is_help=True, help="Pictures of an artifact.")
STAGES, LOOK, PLAN, KEEP = "Stages", "Look", "Plan", "Keep"
app.add_typer(plot_app, name="plot", rich_help_panel=LOOK)
app.add_typer(task_app, name="task", rich_help_panel=LOOK)
app.add_typer(recipe_app, name="recipe", rich_help_panel=PLAN)

StoreOption = Annotated[
    str, typer.Option("--store", help="Directory of artifacts. [$SWGCTL_STORE, nearest swg-store/]")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead of a path.")]
Recipe = Annotated[str | None, typer.Option(help="A shipped recipe's name, or a file, on top of the task's own.")]
Set = Annotated[list[str], typer.Option("--set", help="A setting, such as critic.lr=3e-4. May be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Force = Annotated[bool, typer.Option("--force", help="Build again what is there.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Exit 5 when another process is building the same.")]
From = Annotated[
    str | None, typer.Option("--from", help="REF of the input: a directory, an id's first characters, or -.")
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Take an input of this task only.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, trained as one: 0-4, or 0,3.")]
Env = Annotated[str | None, typer.Option("--env", help="Gymnasium id that a file's policies are evaluated in.")]
Ref = Annotated[str, typer.Argument(help="A directory, an id's first characters, or - for standard input.")]


def version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        print(installed("swgctl"))
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Diffusion self-weighted guidance for offline reinforcement learning, as staged artifacts.

    critic -> augment -> diffuse -> eval, or all four with run. Exit codes: 0 done or cached, 1 failed, 2 usage,
    3 input missing or ambiguous, 4 corrupt, 5 busy, 75 interrupted (the same command resumes), 130 Ctrl-C.
    """


# -- stages ------------------------------------------------------------------------------------------------------------


def stage(name: str):
    """Makes a command of a function that says what is special to its stage, as arguments of `stages.run_stage`.

    The options that all stages share are added to the function's own; what the stage made is one line on stdout.
    """

    def command(function):
        def run(
            recipe: Recipe = None,
            set: Set = (),
            store: StoreOption = None,
            device: Device = "auto",
            force: Force = False,
            no_wait: NoWait = False,
            as_json: Json = False,
            **own,
        ) -> None:
            from swgctl import report, stages

            common = {"recipe": recipe, "assignments": tuple(set), "store": store, "device": device}
            chosen = function(**own) | common | {"force": force, "wait": not no_wait}
            result = stages.run_all(**chosen) if name == "run" else stages.run_stage(name, **chosen)
            if result.artifact.stage == "eval":
                report.print_evaluation(result.artifact, report.ancestor(result.artifact, "critic"))
            # never through Rich, which cuts lines
            print(json.dumps(result.to_json()) if as_json else result.artifact.path)

        shared = [p for p in inspect.signature(run).parameters.values() if p.kind is not p.VAR_KEYWORD]
        run.__signature__ = inspect.Signature([*inspect.signature(function).parameters.values(), *shared])
        run.__doc__ = function.__doc__
        return app.command(name, rich_help_panel=STAGES)(run)

    return command


def numbers(texts: list[str] | None, kind: type, option: str) -> list | None:
    """["0,5", "10"] -> [0, 5, 10], or None.  Raises UsageError."""
    try:
        return [kind(part) for text in texts for part in text.split(",")] if texts else None
    except ValueError:
        raise UsageError(f"{option} '{','.join(texts)}' is not a list of numbers", f"{option} 0,5,10") from None


TaskArgument = Annotated[str, typer.Argument(help="A task's name, or an HDF5 file with --env.")]
ClipActions = Annotated[bool | None, typer.Option("--clip-actions", help="Clip actions outside [-1, 1].")]
Steps = Annotated[int | None, typer.Option(help="Gradient steps.")]
Batch = Annotated[int | None, typer.Option(help="Rows a step.")]
LearningRate = Annotated[float | None, typer.Option(help="Adam's learning rate.")]
Weight = Annotated[str | None, typer.Option(help="expectile, hard_expectile, exponential, linex or quantile.")]
Rho = Annotated[list[str] | None, typer.Option(help="Guidance scales: 15, or 0,5,10.")]
Resample = Annotated[list[str] | None, typer.Option(help="Candidates M of which one is kept: 8, or 1,8.")]
Episodes = Annotated[int | None, typer.Option(help="Episodes of each cell and seed.")]


@stage("critic")
def critic(
    task: TaskArgument,
    env: Env = None,
    seeds: Seeds = None,
    tau: Annotated[float | None, typer.Option(help="Expectile of V.")] = None,
    loss: Annotated[str | None, typer.Option(help="V's loss: expectile, quantile or linex.")] = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    clip_actions: ClipActions = None,
) -> dict:
    """Learn Q and V in-sample."""
    flags = {"tau": tau, "loss": loss, "steps": steps, "batch": batch, "lr": lr, "clip_actions": clip_actions}
    return {"task": task, "environment": env, "seeds": seeds, "flags": flags}


@stage("augment")
def augment(weight: Weight = None, source: From = None, task: TaskOption = None) -> dict:
    """Turn the critic's advantages into weights, one for every row of the data."""
    return {"source": source, "task": task, "flags": {"weight": weight}}


@stage("diffuse")
def diffuse(
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    width: Annotated[int | None, typer.Option(help="Units of a block.")] = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Train one diffusion model over (action, weight)."""
    flags = {"steps": steps, "batch": batch, "lr": lr, "width": width}
    return {"source": source, "task": task, "flags": flags}


@stage("eval")
def evaluate(
    rho: Rho = None,
    resample: Resample = None,
    episodes: Episodes = None,
    temperature: Annotated[float | None, typer.Option(help="Of the sampling noise; 0 is deterministic.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm.")] = None,
    select: Annotated[str | None, typer.Option(help="Whose weight ranks candidates: critic or self.")] = None,
    critic: Annotated[str | None, typer.Option(help="REF of another critic to rank candidates by.")] = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Roll out the policy, guided by its own weight, in all cells of rho x M at once."""
    flags = {
        "rho": numbers(rho, float, "--rho"),
        "resample": numbers(resample, int, "--resample"),
        "episodes": episodes,
        "temperature": temperature,
        "sampler": sampler,
        "select": select,
    }
    return {"source": source, "task": task, "critic": critic, "flags": flags}


@stage("run")
def run(
    task: TaskArgument,
    env: Env = None,
    seeds: Seeds = None,
    weight: Weight = None,
    rho: Rho = None,
    resample: Resample = None,
    episodes: Episodes = None,
    clip_actions: ClipActions = None,
) -> dict:
    """All four stages; prints the path of the evaluation, which `swgctl tree` leads back from."""
    flags = {
        "critic": {"clip_actions": clip_actions},
        "augment": {"weight": weight},
        "eval": {
            "rho": numbers(rho, float, "--rho"),
            "resample": numbers(resample, int, "--resample"),
            "episodes": episodes,
        },
    }
    return {"task": task, "environment": env, "seeds": seeds, "flags": flags}


# -- look --------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=LOOK)
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


@app.command(rich_help_panel=LOOK)
def show(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact holds: parameters, shapes, statistics, parents."""
    from swgctl import look
    from swgctl.store import Store

    look.show(Store.locate(store).resolve(ref), as_json)


@app.command(rich_help_panel=LOOK)
def diff(a: Ref, b: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """In what two artifacts differ: parameters, seeds, inputs, results."""
    from swgctl import look
    from swgctl.store import Store

    found = Store.locate(store)
    look.diff(found.resolve(a), found.resolve(b), as_json)


@app.command(rich_help_panel=LOOK)
def tree(ref: Ref, store: StoreOption = None, as_json: Json = False) -> None:
    """What an artifact was made from, up to the data."""
    from swgctl import look
    from swgctl.store import Store

    look.tree(Store.locate(store).resolve(ref), as_json)


def _plot(kind: str, stage: str, ref: str | None, out: str | None, store: str | None) -> None:
    from swgctl import report
    from swgctl.store import Store

    print(report.plot(Store.locate(store), kind, stage, ref, out and Path(out)))


Out = Annotated[str | None, typer.Option(help="The picture's file, .png or .svg. [default: plots/ in the store]")]
OptionalRef = Annotated[str | None, typer.Argument(help="REF. [default: the one that this shell made last]")]


@plot_app.command("rho")
def plot_rho(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Return against the guidance scale, a line for each number of candidates."""
    _plot("rho", "eval", ref, out, store)


@plot_app.command("weights")
def plot_weights(ref: OptionalRef = None, out: Out = None, store: StoreOption = None) -> None:
    """Histogram of the weights of an augmented data set."""
    _plot("weights", "augment", ref, out, store)


@task_app.command("ls")
def task_ls() -> None:
    """The known tasks, one a line."""
    from swgctl import tasks

    for name in tasks.names():
        print(name)


# -- plan --------------------------------------------------------------------------------------------------------------


@recipe_app.command("ls")
def recipe_ls() -> None:
    """The shipped recipes, one a line."""
    from swgctl import config

    for name in config.recipe_names():
        print(name)


@recipe_app.command("show")
def recipe_show(task: str, recipe: Recipe = None, set: Set = (), env: Env = None) -> None:
    """The resolved settings of a task as YAML, each with where its value comes from."""
    from swgctl import planning

    print(planning.recipe_text(task, env, recipe, tuple(set)), end="")


@recipe_app.command("validate")
def recipe_validate(
    files: Annotated[list[str] | None, typer.Argument(help="Files or names of recipes.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All shipped recipes, for all tasks.")] = False,
) -> None:
    """Check recipes: every problem of a file at once. Prints the paths of those that are sound."""
    from swgctl import planning

    for path in planning.validate(files or [], all):
        print(path)


@app.command(rich_help_panel=PLAN)
def plan(
    tasks: Annotated[list[str], typer.Argument(help="Tasks.")],
    seeds: Annotated[list[str], typer.Option(help="Seeds of one run: 0-4. May be repeated, one run each.")] = (),
    grid: Annotated[list[str], typer.Option(help="NAME=VALUE,VALUE ...: one run for each. May be repeated.")] = (),
    set: Set = (),
    recipe: Recipe = None,
    env: Env = None,
    store: StoreOption = None,
    format: Annotated[str, typer.Option(help="table, or commands: one shell line a run.")] = "table",
    as_json: Json = False,
) -> None:
    """What is cached, what would be built, and why. Builds nothing."""
    from swgctl import planning
    from swgctl.store import Store

    runs = planning.expand(tasks, list(seeds), list(grid), tuple(set), recipe, env, store)
    planning.report(runs, Store.locate(store), "json" if as_json else format)


# -- keep --------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=KEEP)
def verify(
    refs: Annotated[list[str] | None, typer.Argument(help="REFs. [default: all artifacts]")] = None,
    store: StoreOption = None,
) -> None:
    """Compare every byte with what was recorded. Prints the directories when all are whole; exit 4 where one is not."""
    from swgctl import look
    from swgctl.store import Store

    look.verify(Store.locate(store), refs or [])


@app.command(rich_help_panel=KEEP)
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove what nobody needs: leftovers of killed writers, day-old unfinished work. Never a finished artifact."""
    from swgctl import look
    from swgctl.store import Store

    look.gc(Store.locate(store), dry_run)


def main() -> None:
    app()
