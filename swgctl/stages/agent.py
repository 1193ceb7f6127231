"""agent: transitions -> a target policy, TD3+BC or IQL.

From a task it learns from the task's data; from synthetic sets, from their mixture; from a trajectory model, from sets
that it guides itself and draws anew while it trains (PGD, arXiv 2404.06356, Algorithm 1).  Writes agent.safetensors:
`actor.*`, with the mean and deviation of its observations; `q.*` and `q_target.*` (S, 2, ...); `v.*`, of IQL;
`actor_target.*`, of TD3+BC.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.config import AGENT, AgentSettings
from swgctl.config.synthetic import Generation
from swgctl.errors import InputError, UsageError
from swgctl.files import save_tensors
from swgctl.seeds import ranges
from swgctl.stages.inputs import locate_data
from swgctl.stages.job import Job, facts_of, locate_source, read_source, train
from swgctl.store import Artifact
from swgctl.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from swgctl.learners.agent import AgentLearner, Experience
    from swgctl.learners.regeneration import Regenerating
    from swgctl.tasks.transitions import Transitions


def unread(inputs: Mapping, settings: AgentSettings) -> set[str]:
    """The settings of regeneration where it learns from fixed data; `real` where all of that is the task's own."""
    if "trajectories" in inputs:
        return set()
    return {*Generation.model_fields, "epochs", "keep", *(() if inputs else ("real",))}


def check(task: Task, settings: AgentSettings) -> None:
    """Refuse periods that do not fit the steps.  Raises UsageError."""
    if settings.steps % settings.epochs:
        raise UsageError(
            f"agent.epochs = {settings.epochs} does not divide agent.steps = {settings.steps:,}",
            f"--set agent.steps={-(-settings.steps // settings.epochs) * settings.epochs}",
        )
    if settings.keep > settings.epochs:
        raise UsageError(
            f"agent.keep = {settings.keep} is above agent.epochs = {settings.epochs}",
            f"--set agent.keep={settings.epochs}",
        )


def prepare(
    task: Task, settings: AgentSettings, seeds: list[int], inputs: Mapping[str, Artifact]
) -> Job[AgentSettings]:
    if "trajectories" in inputs:
        check(task, settings)
    for other in inputs.values():
        theirs, ours = other.meta["task"]["environment"], task.environment
        if theirs != ours or other.seeds != seeds:
            what = f"acts in {theirs}, not {ours}" if theirs != ours else f"has the seeds {ranges(other.seeds)}"
            raise InputError(
                f"{other.id} {what}, and an agent learns from sets of one environment and of the same seeds",
                f"swgctl agent --from {next(iter(inputs.values())).id}",
            )
    own = not inputs or settings.real > 0
    model = next(iter(inputs.values()), None)
    path, digest = (locate_data(model) if model else locate_source(task)) if own else (None, None)
    rewards = task.rewards if settings.rewards == "task" else settings.rewards
    params = {name: value for name, value in settings.keyed().items() if name not in unread(inputs, settings)}
    if not own:
        params.pop("clip_actions")
    params |= {"rewards": rewards} | task.keyed()
    return Job(AGENT, task, settings, params, seeds, inputs, path, digest)


def build(job: Job[AgentSettings], directory: Path, work: Path) -> dict:
    own = read_source(job) if job.source else None
    facts = facts_of(own) if own else _facts(next(iter(job.inputs.values())))
    real = _experience([own], job) if own and job.inputs else None
    trained: AgentLearner | Regenerating
    if "trajectories" in job.inputs:
        learner, trained = _regenerating(job, facts, real)
    else:
        sets = [own] if own and not job.inputs else [_read(one) for one in job.inputs.values()]
        learner = trained = _fixed(job, _experience(sets, job), facts, real)
    metrics = train(job, trained, directory, work)
    save_tensors(directory / "agent.safetensors", learner.tensors(), job.stage.name, job.task, job.seeds)
    return metrics | {"data": facts | {"parameters": sum(p[0].numel() for p in learner.actor.parameters())}}


