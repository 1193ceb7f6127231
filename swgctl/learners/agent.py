"""Agents, actors that learn from any set of transitions: TD3+BC (arXiv 2106.06860) and IQL (arXiv 2110.06169).

Orders of updates and constants are those of the published code of PGD (arXiv 2404.06356).
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from swgctl.config import AgentSettings
from swgctl.learners import losses
from swgctl.learners.rows import Rows
from swgctl.models import Actor, Critic, reset
from swgctl.models.critic import TwinQ
from swgctl.randomness import generator
from swgctl.training import Streams
from swgctl.training.optimisers import Adam, average_

EPS = 1e-5  # Adam's


@dataclass
class Experience:
    """Transitions to learn from.

    table  (S, N, 2 O + A + 2) float32, or (1, N, ...) if all members share it: `Transitions.packed`
    rows   row numbers of the table that minibatches are drawn from
    """

    table: Tensor
    rows: Rows

    def to(self, device: torch.device) -> "Experience":
        return Experience(self.table.to(device), Rows(self.rows.numbers.to(device)))

    def batch(self, rows: Tensor) -> Tensor:
        """Rows (S, B, 2 O + A + 2) by their numbers (S, B)."""
        members = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return self.table.expand(len(rows), -1, -1)[members, rows]


@dataclass
class Batch:
    """Transitions (S, B, ...); the critic takes observations z-scored, the actor raw."""

    raw: Tensor
    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminals: Tensor
    raw_next: Tensor
    next_observations: Tensor


class AgentLearner(ABC):
    """An actor, twin Q and their targets, with an Adam each for the actor and Q.

    A minibatch has `settings.batch` rows, of which `settings.real` are of the task's own data where that is given.
    """

    chunk = 100
    gaussian: bool  # the actor is
    values: type[TwinQ]  # Q, and V where there is one
    targets: list[Tensor]  # follow `online` at the start of each step
    online: list[Tensor]

    def __init__(
        self,
        data: Experience,
        statistics: tuple[Tensor, Tensor],
        settings: AgentSettings,
        seeds: list[int],
        device: torch.device,
        real: Experience | None = None,
    ):
        """statistics  mean and standard deviation of the observations, (O,) or (S, O) each
        real        the task's own data; None: all rows are of `data`
        """
        self.settings = settings
        self.data, self.real = data.to(device), real.to(device) if real else None
        observation_dim = statistics[0].shape[-1]
        sizes = (len(seeds), observation_dim, data.table.shape[-1] - 2 * observation_dim - 2, settings.hidden)
        self.actor = actor = Actor(*sizes, gaussian=self.gaussian)
        self.critic = critic = self.values(*sizes, init="lecun")
        reset(nn.ModuleList([actor, critic]), [generator(seed, "agent/init", 0) for seed in seeds])
        if settings.normalise:
            actor.standardise(*statistics)
        critic.q_target.load_state_dict(critic.q.state_dict())
        actor.to(device)
        critic.to(device)
        self.online, self.targets = list(critic.q.parameters()), list(critic.q_target.parameters())
        self.actor_adam = Adam(actor.parameters(), settings.lr, eps=EPS)
        self.q_adam = Adam(critic.q.parameters(), settings.lr, eps=EPS)
        self.set_up()

    @abstractmethod
    def set_up(self) -> None:
        """Make what the algorithm has besides, of networks that are initialised and on their device."""

    def fill(self, rows: Tensor, slot: int) -> None:
        """Overwrite a slot of the table, in place: rows (S, n, 2 O + A + 2), `settings.keep` slots of n rows each.

        Raises ValueError for rows of another shape.
        """
        members, n, width = self.data.table.shape
        size = n // self.settings.keep
        if rows.shape != (members, size, width) or size * self.settings.keep != n:
            raise ValueError(f"a slot of {self.settings.keep} in {(members, n, width)} is not {tuple(rows.shape)}")
        self.data.table[:, slot * size : (slot + 1) * size].copy_(rows)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        real = self.settings.real if self.real else 0
        drawn = {"rows": self.data.rows.draw((self.chunk, self.settings.batch - real), streams("batch"))}
        if self.real:
            drawn["real"] = self.real.rows.draw((self.chunk, real), streams("real"))
        return drawn

    @abstractmethod
    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]: ...

    def batch(self, drawn: dict[str, Tensor]) -> Batch:
        """The rows drawn, those of the task's own data last."""
        rows = self.data.batch(drawn["rows"])
        if self.real:
            rows = torch.cat([rows, self.real.batch(drawn["real"])], 1)
        o, a = self.actor.observation_dim, self.actor.action_dim
        raw, actions, rewards, terminals, raw_next = rows.split([o, a, 1, 1, o], -1)
        scaled = self.actor.z_scored
        return Batch(raw, scaled(raw), actions, rewards.squeeze(-1), terminals.squeeze(-1), raw_next, scaled(raw_next))

    def descend_q(self, batch: Batch, next_value: Tensor) -> dict[str, Tensor]:
        """Take one step of Q towards r + gamma (1 - done) next_value (S, B)."""
        q = self.critic.q(self.critic.twins(batch.observations, batch.actions))
        loss, info = losses.q_loss(q, batch.rewards, batch.terminals, next_value, self.settings.gamma)
        self.q_adam.descend(loss.sum())  # summed over the seeds, so members never mix
        return {"q_loss": loss, **info}

    def tensors(self) -> dict[str, Tensor]:
        """What an artifact keeps: `actor.*`, `q.*`, `q_target.*`; Q takes observations as the actor z-scores them."""
        return _named("actor", self.actor) | self.critic.state_dict()

    def state(self) -> dict[str, Tensor]:
        return self.tensors() | self.actor_adam.tensors("actor_adam") | self.q_adam.tensors("q_adam")


