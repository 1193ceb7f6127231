"""critic: transitions -> Q and V, learned in-sample (SWG, Algorithm 3).

Reads the task's data file, or a synthetic set, of which each member learns from its own rows; the loss isq also
candidates of its next states.  Writes critic.safetensors: q (S, 2, ...), q_target (S, 2, ...), v (S, ...).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config import CRITIC, CriticSettings
from swgctl.errors import InputError, UsageError
from swgctl.files import save_tensors
from swgctl.seeds import ranges
from swgctl.stages.inputs import check_drawn
from swgctl.stages.job import Job, facts_of, locate_source, read_source, train
from swgctl.store import Artifact
from swgctl.tasks import Task, argument

if TYPE_CHECKING:
    from torch import Tensor


def prepare(
    task: Task, settings: CriticSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[CriticSettings]:
    path, digest = synthetic(inputs["synth"]) if "synth" in inputs else locate_source(task)
    if settings.loss == "isq":
        check_candidates(inputs["candidates"], task, seeds, digest)
    elif "candidates" in inputs:
        raise UsageError(
            f"the loss {settings.loss} learns from no candidates",
            f"swgctl critic {argument(task)} --loss isq --candidates {inputs['candidates'].id}",
        )
    rewards = task.rewards if settings.rewards == "task" else settings.rewards
    params = settings.keyed() | {"rewards": rewards} | task.keyed()
    return Job(CRITIC, task, settings, params, seeds, inputs, path, digest)


def synthetic(synth: Artifact) -> tuple[Path, str]:
    """The file of a synthetic set and its sha256.  Raises CorruptError."""
    return synth.file("data.hdf5"), synth.meta["files"]["data.hdf5"]["sha256"]


def check_candidates(candidates: Artifact, task: Task, seeds: list[int], source: str) -> None:
    """Raise InputError unless the candidates are of all next states of the task's data, whose sha256 is `source`."""
    wanted = f"swgctl behaviour {argument(task)} --seeds {ranges(seeds)}   # then: swgctl candidates --of next --rows 0"
    check_drawn(candidates, task, source, wanted)
    if candidates.seeds != seeds:
        critic = f"swgctl critic {argument(task)} --seeds {ranges(candidates.seeds)} --loss isq"
        raise InputError(
            f"the candidates {candidates.id} are of the seeds {ranges(candidates.seeds)}, not {ranges(seeds)}",
            f"{critic} --candidates {candidates.id}",
        )
    if candidates.params["of"] != "next" or candidates.params["rows"] != 0:
        states = {"next": "next states", "states": "states"}[candidates.params["of"]]
        (denoiser,) = candidates.meta["inputs"].values()
        raise InputError(
            f"isq learns from candidates of all next states; {candidates.id} has "
            f"those of {candidates.params['rows'] or 'all'} {states}",
            f"swgctl candidates --from {denoiser['key'][: len(candidates.id)]} --of next --set candidates.rows=0",
        )


def build(job: Job[CriticSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.learners import CriticLearner

    data = read_source(job)
    candidates = _actions(job.inputs["candidates"], data.actions.shape) if "candidates" in job.inputs else None
    device = torch.device(job.device)
    learner = CriticLearner(data, job.settings, job.params["rewards"], job.seeds, device, candidates)
    facts = facts_of(data)
    del data, candidates
    metrics = train(job, learner, directory, work)
    save_tensors(directory / "critic.safetensors", learner.critic.state_dict(), job.stage.name, job.task, job.seeds)
    return metrics | {"data": facts}


def _actions(candidates: Artifact, shape: tuple[int, ...]) -> "Tensor":
    """Actions (S, N, M, A) of candidates of every row of data whose actions have the shape (N, A), within [-1, 1].

    Raises CorruptError.
    """
    import h5py
    import torch

    with candidates.reading("candidates.hdf5") as path, h5py.File(path) as file:
        if not np.array_equal(file["rows"][()], np.arange(shape[0])):
            raise ValueError(f"its rows are not the data's {shape[0]:,}")
        return torch.from_numpy(file["z"][..., : shape[1]]).clamp_(-1, 1)