def _fixed(job: Job[AgentSettings], data: "Experience", facts: dict, real: "Experience | None") -> "AgentLearner":
    """The learner of data that stays."""
    import torch

    from swgctl.learners.agent import LEARNERS

    statistics = _statistics(data, facts["observation_dim"])
    return LEARNERS[job.settings.algo](data, statistics, job.settings, job.seeds, torch.device(job.device), real)


def _regenerating(
    job: Job[AgentSettings], facts: dict, real: "Experience | None"
) -> "tuple[AgentLearner, Regenerating]":
    """The learner of data that is drawn anew, and what the loop trains.  Observations are z-scored as the model's."""
    import torch

    from swgctl.learners.agent import LEARNERS, Experience
    from swgctl.learners.regeneration import Regenerating
    from swgctl.learners.rows import Rows
    from swgctl.policies.trajectories import load_trajectories, transitions_of

    s, device = job.settings, torch.device(job.device)
    sampler = load_trajectories(job.inputs["trajectories"], job.device)
    channels, o = sampler.channels, facts["observation_dim"]
    rows, width = s.keep * s.trajectories * (sampler.length - 1), 2 * o + facts["action_dim"] + 2
    data = Experience(torch.zeros(len(job.seeds), rows, width), Rows(torch.arange(rows)))
    learner = LEARNERS[s.algo](data, (channels.mean[:o].cpu(), channels.std[:o].cpu()), s, job.seeds, device, real)
    returns = (facts["return_least"], facts["return_mean"], facts["return_best"])

    def packed(x: torch.Tensor) -> torch.Tensor:
        drawn = transitions_of(x, channels, job.seeds, returns)
        return torch.from_numpy(drawn.packed(job.params["rewards"])).unflatten(0, (len(x), -1))

    return learner, Regenerating(learner, sampler, packed, s, job.seeds, device, job.mode)


def _facts(source: Artifact) -> dict:
    """The facts about the data behind a synthetic set or a trajectory model."""
    while "return_best" not in source.meta["metrics"]["data"]:
        source = source.parent("trajectories" if "trajectories" in source.meta["inputs"] else "dynamics")
    facts = source.meta["metrics"]["data"]
    return {name: facts[name] for name in facts if name not in ("parameters", "windows")}


def _read(synth: Artifact) -> "Transitions":
    from swgctl.tasks import transitions

    return transitions.read(synth.file("data.hdf5"))


def _experience(sets: "list[Transitions]", job: Job) -> "Experience":
    """The rows of several sets in one table, and for each member the numbers of those that it learns from."""
    import torch

    from swgctl.learners.agent import Experience
    from swgctl.learners.rows import Rows

    spans = {one.returns()[::2] for one in sets} if job.params["rewards"] == "return_range" else set()
    if len(spans) > 1:
        raise InputError(
            "the sets imitate data of several ranges of returns, and each would scale its rewards by its own",
            "add --set agent.rewards=none",
        )
    tables, rows, before = [], [], 0
    for one in sets:
        numbers = one.rows_of(job.seeds)
        tables.append(torch.from_numpy(one.packed(job.params["rewards"])))
        rows.append(torch.from_numpy(numbers) + before)
        before += len(one)
    if any(one.dim() > 1 for one in rows):
        rows = [one.expand(len(job.seeds), -1) for one in rows]
    return Experience(torch.cat(tables).unsqueeze(0), Rows(torch.cat(rows, -1)))


def _statistics(data: "Experience", observation_dim: int) -> "tuple[Tensor, Tensor]":
    """Mean and standard deviation of the observations that are learnt from: (O,), or (S, O) of each member's rows."""
    observations = data.table[0][data.rows.numbers][..., :observation_dim].double()
    return observations.mean(-2).float(), observations.std(-2, correction=0).float()
