"""critic: transitions -> Q and V, learnt in-sample (SWG, Algorithm 3).

Reads the task's data file.  Writes critic.safetensors: q (S, 2, ...), q_target (S, 2, ...), v (S, ...).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swgctl import critics, training
from swgctl.config import CriticSettings, Resolved
from swgctl.models import Critic, reset
from swgctl.optimisers import Adam
from swgctl.stages import Job, locate_source
from swgctl.store import save_tensors
from swgctl.tasks import Task

REVISION = 1


def prepare(task: Task, resolved: Resolved, inputs: dict, device: str) -> Job:
    settings: CriticSettings = resolved["critic"]
    path, digest = locate_source(task)
    rewards = task.rewards if settings.rewards == "task" else settings.rewards
    params = settings.keyed() | {"rewards": rewards, "environment": task.environment, "horizon": task.horizon}
    return Job("critic", REVISION, task, settings, params, resolved.seeds, {}, path, digest, device)


def build(job: Job, directory: Path, work: Path) -> dict:
    from swgctl.tasks import environments, transitions

    data = transitions.read(job.source, clip_actions=job.settings.clip_actions, horizon=job.task.horizon)
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
        precision=job.settings.precision,
    )
    save_tensors(directory / "critic.safetensors", learner.critic.state_dict(), job.stage, job.task, job.seeds)
    (directory / "metrics.jsonl").write_text(training.to_lines(rows))
    return training.summary(rows) | {"data": facts}


class CriticLearner:
    """Twin Q, V and their targets for S seeds.  See `training.Learner`."""

    chunk = 200

    def __init__(self, data, settings: CriticSettings, rewards: str, seeds: list[int], device: torch.device):
        self.settings = settings
        rows = np.flatnonzero(data.known_next)
        columns = (
            data.observations,
            data.actions,
            data.transformed_rewards(rewards)[:, None],
            data.terminals[:, None],
            data.next_observations,
        )
        self.widths = [column.shape[1] for column in columns]
        # One row holds a whole transition, so that a minibatch is one gather.
        packed = torch.empty(len(rows), sum(self.widths))
        for part, column in zip(packed.split(self.widths, 1), columns, strict=True):
            part.copy_(torch.from_numpy(column[rows].astype(np.float32, copy=False)))
        self.rows = packed.to(device)

        self.critic = Critic(len(seeds), self.widths[0], self.widths[1], settings.hidden)
        reset(self.critic, [training.generator(seed, "critic/init", 0) for seed in seeds])
        self.critic.q_target.load_state_dict(self.critic.q.state_dict())
        self.critic.to(device)
        self.q, self.q_target = list(self.critic.q.parameters()), list(self.critic.q_target.parameters())
        self.q_adam = Adam(self.q, settings.lr)
        self.v_adam = Adam(self.critic.v.parameters(), settings.lr)
        temperature = settings.alpha if settings.loss == "linex" else settings.tau
        self.value_loss = lambda q, v: critics.VALUE_LOSSES[settings.loss](q, v, temperature)

    def draw(self, streams: training.Streams) -> dict[str, Tensor]:
        size = (self.chunk, self.settings.batch)
        rows = [torch.randint(len(self.rows), size, generator=g, device=g.device) for g in streams("batch")]
        return {"rows": torch.stack(rows, 1)}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        critic = self.critic
        observations, actions, rewards, terminals, next_observations = self.rows[drawn["rows"]].split(self.widths, -1)
        twins = critic.twins(observations, actions)

        v_loss, v_info = self.value_loss(critic.q_target(twins).amin(1), critic.v(observations))
        self.v_adam.descend(v_loss.sum())  # summed over the seeds, so members never mix

        with torch.no_grad():
            next_v = critic.v(next_observations)
        q_loss, q_info = critics.q_loss(
            critic.q(twins), rewards.squeeze(-1), terminals.squeeze(-1), next_v, self.settings.gamma
        )
        self.q_adam.descend(q_loss.sum())
        critics.soft_update(self.q_target, self.q, self.settings.target_rate)
        info = {"v_loss": v_loss, "q_loss": q_loss, **v_info, **q_info}
        return {name: value.detach() for name, value in info.items()}

    def state(self) -> dict[str, Tensor]:
        return self.critic.state_dict() | self.q_adam.tensors("q_adam") | self.v_adam.tensors("v_adam")
