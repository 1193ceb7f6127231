"""Cases to measure: training, sampling and evaluation at the paper's sizes, on noise of HalfCheetah's dimensions."""

import itertools
from contextlib import ExitStack

import numpy as np
import torch

from swgctl import training
from swgctl.bench.measure import Case
from swgctl.bench.work import (
    CHEETAH_A,
    CHEETAH_D,
    CHEETAH_O,
    agent_flop,
    critic_flop,
    diffuse_flop,
    rank_flop,
    sample_flop,
    trajectories_flop,
)
from swgctl.config import AgentSettings, CriticSettings, DiffuseSettings, EvalSettings, TrajectoriesSettings
from swgctl.diffusion import Schedule, self_weighted
from swgctl.evaluation.rollout import Batch, grid
from swgctl.learners import CriticLearner, DiffuseLearner
from swgctl.learners.agent import LEARNERS, Experience
from swgctl.learners.rows import Rows
from swgctl.learners.trajectories import TrajectoryLearner
from swgctl.models import Critic, Denoiser, reset
from swgctl.policies.candidates import Ranking
from swgctl.policies.diffusion import DiffusionPolicy
from swgctl.policies.loading import weigher
from swgctl.policies.sampler import Sampler, bounds
from swgctl.randomness import generator
from swgctl.tasks import fleet
from swgctl.tasks.transitions import Transitions
from swgctl.training.execution import products, recorder, runner

ROWS = 100_000
EPISODES = 20  # per seed, side by side, as in the paper
ENVIRONMENT, HORIZON = "HalfCheetah-v4", 1000  # environment steps of an episode


