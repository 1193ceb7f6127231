"""What D4RL's environments have in common: sizes, lengths, seeds, bounds, and where contacts begin."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from support.simulator import bare, make, waves

from swgctl.errors import UsageError

pytestmark = pytest.mark.training  # of episodes to their end

# Steps of an episode, and the widths of an observation and an action.
SIZES = {
    "AntMazeUMaze-v2": (700, 29, 8),
    "AntMazeMedium-v2": (1000, 29, 8),
    "AntMazeLarge-v2": (1000, 29, 8),
    "Maze2dUMaze-v1": (300, 4, 2),
    "Maze2dMedium-v1": (600, 4, 2),
    "Maze2dLarge-v1": (800, 4, 2),
    "Maze2dUMazeDense-v1": (300, 4, 2),
    "Maze2dMediumDense-v1": (600, 4, 2),
    "Maze2dLargeDense-v1": (800, 4, 2),
    "KitchenMicrowaveKettleLightSlider-v0": (280, 60, 9),
    "KitchenMicrowaveKettleBottomBurnerLight-v0": (280, 60, 9),
    "Hopper-v4": (1000, 11, 3),
    "AdroitPen-v1": (100, 45, 24),
    "AdroitDoor-v1": (200, 39, 28),
    "AdroitHammer-v1": (200, 46, 26),
    "AdroitRelocate-v1": (200, 39, 30),
}
FALLS = ("Hopper-v4", "AdroitPen-v1")  # what acts at random falls, or drops the pen, before its time is up


def episode(env, seed, actions):
    """Observation and reward (T + 1, O + 1) at the reset and after each action."""
    first, _ = env.reset(seed=seed)
    return np.array([np.append(first, 0), *(np.append(*env.step(action)[:2]) for action in actions)])


def python(code):
    """What it writes to stdout and stderr."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_these_are_all():
    assert {id for id in gymnasium.registry if id.startswith("swgctl/")} == {f"swgctl/{name}" for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_an_episode_runs_to_its_horizon(name):
    env, (horizon, *widths) = make(name), SIZES[name]
    assert [space.shape for space in (env.observation_space, env.action_space)] == [(width,) for width in widths]
    assert (env.observation_space.dtype, env.action_space.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal([env.action_space.low, env.action_space.high], [[-1] * widths[1], [1] * widths[1]])
    observation, _ = env.reset(seed=3)
    env.action_space.seed(3)
    steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        assert observation in env.observation_space
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert isinstance(reward, float)
        assert type(terminated) is bool
        steps += 1
    assert terminated is (name in FALLS)
    assert steps < horizon if terminated else steps == horizon
    assert env.spec.max_episode_steps == horizon


@pytest.mark.parametrize("name", SIZES)
def test_an_episode_follows_from_its_seed(name):
    env = make(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape))
    one, other, again = (episode(env, seed, actions) for seed in (1, 2, 1))
    np.testing.assert_array_equal(again, one)
    assert not np.array_equal(other, one)


@pytest.mark.parametrize("name", SIZES)
def test_actions_are_clipped(name):
    """As to where they lead: what an action costs is up to the environment."""
    env = make(name)
    actions = 3 * waves(10, *env.action_space.shape)
    beyond, within = (episode(env, 0, asked)[:, :-1] for asked in (actions, np.clip(actions, -1, 1)))
    np.testing.assert_array_equal(beyond, within)


@pytest.mark.parametrize(
    ("name", "margin"),
    [
        ("AntMazeUMaze-v2", 0.01),
        ("Maze2dUMaze-v1", 0.002),
        ("KitchenMicrowaveKettleLightSlider-v0", 0.001),
        ("Hopper-v4", 0.001),
        ("AdroitRelocate-v1", 0.0005),
    ],
)
def test_contacts_begin_at_one_margin_whatever_the_mujoco(name, margin):
    env, seen = bare(name), set()
    for action in waves(30, *env.action_space.shape):
        env.step(action)
        seen |= {round(float(contact.includemargin), 9) for contact in env.data.contact}
    assert seen - {0.0} == {margin}  # 0 is of pairs that a model names


def test_registering_imports_no_simulator():
    code = "import swgctl.tasks.adapters, sys; print({'mujoco', 'gymnasium_robotics', 'torch'} & {*sys.modules})"
    assert python(code) == ("set()\n", "")


def test_making_them_says_nothing():
    assert python(f"import swgctl.tasks.environments as e; [e.make('swgctl/' + n) for n in {[*SIZES]}]") == ("", "")


@pytest.mark.parametrize(
    ("module", "name"), [("adroit", "AdroitDoor-v1"), ("kitchen", "KitchenMicrowaveKettleLightSlider-v0")]
)
def test_what_is_missing_is_named(module, name, monkeypatch):
    monkeypatch.delitem(sys.modules, f"swgctl.tasks.adapters.{module}", raising=False)
    for loaded in {"gymnasium_robotics", *sys.modules}:
        if loaded.startswith("gymnasium_robotics"):
            monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(UsageError, match="gymnasium_robotics"):
        make(name)
