"""trajectories: transitions -> a diffusion model of windows of them (PGD, arXiv 2404.06356, section 3).

Reads the task's data file and descends from no critic.  Writes denoiser.safetensors: `ema.*`, the averaged parameters
that sampling uses; `raw.*`, the last ones; `mean` and `std` (D,) of the channels.
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import TRAJECTORIES, TrajectoriesSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, facts_of, read_source, source_job, train
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: TrajectoriesSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[TrajectoriesSettings]:
    return source_job(TRAJECTORIES, task, settings, seeds, inputs)


def build(job: Job[TrajectoriesSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.diffusion import Channels
    from swgctl.learners.trajectories import TrajectoryLearner
    from swgctl.tasks import windows

    s = job.settings
    data = read_source(job)
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
