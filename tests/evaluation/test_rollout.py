"""Roll-outs: a cell is the same whichever others it is evaluated with, and is what one environment by hand gives."""

import gc
import itertools
import math
import weakref
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v4 import InvertedPendulumEnv
from support.policies import policy_of

from swgctl.config import EvalSettings
from swgctl.diffusion import Schedule
from swgctl.errors import SwgError
from swgctl.evaluation import rollout
from swgctl.evaluation.rollout import grid, roll_out
from swgctl.models import Critic, Denoiser, reset
from swgctl.policies.diffusion import DiffusionPolicy
from swgctl.randomness import generator
from swgctl.tasks import Task, environments
from swgctl.weights import expectile

pytestmark = pytest.mark.training

K = 3
PLAN = {"rho": [0.0, 2.0], "candidates": [1], "episodes": 2}

gymnasium.register("ShortPendulum-v1", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=25)


def task(environment: str, horizon: int | None = None) -> Task:
    horizon = horizon or environments.spec(environment).max_episode_steps
    return Task("test", environment, "file:test", "none", "default", references=None, horizon=horizon)


PENDULUM, CARTPOLE = task("ShortPendulum-v1"), task("InvertedPendulum-v4")  # 25 steps; until the pole has fallen
DIMENSIONS = {PENDULUM: (3, 1), CARTPOLE: (4, 1)}


def make(seeds, on=PENDULUM) -> DiffusionPolicy:
    """Random networks, whose members depend on their seed alone."""
    denoiser, critic = (
        Denoiser(len(seeds), DIMENSIONS[on][0], DIMENSIONS[on][1] + 1, K, width=16),
        Critic(len(seeds), *DIMENSIONS[on], [16]),
    )
    for network in (denoiser, critic):
        reset(network, [generator(s, type(network).__name__, 0) for s in seeds])
        network.requires_grad_(False)
    free = torch.tensor([[-torch.inf, torch.inf]]).expand(len(seeds), 2)
    return policy_of(seeds, 1, denoiser, free, Schedule.vp(K), critic, lambda a: expectile(a, 0.7))


def run(seeds=(0,), on=PENDULUM, **changes) -> list[dict]:
    return played(make(list(seeds), on), on, **changes)


def played(policy, on, *, seed=0, **changes) -> list[dict]:
    plan = PLAN | changes
    cells = grid(EvalSettings(rho=plan["rho"], resample=plan["candidates"], temperature=plan.get("temperature", [1.0])))
    return roll_out(policy, on, cells, plan["episodes"], seed)


def by_cell(rows) -> dict:
    names = ("seed", "rho", "candidates", "episode")
    return {tuple(row[name] for name in names): row for row in rows}


def assert_same(some: list[dict], among: list[dict], names=("return", "length", "clamped")):
    table = by_cell(among)
    for cell, row in by_cell(some).items():
        for name in names:
            assert row[name] == pytest.approx(table[cell][name], rel=1e-4, abs=1e-4), (cell, name)


# -- together and alone ------------------------------------------------------------------------------------------------


def test_a_member_is_rolled_out_as_it_is_alone():
    together = run(seeds=(0, 3, 7), rho=[2.0], candidates=[2])
    assert len(together) == 6
    for seed in (0, 3, 7):
        assert_same(run(seeds=(seed,), rho=[2.0], candidates=[2]), together)


@pytest.mark.parametrize("on", [PENDULUM, CARTPOLE], ids=["pendulum", "cartpole"])
def test_a_cell_is_the_same_whichever_others_it_is_evaluated_with(on):
    """Returns and lengths, whatever the number of candidates of the others, and however much longer they last."""
    together = run(rho=[0.0, 2.0, 5.0], candidates=[1, 3], on=on)
    assert len({row["return"] for row in together}) >= 5, "cells of different returns are needed here"
    for rho, m in ((0.0, 1), (2.0, 1), (2.0, 3), (5.0, 3)):
        assert_same(run(rho=[rho], candidates=[m], on=on), together, ("return", "length"))


def test_the_clamped_share_of_a_guided_cell_is_the_same_too():
    together = run(rho=[1.0, 2.0], candidates=[1, 3])
    assert 0 < together[0]["clamped"] < 1
    assert_same(run(rho=[2.0], candidates=[3]), together)


