"""What the loop trains: the critic and the denoiser, S seeds each.  See `training.Learner`."""

import copy

import numpy as np
import torch
from torch import Tensor

from swgctl import critics, training
from swgctl.config import CriticSettings, DiffuseSettings, ToySettings
from swgctl.diffusion import Schedule
from swgctl.models import ARCHITECTURE, TOY_ARCHITECTURE, Critic, Denoiser, ToyDenoiser, reset
from swgctl.optimisers import Adam
from swgctl.toys.densities import EnergyWeights


class CriticLearner:
    """Twin Q, V and their targets (SWG, Algorithm 3)."""

    chunk = 200

    def __init__(self, data, settings: CriticSettings, rewards: str, seeds: list[int], device: torch.device):
        self.settings = settings
        o, a = data.observations.shape[1], data.actions.shape[1]
        self.widths = [o, a, 1, 1, o]
        # One row holds a whole transition, so that a minibatch is one gather; all rows, so that there need be no copy.
        self.rows = torch.from_numpy(data.packed(rewards)).to(device)
        self.known = torch.from_numpy(np.flatnonzero(data.known_next)).to(device)

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
        picks = [torch.randint(len(self.known), size, generator=g, device=g.device) for g in streams("batch")]
        return {"rows": self.known[torch.stack(picks, 1)]}

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


class DiffuseLearner:
    """Denoisers and their running averages (SWG, Algorithm 1)."""

    chunk = 50

    def __init__(self, observations, actions, weights, settings: DiffuseSettings, seeds: list[int], device):
        """observations (N, O), actions (N, A), weights (S, N)."""
        self.settings = settings
        self.observations, self.actions = observations.to(device), actions.to(device)
        self.weights = weights.to(device)
        if settings.weight_scale == "unit":
            self.weights = self.weights / self.weights.mean(1, keepdim=True)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        self.members = torch.arange(len(seeds), device=device).unsqueeze(1)
        self.denoiser = Denoiser(
            len(seeds), observations.shape[1], actions.shape[1], **settings.model_dump(include=set(ARCHITECTURE))
        )
        reset(self.denoiser, [training.generator(seed, "diffuse/init", 0) for seed in seeds])
        self.denoiser.to(device)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.parameters, self.averages = list(self.denoiser.parameters()), list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr, settings.decay, settings.steps)

    def draw(self, streams: training.Streams) -> dict[str, Tensor]:
        c, batch, rows = self.chunk, self.settings.batch, len(self.actions)
        channels = self.actions.shape[1] + 1
        drawn = {
            "rows": [torch.randint(rows, (c, batch), generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(self.settings.K, (c, batch), generator=g, device=g.device) for g in streams("k")],
            "eps": [torch.randn(c, batch, channels, generator=g, device=g.device) for g in streams("noise")],
        }
        if self.settings.dropout:
            shape = (c, self.settings.blocks, batch, self.settings.width)
            drawn["keep"] = [_bernoulli(shape, 1 - self.settings.dropout, g) for g in streams("dropout")]
        return {name: torch.stack(values, 1) for name, values in drawn.items()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, eps = drawn["rows"], drawn["k"], drawn["eps"]
        weights = self.weights[self.members, rows].unsqueeze(-1)
        z0 = torch.cat([self.actions[rows], weights], -1)
        z = self.schedule.noisy(z0, eps, k)
        error = self.denoiser(z, k, self.observations[rows], drawn.get("keep")) - eps
        channels = error.square().mean(1)  # equation 9: the mean over the batch of the sum over the channels
        loss = channels.sum(-1)
        self.adam.descend(loss.sum())  # summed over the seeds, so members never mix
        critics.soft_update(self.averages, self.parameters, self.settings.ema)
        channels = channels.detach()
        return {
            "loss": loss.detach(),
            "action_loss": channels[:, :-1].sum(-1),
            "weight_loss": channels[:, -1],
        }

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.denoiser.state_dict() | averages | self.adam.tensors("adam")


class ToyLearner:
    """Denoisers of the toys, for every beta, and their running averages (SWG, appendix B.1)."""

    chunk = 100

    def __init__(self, points: Tensor, labels: Tensor, settings: ToySettings, seeds: list[int], device: torch.device):
        """points (N, 2) in [-1, 1]; labels (N,)."""
        self.settings = settings
        self.points, self.labels = points.float().to(device), labels.double().to(device)
        self.weigh = EnergyWeights(self.labels, settings.beta_max, settings.weight_scale)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K).to(device, torch.float32)
        self.denoiser = ToyDenoiser(len(seeds), 3, **settings.model_dump(include=set(TOY_ARCHITECTURE)))
        reset(self.denoiser, [training.generator(seed, "toy/init", 0) for seed in seeds])
        self.denoiser.to(device)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.parameters, self.averages = list(self.denoiser.parameters()), list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr, settings.decay, settings.steps)

    def draw(self, streams: training.Streams) -> dict[str, Tensor]:
        s, size = self.settings, (self.chunk, self.settings.batch)
        drawn = {
            "rows": [torch.randint(len(self.points), size, generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(s.K, size, generator=g, device=g.device) for g in streams("k")],
            "beta": [torch.rand(size, generator=g, device=g.device) for g in streams("beta")],
            "eps": [torch.randn(*size, 3, generator=g, device=g.device) for g in streams("noise")],
        }
        if s.draws == "focused":
            # Details of a density are learnt at the least noisy steps, and without a weight's help near beta = 0:
            # half of k is drawn from the first eighth, and half of beta as a square.
            near = [torch.rand(2, *size, generator=g, device=g.device) < 0.5 for g in streams("near")]
            drawn["k"] = [torch.where(fine, k // 8, k) for (fine, _), k in zip(near, drawn["k"], strict=True)]
            drawn["beta"] = [torch.where(low, b**2, b) for (_, low), b in zip(near, drawn["beta"], strict=True)]
        stacked = {name: torch.stack(values, 1) for name, values in drawn.items()}
        return stacked | {"beta": s.beta_max * stacked["beta"]}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, beta, eps = drawn["rows"], drawn["k"], drawn["beta"], drawn["eps"]
        z0 = torch.cat([self.points[rows], self.weigh(self.labels[rows], beta).unsqueeze(-1)], -1)
        error = self.denoiser(self.schedule.noisy(z0, eps, k), k, beta) - eps
        channels = error.square().mean(1)
        loss = channels.sum(-1)
        self.adam.descend(loss.sum())
        # From the first step on an average of what there is, so that few steps do not leave it at the start.
        critics.soft_update(self.averages, self.parameters, (1 / self.adam.done).clamp(min=self.settings.ema))
        channels = channels.detach()
        return {"loss": loss.detach(), "action_loss": channels[:, :2].sum(-1), "weight_loss": channels[:, 2]}

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.denoiser.state_dict() | averages | self.adam.tensors("adam")


def _bernoulli(shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """True with probability p, from 16 random bits each: three times as fast as `bernoulli_` on a CPU."""
    count = int(torch.tensor(shape).prod())
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:count] <= round(p * 2**16) - 2**15 - 1).view(shape)
