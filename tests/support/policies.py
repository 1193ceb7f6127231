"""Policies of given parts, and proposals for scales and candidates that are numbers or one a row."""

import torch

from swgctl.diffusion import self_weighted
from swgctl.policies.candidates import Ranking
from swgctl.policies.diffusion import DiffusionPolicy
from swgctl.policies.sampler import Sampler, bounds


def policy_of(seeds, action_dim, denoiser, weight_range, schedule, critic=None, weigh=None, clip=True):
    box = bounds(action_dim, weight_range) if clip else None
    sampler, ranking = Sampler(denoiser, schedule, box), Ranking(critic, weigh)
    return DiffusionPolicy(seeds, action_dim, sampler, lambda rho, row: at(rho), ranking, torch.device("cpu"))


def at(rho):
    """Self-weighted guidance, the same at all observations."""
    return lambda observations: self_weighted(rho)


def propose(policy, observations, rho, candidates, noise):
    """Actions (S, E, A) and the clamped shares (S, E)."""
    rows = observations.shape[1]
    scales, counts = (torch.as_tensor(value).expand(rows).tolist() for value in (rho, candidates))
    cells = [{"rho": r, "candidates": m} for r, m in zip(scales, counts, strict=True)]
    actions, statistics = policy.prepare(cells)(observations, noise)
    return actions, statistics["clamped"]
