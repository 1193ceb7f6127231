"""dynamics: transitions -> an ensemble of one-step models, the autoregressive baseline of PGD (PETS; MOPO's settings).

Reads the task's data file.  Writes dynamics.safetensors: the layers (S, M, ...) of the networks, the log-variance's
bounds `low` and `high` (S, 1, 1, O + 1), `mean` and `std` (S, 1, 1, O + A) of the inputs, and `elites` (S, E).
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import DYNAMICS, DynamicsSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, facts_of, read_source, source_job, train
from swgctl.store import Artifact
from swgctl.tasks import Task


def prepare(
    task: Task, settings: DynamicsSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[DynamicsSettings]:
    return source_job(DYNAMICS, task, settings, seeds, inputs)


def build(job: Job[DynamicsSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.learners.dynamics import DynamicsLearner

    data = read_source(job)
    learner = DynamicsLearner(data, job.settings, job.seeds, torch.device(job.device))
    facts = facts_of(data) | {"parameters": sum(p[0].numel() for p in learner.ensemble.parameters())}
    del data
    metrics = train(job, learner, directory, work)
    tensors = learner.tensors()
    save_tensors(directory / "dynamics.safetensors", tensors, job.stage.name, job.task, job.seeds)
    error = learner.holdout_mse().gather(1, tensors["elites"]).mean(1)
    return metrics | {"holdout_mse": error.tolist(), "data": facts}
