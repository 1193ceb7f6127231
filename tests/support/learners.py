"""Small learners of generated data."""

import numpy as np
import torch

from swgctl.config import CriticSettings, DiffuseSettings
from swgctl.learners import CriticLearner, DiffuseLearner
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions

CPU = torch.device("cpu")
CRITIC = CriticSettings(hidden=[16, 16], batch=32)
DIFFUSE = DiffuseSettings(width=16, batch=32, K=5)


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
    return CriticLearner(transitions(), settings, "none", seeds, device)


def diffuse_learner(seeds, device=CPU, settings=DIFFUSE):
    data = transitions()
    weights = torch.stack([torch.rand(len(data), generator=generator(s, "weights", 0)) for s in seeds])
    return DiffuseLearner(*map(torch.from_numpy, (data.observations, data.actions)), weights, settings, seeds, device)
