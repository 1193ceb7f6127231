"""Small learners of generated data."""

import numpy as np
import torch

from swgctl.config import (
    AgentSettings,
    BehaviourSettings,
    CriticSettings,
    DiffuseSettings,
    DynamicsSettings,
    GuideSettings,
    TrajectoriesSettings,
)
from swgctl.diffusion import Schedule
from swgctl.learners import CriticLearner, DiffuseLearner, GuideLearner
from swgctl.learners.agent import LEARNERS, Experience
from swgctl.learners.dynamics import DynamicsLearner
from swgctl.learners.rows import Candidates, Rows
from swgctl.learners.trajectories import TrajectoryLearner
from swgctl.models import Denoiser, reset
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions

CPU = torch.device("cpu")
CRITIC = CriticSettings(hidden=[16, 16], batch=32)
DIFFUSE = DiffuseSettings(width=16, batch=32, K=5)
BEHAVIOUR = BehaviourSettings(width=16, batch=32, K=5)
# Adam makes whole steps of the rounding of a gradient that is 0, such as that of an energy's constant in a contrast.
GUIDE = GuideSettings(hidden=[16, 16], batch=32, states=8, moments=256, lr=5e-7)


def transitions(n=200) -> Transitions:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(n, 3)).astype(np.float32)
    terminals = rng.random(n) < 0.1
    return Transitions(
        observations=observations,
        actions=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        rewards=rng.normal(size=n).astype(np.float32),
        next_observations=np.roll(observations, -1, 0),
        terminals=terminals,
        timeouts=np.zeros(n, bool),
        known_next=np.ones(n, bool),
    )


def critic_learner(seeds, device=CPU, settings=CRITIC):
    """With isq, four candidates a row."""
    candidates = None
    if settings.loss == "isq":
        drawn = [torch.rand(200, 4, 2, generator=generator(seed, "candidates", 0)) for seed in seeds]
        candidates = torch.stack(drawn) * 2 - 1
    return CriticLearner(transitions(), settings, "none", seeds, device, candidates)


def weights(seeds, n=200):
    return torch.stack([torch.rand(n, generator=generator(seed, "weights", 0)) for seed in seeds])


def diffuse_learner(seeds, device=CPU, settings=DIFFUSE, candidate_rows=0):
    """candidate_rows  rows of a batch that are of three candidates at every fourth row"""

    def drawn(*shape):
        return torch.stack([torch.rand(*shape, generator=generator(seed, "candidates/test", 0)) for seed in seeds])

    data = transitions()
    observations, actions = map(torch.from_numpy, (data.observations, data.actions))
    rows = torch.arange(0, 200, 4)
    candidates = Candidates.at(rows, 2 * drawn(50, 3, 2) - 1, 5 + drawn(50, 3)) if candidate_rows else None
    given = observations, actions, weights(seeds), settings, seeds, device
    return DiffuseLearner(*given, candidates=candidates, candidate_rows=candidate_rows)


def behaviour_learner(seeds, device=CPU, settings=BEHAVIOUR):
    data = transitions()
    observations, actions = map(torch.from_numpy, (data.observations, data.actions))
    return DiffuseLearner(observations, actions, None, settings, seeds, device, "behaviour")


def log_weight(observations, actions):
    """-|a - s|^2 / 2, of the first two numbers of s."""
    return -(actions - observations[..., :2]).square().sum(-1) / 2


def guide_learner(seeds, device=CPU, settings=GUIDE):
    """An energy of z = [action, weight], on five steps."""
    data = transitions()
    observations, actions = map(torch.from_numpy, (data.observations, data.actions))
    z0 = torch.cat([actions.expand(len(seeds), -1, -1), weights(seeds).unsqueeze(-1)], -1)
    denoiser = Denoiser(len(seeds), 3, 3, K=5, width=16).requires_grad_(False)
    reset(denoiser, [generator(seed, "denoiser", 0) for seed in seeds])
    denoiser.to(device)
    groups = torch.stack([torch.randn(50, 4, 3, generator=generator(seed, "candidates", 0)) for seed in seeds])
    return GuideLearner(
        observations,
        z0,
        log_weight,
        settings,
        seeds,
        device,
        action_dim=2,
        schedule=Schedule.vp(5),
        candidates=(torch.arange(0, 200, 4), groups) if settings.method == "cep" else None,
        denoiser=denoiser if settings.method == "aepo" else None,
    )


TRAJECTORIES = TrajectoriesSettings(length=8, features=8, groups=2, batch=16, steps=40, ema=0.2, ema_every=2)
DYNAMICS = DynamicsSettings(members=3, elites=2, hidden=[16, 16], batch=32)
AGENT = AgentSettings(hidden=[16, 16], batch=32)


def trajectory_learner(seeds, device=CPU, settings=TRAJECTORIES):
    rows = torch.randn(400, 5, generator=generator(0, "rows", 0))
    return TrajectoryLearner(rows, torch.arange(0, 390, 3), settings, seeds, device)


def dynamics_learner(seeds, device=CPU, settings=DYNAMICS):
    return DynamicsLearner(transitions(), settings, seeds, device)


def agent_learner(seeds, device=CPU, settings=AGENT):
    """Of the first 150 rows, and beside them of all, where the settings ask for the task's own."""
    table = torch.from_numpy(transitions().packed("none")).unsqueeze(0)
    data, real = (Experience(table, Rows(torch.arange(n))) for n in (150, 200))
    given = data, (torch.zeros(3), torch.ones(3)), settings, seeds, device
    return LEARNERS[settings.algo](*given, real if settings.real else None)
