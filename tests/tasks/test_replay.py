"""Replay: recorded rows come back from the simulator, whatever it did before; rows at the clip are known as such."""

import contextlib

import gymnasium
import numpy as np
import pytest
from support.harness import real

from swgctl.tasks import environments, fleet, replay, transitions
from swgctl.tasks.replay import Replay, replayer

FIVE = ["HalfCheetah-v4", "swgctl/Hopper-v4", "Walker2d-v4", "Pendulum-v1", "swgctl/Maze2dUMaze-v1"]
ROWS, WINDOW = 208, 16


def play(environment: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of random actions: observations (13, 16, O) and actions (13, 16, A) float32, rewards (13, 16).

    The fleet maps the actions to the environment's bounds by itself.  Episodes that end within a window are left out.
    """
    largest = 0.3 if "Walker2d" in environment else 1.0  # larger ones swing most legs beyond the clip
    with fleet.launch(environment, list(range(40)), WINDOW) as copies:
        shape = (len(copies.actions), WINDOW, copies.actions.shape[1])
        actions = np.random.default_rng(0).uniform(-largest, largest, shape).astype(np.float32)
        observations, rewards = [], []
        for t in range(WINDOW):
            observations.append(copies.observations.copy())
            copies.actions[:] = actions[:, t]
            copies.step()
            rewards.append(copies.rewards.copy())
        whole = np.flatnonzero(~copies.ended)[: ROWS // WINDOW]
    assert len(whole) == ROWS // WINDOW
    return np.stack(observations, 1)[whole], actions[whole], np.stack(rewards, 1)[whole]


@pytest.fixture(scope="module", params=FIVE)
def played(request):
    """A replay, and what was played in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_WORKERS", "1")
        rows = play(request.param)
    with contextlib.closing(replayer(request.param)) as simulator:
        yield simulator, *rows


def test_played_rows_are_replayed(played):
    """From float32 rows: one step to 1e-4; over 15 steps the rounding grows with every contact."""
    simulator, observations, actions, rewards = played
    sound = ~simulator.clipped(observations)
    assert sound.mean() > 0.5
    states, earned = simulator.one_step(observations, actions, rewards)
    assert states.shape == (13, 15, observations.shape[2])
    assert earned.shape == (13, 15)
    assert np.abs(states[sound[:, :-1]]).max() < 1e-4
    assert np.abs(earned[sound[:, :-1]]).max() < 1e-4
    assert np.median(np.abs(simulator.errors(observations, actions)[sound[:, 0]])) < 1e-4


def test_an_error_is_the_windows_value_less_the_simulators(played):
    simulator, observations, actions, rewards = played
    states, earned = simulator.one_step(observations, actions, rewards)
    errors = simulator.errors(observations, actions)
    np.testing.assert_array_equal(errors[:, 0], states[:, 0])
    other = observations.copy()
    other[:, 3] += 0.5
    shift = np.where(np.arange(15) == 2, 0.5, 0.0)[:, None]
    np.testing.assert_allclose(simulator.errors(other, actions), errors + shift, atol=1e-5)
    np.testing.assert_allclose(simulator.one_step(observations, actions, rewards + 2)[1], earned + 2, atol=1e-12)


def test_the_simulator_keeps_nothing_of_earlier_windows(played):
    simulator, observations, actions, _ = played
    together = simulator.errors(observations, actions)
    for b in (7, 0):
        alone = simulator.errors(observations[b : b + 1], actions[b : b + 1])
        np.testing.assert_array_equal(alone[0], together[b])


@pytest.mark.parametrize(("name", "dimensions", "first"), [("Walker2d-v4", 17, 8), ("swgctl/Hopper-v4", 11, 5)])
def test_rows_at_the_clip_are_known(name, dimensions, first):
    observations = np.zeros((2, 3, dimensions), np.float32)
    observations[0, 1, -1], observations[1, 2, first] = 10, -10
    observations[1, 0, first - 1] = 12  # a joint's angle
    expected = np.zeros((2, 3), bool)
    expected[0, 1] = expected[1, 2] = True
    np.testing.assert_array_equal(Replay(name).clipped(observations), expected)


def test_a_clipped_row_of_walker2d_is_masked_since_its_replay_errs():
    """A leg that swings at 14 rad/s is observed at 10: the simulator would start from another state."""
    world = environments.make("Walker2d-v4").unwrapped
    world.set_state(world.init_qpos, np.where(np.arange(9) == 4, 14.0, 0.0))
    window = np.stack([world._get_obs(), world.step(np.zeros(6))[0]])[None]
    simulator = Replay("Walker2d-v4")
    assert simulator.clipped(window)[0, 0]
    assert np.abs(simulator.errors(window, np.zeros((1, 2, 6)))).max() > 0.1


@pytest.mark.parametrize(("name", "dimensions"), [("HalfCheetah-v4", 17), ("Pendulum-v1", 3), (FIVE[-1], 4)])
def test_the_others_observe_any_velocity(name, dimensions):
    assert not Replay(name).clipped(np.full((4, dimensions), 20.0)).any()


@pytest.mark.parametrize("name", ["AntMaze", "swgctl/AntMazeUMaze-v2", "minari:D4RL/pen/human-v2", "Ant-v4", "toy"])
def test_other_environments_have_no_replay(name):
    assert replayer(name) is None


def test_mazes_are_those_of_the_registry():
    assert {name for name in gymnasium.registry if name.startswith("swgctl/Maze2d")} == set(replay.MAZES)


@pytest.mark.parametrize(
    ("file", "name"),
    [("cs285-expert-halfcheetah-v4", "HalfCheetah-v4"), ("pendulum-medium-sac-rllib", "Pendulum-v1")],
)
def test_rows_that_others_recorded_are_replayed(file, name):
    data = transitions.read(real(file), clip_actions=True)
    observations, actions, rewards = (x[None, :200] for x in (data.observations, data.actions, data.rewards))
    states, _ = Replay(name).one_step(observations, actions, rewards)
    within = ~data.timeouts[:199]
    assert within.mean() > 0.9
    assert np.abs(states[0, within]).max() < 1e-4
