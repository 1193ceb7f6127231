"""augment: transitions and a critic -> the same transitions with w(s, a) for every row (SWG, section 3.2).

Writes data.hdf5: D4RL's arrays as they were read, and `weights`, `q`, `v`, `advantages`, each (S, N).
"""

import io
import shlex
from pathlib import Path

import numpy as np

from swgctl import signals
from swgctl.config import LOSS, AugmentSettings, Resolved
from swgctl.console import progress
from swgctl.errors import InputError, SwgError
from swgctl.files import canonical
from swgctl.seeds import ranges
from swgctl.stages import Job, locate_source
from swgctl.tasks import Task

REVISION = 1
BLOCK = 65_536  # rows; part of no result

UNITS = {
    "observations": ("state s", "environment"),
    "actions": ("action a, rescaled to [-1, 1]", "1"),
    "rewards": ("reward r, as collected", "environment"),
    "next_observations": ("state that followed", "environment"),
    "terminals": ("episode ended in a state of value 0", "bool"),
    "timeouts": ("episode was cut", "bool"),
    "infos/next_observation_valid": ("the state that followed is known, or does not matter", "bool"),
    "weights": ("weight w(s, a) of the advantage, a row for each seed", "1"),
    "q": ("min of the target twins Q(s, a), a row for each seed", "transformed reward"),
    "v": ("V(s), a row for each seed", "transformed reward"),
    "advantages": ("A(s, a) = q - v, a row for each seed", "transformed reward"),
}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def prepare(task: Task, resolved: Resolved, inputs: dict) -> Job:
    settings: AugmentSettings = resolved["augment"]
    critic = inputs["critic"]
    loss = LOSS[settings.weight]
    if critic.params["loss"] != loss:
        special = [k for k, origin in critic.meta["origin"].items() if not origin.startswith("recipe ")]
        settled = [shlex.quote(f"{k}={critic.params[k.split('.')[1]]}") for k in special if k != "critic.loss"]
        words = [f"--set {text}" for text in settled]
        raise InputError(
            f"the weight '{settings.weight}' needs V trained with the {loss} loss; "
            f"critic {critic.id} has the {critic.params['loss']} loss",
            " ".join([f"swgctl critic {task.argument} --seeds {ranges(critic.seeds)} --loss {loss}", *words]),
        )
    path, digest = locate_source(task, critic.meta["source"]["sha256"])
    used = {"expectile": {"scale"}, "exponential": {"beta", "w_max"}, "quantile": {"w_max"}, "linex": {"w_max"}}
    ignored = {"scale", "beta", "w_max"} - used.get(settings.weight, set())
    params = {name: value for name, value in settings.keyed().items() if name not in ignored}
    params |= {"tau": critic.params["tau"], "alpha": critic.params["alpha"]}
    return Job("augment", REVISION, task, settings, params, critic.seeds, inputs, path, digest)


def build(job: Job, directory: Path, work: Path) -> dict:
    import h5py
    import torch

    from swgctl.policy import load_critic, weigher
    from swgctl.tasks import transitions

    parent = job.inputs["critic"]
    data = transitions.read(job.source, clip_actions=parent.params.get("clip_actions", False), horizon=job.task.horizon)
    critic = load_critic(parent, job.device)
    seeds, rows = len(job.seeds), len(data)
    learnt = {name: np.empty((seeds, rows), np.float32) for name in ("q", "v", "advantages", "weights")}
    weigh = weigher(job.params)
    with signals.deferred(), progress("augment", rows, "rows") as bar, torch.no_grad():
        for start in range(0, rows, BLOCK):
            block = slice(start, min(start + BLOCK, rows))
            s, a = (
                torch.from_numpy(x[block]).to(job.device).expand(seeds, -1, -1)
                for x in (data.observations, data.actions)
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
    arrays = {
        "observations": data.observations,
        "actions": data.actions,
        "rewards": data.rewards,
        "next_observations": data.next_observations,
        "terminals": data.terminals,
        "timeouts": data.timeouts,
        "infos/next_observation_valid": data.known_next,
        **learnt,
    }
    # In memory first: where a disk fills up, HDF5 cannot close its file, and crashes.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        about = {
            "task": job.task.name,
            "environment": job.task.environment,
            "seeds": job.seeds,
            "weight": job.params,
        }
        file.attrs["swg"] = canonical(about)
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["long_name"], dataset.attrs["units"] = UNITS[name]
    (directory / "data.hdf5").write_bytes(image.getbuffer())
    return statistics(learnt["weights"], learnt["advantages"])


def statistics(weights: np.ndarray, advantages: np.ndarray) -> dict:
    """Mean over the seeds of each seed's statistics, for weights and advantages (S, N).

    `ess` is the effective sample size (sum w)^2 / sum w^2 as a share of N.
    """
    w = weights.astype(np.float64)
    return {
        "mean": float(w.mean()),
        "min": float(w.min()),
        "max": float(w.max()),
        "ess": float((w.mean(1) ** 2 / (w**2).mean(1)).mean()),
        "quantiles": {str(p): float(np.quantile(w, p, axis=1).mean()) for p in QUANTILES},
        "advantage_mean": float(advantages.mean(dtype=np.float64)),
        "advantage_std": float(advantages.std(axis=1, dtype=np.float64).mean()),
    }
