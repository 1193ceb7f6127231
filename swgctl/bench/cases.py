"""What is measured: training, sampling and evaluation at the paper's sizes, on noise of HalfCheetah's dimensions."""

import itertools
from contextlib import ExitStack

import numpy as np
import torch

from swgctl import training
from swgctl.bench.measure import Case
from swgctl.bench.work import ACTIONS, OBSERVATIONS, critic_flop, diffuse_flop, sample_flop
from swgctl.config import CriticSettings, DiffuseSettings, EvalSettings, Settings
from swgctl.diffusion import Schedule
from swgctl.execution import runner
from swgctl.learners import CriticLearner, DiffuseLearner
from swgctl.models import ARCHITECTURE, Denoiser, reset
from swgctl.policy import Policy
from swgctl.rollout import Batch, Plan
from swgctl.tasks import fleet
from swgctl.tasks.transitions import Transitions

ROWS = 100_000
EPISODES = 20  # of each seed, acting side by side: the paper's


def transitions(rows: int = ROWS) -> Transitions:
    """Noise in the shape of a data set."""
    source = np.random.default_rng(0)
    return Transitions(
        observations=source.standard_normal((rows, OBSERVATIONS), np.float32),
        actions=source.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        rewards=source.standard_normal(rows, np.float32),
        next_observations=source.standard_normal((rows, OBSERVATIONS), np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.zeros(rows, bool),
        known_next=np.ones(rows, bool),
    )


def learner(what: str, settings: Settings, seeds: list[int], device: torch.device, rows: int = ROWS):
    data = transitions(rows)
    if what == "critic":
        return CriticLearner(data, settings, "none", seeds, device)
    weights = torch.rand(len(seeds), rows, generator=training.generator(0, "bench/weights", 0))
    return DiffuseLearner(
        torch.from_numpy(data.observations), torch.from_numpy(data.actions), weights, settings, seeds, device
    )


FLOP = {"critic": critic_flop, "diffuse": diffuse_flop}
SETTINGS = {"critic": CriticSettings, "diffuse": DiffuseSettings}


def training_case(
    what: str, settings: Settings, seeds: int, mode: str, precision: str, device: torch.device, rows: int = ROWS
) -> Case:
    """Steps of the one training loop, its draws included."""
    members = list(range(seeds))
    trained = learner(what, settings, members, device, rows)
    step = runner(trained.step, trained.state, mode, device)
    drawn = training.draws(trained, what, members, device)

    def run(n: int) -> None:
        for _ in range(n):
            step(next(drawn))

    labels = {"what": what, "mode": mode, "batch": settings.batch}
    return Case(labels, seeds, precision, seeds * FLOP[what](settings), run)


def policy(settings: DiffuseSettings, seeds: int, device: torch.device) -> Policy:
    """One that was never trained, ranking candidates by its own weight."""
    denoiser = Denoiser(seeds, OBSERVATIONS, ACTIONS, **settings.model_dump(include=set(ARCHITECTURE)))
    reset(denoiser, [training.generator(seed, "bench/init", 0) for seed in range(seeds)])
    weights = torch.tensor([0.3, 0.7], device=device).expand(seeds, 2)
    schedule = getattr(Schedule, settings.schedule)(settings.K)
    return Policy(
        seeds=list(range(seeds)),
        action_dim=ACTIONS,
        denoiser=denoiser.to(device).requires_grad_(False),
        weight_range=weights,
        schedule=schedule,
        critic=None,
        weigh=None,
        device=device,
    )


def sampling_case(guided: bool, seeds: int, precision: str, device: torch.device, rows: int = EPISODES) -> Case:
    """Actions of `rows` environments a seed, all K steps of the walk: what one environment step costs the network."""
    settings = DiffuseSettings()
    actor, rho = policy(settings, seeds, device), 5.0 if guided else 0.0
    observations = torch.randn(seeds, rows, OBSERVATIONS, generator=training.generator(0, "bench/states", 0)).to(device)
    source = training.generator(0, "bench/noise", 0, device)

    def run(n: int) -> None:
        for _ in range(n):
            actor.propose(observations, rho, 1, generator=source)

    labels = {"what": "sample", "mode": "guided" if guided else "unguided", "batch": rows}
    return Case(labels, seeds, precision, seeds * sample_flop(settings, rows, guided), run)


def evaluation_case(
    rho: list[float], candidates: list[int], seeds: int, precision: str, device: torch.device, stack: ExitStack
) -> Case:
    """Environment steps of all cells of rho x M at once in HalfCheetah-v4, whose copies the stack closes."""
    actor, settings = policy(DiffuseSettings(), seeds, device), EvalSettings()
    plan = Plan(rho, candidates, EPISODES, 1.0, settings.sampler, settings.w_min, settings.clip, 0)
    rows = len(plan.cells()) * EPISODES
    copies = stack.enter_context(fleet.launch("HalfCheetah-v4", list(range(seeds * rows)), 1000))
    observations, actions = (x.reshape(seeds, rows, -1) for x in (copies.observations, copies.actions))
    batch, steps = Batch(actor, plan, np.arange(rows)), itertools.count()

    def run(n: int) -> None:
        for _ in range(n):
            actions[:], _ = batch.propose(observations, next(steps))
            copies.step()

    work = sum(sample_flop(DiffuseSettings(), EPISODES * m, True) for _, m in plan.cells())
    labels = {
        "what": "eval",
        "mode": "guided",
        "cells": len(plan.cells()),
        "batch": EPISODES * sum(m for _, m in plan.cells()),
    }
    return Case(labels, seeds, precision, seeds * work, run)
