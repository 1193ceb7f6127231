"""Export of a policy as two files that run without this package: its tensors, and an example that acts with them."""

import contextlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError

from swgctl import config, seeds, signals, tasks
from swgctl.config import EVAL, EvalSettings, a
from swgctl.console import quoted, say
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import load_tensors, read_header, save_tensors, sync
from swgctl.policies.origin import denoiser_of, weight_of
from swgctl.store import Artifact, Store, remote
from swgctl.tasks import Task, environments

if TYPE_CHECKING:
    import gymnasium

EXAMPLE = "act.py"
TEMPLATES = {"diffusion": "act.py", "agent": "act_agent.py"}  # beside this file, by the kind of policy
TENSORS = "policy.safetensors"
STAGE = "policy"  # the stage in an export's metadata


def export(
    store: Store,
    ref: str,
    directory: str,
    members: str | None = None,
    rho: float | None = None,
    candidates: int | None = None,
    force: bool = False,
    environment: str | None = None,
) -> Path:
    """Write the policy of diffuse, behaviour, guide, agent or an evaluation into a new directory; returns its path.

    members          the policy's seeds to export, "0-4"; None: all
    rho, candidates  defaults of act.py; None: the first scale above 0 and the first number of candidates of the
                     evaluation, or of the task's recipe; an agent has neither
    force            replace an earlier export
    environment      that of the record, whose module it allows to be imported

    The directory holds policy.safetensors and act.py, and appears by one rename.  Tensors with the seeds first: the
    averaged parameters of the denoiser, and, as `energy.*`, of a guide, or the intercept and slope (S, K) of the weight
    that a joint policy predicts, in its channel's scale and calibrated; q_target and v of the critic that ranks
    candidates; z_low and z_high (S, 1, channels), to which z_0 is clipped.  Shared by all seeds: alpha, sigma and
    step_alpha (K,) of the schedule; action_low and action_high (A,) of the environment; observation_mean and
    observation_std (O,) of the data, for information only, since observations enter unscaled.  The metadata has the
    rest: its `kind`, "diffusion" or "agent"; architecture, guidance, task, lineage.

    Of an agent: the actor's layers and observation_mean and observation_std (S, O), by which it z-scores observations;
    action_low and action_high as above.

    Raises InputError where REF has no policy, UsageError for a directory in use or an unknown seed, CorruptError.
    """
    target = Path(directory).resolve()
    if (store.root / "objects").resolve() in target.parents:
        raise UsageError(f"{target} is among the store's artifacts", "--policy with a directory elsewhere")
    _check(target, force)
    artifact = remote.resolve(store, ref)
    role = EVAL.filled(artifact.meta["inputs"]) if artifact.stage == "eval" else None
    policy = artifact.parent(role) if role else artifact
    _check_policy(policy, ref)
    agent = policy.stage == "agent"
    if agent and not (rho is None and candidates is None):
        raise UsageError(
            f"an agent has one action, neither guided nor chosen: {policy.id}",
            f"swgctl export {policy.id} --policy {quoted(directory)}   # without --rho and --resample",
        )
    settings = None if agent else _settings(artifact, rho, candidates)
    critic = _ranking(artifact, policy, settings) if settings else None
    task, chosen = _task(policy), _chosen(policy, members)
    rows = [policy.seeds.index(seed) for seed in chosen]
    tasks.trust(task, environment)
    where, box = _environment(task)
    say(f"export: policy {policy.id} of {policy.task}, seeds {seeds.ranges(chosen)}")
    if settings:
        tensors, about = _tensors(policy, critic, settings.clip, rows), _about(policy, critic, settings)
        guidance = f"rho = {about['rho']:g} and M = {about['candidates']}"
        ranking = "; the critic ranks" if critic else "; its own weight ranks" if about["joint"] else ""
        say(f"export: act.py takes {guidance} by default{ranking}")
    else:
        tensors, about = _tensors_of_agent(policy, rows), _about_agent(policy)
    draft = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    replaced = draft.with_name(f"{draft.name}.replaced")
    try:
        draft.mkdir(parents=True)
        save_tensors(draft / TENSORS, tensors | box, STAGE, task, chosen, environment=where, **about)
        shutil.copyfile(Path(__file__).with_name(TEMPLATES[about["kind"]]), draft / EXAMPLE)
        shutil.copymode(draft / EXAMPLE, draft / TENSORS)  # safetensors leaves it to its owner
        for file in draft.iterdir():
            sync(file)
        with signals.deferred():
            _replace(target, draft, replaced)
    except (OSError, SafetensorError) as error:
        if target.exists():
            _check(target, force)  # another process was faster
        why = getattr(error, "strerror", None) or error  # whose text has the name of the draft
        raise SwgError(f"{target} cannot be written: {why}", "--policy with another directory") from None
    finally:
        for leftover in (draft, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
    return target


def _check_policy(policy: Artifact, ref: str) -> None:
    """Raise InputError unless act.py can run an artifact, which `ref` names, itself or by its evaluation."""
    if policy.stage in ("trajectories", "synth", "dynamics"):
        how = f"swgctl agent --from {policy.id}"
        if policy.stage == "dynamics":
            how = f"swgctl synth --from {policy.id} --agent REF"
        raise InputError(f"{ref} is {a(policy.stage)}, which has no policy: an agent learns one from it", how)
    if policy.stage not in EVAL.primaries:
        raise InputError(f"{ref} is {a(policy.stage)}, which has no policy yet", "swgctl ls --stage diffuse")
    if policy.stage == "guide" and config.method_named(policy.params["method"]).takes == "log_weight":
        raise InputError(
            f"{policy.params['method']} asks its critic at every step, which act.py cannot: {policy.id}",
            f"swgctl guide ddice --from {denoiser_of(policy).id}   # its energy is exported",
        )


def _check(target: Path, force: bool) -> None:
    """Raise UsageError unless `target` can take an export."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file", "--policy with a new directory")
    if Path.cwd().is_relative_to(target):  # whose replacement would leave the shell in a directory that is gone
        raise UsageError(f"the working directory is {target}, or in it", "--policy with a new directory")
    if _is_export(target):
        if not force:
            raise UsageError(f"{target} has an earlier export", "--force   # replaces it")
    elif target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty, and has other things than an export", "--policy with a new directory")


def _is_export(directory: Path) -> bool:
    """True if a directory holds the files that `export` writes, and nothing else that could be lost."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if names - {"__pycache__"} != {TENSORS, EXAMPLE}:
        return False
    with contextlib.suppress(CorruptError, KeyError, ValueError):
        return json.loads(read_header(directory / TENSORS)["__metadata__"]["swg"])["stage"] == STAGE
    return False


def _replace(target: Path, draft: Path, replaced: Path) -> None:
    if _is_export(target):
        os.rename(target, replaced)
    try:
        os.rename(draft, target)
    except OSError:
        if replaced.is_dir():
            os.rename(replaced, target)
        raise


def _settings(artifact: Artifact, rho: float | None, candidates: int | None) -> EvalSettings:
    """The settings of the exported policy: the evaluation's, else the recipe's.  Raises UsageError."""
    task = _task(artifact)
    params: dict[str, Any] = {}
    if evaluated := artifact.stage == "eval":
        params = {name: value for name, value in artifact.params.items() if name in EvalSettings.model_fields}
    params |= {name: value for name, value in (("rho", rho), ("resample", candidates)) if value is not None}
    flags = {f"eval.{name}": value for name, value in params.items()}
    settings = config.resolve(task.name, "" if evaluated else task.recipe, flags=flags).of(EVAL)
    if settings.sampler != "ddpm" or settings.nfe:
        steps = f" in {settings.nfe}" if settings.nfe else ""
        say(f"export: act.py samples by DDPM in all steps, not by {settings.sampler}{steps}")
    if settings.select == "sample" and settings.resample[0] > 1:
        say("export: act.py takes the candidate of greatest weight, it draws none in proportion to its weight")
    return settings


def _ranking(artifact: Artifact, policy: Artifact, settings: EvalSettings) -> Artifact | None:
    """The critic that ranks candidates; None: the model's own weight ranks them."""
    import torch

    from swgctl.policies.loading import weigher

    if settings.select == "self":
        return None
    weight = weight_of(policy)
    if weight and (weigher(weight)(torch.linspace(-1, 1, 9)).diff() < 0).any():  # quantile; expectiles of tau < 0.5
        instead = "ranks by the model's own weight" if denoiser_of(policy).stage == "diffuse" else "takes one candidate"
        say(f"export: this {weight['weight']} weight does not grow with Q, so act.py {instead}")
        return None
    return artifact.parent("critic") if "critic" in artifact.meta["inputs"] else policy.ancestors().get("critic")


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


def _tensors(policy: Artifact, critic: Artifact | None, clip: bool, rows: list[int]) -> dict:
    """Tensors of the chosen members of a denoiser, bytes checked.  Raises CorruptError."""
    import h5py
    import torch

    from swgctl.diffusion import Schedule
    from swgctl.policies.loading import averages, load_critic, load_denoiser, load_energy, weight_lines
    from swgctl.policies.sampler import bounds

    denoiser = denoiser_of(policy)
    sampler = load_denoiser(denoiser, "cpu")  # its tensors, and those below, are those of its sizes
    learnt = load_tensors(denoiser.file(TENSORS))
    tensors = {name: tensor[rows] for name, tensor in averages(learnt).items()}
    if policy.stage == "guide" and _energy_layers(policy):
        load_energy(policy, sampler, "cpu")
        energy = averages(load_tensors(policy.file("energy.safetensors")))
        tensors |= {f"energy.{name}": tensor[rows] for name, tensor in energy.items()}
    elif denoiser.stage == "diffuse":
        calibrated = policy if policy is not denoiser and _takes(policy) == "line" else None
        lines = zip(("intercept", "slope"), weight_lines(sampler, calibrated), strict=True)
        tensors |= {name: line[rows] for name, line in lines}
    if critic:
        load_critic(critic, "cpu")
        ranking = load_tensors(critic.file("critic.safetensors"))
        tensors |= {name: t[rows] for name, t in ranking.items() if name.startswith(("q_target.", "v."))}
    weights = learnt.get("weight_range")
    box = bounds(denoiser.meta["metrics"]["data"]["action_dim"], None if weights is None else weights[rows])
    low, high = (bound.expand(len(rows), -1, -1).contiguous() for bound in box)
    for name, sign, bound in (("z_low", -1, low), ("z_high", 1, high)):
        tensors[name] = bound if clip else sign * torch.full_like(bound, torch.inf)
    schedule = getattr(Schedule, denoiser.params["schedule"])(denoiser.params["K"])
    tensors |= {"alpha": schedule.alpha, "sigma": schedule.sigma, "step_alpha": schedule.step_alpha}
    joint = denoiser.stage == "diffuse"
    if joint:
        data = denoiser.parent("augment").file("data.hdf5")
    else:
        data, _ = tasks.locate(_task(policy), say, None, denoiser.meta["source"]["sha256"])
    try:
        with h5py.File(data) as file:
            observations = file["observations"][()]
    except (OSError, LookupError, RuntimeError, TypeError) as error:
        raise CorruptError(f"{data} has no observations: {error}", "swgctl verify") from None
    for name, value in (("mean", observations.mean(0, dtype=float)), ("std", observations.std(0, dtype=float))):
        tensors[f"observation_{name}"] = torch.from_numpy(value).float()
    return tensors


def _takes(policy: Artifact) -> str:
    """What its method takes from a guide; "" for any other policy."""
    return config.methods()[policy.params["method"]].takes if policy.stage == "guide" else ""


def _tensors_of_agent(policy: Artifact, rows: list[int]) -> dict:
    """Tensors of the chosen members of an agent, bytes checked.  Raises CorruptError."""
    from swgctl.policies.agent import load_agent

    load_agent(policy, "cpu")  # its tensors are those of its sizes
    learnt = load_tensors(policy.file("agent.safetensors"))
    layers = {name.removeprefix("actor.net."): t[rows] for name, t in learnt.items() if name.startswith("actor.net.")}
    return layers | {f"observation_{name}": learnt[f"actor.{name}"][rows] for name in ("mean", "std")}


def _environment(task: Task) -> tuple[str, dict]:
    """The environment's id as `gymnasium.make` accepts it anywhere, with the module to import first; and the bounds
    action_low and action_high (A,) of its actions."""
    import torch

    env = environments.make(task.environment)
    spec, space = env.spec, cast("gymnasium.spaces.Box", env.action_space)
    env.close()
    assert spec
    entry = spec.entry_point if isinstance(spec.entry_point, str) else spec.entry_point.__module__
    module = entry.partition(":")[0]
    name = spec.id if module.startswith("gymnasium.") else f"{module}:{spec.id}"
    return name, {"action_low": torch.from_numpy(space.low), "action_high": torch.from_numpy(space.high)}


def _about(policy: Artifact, critic: Artifact | None, settings: EvalSettings) -> dict:
    """Metadata of a guided denoiser beside its task, seeds and environment."""
    lineage, denoiser = policy.ancestors() | ({"ranking": critic} if critic else {}), denoiser_of(policy)
    guided = policy.stage == "diffuse" or _takes(policy) in ("energy", "line")
    joint = denoiser.stage == "diffuse"
    return {
        "kind": "diffusion",
        **{name: denoiser.params[name] for name in ("K", "schedule", "blocks")},
        "weight_block": denoiser.params["weight_block"] if joint else 0,
        "weight_form": denoiser.params.get("weight_form", "noise"),
        "joint": joint,
        "energy_layers": _energy_layers(policy),
        "rescale": settings.rescale,
        "q_layers": [f"q_target.layers.{i}" for i in range(len(critic.params["hidden"]) + 1)] if critic else [],
        "weight": weight_of(policy),
        "rho": next((rho for rho in settings.rho if rho > 0 and guided), 0.0),
        "candidates": settings.resample[0] if joint or critic else 1,
        "temperature": _temperature(settings),
        "w_min": settings.w_min,
        "kmax": settings.kmax or denoiser.params["K"],
        "lineage": _identities(lineage),
        "data": lineage["critic" if joint else "behaviour"].meta["source"]["sha256"],
    }


def _about_agent(policy: Artifact) -> dict:
    """Metadata of an agent beside its task, seeds and environment; `data` are the sha256 of all files behind it."""
    lineage = policy.ancestors()
    sources = (one.meta["source"] for one in lineage.values())
    return {
        "kind": "agent",
        "algo": policy.params["algo"],
        "layers": [f"layers.{i}" for i in range(len(policy.params["hidden"]) + 1)],
        "lineage": _identities(lineage),
        "data": sorted({source["sha256"] for source in sources if source}),
    }


def _identities(lineage: dict[str, Artifact]) -> dict[str, dict[str, str]]:
    return {stage: {"key": one.key, "digest": one.digest} for stage, one in lineage.items()}


def _energy_layers(policy: Artifact) -> list[str]:
    """The layers of a guide's energy, in their order; none for a policy that has no such network."""
    if policy.stage != "guide" or "hidden" not in policy.params:
        return []
    return ["energy.entry", *(f"energy.layers.{i}" for i in range(len(policy.params["hidden"])))]


def _task(artifact: Artifact) -> Task:
    return Task.from_json(artifact.meta["task"])


def _temperature(settings: EvalSettings) -> float:
    """The first temperature at which as many candidates as act.py takes are not all equal."""
    several = settings.resample[0] > 1
    return next(temperature for temperature in settings.temperature if temperature > 0 or not several)
