"""Vectorised evaluation: cells of (seed, rho, candidates) x episodes in one batch of environments -> a table."""

import gc
import hashlib
import itertools
import math
from contextlib import ExitStack

import numpy as np
import torch

from swgctl import signals
from swgctl.config import EvalSettings
from swgctl.console import progress, say
from swgctl.diffusion.schedule import Noise
from swgctl.errors import SwgError
from swgctl.policies.candidates import Layout
from swgctl.policies.policy import Cell, Policy
from swgctl.randomness import generator
from swgctl.tasks import Task, fleet

NOISE_BLOCK = 20  # environment steps whose noise is drawn at once; results depend on it
FEW = 16  # copies of an environment that any machine holds
SHRINK = 3 / 4  # once at most this share of the batch's rows still run, the finished ones leave it


def grid(settings: EvalSettings) -> list[Cell]:
    """Every (temperature, M, rho) of an evaluation, in the order of its table.

    At temperature 0 all candidates are equal: there is no cell of several.
    """
    return [
        {"rho": rho, "candidates": m, "temperature": temperature}
        for temperature in settings.temperature
        for m in settings.resample
        if temperature > 0 or m == 1
        for rho in settings.rho
    ]


def roll_out(policy: Policy, task: Task, cells: list[Cell], episodes: int, base: int) -> list[dict]:
    """Roll out all cells and return one row an episode: seed, the cell's values, episode, return, length, the task's
    measures, the policy's statistics (means over the episode's steps).

    The start of episode e and the noise of its m-th candidate depend on (base, seed, e, m) alone, so that cells compare
    like with like, and a cell's result does not depend on the other cells: up to rounding, which varies with the batch
    size and which chaotic dynamics amplify.  Episodes are played side by side, as many as memory holds environments.
    """
    rows = np.arange(len(cells) * episodes)
    parts = np.array_split(rows, _parts(task.environment, len(rows), len(policy.seeds)))
    played = []
    for part in parts:
        played.append(_play(policy, task, cells, episodes, base, part))
        if len(parts) > 1:
            gc.collect()  # simulators refer to themselves, and the next part would be added to the last
    return [row for member in zip(*played, strict=True) for part in member for row in part]


def _parts(environment: str, rows: int, members: int) -> int:
    """The number of parts in which the rows of all members are played, one part after another."""
    copies = rows * members
    if copies <= FEW or copies <= (capacity := fleet.capacity(environment)):
        return 1
    parts = min(rows, math.ceil(copies / capacity))
    say(f"eval: {copies} copies of {environment} in {parts} parts, since memory holds {capacity}")
    return parts


