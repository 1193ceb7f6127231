"""behaviour: transitions -> one denoiser of z = [action], the behaviour policy (AEPO, equation 7).

Reads the task's data file and descends from no critic, so that one serves all of them.  Writes policy.safetensors:
`ema.*`, the averaged parameters that sampling uses; `raw.*`, the last ones.
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import BEHAVIOUR, BehaviourSettings
from swgctl.stages.diffuse import fit
from swgctl.stages.job import Job, read_source, source_job
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: BehaviourSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[BehaviourSettings]:
    return source_job(BEHAVIOUR, task, settings, seeds, inputs)


def build(job: Job[BehaviourSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.learners import DiffuseLearner

    data = read_source(job)
    observations, actions = torch.from_numpy(data.observations), torch.from_numpy(data.actions)
    del data
    device = torch.device(job.device)
    learner = DiffuseLearner(observations, actions, None, job.settings, job.seeds, device, "behaviour")
    return fit(job, learner, directory, work)
