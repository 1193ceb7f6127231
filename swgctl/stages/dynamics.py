"""dynamics: transitions -> an ensemble of one-step models, the autoregressive baseline of PGD (PETS; MOPO's settings).

Reads the task's data file.  Writes dynamics.safetensors: the layers (S, M, ...) of the networks, the log-variance's
bounds `low` and `high` (S, 1, 1, O + 1), `mean` and `std` (S, 1, 1, O + A) of the inputs, and `elites` (S, E).
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import DYNAMICS, DynamicsSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, facts_of, locate_source, train
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: DynamicsSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[DynamicsSettings]:
    path, digest = locate_source(task)
    # The task is part of the key, as it is of a critic's.
    params = settings.keyed() | {"task": task.name, "environment": task.environment, "horizon": task.horizon}
    return Job(DYNAMICS, task, settings, params, seeds, inputs, path, digest)


def build(job: Job[DynamicsSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.learners.dynamics import DynamicsLearner
    from swgctl.tasks import environments, transitions

    data = transitions.read(job.data, clip_actions=job.settings.clip_actions, horizon=job.task.horizon)
    environments.check(environments.make(job.task.environment), data)
    learner = DynamicsLearner(data, job.settings, job.seeds, torch.device(job.device))
    facts = facts_of(data) | {"parameters": sum(p[0].numel() for p in learner.ensemble.parameters())}
    del data
    metrics = train(job, learner, directory, work)
    tensors = learner.tensors()
    save_tensors(directory / "dynamics.safetensors", tensors, job.stage.name, job.task, job.seeds)
    error = learner.holdout_mse().gather(1, tensors["elites"]).mean(1)
    return metrics | {"holdout_mse": error.tolist(), "data": facts}
