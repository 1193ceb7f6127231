"""The commands of the stages, and `run`."""

import inspect
import json
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import METHODS, STAGES
from swgctl.cli.options import (
    GUIDES,
    LOSSES,
    SELECTS,
    STATES,
    WEIGHTS,
    Assignments,
    Batch,
    ClipActions,
    Device,
    Env,
    Episodes,
    Force,
    From,
    Json,
    LearningRate,
    Leave,
    Log,
    Method,
    Mode,
    NoWait,
    OptionalTask,
    Recipe,
    Resample,
    Rho,
    Sampler,
    Seeds,
    Steps,
    StoreOption,
    TaskArgument,
    TaskOption,
    Temperature,
    Until,
    Weight,
    Width,
    choices,
    complete_tasks,
    completing,
)
from swgctl.console import quoted
from swgctl.errors import UsageError

Number = TypeVar("Number", int, float)


def stage(
    name: str, examples: str = "", section: str = STAGES, after: Callable[[list], None] | None = None
) -> Callable[[Callable[..., Any]], Any]:
    """Make a command of a function that returns its stage's arguments of `stages.run_stage`, or a list of such.

    The command has the function's options and those that all stages share; it prints the path of each artifact.
    after  is called with the results at the end
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def run(
            recipe: Recipe = None,
            assignments: Assignments = None,
            store: StoreOption = None,
            device: Device = "auto",
            mode: Mode = "auto",
            force: Force = False,
            no_wait: NoWait = False,
            log: Log = None,
            as_json: Json = False,
            **options: Any,
        ) -> None:
            from swgctl import stages

            shared: dict[str, Any] = {"recipe": recipe, "assignments": tuple(assignments or ()), "store": store}
            shared |= {"device": device, "mode": mode, "force": force, "wait": not no_wait, "log": log or ()}
            requests, results = function(**options), []
            for request in requests if isinstance(requests, list) else [requests]:
                arguments = request | shared
                result = stages.run_all(**arguments) if name == "run" else stages.run_stage(name, **arguments)
                results.append(result)
                stages.show(result.artifact)
                # never through Rich, which cuts lines
                print(json.dumps(result.to_json()) if as_json else result.artifact.path, flush=True)
            if after:
                after(results)

        shared_parameters = [p for p in inspect.signature(run).parameters.values() if p.kind is not p.VAR_KEYWORD]
        own_parameters = inspect.signature(function).parameters.values()
        run.__signature__ = inspect.Signature([*own_parameters, *shared_parameters])  # type: ignore[attr-defined]
        run.__doc__ = function.__doc__
        return command(app, name, section, examples)(run)

    return decorate


def numbers(texts: list[str] | None, kind: type[Number], usage: str) -> list[Number] | None:
    """["0,5", "10"] -> [0, 5, 10], or None.

    usage  the command up to the option, "swgctl eval --rho", which an error quotes
    Raises UsageError.
    """
    if not texts:
        return None
    try:
        return [kind(part) for text in texts for part in text.split(",")]
    except ValueError:
        option = usage.rpartition(" ")[2]
        raise UsageError(f"{option} '{','.join(texts)}' is not a list of numbers", f"{usage} 1,8") from None


def with_role(source: list[str] | None, role: str, ref: str | None) -> list[str]:
    """The REFs of --from, and that of a role's own option."""
    return [*(source or []), *([f"{role}={ref}"] if ref else [])]


@stage(
    "critic",
    """
    swgctl critic demo
    swgctl critic hopper-medium-v2 --seeds 0-4 --tau 0.7
    swgctl critic my-data.hdf5 --env Pendulum-v1 --steps 10000
    swgctl critic --from SYNTH
    """,
)
def critic(
    task: OptionalTask = None,
    env: Env = None,
    seeds: Seeds = None,
    tau: Annotated[float | None, typer.Option(metavar="TAU", help="Expectile or quantile of V, in (0, 1).")] = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar=choices(LOSSES), help="Loss of V.", autocompletion=completing(LOSSES)),
    ] = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    clip_actions: ClipActions = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="REF", help="Candidates of the next states, for the loss isq.")
    ] = None,
    source: From = None,
) -> dict:
    """Train a critic: Q and V by in-sample learning.

    It learns from a task's data, or from a synthetic set that --from names.
    """
    flags = {"tau": tau, "loss": loss, "steps": steps, "batch": batch, "lr": lr, "clip_actions": clip_actions}
    sources = with_role(source, "candidates", candidates)
    return {"task": task, "environment": env, "seeds": seeds, "source": sources, "flags": flags}


