"""trajectories: transitions -> a diffusion model of windows of them (PGD, arXiv 2404.06356, section 3).

Reads the task's data file and descends from no critic.  Writes denoiser.safetensors: `ema.*`, the averaged parameters
that sampling uses; `raw.*`, the last ones; `mean` and `std` (D,) of the channels.
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import TRAJECTORIES, TrajectoriesSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, facts_of, locate_source, train
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: TrajectoriesSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[TrajectoriesSettings]:
    path, digest = locate_source(task)
    # The task is part of the key, as it is of a critic's.
    params = settings.keyed() | {"task": task.name, "environment": task.environment, "horizon": task.horizon}
    return Job(TRAJECTORIES, task, settings, params, seeds, inputs, path, digest)


def build(job: Job[TrajectoriesSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.diffusion import Channels
    from swgctl.learners.trajectories import TrajectoryLearner
    from swgctl.tasks import environments, transitions, windows

    s = job.settings
    data = transitions.read(job.data, clip_actions=s.clip_actions, horizon=job.task.horizon)
    environments.check(environments.make(job.task.environment), data)
    starts = windows.starts(data, s.length, s.stride)
    held = torch.from_numpy(windows.counts(starts, s.length, len(data)))
    observations, actions, rewards, terminals = map(
        torch.from_numpy, (data.observations, data.actions, data.rewards, data.terminals)
    )
    channels = Channels.of(observations, actions, rewards, terminals, held)
    rows = channels.inside(observations, actions, rewards, terminals)
    facts = facts_of(data) | {"windows": len(starts)}
    device = torch.device(job.device)
    learner = TrajectoryLearner(rows, torch.from_numpy(starts), s, job.seeds, device)
    del data, observations, actions, rewards, terminals, rows
    metrics = train(job, learner, directory, work)
    tensors = learner.tensors() | {"mean": channels.mean, "std": channels.std}
    save_tensors(directory / "denoiser.safetensors", tensors, job.stage.name, job.task, job.seeds)
    return metrics | {"data": facts | {"parameters": sum(p[0].numel() for p in learner.network.parameters())}}
