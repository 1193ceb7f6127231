"""candidates: a denoiser -> M actions at every state of the data, drawn from it unguided (QGPO's fake actions).

Reads the task's data file.  Writes candidates.hdf5: `rows` (N',), the numbers of the data's rows, and `z`
(S, N', M, C), what was drawn there: the action, and the weight of a joint denoiser.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from swgctl import signals
from swgctl.config import CANDIDATES, CandidatesSettings
from swgctl.console import progress
from swgctl.errors import SwgError
from swgctl.files import canonical, new_hdf5
from swgctl.stages.inputs import check_measured, locate_data
from swgctl.stages.job import Job, read_data
from swgctl.store import Artifact
from swgctl.tasks import Task

BLOCK = 1024  # states at once; their noise is drawn together, so results depend on it


def prepare(
    task: Task, settings: CandidatesSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[CandidatesSettings]:
    (denoiser,) = inputs.values()
    check_measured(denoiser, "candidates")
    path, digest = locate_data(denoiser)
    return Job(CANDIDATES, task, settings, settings.keyed(), seeds, inputs, path, digest)


def build(job: Job[CandidatesSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.policies.loading import load_denoiser
    from swgctl.randomness import generator, normal
    from swgctl.training.execution import products

    s, (denoiser,) = job.settings, job.inputs.values()
    # Its actions are not read here, and a denoiser of clipped ones has the same states.
    data = read_data(job, clip_actions=True)
    states = torch.from_numpy(data.observations if s.of == "states" else data.next_observations)
    count = min(s.rows, len(states)) or len(states)
    picks = torch.randperm(len(states), generator=generator(s.seed, "candidates/rows", 0))[:count].sort().values
    sampler = load_denoiser(denoiser, job.device)
    sampler.name, sampler.bounds = s.sampler, sampler.bounds if s.clip else None
    members, channels = len(job.seeds), sampler.denoiser.channels
    actions = denoiser.meta["metrics"]["data"]["action_dim"]
    about = {"task": job.task.name, "seeds": job.seeds, "params": job.params}
    with (
        signals.deferred(),
        progress("candidates", count, "states") as bar,
        products(s.precision),
        torch.no_grad(),
        new_hdf5(directory / "candidates.hdf5") as file,
    ):
        file.attrs["swg"] = canonical(about)
        file["rows"] = picks.numpy()
        drawn = file.create_dataset("z", (members, count, s.M, channels), "f4")
        for number, start in enumerate(range(0, count, BLOCK)):
            block = picks[start : start + BLOCK]
            x = states[block].to(job.device).expand(members, -1, -1)
            sources = [
                generator(seed, f"candidates/{s.seed}/noise", number, torch.device(job.device)) for seed in job.seeds
            ]
            row = torch.arange(len(block), device=job.device).repeat_interleave(s.M)
            z = sampler.draw(x, row, None, s.temperature, partial(normal, sources))
            if not bool(z.isfinite().all()):
                raise SwgError(
                    "candidates: the denoiser's actions are not finite", "look at its losses with swgctl plot training"
                )
            z[..., :actions] = z[..., :actions].clamp(-1, 1)
            drawn[:, start : start + len(block)] = z.unflatten(1, (len(block), s.M)).cpu().numpy()
            bar.update(start + len(block))
            signals.check()
    return {"states": count, "actions": count * s.M}
