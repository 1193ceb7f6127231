"""The stages: flags in, one path out."""

import inspect
import json
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated

import typer

from swgctl.cli.app import app
from swgctl.cli.options import (
    Batch,
    ClipActions,
    Device,
    Env,
    Episodes,
    Force,
    From,
    Json,
    LearningRate,
    Method,
    Mode,
    NoWait,
    Recipe,
    Resample,
    Rho,
    Sampler,
    Seeds,
    Set,
    Steps,
    StoreOption,
    TaskArgument,
    TaskOption,
    Until,
    Weight,
)
from swgctl.errors import UsageError


def stage(name: str, after: Callable[[list], None] | None = None):
    """Makes a command of a function that says what is special to its stage, as arguments of `stages.run_stage`.

    The options that all stages share are added to the function's own; what the stage made is one line on stdout.
    after  is called with the results at the end
    """

    def command(function):
        def run(
            recipe: Recipe = None,
            set: Set = (),
            store: StoreOption = None,
            device: Device = "auto",
            mode: Mode = "auto",
            force: Force = False,
            no_wait: NoWait = False,
            as_json: Json = False,
            **own,
        ) -> None:
            from swgctl import stages

            common = {"recipe": recipe, "assignments": tuple(set), "store": store, "device": device}
            common |= {"mode": mode, "force": force, "wait": not no_wait}
            asked, results = function(**own), []
            for one in asked if isinstance(asked, list) else [asked]:
                arguments = one | common
                results.append(stages.run_all(**arguments) if name == "run" else stages.run_stage(name, **arguments))
                stages.show(results[-1].artifact)
                # never through Rich, which cuts lines
                print(json.dumps(results[-1].to_json()) if as_json else results[-1].artifact.path, flush=True)
            if after:
                after(results)

        shared = [p for p in inspect.signature(run).parameters.values() if p.kind is not p.VAR_KEYWORD]
        run.__signature__ = inspect.Signature([*inspect.signature(function).parameters.values(), *shared])
        run.__doc__ = function.__doc__
        return app.command(name)(run)

    return command


def numbers(texts: list[str] | None, kind: type, option: str) -> list | None:
    """["0,5", "10"] -> [0, 5, 10], or None.  Raises UsageError."""
    try:
        return [kind(part) for text in texts for part in text.split(",")] if texts else None
    except ValueError:
        raise UsageError(f"{option} '{','.join(texts)}' is not a list of numbers", f"{option} 1,8") from None


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
    temperature: Annotated[
        list[str] | None, typer.Option(metavar="T[,T...]", help="Scales of the sampling noise; 0 is deterministic.")
    ] = None,
    sampler: Sampler = None,
    select: Annotated[str | None, typer.Option(help="Whose weight ranks candidates: critic or self.")] = None,
    critic: Annotated[str | None, typer.Option(help="REF of another critic to rank candidates by.")] = None,
    method: Method = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Roll out the policy, guided by its own weight, in all cells of rho x M at once."""
    flags = {
        "rho": numbers(rho, float, "--rho"),
        "resample": numbers(resample, int, "--resample"),
        "episodes": episodes,
        "temperature": numbers(temperature, float, "--temperature"),
        "sampler": sampler,
        "select": select,
        "method": method,
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
    method: Method = None,
    until: Until = None,
) -> dict:
    """All four stages, or the first ones; prints the path of the last, which `swgctl tree` leads back from."""
    flags = {
        "critic": {"clip_actions": clip_actions},
        "augment": {"weight": weight},
        "eval": {
            "rho": numbers(rho, float, "--rho"),
            "resample": numbers(resample, int, "--resample"),
            "episodes": episodes,
            "method": method,
        },
    }
    return {"task": task, "environment": env, "seeds": seeds, "flags": flags, "until": until}


def _one_picture(results: list) -> None:
    """Of several toys all, side by side."""
    if len(results) > 1:
        from swgctl.console import say
        from swgctl.plots.toys import all_toys

        toys = [result.artifact for result in results]
        say(f"all in one picture: {all_toys(toys[0].store, toys)}")


@stage("toy", after=_one_picture)
def toy(
    density: Annotated[
        str, typer.Argument(help="8gaussians, 2spirals, swissroll, rings, moons, checkerboard, or all.")
    ],
    seeds: Seeds = None,
    beta: Annotated[list[str] | None, typer.Option(help="Inverse temperatures that are sampled: 0,1,5.")] = None,
    rho: Annotated[float | None, typer.Option(help="Guidance scale; 1 is the target itself.")] = None,
    steps: Steps = None,
    samples: Annotated[int | None, typer.Option(help="Samples for each beta.")] = None,
    sampler: Sampler = None,
) -> list[dict]:
    """Learn a 2-D density with an energy, and sample from it by guidance: the paper's toy experiments.

    Prints how far the samples are from the ground truth, beside the same distance between two ground truths, and
    what no guidance and exact reweighting reach. The artifact has the picture.
    """
    from swgctl.stages.toy import NAMES

    flags = {"beta": numbers(beta, float, "--beta"), "rho": rho, "steps": steps, "samples": samples, "sampler": sampler}
    wanted = NAMES if density == "all" else [density]
    return [{"task": name, "seeds": seeds, "flags": flags} for name in wanted]


def _plugged(name: str) -> None:
    """The command of a stage that another package brings: its settings by --set."""

    @stage(name)
    def plugged(
        task: Annotated[str | None, typer.Argument(help="A task, of a stage that starts from one.")] = None,
        env: Env = None,
        seeds: Seeds = None,
        source: From = None,
        of_task: TaskOption = None,
    ) -> dict:
        """A stage of a plugin; its settings are given by --set."""
        return {"task": task or of_task, "environment": env, "seeds": seeds, "source": source}


for _point in entry_points(group="swgctl.stages"):
    _plugged(_point.name)