def _play(
    policy: Policy, task: Task, cells: list[Cell], episodes: int, base: int, chosen: np.ndarray
) -> list[list[dict]]:
    """`roll_out` of the chosen rows (see `Batch`), a list for each member."""
    assert task.horizon is not None, "`check_horizon` runs first"
    members, rows = len(policy.seeds), len(chosen)
    starts = [reset_seed(base, seed, row % episodes) for seed in policy.seeds for row in chosen.tolist()]
    total, length = np.zeros((members, rows)), np.zeros((members, rows), int)
    statistics = {name: np.zeros((members, rows)) for name in policy.statistics}
    running, step = np.ones((members, rows), bool), 0
    with ExitStack() as stack:
        copies = stack.enter_context(fleet.launch(task.environment, starts, task.horizon, task.measures))
        if copies.processes > 1:
            say(f"eval: {len(starts)} environments in {copies.processes} processes")
        actions, observations, rewards, ended = (
            array.reshape(members, rows, *array.shape[1:])
            for array in (copies.actions, copies.observations, copies.rewards, copies.ended)
        )
        measured = {name: copies.measured[name].reshape(members, rows) for name in task.measures}
        stack.enter_context(signals.deferred())
        bar = stack.enter_context(progress("eval", task.horizon, "environment steps"))
        alive = np.arange(rows)
        batch = Batch(policy, cells, episodes, base, chosen)
        while running.any() and step < task.horizon:  # the task's horizon holds even if the environment's has changed
            now = np.flatnonzero(running.any(0))
            if len(now) <= SHRINK * len(alive):
                alive = now
                batch = Batch(policy, cells, episodes, base, chosen[alive])
            proposed, shares = batch.propose(observations.take(alive, 1), step)
            if not np.isfinite(proposed[running[:, alive]]).all():  # an ended one's last observation may be anything
                less = "a smaller --rho, or " if "rho" in cells[0] else ""
                raise SwgError(
                    "eval: the policy's actions are not finite", f"{less}look at the policy's losses with swgctl show"
                )
            actions[:, alive] = proposed
            copies.step()
            if not (np.isfinite(rewards[running]).all() and np.isfinite(observations[running & ~ended]).all()):
                raise SwgError(
                    f"eval: {task.environment} gave a reward or an observation that is not finite",
                    "check the environment with actions at their bounds",
                )
            for name, share in shares.items():
                statistics[name][:, alive] += np.where(running[:, alive], share, 0)
            np.add(total, rewards, out=total, where=running)
            length += running
            running &= ~ended
            step += 1
            bar.update(step, f"{running.sum()} of {running.size} episodes")
            signals.check(f"{signals.AGAIN}: an evaluation starts anew")
    return [
        [
            {
                "seed": seed,
                **cells[row // episodes],
                "episode": row % episodes,
                "return": float(total[s, i]),
                "length": int(length[s, i]),
                **{name: float(values[s, i]) for name, values in measured.items()},
                **{name: float(values[s, i] / length[s, i]) for name, values in statistics.items()},
            }
            for i, row in enumerate(chosen.tolist())
        ]
        for s, seed in enumerate(policy.seeds)
    ]


def reset_seed(base: int, seed: int, episode: int) -> int:
    return int.from_bytes(hashlib.sha256(f"eval/{base}/{seed}/reset/{episode}".encode()).digest()[:4], "little")


class Batch:
    """Rows that go through the policy together, and their noise: one generator for each member, candidate and episode,
    one draw for each environment step."""

    def __init__(self, policy: Policy, cells: list[Cell], episodes: int, base: int, rows: np.ndarray):
        """rows (E,): row r is episode r % episodes of cell r // episodes."""
        self.policy, self.base, self.rows = policy, base, rows
        self.cells = [cells[row // episodes] for row in rows]
        layout = Layout([int(cell.get("candidates", 1)) for cell in self.cells], policy.device)
        self.episodes, episode = np.unique(rows % episodes, return_inverse=True)
        self.candidate, self.most = layout.slot, layout.most
        self.episode = torch.from_numpy(episode).to(policy.device)[layout.row]
        self.block: torch.Tensor | None = None
        self._propose = policy.prepare(self.cells)

    def propose(self, observations: np.ndarray, step: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Actions (S, E, A) in [-1, 1] at an environment step and its statistics (S, E): `policy.Propose`."""
        x = torch.from_numpy(observations).to(self.policy.device)
        actions, statistics = self._propose(x, self._noise(step))
        # side by side, since each download waits for the device
        columns = torch.cat([actions, *(values.unsqueeze(-1).to(actions) for values in statistics.values())], -1)
        answer, A = columns.cpu().numpy(), actions.shape[-1]
        return answer[..., :A], {name: answer[..., A + i] for i, name in enumerate(statistics)}

    def _noise(self, step: int) -> Noise:
        """Noise of one environment step: a function from a shape to the next draw of the walk."""
        block, i = divmod(step, NOISE_BLOCK)
        if i == 0 or self.block is None:
            self.block = self._draw(block)
        drawn, draws = self.block, iter(range(self.policy.noise_shape[0]))

        def noise(shape: tuple[int, ...]) -> torch.Tensor:
            return drawn[:, self.candidate, self.episode, i, next(draws)].view(shape)

        return noise

    def _draw(self, block: int) -> torch.Tensor:
        """Draw a block of noise, (S, M, episodes, NOISE_BLOCK, *noise_shape)."""
        policy, device = self.policy, self.policy.device
        shape = (NOISE_BLOCK, *policy.noise_shape)
        drawn = [
            torch.randn(
                shape, generator=generator(seed, f"eval/{self.base}/{m}/{episode}", block, device), device=device
            )
            for seed, m, episode in itertools.product(policy.seeds, range(self.most), self.episodes)
        ]
        return torch.stack(drawn).view(len(policy.seeds), self.most, len(self.episodes), *shape)