def transitions(rows: int = ROWS, observation_dim: int = CHEETAH_O, action_dim: int = CHEETAH_A) -> Transitions:
    """Noise in the shape of a data set."""
    source = np.random.default_rng(0)
    return Transitions(
        observations=source.standard_normal((rows, observation_dim), np.float32),
        actions=source.uniform(-1, 1, (rows, action_dim)).astype(np.float32),
        rewards=source.standard_normal(rows, np.float32),
        next_observations=source.standard_normal((rows, observation_dim), np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.zeros(rows, bool),
        known_next=np.ones(rows, bool),
    )


def windows(rows: int = ROWS) -> torch.Tensor:
    """Noise in the shape of a trajectory model's z-scored rows, (rows, D)."""
    return torch.randn(rows, CHEETAH_D, generator=generator(0, "bench/windows", 0))


Trained = CriticSettings | DiffuseSettings | TrajectoriesSettings | AgentSettings


def learner(settings: Trained, seeds: list[int], device: torch.device, rows: int = ROWS) -> training.Learner:
    """A fresh learner on noise."""
    if isinstance(settings, TrajectoriesSettings):
        starts = torch.arange(rows - settings.length + 1)
        return TrajectoryLearner(windows(rows), starts, settings, seeds, device)
    data = transitions(rows)
    observations = torch.from_numpy(data.observations)
    if isinstance(settings, CriticSettings):
        return CriticLearner(data, settings, "none", seeds, device)
    if isinstance(settings, AgentSettings):
        experience = Experience(torch.from_numpy(data.packed("none")).unsqueeze(0), Rows(torch.arange(rows)))
        return LEARNERS[settings.algo](experience, (observations.mean(0), observations.std(0)), settings, seeds, device)
    weights = torch.rand(len(seeds), rows, generator=generator(0, "bench/weights", 0))
    return DiffuseLearner(observations, torch.from_numpy(data.actions), weights, settings, seeds, device)


def training_flop(settings: Trained) -> int:
    """Floating-point operations of one seed's training step."""
    if isinstance(settings, TrajectoriesSettings):
        return trajectories_flop(settings)
    if isinstance(settings, AgentSettings):
        return agent_flop(settings)
    return critic_flop(settings) if isinstance(settings, CriticSettings) else diffuse_flop(settings)


SETTINGS: dict[str, type[CriticSettings] | type[DiffuseSettings]] = {
    "critic": CriticSettings,
    "diffuse": DiffuseSettings,
}


def training_case(
    what: str,
    settings: Trained,
    seeds: int,
    mode: str,
    precision: str,
    device: torch.device,
    rows: int = ROWS,
    **more,
) -> Case:
    """Steps of the training loop, over one repeated chunk of draws; `more` are further labels."""
    members = list(range(seeds))
    trained = learner(settings, members, device, rows)
    step = runner(trained.step, trained.state, mode, device)

    def draws():
        return training.draws(trained, what, members, device)

    drawn = itertools.cycle(itertools.islice(draws(), trained.chunk))

    def run(n: int) -> None:
        for _ in range(n):
            step(next(drawn))

    labels = {"what": what, "mode": mode, "batch": settings.batch} | more
    work = seeds * training_flop(settings)
    return Case(labels, seeds, precision, work, run, lambda: next(draws()), trained.chunk)


def policy(settings: DiffuseSettings, seeds: int, device: torch.device) -> DiffusionPolicy:
    """An untrained policy; by default's choice, the weight of a critic ranks its candidates."""
    denoiser = Denoiser(seeds, CHEETAH_O, settings.channels(CHEETAH_A), **settings.network())
    critic = Critic(seeds, CHEETAH_O, CHEETAH_A, CriticSettings().hidden)
    for net in (denoiser, critic):
        reset(net, [generator(seed, "bench/init", 0) for seed in range(seeds)])
    weights = torch.tensor([0.3, 0.7], device=device).expand(seeds, 2)
    schedule = getattr(Schedule, settings.schedule)(settings.K)
    box = bounds(CHEETAH_A, weights)
    weigh = weigher(CriticSettings().model_dump(include={"tau", "alpha"}))
    return DiffusionPolicy(
        seeds=list(range(seeds)),
        action_dim=CHEETAH_A,
        sampler=Sampler(denoiser.to(device).requires_grad_(False), schedule, box),
        guide=lambda rho, row: lambda observations: self_weighted(rho),
        ranking=Ranking(critic.to(device).requires_grad_(False), weigh),
        device=device,
        record=recorder("graph", device),
    )


def sampling_case(guided: bool, seeds: int, precision: str, device: torch.device, rows: int = EPISODES) -> Case:
    """Actions of `rows` environments a seed, all K steps of the walk: the network's work for one environment step."""
    settings = DiffuseSettings()
    actor, cells = policy(settings, seeds, device), [{"rho": 5.0 if guided else 0.0, "candidates": 1}] * rows
    with products(precision):  # whose step table is computed here
        propose = actor.prepare(cells)
    observations = torch.randn(seeds, rows, CHEETAH_O, generator=generator(0, "bench/states", 0)).to(device)
    source = generator(0, "bench/noise", 0, device)

    def run(n: int) -> None:
        for _ in range(n):
            propose(observations, source)

    mode = "graph" if actor.record else "eager"
    labels = {"what": "sample", "mode": mode, "guidance": "guided" if guided else "none", "batch": rows}
    return Case(labels, seeds, precision, seeds * sample_flop(settings, rows, rows, guided), run)


def evaluation_case(
    rho: list[float], candidates: list[int], seeds: int, precision: str, device: torch.device, stack: ExitStack
) -> Case:
    """Environment steps in HalfCheetah of all cells of rho x M at once; the stack closes the environments."""
    actor = policy(DiffuseSettings(), seeds, device)
    cells = grid(EvalSettings(rho=rho, resample=candidates))
    rows = len(cells) * EPISODES
    copies = stack.enter_context(fleet.launch(ENVIRONMENT, list(range(seeds * rows)), HORIZON))
    observations, actions = (x.reshape(seeds, rows, -1) for x in (copies.observations, copies.actions))
    with products(precision):
        batch = Batch(actor, cells, EPISODES, 0, np.arange(rows))
    steps = itertools.count()

    def run(n: int) -> None:
        for _ in range(n):
            actions[:], _ = batch.propose(observations, next(steps))
            copies.step()

    proposed = EPISODES * sum(int(cell["candidates"]) for cell in cells)
    work = sample_flop(DiffuseSettings(), rows, proposed, True)
    if proposed > rows:
        work += rank_flop(CriticSettings(), proposed)
    labels = {
        "what": "eval",
        "mode": "graph" if actor.record else "eager",
        "guidance": "guided",
        "cells": len(cells),
        "batch": proposed,
    }
    return Case(labels, seeds, precision, seeds * work, run, most=HORIZON)
