"""guide: a denoiser and a critic -> the energy by which a method guides the denoiser to the critic's weight.

A method with a network writes energy.safetensors: `ema.*`, the averaged parameters that sampling uses; `raw.*`, the
last ones; of AEPO also `posterior` (S, 3, K), the three estimates of the posterior variance, and `variance` (S, K), the
one in use, clipped.  A method without one binds denoiser, critic and weight: its artifact is their record.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.config import GUIDE, PLAIN_WEIGHT, AugmentSettings, GuideSettings, methods
from swgctl.console import quoted
from swgctl.errors import InputError, UsageError
from swgctl.files import save_tensors
from swgctl.policies.origin import check_ranking, weight_of
from swgctl.stages.inputs import check_measured, data_of, locate_data
from swgctl.stages.job import Job, train
from swgctl.store import Artifact
from swgctl.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

TRAINING = ("hidden", "lr", "decay", "batch", "steps", "ema", "precision")
READS = {  # settings that a method reads, beside those of the weight
    "mse": TRAINING,
    "emse": TRAINING,
    "ddice": (*TRAINING, "noises"),
    "cep": (*(name for name in TRAINING if name != "batch"), "normalise", "states"),
    "aepo": (*TRAINING, "expansion", "eta", "posterior", "curvature", "moments"),
}


def prepare(
    task: Task, settings: GuideSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[GuideSettings]:
    role = GUIDE.filled(inputs)
    assert role
    denoiser, critic = inputs[role], inputs["critic"]
    weight = _weight(settings, denoiser) | {"tau": critic.params["tau"], "alpha": critic.params["alpha"]}
    check_ranking(critic, denoiser, weight)
    if settings.method in ("dps", "aepo") and weight["weight"] == "hard_expectile":
        raise UsageError(
            f"{settings.method} differentiates log w, and hard_expectile is constant but for a jump",
            f"swgctl guide {settings.method} --weight exponential",
        )
    if data_of(critic) != data_of(denoiser):
        raise InputError(
            f"the critic {critic.id} learnt from other data than {denoiser.id}",
            f"swgctl critic {quoted(task.name)}",
        )
    if "candidates" in inputs:
        _check_candidates(inputs["candidates"], denoiser)
    check_measured(denoiser, "guide")
    path, digest = locate_data(denoiser)
    options = {name: getattr(settings, name) for name in READS.get(settings.method, ())}
    params = {"method": settings.method} | weight | options
    return Job(GUIDE, task, settings, params, seeds, inputs, path, digest)


def _weight(settings: GuideSettings, denoiser: Artifact) -> dict:
    """The weight, and the settings that it reads: the one named, else the joint denoiser's, else PLAIN_WEIGHT."""
    joint = weight_of(denoiser)
    if joint and not settings.weight:
        return {name: value for name, value in joint.items() if name in AugmentSettings.model_fields}
    named = settings.model_dump(include={"scale", "beta", "w_max"})
    return AugmentSettings(weight=settings.weight or PLAIN_WEIGHT, **named).weighing()


def _check_candidates(candidates: Artifact, denoiser: Artifact) -> None:
    """Raise InputError unless the candidates are actions of this denoiser at states of the data."""
    (source,) = candidates.meta["inputs"].values()
    if source["digest"] != denoiser.digest:
        raise InputError(
            f"the candidates {candidates.id} were drawn from {source['stage']} {source['key'][:12]}, not from "
            f"{denoiser.id}",
            f"swgctl candidates --from {denoiser.id}",
        )
    if candidates.params["of"] != "states":
        raise InputError(
            f"the candidates {candidates.id} are of next states, for critics",
            f"swgctl candidates --from {denoiser.id} --of states",
        )


def build(job: Job[GuideSettings], directory: Path, work: Path) -> dict:
    role = GUIDE.filled(job.inputs)
    assert role
    facts = {name: job.inputs[role].meta["metrics"]["data"][name] for name in ("observation_dim", "action_dim")}
    if methods()[job.settings.method].takes != "energy":
        return {"data": facts | {"parameters": 0}}
    return _fit(job, job.inputs[role], facts, directory, work)


