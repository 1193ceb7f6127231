"""critic: transitions -> Q and V, learned in-sample (SWG, Algorithm 3).

Reads the task's data file.  Writes critic.safetensors: q (S, 2, ...), q_target (S, 2, ...), v (S, ...).
"""

from collections.abc import Mapping
from pathlib import Path

from swgctl.config import CRITIC, CriticSettings
from swgctl.files import save_tensors
from swgctl.stages.job import Job, locate_source
from swgctl.tasks import Task


def prepare(task: Task, settings: CriticSettings, seeds: list[int], inputs: Mapping) -> Job[CriticSettings]:
    path, digest = locate_source(task)
    rewards = task.rewards if settings.rewards == "task" else settings.rewards
    # The task is part of the key: one file under two names is two problems with separate artifacts.
    of_task = {"task": task.name, "environment": task.environment, "horizon": task.horizon}
    params = settings.keyed() | {"rewards": rewards} | of_task
    return Job(CRITIC, task, settings, params, seeds, {}, path, digest)


def build(job: Job[CriticSettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl import training
    from swgctl.learners import CriticLearner
    from swgctl.tasks import environments, transitions

    data = transitions.read(job.data, clip_actions=job.settings.clip_actions, horizon=job.task.horizon)
    environments.check(environments.make(job.task.environment), data)
    returns = data.episode_returns()
    learner = CriticLearner(data, job.settings, job.params["rewards"], job.seeds, torch.device(job.device))
    facts = {
        "rows": len(data),
        "episodes": len(returns),
        "return_mean": float(returns.mean()),
        "return_best": float(returns.max()),
        "observation_dim": data.observations.shape[1],
        "action_dim": data.actions.shape[1],
    }
    del data
    rows = training.train(
        learner,
        name="critic",
        seeds=job.seeds,
        steps=job.settings.steps,
        work=work,
        device=torch.device(job.device),
        mode=job.mode,
        precision=job.settings.precision,
    )
    save_tensors(directory / "critic.safetensors", learner.critic.state_dict(), job.stage.name, job.task, job.seeds)
    (directory / "metrics.jsonl").write_text(training.to_lines(rows))
    return training.summary(rows) | {"data": facts}
