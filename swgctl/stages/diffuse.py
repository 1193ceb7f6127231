"""diffuse: a weight-augmented data set -> one denoiser of z = [action, weight] (SWG, Algorithm 1).

Writes policy.safetensors: `ema.*`, the averaged parameters that sampling uses; `raw.*`, the last ones; `weight_range`
(S, 2), the least and the greatest weight of each member's data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config import DIFFUSE, DiffuseSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, train
from swgctl.store import Artifact
from swgctl.tasks import Task
from swgctl.tasks.layout import SEED

if TYPE_CHECKING:
    from torch import Tensor

    from swgctl.learners import DiffuseLearner


def prepare(
    task: Task, settings: DiffuseSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[DiffuseSettings]:
    return Job(DIFFUSE, task, settings, settings.keyed(), seeds, inputs)


def build(job: Job[DiffuseSettings], directory: Path, work: Path) -> dict:
    import h5py
    import torch

    from swgctl.learners import DiffuseLearner

    with job.inputs["augment"].reading("data.hdf5") as path, h5py.File(path) as file:
        observations, actions, weights = (
            torch.from_numpy(file[name][()]) for name in ("observations", "actions", "weights")
        )
        owners = file[SEED][()] if SEED in file else None
    device = torch.device(job.device)
    rows = None if owners is None else torch.from_numpy(np.stack([np.flatnonzero(owners == one) for one in job.seeds]))
    learner = DiffuseLearner(observations, actions, weights, job.settings, job.seeds, device, rows=rows)
    del observations, actions, weights  # the learner may hold copies on another device
    assert learner.weights is not None
    seen = learner.rows.of(learner.weights)
    return fit(job, learner, directory, work, torch.stack([seen.amin(1), seen.amax(1)], 1))


def fit(job: Job, learner: "DiffuseLearner", directory: Path, work: Path, weight_range: "Tensor | None" = None) -> dict:
    """Train a denoiser, write policy.safetensors and metrics.jsonl, and return the artifact's metrics."""

    metrics = train(job, learner, directory, work)
    tensors = learner.tensors()
    if weight_range is not None:
        tensors["weight_range"] = weight_range
    save_tensors(directory / "policy.safetensors", tensors, job.stage.name, job.task, job.seeds)
    facts = {
        "observation_dim": learner.observations.shape[1],
        "action_dim": learner.actions.shape[1],
        "parameters": sum(p[0].numel() for p in learner.denoiser.parameters()),
    }
    return metrics | {"data": facts}