def _fit(job: Job[GuideSettings], denoiser: Artifact, facts: dict, directory: Path, work: Path) -> dict:
    """Train the energy, write it, and return the artifact's metrics."""
    import h5py
    import torch

    from swgctl.learners import GuideLearner
    from swgctl.policies.loading import LogWeight, load_critic, load_denoiser, weigher
    from swgctl.tasks import transitions

    device = torch.device(job.device)
    clip = denoiser.ancestors()[_first(denoiser)].params.get("clip_actions", False)
    data = transitions.read(job.data, clip_actions=clip, horizon=job.task.horizon)
    sampler = load_denoiser(denoiser, job.device)
    z0 = torch.from_numpy(data.actions).unsqueeze(0)
    channel = _WeightChannel(denoiser, job.device) if denoiser.stage == "diffuse" else None
    if channel:
        z0 = torch.cat([z0.expand(len(job.seeds), -1, -1), channel.of_data().unsqueeze(-1)], -1)
    candidates = None
    if "candidates" in job.inputs:
        with h5py.File(job.inputs["candidates"].file("candidates.hdf5")) as file:
            rows, drawn = (torch.from_numpy(file[name][()]) for name in ("rows", "z"))
        if channel:
            channel.fill(drawn, torch.from_numpy(data.observations)[rows])
        candidates = rows, drawn
    learner = GuideLearner(
        torch.from_numpy(data.observations),
        z0,
        LogWeight(load_critic(job.inputs["critic"], job.device), weigher(job.params)),
        job.settings,
        job.seeds,
        device,
        action_dim=facts["action_dim"],
        schedule=sampler.schedule,
        candidates=candidates,
        denoiser=sampler.denoiser,
        fourier=denoiser.params.get("fourier", 0.2),
    )
    metrics = train(job, learner, directory, work)
    save_tensors(directory / "energy.safetensors", learner.tensors(), job.stage.name, job.task, job.seeds)
    parameters = sum(p[0].numel() for p in learner.energy.parameters())
    return metrics | {"data": facts | {"parameters": parameters}}


def _first(denoiser: Artifact) -> str:
    """The stage that read the actions that a denoiser learnt from."""
    return "critic" if denoiser.stage == "diffuse" else "behaviour"


class _WeightChannel:
    """The weight in z = [action, weight] of a joint denoiser: its own critic's, in the scale that it was trained on."""

    def __init__(self, denoiser: Artifact, device: str):
        import h5py
        import torch

        from swgctl.policies.loading import LogWeight, load_critic, weigher

        augmented = denoiser.parent("augment")
        self.log_weight = LogWeight(load_critic(augmented.parent("critic"), device), weigher(augmented.params))
        self.device = device
        with h5py.File(augmented.file("data.hdf5")) as file:
            self.weights = torch.from_numpy(file["weights"][()])
        unit = denoiser.params["weight_scale"] == "unit"
        self.scale = self.weights.mean(1) if unit else torch.ones(len(self.weights))

    def of_data(self) -> "Tensor":
        """(S, N)."""
        return self.weights / self.scale.unsqueeze(1)

    def fill(self, z: "Tensor", observations: "Tensor", block: int = 4096) -> None:
        """Set the channel of candidates z (S, N, M, C) at observations (N, O)."""
        import torch

        members, count, several, _ = z.shape
        for start in range(0, count, block):
            part = z[:, start : start + block]
            x = observations[start : start + block].repeat_interleave(several, 0).to(self.device)
            with torch.no_grad():
                log_w = self.log_weight(x.expand(members, -1, -1), part[..., :-1].flatten(1, 2).to(self.device)).cpu()
            part[..., -1] = log_w.exp().unflatten(1, part.shape[1:3]) / self.scale.view(-1, 1, 1)
