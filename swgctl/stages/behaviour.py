"""behaviour: transitions -> one denoiser of z = [action], the behaviour policy (AEPO, equation 7).

Reads the task's data file and descends from no critic, so that one serves all of them.  Writes policy.safetensors:
`ema.*`, the averaged parameters that sampling uses; `raw.*`, the last ones.
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import BEHAVIOUR, BehaviourSettings
from swgctl.stages.diffuse import fit
from swgctl.stages.job import Job, locate_source
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: BehaviourSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[BehaviourSettings]:
    path, digest = locate_source(task)
    # The task is part of the key, as it is of a critic's.
    params = settings.keyed() | {"task": task.name, "environment": task.environment, "horizon": task.horizon}
    return Job(BEHAVIOUR, task, settings, params, seeds, inputs, path, digest)


def build(job: Job[BehaviourSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.learners import DiffuseLearner
    from swgctl.tasks import environments, transitions

    data = transitions.read(job.data, clip_actions=job.settings.clip_actions, horizon=job.task.horizon)
    environments.check(environments.make(job.task.environment), data)
    observations, actions = torch.from_numpy(data.observations), torch.from_numpy(data.actions)
    del data
    device = torch.device(job.device)
    learner = DiffuseLearner(observations, actions, None, job.settings, job.seeds, device, "behaviour")
    return fit(job, learner, directory, work)
