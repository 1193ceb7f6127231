"""synth: a trajectory model, guided by an agent or not -> a synthetic data set (PGD, arXiv 2404.06356, Algorithm 1).

A dynamics model, the baseline, is rolled out under the agent from states of the task's data.

Writes data.hdf5, D4RL's flat layout: the rows of the members one after another, equal in number, their seeds in
`infos/seed`.  Its attribute `returns` has the least, the mean and the greatest return of the data that it imitates.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl import signals
from swgctl.config import SYNTH, SynthSettings
from swgctl.config.synthetic import Generation
from swgctl.console import progress
from swgctl.errors import InputError
from swgctl.files import canonical, new_hdf5
from swgctl.seeds import ranges
from swgctl.stages.inputs import locate_data
from swgctl.stages.job import Job, read_data
from swgctl.store import Artifact
from swgctl.tasks import Task, argument

if TYPE_CHECKING:
    from torch import Tensor

    from swgctl.diffusion import Act, Channels

BLOCK = 1024  # roll-outs at once; their noise is drawn together, so results depend on it


def unread(inputs: Mapping, settings: SynthSettings) -> set[str]:
    """The settings of the walk, of a dynamics model; the length of roll-outs, of a trajectory model."""
    return set(Generation.model_fields) - {"trajectories"} if "dynamics" in inputs else {"length"}


def prepare(
    task: Task, settings: SynthSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[SynthSettings]:
    role = SYNTH.filled(inputs)
    assert role
    if "agent" in inputs:
        check_agent(inputs["agent"], inputs[role])
    params = {name: value for name, value in settings.keyed().items() if name not in unread(inputs, settings)}
    if role == "trajectories":
        return Job(SYNTH, task, settings, params, seeds, inputs, walks=True)
    return Job(SYNTH, task, settings, params, seeds, inputs, *locate_data(inputs[role]))


def check_agent(agent: Artifact, model: Artifact) -> None:
    """Raise InputError unless an agent can act in a model's trajectories: its environment, widths and seeds.

    An agent of one seed guides all members.
    """
    task = argument(Task.from_json(model.meta["task"]))
    help = f"swgctl agent --from {model.id}" if model.stage == "trajectories" else f"swgctl agent {task}"
    widths = ("observation_dim", "action_dim")
    for what, theirs, ours in (
        ("acts in", agent.meta["task"]["environment"], model.meta["task"]["environment"]),
        ("has the widths", *([one.meta["metrics"]["data"][w] for w in widths] for one in (agent, model))),
    ):
        if theirs != ours:
            raise InputError(f"the agent {agent.id} {what} {theirs}, the model {model.id} {ours}", help)
    if len(agent.seeds) > 1 and agent.seeds != model.seeds:
        raise InputError(
            f"the agent {agent.id} has the seeds {ranges(agent.seeds)}, the model {model.id} {ranges(model.seeds)}",
            f"{help} --seeds {ranges(model.seeds)}   # or an agent of one seed, which guides all",
        )


def build(job: Job[SynthSettings], directory: Path, work: Path) -> dict:
    from swgctl.evaluation import trajectories as analysis
    from swgctl.policies.agent import load_agent
    from swgctl.policies.trajectories import check_finite
    from swgctl.training.execution import products

    s = job.settings
    agent = load_agent(job.inputs["agent"], job.device) if "agent" in job.inputs else None
    act = agent.act if agent else None
    draw = _roll_out if "dynamics" in job.inputs else _walk
    started = time.monotonic()
    with signals.deferred(), progress("synth", s.trajectories, "trajectories") as bar, products(s.precision):
        x, channels, returns = draw(job, act, bar.update)
    seconds = time.monotonic() - started
    rows = write(directory / "data.hdf5", check_finite(x, "synth"), channels, returns, job)
    widths = {"observation_dim": channels.observation_dim, "action_dim": channels.action_dim}
    facts = {"rows": rows, "windows": s.trajectories, **widths}
    measured = analysis.measure(x, channels, act, job.task.environment)
    return {"data": facts, "sampling_s": round(seconds, 3), **measured}


Drawn = tuple["Tensor", "Channels", tuple[float, float, float]]
Report = Callable[[int], None]


def _walk(job: Job[SynthSettings], act: "Act | None", report: Report) -> Drawn:
    """Windows (S, W, L, D) of a trajectory model, z-scored, their channels, and the returns of its data."""
    import torch

    from swgctl.policies.trajectories import load_trajectories
    from swgctl.randomness import generator

    s, model = job.settings, job.inputs["trajectories"]
    sampler = load_trajectories(model, job.device)
    device = torch.device(job.device)

    def sources(stream: str, index: int) -> list[torch.Generator]:
        return [generator(seed, f"synth/{s.seed}/{stream}", index, device) for seed in job.seeds]

    x = sampler.draw(s.trajectories, s, act, sources, job.mode, report)
    return x, sampler.channels, returns_of(model)


def returns_of(model: Artifact) -> tuple[float, float, float]:
    """(least, mean, greatest) return of an episode of the data that a trajectory model learnt from."""
    facts = model.meta["metrics"]["data"]
    return facts["return_least"], facts["return_mean"], facts["return_best"]


def _roll_out(job: Job[SynthSettings], act: "Act | None", report: Report) -> Drawn:
    """The same of roll-outs of a dynamics model, from states that are drawn from the task's data."""
    import torch

    from swgctl.diffusion import Channels
    from swgctl.policies.dynamics import load_dynamics, roll
    from swgctl.randomness import generator

    assert act, "a dynamics model needs an agent"
    s, device = job.settings, torch.device(job.device)
    data = read_data(job, job.inputs["dynamics"].params["clip_actions"])
    arrays = [torch.from_numpy(x) for x in (data.observations, data.actions, data.rewards, data.terminals)]
    channels = Channels.of(*arrays).to(device)
    ensemble, elites = load_dynamics(job.inputs["dynamics"], job.device)
    drawn = []
    for number, start in enumerate(range(0, s.trajectories, BLOCK)):
        size = min(BLOCK, s.trajectories - start)
        sources = [generator(seed, f"synth/{s.seed}/roll", number, device) for seed in job.seeds]
        picks = torch.stack([torch.randint(len(data), (size,), generator=g, device=device) for g in sources])
        first = arrays[0].to(device)[picks]
        drawn.append(channels.inside(*roll(ensemble, elites, act, first, s.length, sources)))
        report(start + size)
        signals.check()
    return torch.cat(drawn, 1), channels, data.returns()


def write(path: Path, x: "Tensor", channels: "Channels", returns: tuple[float, float, float], job: Job) -> int:
    """Write windows x (S, W, L, D) as D4RL's flat layout; returns the number of rows.  Raises SwgError."""
    from swgctl.policies.trajectories import transitions_of
    from swgctl.tasks import layout

    data = transitions_of(x, channels, job.seeds, returns)
    about = {"task": job.task.name, "environment": job.task.environment, "seeds": job.seeds, "params": job.params}
    with signals.deferred(), new_hdf5(path) as file:
        file.attrs["swg"] = canonical(about)
        file.attrs["returns"] = np.array(returns, np.float64)
        writer = layout.Writer(file, layout.SYNTHETIC)
        for name, array in data.fields().items():
            writer.put(name, array)
            signals.check()
    return len(data)


def show(artifact: Artifact) -> None:
    """Print what is known of the synthetic rows: likelihood under the agent, errors against the simulator, coverage."""
    from swgctl.reports.synthetic import print_synthetic

    print_synthetic(artifact)
