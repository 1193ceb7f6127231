"""guide: a denoiser and a critic -> the energy by which a method guides the denoiser to the critic's weight.

A method with a network writes energy.safetensors: `ema.*`, the averaged parameters that sampling uses; `raw.*`, the
last ones; of AEPO also `posterior` (S, 3, K), the three estimates of the posterior variance, and `variance` (S, K), the
one in use, clipped.  The calibration of a joint policy's own weight writes calibration.safetensors: `intercept` and
`slope` (S, K).  A method without any of these binds denoiser, critic and weight: its artifact is their record.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.config import GUIDE, PLAIN_WEIGHT, GuideSettings, WeightSettings, a, methods
from swgctl.console import quoted
from swgctl.errors import InputError, UsageError
from swgctl.files import save_tensors
from swgctl.policies.origin import check_ranking, weight_of
from swgctl.stages.inputs import check_measured, check_states, data_of, locate_data
from swgctl.stages.job import Job, read_data, train
from swgctl.store import Artifact
from swgctl.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from swgctl.policies.sampler import Sampler
    from swgctl.policies.weight_channel import WeightChannel

TRAINING = ("hidden", "lr", "decay", "batch", "steps", "ema", "precision")
READS = {  # settings that a method reads, beside those of the weight
    "mse": TRAINING,
    "emse": TRAINING,
    "ddice": (*TRAINING, "noises"),
    "cep": (*(name for name in TRAINING if name != "batch"), "normalise", "states"),
    "calibrated": ("moments",),
    "aepo": (*TRAINING, "expansion", "eta", "posterior", "curvature", "moments"),
}


def unread(inputs: Mapping, settings: GuideSettings) -> set[str]:
    """The settings of other methods, and of training where the method trains nothing."""
    return set(GuideSettings.model_fields) - {
        *("method", *WeightSettings.model_fields, *READS.get(settings.method, ()))
    }


def prepare(
    task: Task, settings: GuideSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[GuideSettings]:
    role = GUIDE.filled(inputs)
    assert role
    denoiser, critic = inputs[role], inputs["critic"]
    weight = _weight(settings, denoiser) | {"tau": critic.params["tau"], "alpha": critic.params["alpha"]}
    check_ranking(critic, denoiser, weight)
    if methods()[settings.method].takes == "line":
        _check_channel(settings, weight, denoiser)
    if settings.method in ("dps", "aepo") and weight["weight"] == "hard_expectile":
        raise UsageError(
            f"{settings.method} differentiates log w, and hard_expectile is constant but for a jump",
            f"swgctl guide {settings.method} --from {denoiser.id} --critic {critic.id} --weight exponential",
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
        return {name: value for name, value in joint.items() if name in WeightSettings.model_fields}
    named = settings.model_dump(include={"scale", "beta", "w_max"})
    return WeightSettings(weight=settings.weight or PLAIN_WEIGHT, **named).weighing()


def _check_channel(settings: GuideSettings, weight: dict, denoiser: Artifact) -> None:
    """Raise UsageError unless the denoiser predicts this weight."""
    if denoiser.stage != "diffuse":
        raise UsageError(
            f"{settings.method} calibrates the weight that a joint policy predicts: {denoiser.id} is "
            f"{a(denoiser.stage)}",
            f"swgctl diffuse {quoted(denoiser.task)}; swgctl guide {settings.method}",
        )
    joint = weight_of(denoiser) or {}
    if any(weight[name] != joint[name] for name in WeightSettings.model_fields if name in weight):
        raise UsageError(
            f"{settings.method} guides by the weight that {denoiser.id} has learnt, {joint['weight']}",
            f"swgctl guide {settings.method} --from {denoiser.id}   # without --weight",
        )


def _check_candidates(candidates: Artifact, denoiser: Artifact) -> None:
    """Raise InputError unless the candidates are actions of this denoiser at states of the data."""
    (source,) = candidates.meta["inputs"].values()
    if source["digest"] != denoiser.digest:
        raise InputError(
            f"the candidates {candidates.id} were drawn from {source['stage']} {source['key'][:12]}, not from "
            f"{denoiser.id}",
            f"swgctl candidates --from {denoiser.id}",
        )
    check_states(candidates)


def build(job: Job[GuideSettings], directory: Path, work: Path) -> dict:
    role = GUIDE.filled(job.inputs)
    assert role
    facts = {name: job.inputs[role].meta["metrics"]["data"][name] for name in ("observation_dim", "action_dim")}
    takes = methods()[job.settings.method].takes
    if takes == "energy":
        return _fit(job, job.inputs[role], facts, directory, work)
    calibration = _calibrate(job, job.inputs[role], directory) if takes == "line" else {}
    return calibration | {"data": facts | {"parameters": 0}}


def _calibrate(job: Job[GuideSettings], denoiser: Artifact, directory: Path) -> dict:
    """Regress the weight of the data on the denoiser's, write the lines, and return the artifact's metrics.

    `calibration` has, by step, the slope of the regression and the correlation, means over the members.
    """
    import torch

    from swgctl.diffusion import calibration
    from swgctl.policies.loading import load_denoiser
    from swgctl.randomness import generator, normal

    sampler = load_denoiser(denoiser, job.device)
    observations, z0, _ = _data(job, denoiser, sampler)
    sources = [generator(seed, "guide/moments", 0) for seed in job.seeds]

    def noise(shape: tuple[int, ...]) -> "Tensor":
        return normal(sources, shape).to(job.device)

    numbers = [torch.randint(len(observations), (job.settings.moments,), generator=g) for g in sources]
    rows, members = torch.stack(numbers), torch.arange(len(job.seeds)).unsqueeze(1)
    z0 = z0[members, rows].to(job.device)
    denoise = sampler.denoiser.bind(observations[rows].to(job.device))
    w, w_hat = z0[..., -1], calibration.predicted_weights(denoise, sampler.schedule, z0, noise)
    intercept, slope = (value.float().cpu().contiguous() for value in calibration.line(w, w_hat))
    _, raw, correlation = calibration.regression(w, w_hat)
    tensors = {"intercept": intercept, "slope": slope}
    save_tensors(directory / "calibration.safetensors", tensors, job.stage.name, job.task, job.seeds)
    return {"calibration": {"slope": raw.mean(0).tolist(), "correlation": correlation.mean(0).tolist()}}


def show(artifact: Artifact) -> bool:
    """Print the table of a calibration; returns False for another guide."""
    from swgctl.reports.calibration import print_calibration

    calibrated = "calibration" in artifact.meta["metrics"]
    if calibrated:
        print_calibration(artifact)
    return calibrated


def _fit(job: Job[GuideSettings], denoiser: Artifact, facts: dict, directory: Path, work: Path) -> dict:
    """Train the energy, write it, and return the artifact's metrics."""
    import h5py
    import torch

    from swgctl.learners import GuideLearner
    from swgctl.policies.loading import LogWeight, load_critic, load_denoiser, weigher

    device = torch.device(job.device)
    sampler = load_denoiser(denoiser, job.device)
    observations, z0, channel = _data(job, denoiser, sampler)
    candidates = None
    if "candidates" in job.inputs:
        with job.inputs["candidates"].reading("candidates.hdf5") as path, h5py.File(path) as file:
            rows, drawn = (torch.from_numpy(file[name][()]) for name in ("rows", "z"))
        if channel:
            channel.fill(drawn, observations[rows])
        candidates = rows, drawn
    learner = GuideLearner(
        observations,
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


def _data(
    job: Job[GuideSettings], denoiser: Artifact, sampler: "Sampler"
) -> "tuple[Tensor, Tensor, WeightChannel | None]":
    """Observations (N, O), z_0 as the denoiser has it, (1, N, A) or (S, N, A + 1), and its channel of the weight."""
    import h5py
    import torch

    from swgctl.policies.weight_channel import WeightChannel

    data = read_data(job, denoiser.ancestors()[_first(denoiser)].params.get("clip_actions", False))
    z0 = torch.from_numpy(data.actions).unsqueeze(0)
    observations = torch.from_numpy(data.observations)
    if denoiser.stage != "diffuse":
        return observations, z0, None
    with denoiser.parent("augment").reading("data.hdf5") as path, h5py.File(path) as file:
        weights = torch.from_numpy(file["weights"][()])
    channel = WeightChannel(denoiser, sampler, weights, job.device)
    z0 = torch.cat([z0.expand(len(job.seeds), -1, -1), channel.of(weights).unsqueeze(-1)], -1)
    return observations, z0, channel


def _first(denoiser: Artifact) -> str:
    """The stage that read the actions that a denoiser learnt from."""
    return "critic" if denoiser.stage == "diffuse" else "behaviour"
