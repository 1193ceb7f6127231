"""augment: transitions and a critic -> the same transitions with w(s, a) for every row (SWG, section 3.2).

Writes data.hdf5: D4RL's arrays as read, and `weights`, `q`, `v`, `advantages`, each (S, N).

With candidates also the group `candidates`, what a behaviour model would have done: `rows` (N'), the numbers of the
rows at whose states they are, `actions` (S, N', M, A), `weights` and `advantages` (S, N', M), each member's by its own
critic.  `diffuse` draws a share of its batches from them, so that it sees the weight of several actions of a state.
The share is part of the key here, since the data sets of two shares are two distributions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from swgctl import signals
from swgctl.config import AUGMENT, AugmentSettings
from swgctl.console import progress
from swgctl.errors import InputError, SwgError, UsageError
from swgctl.files import canonical, new_hdf5
from swgctl.policies.origin import check_loss
from swgctl.seeds import ranges
from swgctl.stages.inputs import check_drawn, check_states, data_of, locate_data
from swgctl.stages.job import Job, read_data
from swgctl.store import Artifact
from swgctl.tasks import Task, argument

BLOCK = 16_384  # rows at once; no result depends on it

# a block of rows -> observations (n, O), and actions (n, A) or (S, n, A)
Given = Callable[[slice], tuple[np.ndarray, np.ndarray]]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def prepare(
    task: Task, settings: AugmentSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[AugmentSettings]:
    critic = inputs["critic"]
    check_loss(critic, settings.weight)
    _check_candidates(task, settings, critic, inputs.get("candidates"))
    path, digest = locate_data(critic)
    params = settings.weighing() | {"tau": critic.params["tau"], "alpha": critic.params["alpha"]}
    return Job(AUGMENT, task, settings, params, seeds, inputs, path, digest)


def _check_candidates(task: Task, settings: AugmentSettings, critic: Artifact, candidates: Artifact | None) -> None:
    """Refuse a share without candidates, candidates without a share, and those of other states than the critic's.

    Raises UsageError, InputError.
    """
    if candidates is None:
        if settings.share:
            raise UsageError(
                "a share of candidates needs candidates",
                f"swgctl augment --from {critic.id} --candidates REF --share 0.5",
            )
        return
    if not settings.share:
        raise UsageError(
            f"the candidates {candidates.id} have no share of the batches",
            f"swgctl augment --from {critic.id} --candidates {candidates.id} --share 0.5",
        )
    if "synth" in critic.meta["inputs"]:
        raise InputError(
            f"candidates are at states of the task's data, and {critic.id} learnt from a synthetic set",
            f"swgctl augment --from {critic.id} --share 0",
        )
    wanted = f"swgctl behaviour {argument(task)} --seeds {ranges(critic.seeds)}   # then: swgctl candidates"
    check_drawn(candidates, task, data_of(critic), wanted)
    if candidates.seeds != critic.seeds:
        raise InputError(
            f"the candidates {candidates.id} are of the seeds {ranges(candidates.seeds)}, not {ranges(critic.seeds)}",
            wanted,
        )
    check_states(candidates)


def build(job: Job[AugmentSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl.policies.loading import load_critic, weigher
    from swgctl.tasks import layout

    artifact = job.inputs["critic"]
    data = read_data(job, artifact.params.get("clip_actions", False))
    critic = load_critic(artifact, job.device)
    seeds, weigh = len(job.seeds), weigher(job.params)

    def weighed(rows: int, given: Given, unit: str) -> dict[str, np.ndarray]:
        """q, v, advantages and weights, (S, rows) each."""
        learnt = {name: np.empty((seeds, rows), np.float32) for name in ("q", "v", "advantages", "weights")}
        with signals.deferred(), progress("augment", rows, unit) as bar, torch.no_grad():
            for start in range(0, rows, BLOCK):
                block = slice(start, min(start + BLOCK, rows))
                s, a = (
                    torch.from_numpy(np.ascontiguousarray(x)).to(job.device).expand(seeds, -1, -1) for x in given(block)
                )
                q, v = critic.value(s, a)
                for name, value in {"q": q, "v": v, "advantages": q - v, "weights": weigh(q - v)}.items():
                    learnt[name][:, block] = value.cpu().numpy()
                bar.update(block.stop)
                signals.check()
        if not np.isfinite(learnt["weights"]).all():
            raise SwgError(
                f"{(~np.isfinite(learnt['weights'])).mean():.2%} of the weights are not finite",
                "swgctl augment --weight expectile, whose weights are bounded",
            )
        return learnt

    learnt = weighed(len(data), lambda block: (data.observations[block], data.actions[block]), "rows")
    arrays, more = data.fields() | learnt, {}
    if "candidates" in job.inputs:
        numbers, drawn = _drawn(job.inputs["candidates"], (seeds, *data.actions.shape))
        states, actions = numbers.repeat(drawn.shape[2]), drawn.reshape(seeds, -1, drawn.shape[3])
        of_drawn = weighed(
            len(states), lambda block: (data.observations[states[block]], actions[:, block]), "candidates"
        )
        beside = {name: of_drawn[name].reshape(drawn.shape[:3]) for name in ("weights", "advantages")}
        arrays |= {f"candidates/{k}": x for k, x in ({"rows": numbers, "actions": drawn} | beside).items()}
        about_drawn = {"states": len(numbers), "each": drawn.shape[2]}
        more["candidates"] = about_drawn | statistics(of_drawn["weights"], of_drawn["advantages"])
    about = {
        "task": job.task.name,
        "environment": job.task.environment,
        "seeds": job.seeds,
        "weight": job.params,
    }
    with signals.deferred(), new_hdf5(directory / "data.hdf5") as file:
        file.attrs["swg"] = canonical(about)
        writer = layout.Writer(file, layout.AUGMENTED)
        for name, array in arrays.items():
            for start in range(0, len(array), BLOCK):
                writer.put(name, array[start : start + BLOCK], start, len(array))
                signals.check()
    if data.seeds is not None:  # each member's are those of its rows
        owned = data.rows_of(job.seeds)
        learnt = {name: np.take_along_axis(values, owned, 1) for name, values in learnt.items()}
    return statistics(learnt["weights"], learnt["advantages"]) | more


def _drawn(candidates: Artifact, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (N',) and actions (S, N', M, A) of candidates for S members of data of N rows, shape (S, N, A).

    Raises CorruptError.
    """
    import h5py

    seeds, rows, width = shape
    with candidates.reading("candidates.hdf5") as path, h5py.File(path) as file:
        numbers, drawn = file["rows"][()], file["z"][..., :width]
        if (drawn.ndim, *drawn.shape[:2], drawn.shape[-1]) != (4, seeds, len(numbers), width):
            raise ValueError("its actions are not those of its seeds and rows")
        if not ((numbers >= 0) & (numbers < rows)).all():
            raise ValueError("its rows are not the data's")
        return numbers, drawn


def statistics(weights: np.ndarray, advantages: np.ndarray) -> dict:
    """Statistics of weights and advantages (S, N): each seed's, averaged over the seeds; `min` and `max` over all.

    `ess` is the effective sample size (sum w)^2 / sum w^2 as a share of N.
    """
    members = [_member_statistics(w.astype(np.float64), a) for w, a in zip(weights, advantages, strict=True)]
    means = {name: np.mean([member[name] for member in members], axis=0).tolist() for name in members[0]}
    return {
        **means,
        "min": float(weights.min()),
        "max": float(weights.max()),
        "quantiles": {str(p): q for p, q in zip(QUANTILES, means["quantiles"], strict=True)},
    }


def _member_statistics(w: np.ndarray, a: np.ndarray) -> dict:
    """Statistics of one member's weights (N,) float64 and advantages (N,)."""
    return {
        "mean": w.mean(),
        "ess": w.mean() ** 2 / np.square(w).mean(),
        "quantiles": np.quantile(w, QUANTILES),
        "advantage_mean": a.mean(dtype=np.float64),
        "advantage_std": a.std(dtype=np.float64),
    }
