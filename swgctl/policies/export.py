"""A policy as two files that run without this package: its tensors, and an example that acts with them."""

import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path

from safetensors import SafetensorError

from swgctl import config, seeds, signals
from swgctl.config import EVAL, EvalSettings, a
from swgctl.console import say
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import load_tensors, read_header, save_tensors, sync
from swgctl.store import Artifact, Store
from swgctl.tasks import Task, environments

EXAMPLE = Path(__file__).with_name("act.py")
TENSORS = "policy.safetensors"
STAGE = "policy"  # what the metadata of an export calls itself


def export(
    store: Store,
    ref: str,
    directory: str,
    members: str | None = None,
    rho: float | None = None,
    candidates: int | None = None,
    force: bool = False,
) -> Path:
    """Writes the policy of a diffuse artifact, or the one behind an evaluation, into a new directory; returns its path.

    members          of the policy's seeds, "0-4"; None: all
    rho, candidates  what act.py takes when it is not told; None: what was evaluated, or the task's recipe would
                     evaluate, the first scale above 0 and the first number of candidates
    force            replace an earlier export

    The directory has policy.safetensors and act.py, and appears by one rename.  The tensors, the seeds first: the
    averaged parameters of the denoiser; q_target and v of the critic that ranks candidates; z_low and z_high
    (S, 1, A + 1), where z_0 is clipped to.  Of all seeds: alpha, sigma and step_alpha (K,) of the schedule; action_low
    and action_high (A,) of the environment; observation_mean and observation_std (O,) of the data, as facts, since
    observations go in as they are.  The metadata has the rest: architecture, guidance, task, lineage.

    Raises InputError where REF has no policy, UsageError for a directory that is taken or a seed that it has not,
    CorruptError.
    """
    place = Path(directory).resolve()
    if (store.root / "objects").resolve() in place.parents:
        raise UsageError(f"{place} is among the store's artifacts", "--policy with a directory elsewhere")
    _check(place, force)
    artifact = store.resolve(ref)
    policy = artifact.ancestors().get("diffuse")
    if policy is None:
        raise InputError(f"{ref} is {a(artifact.stage)}, which has no policy yet", "swgctl ls --stage diffuse")
    task, settings = Task.from_json(policy.meta["task"]), _settings(artifact, rho, candidates)
    critic = _ranking(artifact, policy, settings)
    chosen, env = _chosen(policy, members), environments.make(task.environment)
    tensors = _tensors(policy, critic, env.action_space, settings.clip, [policy.seeds.index(seed) for seed in chosen])
    about = {"environment": _named(env.spec)} | _about(policy, critic, settings)
    env.close()
    say(f"export: policy {policy.id} of {policy.task}, seeds {seeds.ranges(chosen)}")
    guidance = f"rho = {about['rho']:g} and M = {about['candidates']}"
    say(f"export: act.py takes {guidance} unless told otherwise; {'the critic' if critic else 'its own weight'} ranks")
    draft = place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}")
    replaced = draft.with_name(f"{draft.name}.replaced")
    try:
        draft.mkdir(parents=True)
        save_tensors(draft / TENSORS, tensors, STAGE, task, chosen, **about)
        shutil.copyfile(EXAMPLE, draft / EXAMPLE.name)
        shutil.copymode(draft / EXAMPLE.name, draft / TENSORS)  # safetensors leaves it to its owner
        for file in draft.iterdir():
            sync(file)
        with signals.deferred():
            _replace(place, draft, replaced)
    except (OSError, SafetensorError) as error:
        if place.exists():
            _check(place, force)  # another process was faster
        raise SwgError(f"{place} cannot be written: {error}", "--policy with another directory") from None
    finally:
        for rest in (draft, replaced):
            shutil.rmtree(rest, ignore_errors=True)
    return place


def _check(place: Path, force: bool) -> None:
    """Raises UsageError unless an export may be put there."""
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place} is a file", "--policy with a new directory")
    if _is_export(place):
        if not force:
            raise UsageError(f"{place} has an earlier export", "--force replaces it")
    elif place.is_dir() and any(place.iterdir()):
        raise UsageError(f"{place} is not empty, and has other things than an export", "--policy with a new directory")


def _is_export(place: Path) -> bool:
    """Whether a directory holds what `export` writes, and nothing else that could be lost."""
    names = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if names - {"__pycache__"} != {TENSORS, EXAMPLE.name}:
        return False
    with contextlib.suppress(CorruptError, KeyError, ValueError):
        return json.loads(read_header(place / TENSORS)["__metadata__"]["swg"])["stage"] == STAGE
    return False


def _replace(place: Path, draft: Path, replaced: Path) -> None:
    if _is_export(place):
        os.rename(place, replaced)
    try:
        os.rename(draft, place)
    except OSError:
        if replaced.is_dir():
            os.rename(replaced, place)
        raise


