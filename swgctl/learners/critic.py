"""Critic learning: in-sample (SWG, Algorithm 3), conservative (CQL), or in-support (QGPO)."""

import torch
from torch import Tensor

from swgctl.config import CriticSettings
from swgctl.learners import losses
from swgctl.learners.rows import Rows
from swgctl.models import Critic, reset
from swgctl.models.critic import MLP
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions
from swgctl.training import Streams
from swgctl.training.optimisers import Adam, average_

UNIFORM = 16  # uniform actions of a state in CQL's penalty


class CriticLearner:
    """Twin Q, their targets, and V.

    In-sample (SWG, Algorithm 3; losses expectile, quantile, linex, dice): V(s) learns from Q(s, a) at the data's
    actions, and Q from r + gamma V(s').

    cql: as expectile, and Q pays cql_alpha times `losses.conservative_penalty` (CQL, arXiv 2006.04779, equation 4).
    Which variant of CQL AEPO's Figure 1 shows is not known: it says neither how the actions of the penalty are drawn
    nor what bootstraps Q.  Here they are uniform in [-1, 1]^A, and Q bootstraps from an expectile V.

    isq (in-support softmax Q-learning; QGPO, arXiv 2304.12824; AEPO's ISQL): Q learns from r + gamma times the
    `losses.in_support_value` of s', by the lesser target twin at a behaviour model's actions; V(s') is regressed on it,
    so that V never learns at a state to which no transition leads, as an episode's first.
    """

    def __init__(
        self,
        data: Transitions,
        settings: CriticSettings,
        rewards: str,
        seeds: list[int],
        device: torch.device,
        candidates: Tensor | None = None,
    ):
        """candidates (S, N, M, A): actions of the behaviour model at the next state of each row, which isq learns from.

        Raises ValueError unless they are given for isq and for no other loss.
        """
        if (settings.loss == "isq") != (candidates is not None):
            raise ValueError("the loss isq, and no other, learns from candidates")
        self.settings = settings
        self.chunk = 20 if settings.loss == "cql" else 200  # short for the memory that uniform actions take
        o, a = data.observations.shape[1], data.actions.shape[1]
        self.widths = [o, a, 1, 1, o]
        # One row holds a whole transition, so that a minibatch is one gather; all rows are kept, which saves a copy.
        self.rows = torch.from_numpy(data.packed(rewards)).to(device)
        self.known = Rows(torch.from_numpy(data.rows_of(seeds)).to(device))
        self.candidates = None if candidates is None else candidates.to(device)
        self.members = torch.arange(len(seeds), device=device).unsqueeze(1)

        self.critic = Critic(len(seeds), self.widths[0], self.widths[1], settings.hidden)
        reset(self.critic, [generator(seed, "critic/init", 0) for seed in seeds])
        self.critic.q_target.load_state_dict(self.critic.q.state_dict())
        self.critic.to(device)
        self.q: list[Tensor] = list(self.critic.q.parameters())
        self.q_target: list[Tensor] = list(self.critic.q_target.parameters())
        self.q_adam = Adam(self.q, settings.lr)
        self.v_adam = Adam(self.critic.v.parameters(), settings.lr)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        size = (self.chunk, self.settings.batch)
        drawn = {"rows": self.known.draw(size, streams("batch"))}
        if self.settings.loss == "cql":
            shape = (*size, UNIFORM, self.widths[1])
            uniform = [torch.rand(shape, generator=g, device=g.device) for g in streams("uniform")]
            drawn["uniform"] = torch.stack(uniform, 1).mul_(2).sub_(1)
        return drawn

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        critic, settings = self.critic, self.settings
        observations, actions, rewards, terminals, next_observations = self.rows[drawn["rows"]].split(self.widths, -1)
        rewards, terminals = rewards.squeeze(-1), terminals.squeeze(-1)
        twins = critic.twins(observations, actions)

        if self.candidates is None:
            loss_of, parameter = losses.VALUE_LOSSES[settings.loss]
            q_target, v = critic.q_target(twins).amin(1), critic.v(observations)
            v_loss, v_info = loss_of(q_target, v, getattr(settings, parameter))
        else:
            candidates = self.candidates[self.members, drawn["rows"]]
            q_target = _q_of_many(critic, critic.q_target, next_observations, candidates).amin(1)
            next_v = losses.in_support_value(q_target, settings.q_beta)
            v_loss, v_info = losses.in_support_loss(next_v, critic.v(next_observations), terminals)
        self.v_adam.descend(v_loss.sum())  # summed over the seeds, so members never mix

        if self.candidates is None:
            with torch.no_grad():
                next_v = critic.v(next_observations)
        q = critic.q(twins)
        q_loss, q_info = losses.q_loss(q, rewards, terminals, next_v, settings.gamma)
        if settings.loss == "cql":
            q_uniform = _q_of_many(critic, critic.q, observations, drawn["uniform"])
            penalty, penalty_info = losses.conservative_penalty(q_uniform, q)
            q_loss, q_info = q_loss + settings.cql_alpha * penalty, q_info | penalty_info
        self.q_adam.descend(q_loss.sum())
        average_(self.q_target, self.q, settings.target_rate)
        info = {"v_loss": v_loss, "q_loss": q_loss, **v_info, **q_info}
        return {name: value.detach() for name, value in info.items()}

    def state(self) -> dict[str, Tensor]:
        return self.critic.state_dict() | self.q_adam.tensors("q_adam") | self.v_adam.tensors("v_adam")


def _q_of_many(critic: Critic, q: MLP, observations: Tensor, actions: Tensor) -> Tensor:
    """Twin values (S, 2, B, M) of M actions (S, B, M, A) at each of the observations (S, B, O)."""
    many = actions.shape[2]
    states = observations.unsqueeze(2).expand(-1, -1, many, -1)
    return q(critic.twins(states.flatten(1, 2), actions.flatten(1, 2))).unflatten(-1, (-1, many))