@stage(
    "augment",
    """
    swgctl augment
    swgctl augment --task demo --weight exponential --set augment.beta=3
    swgctl augment --candidates REF --share 0.5
    """,
)
def augment(
    weight: Weight = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="REF", help="Candidates, weighed and added. [default: as --from]")
    ] = None,
    share: Annotated[
        float | None, typer.Option(metavar="P", help="Share of candidates in a training batch. [default: 0]")
    ] = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Weight every row of the data by the critic's advantage.

    With a share above 0 also candidates, so that diffuse sees the weight of several actions of a state.
    """
    return {
        "source": with_role(source, "candidates", candidates),
        "task": task,
        "flags": {"weight": weight, "share": share},
    }


@stage(
    "diffuse",
    """
    swgctl diffuse
    swgctl diffuse --task demo --width 128 --steps 30000
    """,
)
def diffuse(
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    width: Width = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Train one diffusion model over (action, weight)."""
    flags = {"steps": steps, "batch": batch, "lr": lr, "width": width}
    return {"source": source, "task": task, "flags": flags}


@stage(
    "behaviour",
    """
    swgctl behaviour demo
    swgctl behaviour hopper-medium-v2 --seeds 0-4 --steps 100000
    """,
)
def behaviour(
    task: TaskArgument,
    env: Env = None,
    seeds: Seeds = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    width: Width = None,
    clip_actions: ClipActions = None,
) -> dict:
    """Train a diffusion model over the action alone.

    It learns from the data and no critic, so that one serves all critics.
    """
    flags = {"steps": steps, "batch": batch, "lr": lr, "width": width, "clip_actions": clip_actions}
    return {"task": task, "environment": env, "seeds": seeds, "flags": flags}


