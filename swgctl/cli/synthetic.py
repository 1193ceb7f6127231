"""The commands of the stages of synthetic data: trajectories, dynamics, synth and agent."""

from typing import Annotated

import typer

from swgctl.cli.options import (
    ALGOS,
    PULLS,
    Batch,
    ClipActions,
    Env,
    From,
    Lambda,
    LearningRate,
    OptionalTask,
    Seeds,
    Steps,
    TaskArgument,
    TaskOption,
    choices,
    completing,
)
from swgctl.cli.stages import stage, with_role


def _model(name: str, about: str, examples: str) -> None:
    """Add the command of a stage that trains a model of the task's transitions."""

    def model(
        task: TaskArgument,
        env: Env = None,
        seeds: Seeds = None,
        steps: Steps = None,
        batch: Batch = None,
        lr: LearningRate = None,
        clip_actions: ClipActions = None,
    ) -> dict:
        flags = {"steps": steps, "batch": batch, "lr": lr, "clip_actions": clip_actions}
        return {"task": task, "environment": env, "seeds": seeds, "flags": flags}

    model.__doc__ = about
    stage(name, examples)(model)


_model(
    "trajectories",
    """Train a diffusion model over windows of the data.

    A window is a sub-trajectory: observations, actions, rewards and terminals.
    """,
    """
    swgctl trajectories demo
    swgctl trajectories hopper-medium-v2 --seeds 0-3 --steps 100000
    """,
)
_model(
    "dynamics",
    """Train an ensemble of one-step dynamics models.

    It is the autoregressive baseline of trajectory models, PETS with MOPO's
    settings; its roll-outs are a synthetic data set as any other.
    """,
    """
    swgctl dynamics demo
    swgctl dynamics hopper-medium-v2 --seeds 0-2 --steps 50000
    """,
)


@stage(
    "synth",
    """
    swgctl synth --lambda 0
    swgctl synth --from TRAJECTORIES --agent REF --lambda 1
    """,
)
def synth(
    scale: Lambda = None,
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Agent that guides, or acts in a dynamics model. [default: as --from, where needed]"
        ),
    ] = None,
    trajectories: Annotated[int | None, typer.Option(metavar="N", help="Trajectories of each seed.")] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            metavar=choices(PULLS),
            help="shift, by the policy's gradient, as published, or posterior, with lambda the exponent of the policy.",
            autocompletion=completing(PULLS),
        ),
    ] = None,
    source: From = None,
    task: TaskOption = None,
) -> dict:
    """Generate a synthetic data set, guided by an agent or not.

    --from names a trajectory model, or a dynamics model, which is rolled out
    under the agent from states of the data.
    """
    flags = {"scale": scale, "trajectories": trajectories, "guidance": guidance}
    return {"source": with_role(source, "agent", agent), "task": task, "flags": flags}


@stage(
    "agent",
    """
    swgctl agent demo --algo td3bc
    swgctl agent --from SYNTH --from SYNTH2 --real 16
    swgctl agent --from TRAJECTORIES --algo iql --lambda 1
    """,
)
def agent(
    task: OptionalTask = None,
    env: Env = None,
    seeds: Seeds = None,
    algo: Annotated[
        str | None,
        typer.Option(metavar=choices(ALGOS), help="Algorithm.", autocompletion=completing(ALGOS)),
    ] = None,
    scale: Lambda = None,
    real: Annotated[
        int | None, typer.Option(metavar="N", help="Rows of a batch that come from the task's own data.")
    ] = None,
    steps: Steps = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Sets of synthetic data over the run, from a trajectory model.")
    ] = None,
    batch: Batch = None,
    lr: LearningRate = None,
    clip_actions: ClipActions = None,
    source: From = None,
) -> dict:
    """Train a target policy, TD3+BC or IQL.

    It learns from a task's data, from synthetic sets, or from a trajectory
    model, whose data it guides and draws anew while it trains (PGD).
    """
    flags = {"algo": algo, "scale": scale, "real": real, "steps": steps, "epochs": epochs}
    flags |= {"batch": batch, "lr": lr, "clip_actions": clip_actions}
    return {"task": task, "environment": env, "seeds": seeds, "source": source, "flags": flags}