class TD3BCLearner(AgentLearner):
    """TD3+BC: the actor ascends Q and clones; Q bootstraps from a target actor's action under clipped noise.

    A step moves the targets, then the actor, then Q `settings.critic_updates` times on the same minibatch.
    """

    gaussian, values = False, TwinQ

    def set_up(self) -> None:
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.online += self.actor.parameters()
        self.targets += self.actor_target.parameters()

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        shape = (self.chunk, self.settings.critic_updates, self.settings.batch, self.actor.action_dim)
        noise = [torch.randn(shape, generator=g, device=g.device) for g in streams("noise")]
        return super().draw(streams) | {"noise": torch.stack(noise, 1)}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        settings, batch = self.settings, self.batch(drawn)
        average_(self.targets, self.online, settings.target_rate)

        actions = self.actor(batch.raw)
        q = self.critic.first(batch.observations, actions)
        actor_loss, info = losses.td3bc_loss(q, actions, batch.actions, settings.alpha)
        self.actor_adam.descend(actor_loss.sum())

        next_actions = self.actor_target(batch.raw_next)
        for noise in drawn["noise"].unbind(1):
            smoothing = (settings.policy_noise * noise).clamp(-settings.noise_clip, settings.noise_clip)
            twins = self.critic.twins(batch.next_observations, (next_actions + smoothing).clamp(-1, 1))
            q_info = self.descend_q(batch, self.critic.q_target(twins).amin(1))
        info |= {"actor_loss": actor_loss, **q_info}
        return {name: value.detach() for name, value in info.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The base's, and `actor_target.*`."""
        return super().tensors() | _named("actor_target", self.actor_target)


class IQLLearner(AgentLearner):
    """IQL: V is an expectile of Q at the data's actions, Q bootstraps from V, the actor clones by exp(beta (Q - V)).

    A step moves the targets, V, Q and the actor, in this order.  Q bootstraps from V after its update, as
    `CriticLearner` has it, where PGD's code takes V before it; the actor's advantage is that of before, as in the code.
    """

    gaussian, values = True, Critic
    critic: Critic

    def set_up(self) -> None:
        self.v_adam = Adam(self.critic.v.parameters(), self.settings.lr, eps=EPS)

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        settings, batch = self.settings, self.batch(drawn)
        average_(self.targets, self.online, settings.target_rate)

        q_target, v = self.critic.value(batch.observations, batch.actions)
        advantages = (q_target - v).detach()
        v_loss, info = losses.expectile_loss(q_target, v, settings.tau)
        self.v_adam.descend(v_loss.sum())

        with torch.no_grad():
            next_value = self.critic.v(batch.next_observations)
        info |= self.descend_q(batch, next_value)

        mean, sd = self.actor.act(batch.raw)
        actor_loss, actor_info = losses.weighted_cloning_loss(
            advantages, batch.actions, mean, sd, settings.beta, settings.advantage_clip
        )
        self.actor_adam.descend(actor_loss.sum())
        info |= {"v_loss": v_loss, "actor_loss": actor_loss, **actor_info}
        return {name: value.detach() for name, value in info.items()}

    def state(self) -> dict[str, Tensor]:
        return super().state() | self.v_adam.tensors("v_adam")


LEARNERS: dict[str, type[AgentLearner]] = {"td3bc": TD3BCLearner, "iql": IQLLearner}  # by agent.algo


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