def _settings(artifact: Artifact, rho: float | None, candidates: int | None) -> EvalSettings:
    """How the policy is to act: as an evaluation had it, else as the task's recipe would.  Raises UsageError."""
    task, told = Task.from_json(artifact.meta["task"]), {}
    if evaluated := artifact.stage == "eval":
        told = {name: value for name, value in artifact.params.items() if name in EvalSettings.model_fields}
    told |= {name: value for name, value in (("rho", rho), ("resample", candidates)) if value is not None}
    flags = {f"eval.{name}": value for name, value in told.items()}
    settings = config.resolve(task.name, "" if evaluated else task.recipe, flags=flags).of(EVAL)
    if settings.sampler != "ddpm":
        say(f"export: act.py samples by DDPM, not by {settings.sampler}")
    return settings


def _ranking(artifact: Artifact, policy: Artifact, settings: EvalSettings) -> Artifact | None:
    """The critic that is to choose among candidates; None: the model's own weight does."""
    import torch

    from swgctl.policies.diffusion import weigher

    augmented = policy.parent("augment")
    if settings.select == "self":
        return None
    weights = weigher(augmented.params)(torch.linspace(-1, 1, 9))
    if (weights.diff() < 0).any():  # quantile; expectiles of tau < 0.5
        name = augmented.params["weight"]
        say(f"export: this {name} weight does not grow with Q, by which act.py would rank: it takes the model's own")
        return None
    return artifact.parent("critic") if "critic" in artifact.meta["inputs"] else augmented.parent("critic")


def _chosen(policy: Artifact, members: str | None) -> list[int]:
    if members is None:
        return policy.seeds
    chosen = seeds.parse(members)
    if unknown := [seed for seed in chosen if seed not in policy.seeds]:
        raise UsageError(
            f"the policy {policy.id} has the seeds {seeds.ranges(policy.seeds)}, not {seeds.ranges(unknown)}",
            f"--seeds {seeds.ranges(policy.seeds)}",
        )
    return chosen


def _tensors(policy: Artifact, critic: Artifact | None, space, clip: bool, rows: list[int]) -> dict:
    """The tensors of some members, their bytes checked.  Raises CorruptError."""
    import h5py
    import torch

    from swgctl.diffusion import Schedule
    from swgctl.policies.diffusion import bounds

    learnt = load_tensors(policy.file(TENSORS))
    tensors = {name.removeprefix("ema."): t[rows] for name, t in learnt.items() if name.startswith("ema.")}
    if critic:
        ranking = load_tensors(critic.file("critic.safetensors"))
        tensors |= {name: t[rows] for name, t in ranking.items() if name.startswith(("q_target.", "v."))}
    low, high = bounds(policy.meta["metrics"]["data"]["action_dim"], learnt["weight_range"][rows])
    for name, sign, bound in (("z_low", -1, low), ("z_high", 1, high)):
        tensors[name] = bound if clip else sign * torch.full_like(bound, torch.inf)
    schedule = getattr(Schedule, policy.params["schedule"])(policy.params["K"])
    tensors |= {"alpha": schedule.alpha, "sigma": schedule.sigma, "step_alpha": schedule.step_alpha}
    tensors |= {"action_low": torch.from_numpy(space.low), "action_high": torch.from_numpy(space.high)}
    with h5py.File(policy.parent("augment").file("data.hdf5")) as file:
        observations = file["observations"][()]
    for name, value in (("mean", observations.mean(0, dtype=float)), ("std", observations.std(0, dtype=float))):
        tensors[f"observation_{name}"] = torch.from_numpy(value).float()
    return tensors


def _named(spec) -> str:
    """The id of an environment as `gymnasium.make` takes it anywhere: with the module that has to be imported first."""
    home = spec.entry_point if isinstance(spec.entry_point, str) else spec.entry_point.__module__
    module = home.partition(":")[0]
    return spec.id if module.startswith("gymnasium.") else f"{module}:{spec.id}"


def _about(policy: Artifact, critic: Artifact | None, settings: EvalSettings) -> dict:
    """What the metadata says of the policy beside its task, seeds and environment."""
    lineage = policy.ancestors() | ({"ranking": critic} if critic else {})
    return {
        **{name: policy.params[name] for name in ("K", "schedule", "blocks", "weight_block")},
        "q_layers": [f"q_target.layers.{i}" for i in range(len(critic.params["hidden"]) + 1)] if critic else [],
        "weight": policy.parent("augment").params,
        "rho": next((rho for rho in settings.rho if rho > 0), 0.0),
        "candidates": settings.resample[0],
        "temperature": _temperature(settings),
        "w_min": settings.w_min,
        "lineage": {stage: {"key": one.key, "digest": one.digest} for stage, one in lineage.items()},
        "data": lineage["critic"].meta["source"]["sha256"],
    }


def _temperature(settings: EvalSettings) -> float:
    """The first temperature at which as many candidates as act.py takes are not all equal."""
    several = settings.resample[0] > 1
    return next(temperature for temperature in settings.temperature if temperature > 0 or not several)