def test_episodes_are_played_in_as_many_parts_as_memory_asks_for(monkeypatch, capsys):
    """30 rows of two members, of which memory holds 25 copies: three parts, which begin within a cell."""
    plan = {"seeds": (0, 3), "rho": [0.0, 2.0, 5.0], "candidates": [1, 3], "episodes": 5}
    together = run(**plan)
    monkeypatch.setattr(rollout, "FEW", 0)
    monkeypatch.setattr(rollout.fleet, "capacity", lambda _: 25)
    capsys.readouterr()
    parted = run(**plan)
    assert "eval: 60 copies of ShortPendulum-v1 in 3 parts, since memory holds 25" in capsys.readouterr().err
    assert [(r["seed"], r["rho"], r["episode"]) for r in parted] == [
        (r["seed"], r["rho"], r["episode"]) for r in together
    ]
    assert_same(parted, together)


alive = weakref.WeakSet()


class Cyclic(PendulumEnv):
    """A simulator that refers to itself, as MuJoCo's and dm_control's do."""

    def __init__(self):
        super().__init__()
        self.itself = self
        alive.add(self)


def test_a_part_leaves_no_environment_behind(monkeypatch):
    """Five copies at most, and the one whose spaces and speed are asked for."""
    gymnasium.register("Cyclic-v0", Cyclic, max_episode_steps=3)
    monkeypatch.setattr(rollout, "FEW", 0)
    monkeypatch.setattr(rollout.fleet, "capacity", lambda _: 5)
    policy, most = make([0]), 0

    def see(*_):
        nonlocal most
        most = max(most, len(alive))

    watch(policy, see)
    gc.disable()
    try:
        played(policy, task("Cyclic-v0"), episodes=10)
    finally:
        gc.enable()
    assert 5 <= most <= 6


def watch(policy, see):
    """Call see(observations, actions, statistics) at each proposal of the policy."""
    prepare = policy.prepare

    def watched(cells):
        propose = prepare(cells)
        return lambda x, noise: (answer := propose(x, noise), see(x, *answer))[0]

    policy.prepare = watched


@pytest.fixture
def whole(monkeypatch):
    """No row leaves the batch before the last episode has ended."""
    monkeypatch.setattr(rollout, "SHRINK", 0)


def test_a_batch_without_its_ended_rows_gives_the_same_episodes(monkeypatch):
    """Poles fall one after another; the policy sees fewer and fewer rows, and their noise stays their own."""
    policy, sizes = make([0, 3], CARTPOLE), []
    watch(policy, lambda x, *_: sizes.append(x.shape[1]))
    plan = {"rho": [0.0, 2.0], "candidates": [1, 3], "episodes": 4}
    shrunk = played(policy, CARTPOLE, **plan)
    assert sizes[0] == 16
    assert sizes == sorted(sizes, reverse=True)
    assert all(few <= 0.75 * many for many, few in itertools.pairwise(dict.fromkeys(sizes)))
    assert sizes[-1] < 8
    monkeypatch.setattr(rollout, "SHRINK", 0)
    assert_same(played(make([0, 3], CARTPOLE), CARTPOLE, **plan), shrunk)


@pytest.mark.usefixtures("whole")
def test_the_clamped_share_of_an_episode_is_the_mean_over_its_own_steps():
    policy, shares = make([0], CARTPOLE), []
    watch(policy, lambda x, actions, statistics: shares.append(statistics["clamped"][0]))
    rows = played(policy, CARTPOLE, rho=[1.0], candidates=[1], episodes=4)
    assert len({row["length"] for row in rows}) > 1
    for e, row in enumerate(rows):
        own = torch.stack(shares)[: row["length"], e]
        assert row["clamped"] == pytest.approx(own.mean().item(), abs=1e-6)


def test_an_episode_is_the_same_however_many_there_are():
    assert_same(run(rho=[2.0], episodes=1), run(rho=[2.0], episodes=3))


def test_equal_plans_give_equal_tables_and_another_seed_another():
    assert run() == run()
    assert {row["return"] for row in run()}.isdisjoint(row["return"] for row in run(seed=1))


# -- what an episode is ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole")
def test_a_row_is_the_episode_that_one_environment_plays():
    """The policy's actions, played again by hand from the same start, give the returns and lengths."""
    policy, steps = make([0], CARTPOLE), []
    watch(policy, lambda x, actions, _: steps.append((x[0].clone(), actions[0])))
    rows = played(policy, CARTPOLE, rho=[0.0], candidates=[1], episodes=4)
    world = environments.make(CARTPOLE.environment).unwrapped
    for e, row in enumerate(rows):
        world.reset()
        start = steps[0][0][e].double().numpy()
        world.set_state(start[:2], start[2:])
        total, length, ended = 0.0, 0, False
        while not ended:
            _, actions = steps[length]
            seen, reward, ended, _, _ = world.step(3 * actions[e].numpy())  # its bounds are -3 and 3
            total, length = total + reward, length + 1
            if not ended:
                np.testing.assert_allclose(seen, steps[length][0][e], atol=1e-4)
        assert (row["return"], row["length"]) == (pytest.approx(total), length)
    assert len({row["length"] for row in rows}) > 1, "episodes of different lengths are needed here"


