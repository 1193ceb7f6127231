"""Vectorised evaluation: cells of (seed, rho, candidates) x episodes in one batch of environments -> a table."""

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch

from swgctl import signals
from swgctl.console import progress
from swgctl.errors import SwgError
from swgctl.policy import Policy
from swgctl.tasks import Task, environments
from swgctl.training import generator

NOISE_BLOCK = 20  # environment steps whose noise is drawn at once; part of what an evaluation means


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
    rows = len(cells) * plan.episodes
    rho = torch.tensor([rho for rho, _ in cells]).repeat_interleave(plan.episodes).to(policy.device)
    counts = torch.tensor([m for _, m in cells]).repeat_interleave(plan.episodes)
    noise = _Noise(policy, plan, counts)
    counts = counts.to(policy.device)

    members = len(policy.seeds)
    worlds = [environments.make(task.environment) for _ in range(members * rows)]
    low, high = worlds[0].action_space.low, worlds[0].action_space.high
    state = np.stack(
        [
            world.reset(seed=_reset_seed(plan.seed, seed, row % plan.episodes))[0]
            for world, (seed, row) in zip(worlds, ((s, r) for s in policy.seeds for r in range(rows)), strict=True)
        ]
    ).astype(np.float32)
    total, length = np.zeros(len(worlds)), np.zeros(len(worlds), int)
    clamped = np.zeros(len(worlds))
    running, step = list(range(len(worlds))), 0
    with signals.deferred(), progress("eval", task.horizon, "environment steps") as bar:
        while running:
            observations = torch.from_numpy(state).view(members, rows, -1).to(policy.device)
            actions, share = policy.propose(
                observations,
                rho,
                counts,
                plan.temperature,
                plan.sampler,
                noise.at(step),
                plan.w_min,
                plan.clip,
            )
            share = share.flatten().cpu().numpy()
            actions = environments.rescale(actions.cpu().numpy().reshape(len(worlds), -1), low, high)
            if not np.isfinite(actions).all():
                raise SwgError("eval: the policy's actions are not finite", "a smaller --rho, or look at swgctl show")
            still = []
            for i in running:
                state[i], reward, terminated, truncated, _ = worlds[i].step(actions[i])
                total[i] += reward
                length[i] += 1
                clamped[i] += share[i]
                if not (terminated or truncated):
                    still.append(i)
            running, step = still, step + 1
            bar.update(step, f"{len(running)} of {len(worlds)} episodes")
            signals.check()
    for world in worlds:
        world.close()
    return [
        {
            "seed": seed,
            "rho": cells[row // plan.episodes][0],
            "candidates": cells[row // plan.episodes][1],
            "episode": row % plan.episodes,
            "return": float(total[s * rows + row]),
            "length": int(length[s * rows + row]),
            "clamped": float(clamped[s * rows + row] / length[s * rows + row]),
        }
        for s, seed in enumerate(policy.seeds)
        for row in range(rows)
    ]


def _reset_seed(base: int, seed: int, episode: int) -> int:
    return int.from_bytes(hashlib.sha256(f"eval/{base}/{seed}/reset/{episode}".encode()).digest()[:4], "little")


class _Noise:
    """The sampler's noise: a generator for each member, candidate and episode, a draw for each environment step."""

    def __init__(self, policy: Policy, plan: Plan, counts: torch.Tensor):
        self.policy, self.plan = policy, plan
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        first = counts.cumsum(0) - counts
        self.candidate = (torch.arange(len(row)) - first[row]).to(policy.device)
        self.episode = (row % plan.episodes).to(policy.device)
        self.most = int(counts.max())
        self.block = None

    def at(self, step: int):
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
            for seed, m, episode in itertools.product(policy.seeds, range(self.most), range(plan.episodes))
        ]
        return torch.stack(drawn).view(len(policy.seeds), self.most, plan.episodes, *shape)
