"""Vectorised evaluation: cells of (seed, rho, candidates) x episodes in one batch of environments -> a table."""

import hashlib
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from swgctl import signals
from swgctl.console import progress, say
from swgctl.errors import SwgError
from swgctl.policy import Policy
from swgctl.tasks import Task, fleet
from swgctl.training import generator

NOISE_BLOCK = 20  # environment steps whose noise is drawn at once; part of what an evaluation means
SHRINK = 3 / 4  # once no more than this share of the batch's rows still run, the others leave it


@dataclass(frozen=True)
class Plan:
    """What is evaluated: every (rho, M) with the same episodes, for each of the policy's seeds."""

    rho: list[float]
    candidates: list[int]
    episodes: int
    temperature: float
    sampler: str
    w_min: float
    clip: bool
    seed: int

    def cells(self) -> list[tuple[float, int]]:
        return [(rho, m) for m in self.candidates for rho in self.rho]


def roll_out(policy: Policy, task: Task, plan: Plan) -> list[dict]:
    """One row an episode: seed, rho, candidates, episode, return, length, clamped.

    The start of episode e and the noise of its m-th candidate depend on (seed, e, m) alone, so that cells compare like
    with like, and a cell is the same whichever others it is evaluated with: up to rounding, which differs with the
    size of the batch and which chaotic dynamics amplify.
    """
    cells = plan.cells()
    members, rows = len(policy.seeds), len(cells) * plan.episodes
    starts = [_reset_seed(plan.seed, seed, row % plan.episodes) for seed in policy.seeds for row in range(rows)]
    total, length, clamped = np.zeros((members, rows)), np.zeros((members, rows), int), np.zeros((members, rows))
    running, step = np.ones((members, rows), bool), 0
    with ExitStack() as stack:
        copies = stack.enter_context(fleet.launch(task.environment, starts, task.horizon))
        if copies.processes > 1:
            say(f"eval: {len(starts)} environments in {copies.processes} processes")
        actions, observations, rewards, ended = (
            array.reshape(members, rows, *array.shape[1:])
            for array in (copies.actions, copies.observations, copies.rewards, copies.ended)
        )
        stack.enter_context(signals.deferred())
        bar = stack.enter_context(progress("eval", task.horizon, "environment steps"))
        batch = Batch(policy, plan, np.arange(rows))
        while running.any() and step < task.horizon:  # also where the environment's own clock is another by now
            alive = np.flatnonzero(running.any(0))
            if len(alive) <= SHRINK * len(batch.rows):
                batch = Batch(policy, plan, alive)
            proposed, share = batch.propose(observations.take(batch.rows, 1), step)
            if not np.isfinite(proposed).all():
                raise SwgError("eval: the policy's actions are not finite", "a smaller --rho, or look at swgctl show")
            actions[:, batch.rows] = proposed
            copies.step()
            if not (np.isfinite(rewards[running]).all() and np.isfinite(observations[running & ~ended]).all()):
                raise SwgError(
                    f"eval: {task.environment} gave a reward or an observation that is not finite",
                    "mend the environment, or look at what it does with actions at their bounds",
                )
            clamped[:, batch.rows] += np.where(running[:, batch.rows], share, 0)
            np.add(total, rewards, out=total, where=running)
            length += running
            running &= ~ended
            step += 1
            bar.update(step, f"{running.sum()} of {running.size} episodes")
            signals.check()
    return [
        {
            "seed": seed,
            "rho": cells[row // plan.episodes][0],
            "candidates": cells[row // plan.episodes][1],
            "episode": row % plan.episodes,
            "return": float(total[s, row]),
            "length": int(length[s, row]),
            "clamped": float(clamped[s, row] / length[s, row]),
        }
        for s, seed in enumerate(policy.seeds)
        for row in range(rows)
    ]


def _reset_seed(base: int, seed: int, episode: int) -> int:
    return int.from_bytes(hashlib.sha256(f"eval/{base}/{seed}/reset/{episode}".encode()).digest()[:4], "little")


class Batch:
    """Rows of the plan that go through the policy together, with their noise: a generator for each member, candidate
    and episode, a draw for each environment step."""

    def __init__(self, policy: Policy, plan: Plan, rows: np.ndarray):
        """rows (E,): row r is episode r % episodes of cell r // episodes."""
        self.policy, self.plan, self.rows = policy, plan, rows
        cells = plan.cells()
        rho, counts = map(torch.tensor, zip(*(cells[row // plan.episodes] for row in rows), strict=True))
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        first = counts.cumsum(0) - counts
        self.episodes, episode = np.unique(rows % plan.episodes, return_inverse=True)
        self.rho, self.counts = rho.to(policy.device), counts.to(policy.device)
        self.candidate = (torch.arange(len(row)) - first[row]).to(policy.device)
        self.episode = torch.from_numpy(episode)[row].to(policy.device)
        self.most = int(counts.max())
        self.block = None

    def propose(self, observations: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Actions (S, E, A) in [-1, 1] at an environment step and the clamped shares (S, E): `Policy.propose`."""
        policy, plan = self.policy, self.plan
        actions, clamped = policy.propose(
            torch.from_numpy(observations).to(policy.device),
            self.rho,
            self.counts,
            plan.temperature,
            plan.sampler,
            self._noise(step),
            plan.w_min,
            plan.clip,
        )
        return actions.cpu().numpy(), clamped.cpu().numpy()

    def _noise(self, step: int) -> Callable[[tuple[int, ...]], torch.Tensor]:
        """The noise of one environment step, as a function from a shape to the next draw of the walk."""
        block, i = divmod(step, NOISE_BLOCK)
        if i == 0 or self.block is None:
            self.block = self._draw(block)
        draws = iter(range(len(self.policy.schedule)))

        def noise(shape: tuple[int, ...]) -> torch.Tensor:
            return self.block[:, self.candidate, self.episode, i, next(draws)].view(shape)

        return noise

    def _draw(self, block: int) -> torch.Tensor:
        """(S, M, episodes, NOISE_BLOCK, K, A + 1)"""
        policy, plan, device = self.policy, self.plan, self.policy.device
        shape = (NOISE_BLOCK, len(policy.schedule), policy.action_dim + 1)
        drawn = [
            torch.randn(
                shape, generator=generator(seed, f"eval/{plan.seed}/{m}/{episode}", block, device), device=device
            )
            for seed, m, episode in itertools.product(policy.seeds, range(self.most), self.episodes)
        ]
        return torch.stack(drawn).view(len(policy.seeds), self.most, len(self.episodes), *shape)