def test_cells_start_alike_and_seeds_and_episodes_do_not():
    """The first observations depend on (seed, episode), not on rho and the candidates."""
    policy, seen = make([0, 1]), []
    watch(policy, lambda x, *_: seen.append(x.clone()))
    played(policy, PENDULUM, rho=[0.0, 1.0], candidates=[1, 2], episodes=3)
    first = seen[0].unflatten(1, (4, 3))
    assert torch.equal(first, first[:, :1].expand(-1, 4, -1, -1))
    assert len(torch.unique(first[:, 0].flatten(0, 1), dim=0)) == 6


def test_the_time_limit_ends_an_episode():
    assert [row["length"] for row in run()] == [25] * 4


def test_the_tasks_horizon_holds_where_the_environments_is_longer_by_now():
    shorter = task("ShortPendulum-v1", 10)
    rows = played(make([0]), shorter)
    assert [row["length"] for row in rows] == [10] * 4


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_an_environment_that_gives_nan_is_named(what, monkeypatch):
    step = PendulumEnv.step

    def broken(self, action):
        observation, reward, *rest = step(self, action)
        return (observation * math.nan, reward, *rest) if what == "observation" else (observation, math.nan, *rest)

    monkeypatch.setattr(PendulumEnv, "step", broken)
    monkeypatch.setenv("SWGCTL_WORKERS", "1")
    with pytest.raises(SwgError, match="ShortPendulum-v1 gave a reward or an observation that is not finite"):
        run()


def test_the_last_observation_of_an_ended_episode_may_be_anything(monkeypatch):
    """Ten poles that fall one after another, and give NaN as they do."""
    step = InvertedPendulumEnv.step

    def falls(self, action):
        observation, reward, terminated, *rest = step(self, action)
        return (observation * math.nan if terminated else observation, reward, terminated, *rest)

    usual = run(on=CARTPOLE, episodes=10)
    monkeypatch.setattr(InvertedPendulumEnv, "step", falls)
    monkeypatch.setenv("SWGCTL_WORKERS", "1")
    rows = run(on=CARTPOLE, episodes=10)
    assert len({row["length"] for row in rows}) > 2
    assert [row["length"] for row in rows] == [row["length"] for row in usual]


def test_noise_is_new_at_every_step_and_in_every_walk():
    """Equal observations twice, 25 steps on: no draw of a candidate, an episode or a step is another's."""
    policy, drawn = make([0, 1]), []
    prepare = policy.prepare

    def spied(cells):
        def kept(noise, shape):
            drawn.append(noise(shape).clone())
            return drawn[-1]

        return lambda x, noise: prepare(cells)(x, partial(kept, noise))

    policy.prepare = spied
    played(policy, PENDULUM, rho=[0.0], candidates=[3], episodes=2)
    values = torch.stack(drawn)
    assert values.shape == (25 * K, 2, 6, 2)
    assert len(values.unique()) > 0.999 * values.numel()
    assert values.mean().item() == pytest.approx(0, abs=0.1)
    assert values.std().item() == pytest.approx(1, abs=0.07)


def test_a_temperature_is_the_same_whichever_others_it_is_evaluated_with():
    """Temperatures side by side in one batch, a row each, are what each is alone."""
    together = played(make([0, 3]), PENDULUM, rho=[0.0, 2.0], temperature=[0.0, 0.5, 1.0])
    assert {row["temperature"] for row in together} == {0.0, 0.5, 1.0}
    for temperature in (0.0, 0.5, 1.0):
        alone = played(make([0, 3]), PENDULUM, rho=[0.0, 2.0], temperature=[temperature])
        assert_same(alone, [row for row in together if row["temperature"] == temperature])


def test_a_grid_has_no_cell_of_several_candidates_at_temperature_zero():
    cells = grid(EvalSettings(rho=[0, 5], resample=[1, 8], temperature=[1, 0]))
    assert [(cell["temperature"], cell["candidates"], cell["rho"]) for cell in cells] == [
        *((0, 1, rho) for rho in (0, 5)),
        *((1, m, rho) for m in (1, 8) for rho in (0, 5)),
    ]
