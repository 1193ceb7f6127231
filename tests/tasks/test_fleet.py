"""Copies of a real simulator in one process and in several: the same to the bit, and nothing is left behind."""

import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from swgctl.errors import SwgError, UsageError
from swgctl.tasks import fleet

CHEETAH = "HalfCheetah-v4"
FAILING = '''
import gymnasium
from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv

class Failing(HalfCheetahEnv):
    """Fails at its third step."""
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("the motor is hot")
        return super().step(action)

gymnasium.register("Failing-v0", Failing, max_episode_steps=50)
'''


def children() -> set[int]:
    """Processes of this one, zombies too."""
    return {int(n) for task in Path("/proc/self/task").iterdir() for n in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def nothing_left():
    before = children()
    yield
    assert children() <= before


@pytest.fixture
def processes(monkeypatch):
    return lambda n: monkeypatch.setenv("SWGCTL_WORKERS", str(n))


def play(environment: str, copies: int, steps: int) -> list[np.ndarray]:
    """Observations, rewards and ends of every step."""
    source, seen = np.random.default_rng(0), []
    with fleet.launch(environment, list(range(copies)), 1000) as fleeted:
        seen.append(fleeted.observations.copy())
        for _ in range(steps):
            fleeted.actions[:] = source.uniform(-1, 1, fleeted.actions.shape)
            fleeted.step()
            seen += [fleeted.observations.copy(), fleeted.rewards.copy(), fleeted.ended.copy()]
    return seen


# -- the same everywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [CHEETAH, "swgctl/Hopper-v4"])
def test_three_processes_play_what_one_plays_to_the_bit(environment, processes):
    """Seven copies, 30 steps; Hoppers fall meanwhile, some sooner than others."""
    processes(1)
    alone = play(environment, 7, 30)
    processes(3)
    together = play(environment, 7, 30)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert len(np.unique(together[0], axis=0)) == 7
    assert together[-1].any() == (environment != CHEETAH)


def test_a_copy_is_the_environment_of_its_seed(processes):
    processes(2)
    world = gymnasium.make(CHEETAH)
    with fleet.launch(CHEETAH, [5, 8, 13], 1000) as copies:
        for i, seed in enumerate((5, 8, 13)):
            start, _ = world.reset(seed=seed)
            np.testing.assert_array_equal(copies.observations[i], start.astype(np.float32))
        copies.actions[:] = 0.3
        copies.step()
    _, reward, *_ = world.step(np.full(6, 0.3, np.float32))
    assert copies.rewards[2] == pytest.approx(reward, rel=1e-6)


def test_an_episode_that_has_ended_is_stepped_no_further(processes):
    processes(1)
    with fleet.launch("swgctl/Hopper-v4", [0, 1], 1000) as copies:
        while not copies.ended.any():
            copies.actions[:] = 1
            copies.step()
        over = int(np.flatnonzero(copies.ended)[0])
        last = copies.observations[over].copy()
        copies.step()
        np.testing.assert_array_equal(copies.observations[over], last)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def steps(copies, count: int) -> None:
    for _ in range(count):
        copies.step()


def test_a_killed_worker_is_one_line(processes):
    processes(2)
    before = children()
    with fleet.launch(CHEETAH, [0, 1], 1000) as copies:
        os.kill(min(children() - before), signal.SIGKILL)
        with pytest.raises(SwgError, match="was killed by SIGKILL") as raised:
            steps(copies, 2)
    assert "SWGCTL_WORKERS=1" in raised.value.help


@pytest.mark.parametrize("count", [1, 2])
def test_an_environment_that_fails_in_the_middle_is_one_line(count, processes, tmp_path, monkeypatch):
    (tmp_path / "hot_motors.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    processes(count)
    with fleet.launch("hot_motors:Failing-v0", [0, 1], 1000) as copies:
        steps(copies, 2)
        with pytest.raises(SwgError, match="hot_motors:Failing-v0 failed: RuntimeError: the motor is hot"):
            steps(copies, 1)


def test_what_only_this_process_can_make_is_stepped_here(processes, capfd):
    gymnasium.register("Registered-by-this-test-v0", "gymnasium.envs.mujoco.half_cheetah_v4:HalfCheetahEnv", None, 9)
    processes(2)
    with fleet.launch("Registered-by-this-test-v0", [0, 1], 9) as copies:
        assert copies.processes == 1
    assert "in one process, since another cannot make it" in capfd.readouterr().err


def test_workers_end_with_the_process_that_started_them(processes, start, chain):
    """SIGKILL of a real evaluation: within seconds there are no orphans; SIGTERM: none at all when it answers."""
    processes(2)
    for number in (signal.SIGKILL, signal.SIGTERM):
        arguments = ("eval", "--from", chain.made("diffuse"), "--recipe", chain.recipe, "--episodes", "40", "--force")
        process = start(*arguments)
        process.wait_for(lambda started=process: "environments in 2 processes" in started.said())
        workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(workers) == 2
        process.send(number)
        if number == signal.SIGTERM:
            process.answer().refused(75, "stopped by SIGTERM")
        until = time.monotonic() + 10
        while any(alive(pid) for pid in workers):
            assert time.monotonic() < until
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and was not waited for by its new parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- how many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("copies", "steps", "seconds", "most", "expected"),
    [
        (1, 1000, 45e-6, 16, 1),  # nothing to share
        (100, 1000, 45e-6, 16, 16),  # 4.5 s in one process; 0.28 + 0.24 s in sixteen, and a second to start them
        (100, 20, 45e-6, 16, 1),  # over before workers would have started
        (3500, 1000, 45e-6, 64, 64),
        (3500, 1000, 45e-6, 1, 1),
    ],
)
def test_as_many_processes_as_take_the_least_time(copies, steps, seconds, most, expected):
    assert fleet.fastest(copies, steps, seconds, most) == expected


def test_more_processes_are_no_gain_where_messages_cost_more_than_steps():
    """W = sqrt(copies seconds / WAKE) is the least of copies seconds / W + W WAKE."""
    best = fleet.fastest(20, 100_000, 45e-6, 64)
    assert best == pytest.approx((20 * 45e-6 / fleet.WAKE) ** 0.5, abs=1)


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_a_number_of_processes_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("SWGCTL_WORKERS", text)
    with pytest.raises(UsageError, match=f"SWGCTL_WORKERS '{text}'"), fleet.launch(CHEETAH, [0], 10):
        pass


def test_threads_that_were_limited_limit_processes_too(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fleet.cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert fleet.cores() == len(os.sched_getaffinity(0))
