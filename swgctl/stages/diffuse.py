"""diffuse: a weight-augmented data set -> one denoiser of z = [action, weight] (SWG, Algorithm 1).

Writes policy.safetensors: `ema.*`, the averaged parameters that sampling uses; `raw.*`, the last ones; `weight_range`
(S, 2), the least and the greatest value of the weight's channel in each member's data; of a standardised one
`weight_channel` (S, 2), the offset and the factor by which it becomes the weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config import DIFFUSE, DiffuseSettings
from swgctl.errors import UsageError
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
    augmented = inputs["augment"]
    if (share := augmented.params.get("share", 0.0)) and not 0 < _candidate_rows(settings, share) < settings.batch:
        raise UsageError(
            f"a batch of {settings.batch} rows cannot have a share of {share:g}, as {augmented.id} has it",
            f"swgctl diffuse --from {augmented.id} --batch {DiffuseSettings().batch}",
        )
    return Job(DIFFUSE, task, settings, settings.keyed(), seeds, inputs)


def _candidate_rows(settings: DiffuseSettings, share: float) -> int:
    """The rows of a batch that are candidates."""
    return round(share * settings.batch)


def build(job: Job[DiffuseSettings], directory: Path, work: Path) -> dict:
    import h5py
    import torch

    from swgctl.learners import DiffuseLearner
    from swgctl.learners.rows import Candidates

    augmented, candidates = job.inputs["augment"], None
    candidate_rows = _candidate_rows(job.settings, augmented.params.get("share", 0.0))
    with augmented.reading("data.hdf5") as path, h5py.File(path) as file:
        observations, actions, weights = (
            torch.from_numpy(file[name][()]) for name in ("observations", "actions", "weights")
        )
        owners = file[SEED][()] if SEED in file else None
        if candidate_rows:
            names = ("candidates/rows", "candidates/actions", "candidates/weights")
            candidates = Candidates.at(*(torch.from_numpy(file[name][()]) for name in names))
    device = torch.device(job.device)
    rows = None if owners is None else torch.from_numpy(np.stack([np.flatnonzero(owners == one) for one in job.seeds]))
    learner = DiffuseLearner(
        *(observations, actions, weights, job.settings, job.seeds, device),
        rows=rows,
        candidates=candidates,
        candidate_rows=candidate_rows,
    )
    del observations, actions, weights, candidates  # the learner may hold copies on another device
    assert learner.weights is not None
    seen = learner.rows.of(learner.weights)
    if learner.candidates:
        seen = torch.cat([seen, learner.candidates.weights], 1)
    channel = {"weight_range": torch.stack([seen.amin(1), seen.amax(1)], 1)}
    if job.settings.weight_scale == "standard":
        channel["weight_channel"] = torch.cat(learner.channel, 1)
    return fit(job, learner, directory, work, channel)


def fit(
    job: Job, learner: "DiffuseLearner", directory: Path, work: Path, more: "Mapping[str, Tensor] | None" = None
) -> dict:
    """Train a denoiser, write policy.safetensors, with these tensors besides, and metrics.jsonl, and return the
    artifact's metrics."""
    metrics = train(job, learner, directory, work)
    tensors = learner.tensors() | dict(more or {})
    save_tensors(directory / "policy.safetensors", tensors, job.stage.name, job.task, job.seeds)
    facts = {
        "observation_dim": learner.observations.shape[1],
        "action_dim": learner.actions.shape[1],
        "parameters": sum(p[0].numel() for p in learner.denoiser.parameters()),
    }
    return metrics | {"data": facts}