@stage(
    "candidates",
    """
    swgctl candidates
    swgctl candidates --of next --rows 0 --set candidates.M=32
    """,
)
def candidates(
    of: Annotated[
        str | None,
        typer.Option(
            metavar=choices(STATES),
            help="The data's states, for guides, or their successors, for critics.",
            autocompletion=completing(STATES),
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(metavar="N", help="Size of a random part of the data; 0: all. [default: the recipe's]")
    ] = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Draw actions from a denoiser at the data's states."""
    return {"source": source, "task": task, "flags": {"of": of, "rows": rows}}


@stage(
    "guide",
    """
    swgctl guide cep
    swgctl guide dps --from DENOISER --critic REF --weight exponential
    """,
)
def guide(
    method: Annotated[
        str,
        typer.Argument(
            metavar=choices((*GUIDES, "...")),
            help="The method that guides.",
            autocompletion=completing(GUIDES),
        ),
    ],
    critic: Annotated[
        str | None, typer.Option(metavar="REF", help="Critic. [default: the one that the denoiser descends from]")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="REF", help="Candidates of cep. [default: as --from]")
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            metavar=choices(WEIGHTS),
            help="Weight function. [default: the denoiser's; exponential for a behaviour model]",
            autocompletion=completing(WEIGHTS),
        ),
    ] = None,
    steps: Steps = None,
    batch: Batch = None,
    lr: LearningRate = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Learn the energy by which a method guides a denoiser.

    The denoiser, from diffuse or behaviour, is --from. dps and resample learn nothing: their guide binds denoiser,
    critic and weight.
    """
    flags = {"method": method, "weight": weight, "steps": steps, "batch": batch, "lr": lr}
    return {"source": with_role(source, "candidates", candidates), "task": task, "critic": critic, "flags": flags}


@stage(
    "eval",
    """
    swgctl eval --rho 0,5,10 --resample 1,8
    swgctl eval --task demo --sampler ddim --temperature 0
    """,
)
def evaluate(
    rho: Rho = None,
    resample: Resample = None,
    episodes: Episodes = None,
    temperature: Temperature = None,
    sampler: Sampler = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar=choices(SELECTS),
            help="Take the best candidate by the critic's weight or the policy's own, or draw one by weight.",
            autocompletion=completing(SELECTS),
        ),
    ] = None,
    critic: Annotated[
        str | None, typer.Option(metavar="REF", help="Critic to rank candidates by. [default: the policy's own]")
    ] = None,
    method: Method = None,
    rescale: Annotated[
        bool | None, typer.Option("--rescale", help="Give guided noise the unguided one's norm (AEPO).")
    ] = None,
    env: Leave = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Roll out the guided policy and score it.

    A policy of diffuse guides itself; any other guidance is in the guide that --from names.

    Every rho is combined with every M and every temperature, and all run at
    once. At temperature 0 candidates are equal, so M = 1 is all there is.
    """
    flags = {
        "rho": numbers(rho, float, "swgctl eval --rho"),
        "resample": numbers(resample, int, "swgctl eval --resample"),
        "episodes": episodes,
        "temperature": numbers(temperature, float, "swgctl eval --temperature"),
        "sampler": sampler,
        "select": select,
        "method": method,
        "rescale": rescale,
    }
    return {"source": source, "task": task, "critic": critic, "environment": env, "flags": flags}


@stage(
    "run",
    """
    swgctl run demo
    swgctl run hopper-medium-v2 --seeds 0-4 --rho 0,5,15 --resample 1,8
    swgctl run my-data.hdf5 --env Pendulum-v1 --set critic.steps=10000
    """,
    section=METHODS,
)
def run(
    task: TaskArgument,
    env: Env = None,
    seeds: Seeds = None,
    weight: Weight = None,
    rho: Rho = None,
    resample: Resample = None,
    temperature: Temperature = None,
    episodes: Episodes = None,
    clip_actions: ClipActions = None,
    method: Method = None,
    until: Until = None,
) -> dict:
    """Run all stages of a method, from a task to its scores.

    Prints the path of the last artifact; `swgctl tree` shows the others.
    """
    usage = f"swgctl run {quoted(task)}"
    flags = {
        "critic": {"clip_actions": clip_actions},
        "augment": {"weight": weight},
        "behaviour": {"clip_actions": clip_actions},
        "guide": {"weight": weight},
        "trajectories": {"clip_actions": clip_actions},
        "agent": {"clip_actions": clip_actions},
        "eval": {
            "rho": numbers(rho, float, f"{usage} --rho"),
            "resample": numbers(resample, int, f"{usage} --resample"),
            "temperature": numbers(temperature, float, f"{usage} --temperature"),
            "episodes": episodes,
            "method": method,
        },
    }
    return {"task": task, "environment": env, "seeds": seeds, "flags": flags, "until": until}


@cache
def add_plugged() -> None:
    """Once, add the commands of the stages that other packages bring."""
    from importlib.metadata import entry_points  # which a shipped command does not need

    for point in entry_points(group="swgctl.stages"):
        _plugged(point.name)


def _plugged(name: str) -> None:
    """Add the command of a stage of a plugin; its settings are given by --set."""

    def plugged(
        task: Annotated[
            str | None,
            typer.Argument(help="A task, for a stage that starts from one.", autocompletion=complete_tasks),
        ] = None,
        env: Env = None,
        seeds: Seeds = None,
        source: From = None,
        input_task: TaskOption = None,
    ) -> dict:
        return {"task": task or input_task, "environment": env, "seeds": seeds, "source": source}

    plugged.__doc__ = f"Run the stage {name} of a plugin.\n\nIts settings are given by --set {name}.NAME=VALUE."
    stage(name)(plugged)
