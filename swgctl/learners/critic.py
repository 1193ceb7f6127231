"""In-sample critic learning (SWG, Algorithm 3)."""

import numpy as np
import torch
from torch import Tensor

from swgctl.config import CriticSettings
from swgctl.learners import losses
from swgctl.models import Critic, reset
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions
from swgctl.training import Streams
from swgctl.training.optimisers import Adam, average_


class CriticLearner:
    """Twin Q, their targets, and V (SWG, Algorithm 3)."""

    chunk = 200

    def __init__(
        self, data: Transitions, settings: CriticSettings, rewards: str, seeds: list[int], device: torch.device
    ):
        self.settings = settings
        o, a = data.observations.shape[1], data.actions.shape[1]
        self.widths = [o, a, 1, 1, o]
        # One row holds a whole transition, so that a minibatch is one gather; all rows are kept, which saves a copy.
        self.rows = torch.from_numpy(data.packed(rewards)).to(device)
        self.usable = torch.from_numpy(np.flatnonzero(data.known_next)).to(device)

        self.critic = Critic(len(seeds), self.widths[0], self.widths[1], settings.hidden)
        reset(self.critic, [generator(seed, "critic/init", 0) for seed in seeds])
        self.critic.q_target.load_state_dict(self.critic.q.state_dict())
        self.critic.to(device)
        self.q: list[Tensor] = list(self.critic.q.parameters())
        self.q_target: list[Tensor] = list(self.critic.q_target.parameters())
        self.q_adam = Adam(self.q, settings.lr)
        self.v_adam = Adam(self.critic.v.parameters(), settings.lr)
        temperature = settings.alpha if settings.loss == "linex" else settings.tau
        self.value_loss = lambda q, v: losses.VALUE_LOSSES[settings.loss](q, v, temperature)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        size = (self.chunk, self.settings.batch)
        picks = [torch.randint(len(self.usable), size, generator=g, device=g.device) for g in streams("batch")]
        return {"rows": self.usable[torch.stack(picks, 1)]}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        critic = self.critic
        observations, actions, rewards, terminals, next_observations = self.rows[drawn["rows"]].split(self.widths, -1)
        twins = critic.twins(observations, actions)

        v_loss, v_info = self.value_loss(critic.q_target(twins).amin(1), critic.v(observations))
        self.v_adam.descend(v_loss.sum())  # summed over the seeds, so members never mix

        with torch.no_grad():
            next_v = critic.v(next_observations)
        q_loss, q_info = losses.q_loss(
            critic.q(twins), rewards.squeeze(-1), terminals.squeeze(-1), next_v, self.settings.gamma
        )
        self.q_adam.descend(q_loss.sum())
        average_(self.q_target, self.q, self.settings.target_rate)
        info = {"v_loss": v_loss, "q_loss": q_loss, **v_info, **q_info}
        return {name: value.detach() for name, value in info.items()}

    def state(self) -> dict[str, Tensor]:
        return self.critic.state_dict() | self.q_adam.tensors("q_adam") | self.v_adam.tensors("v_adam")
