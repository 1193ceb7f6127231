"""Minari's own data sets, recorded here in real environments: what is read, where it is evaluated, what is refused."""

import json
import os

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from support.harness import swgctl
from support.minari_sets import (
    ACTIONS,
    BOX,
    HIGH,
    LOW,
    MAZE,
    NOWHERE,
    PENDULUM,
    SHUFFLED,
    amend,
    contents,
    create,
    numbers,
)

from swgctl import tasks
from swgctl.errors import CorruptError, InputError, Interrupted, UsageError
from swgctl.tasks import environments, layout, minari_data, minari_env, modules, transitions
from swgctl.tasks.task import Task, family_of

pytestmark = pytest.mark.usefixtures("folder")

TINY = """\
critic: {steps: 20, hidden: [16], batch: 32}
diffuse: {steps: 20, width: 16, batch: 32, K: 3}
eval: {rho: [1], resample: [1], episodes: 1, temperature: 1}
"""

# ---- what is read


def test_every_row_is_the_one_that_was_recorded(convert, played):
    data = transitions.read(convert(PENDULUM))
    episodes = [episode for episode, _ in played[PENDULUM]]
    np.testing.assert_array_equal(data.observations, np.concatenate([e.observations[:-1] for e in episodes]))
    np.testing.assert_array_equal(data.next_observations, np.concatenate([e.observations[1:] for e in episodes]))
    np.testing.assert_array_equal(data.actions, np.concatenate([e.actions for e in episodes]) / 2)  # from [-2, 2]
    np.testing.assert_array_equal(data.rewards, np.concatenate([e.rewards for e in episodes]).astype(np.float32))
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [26])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [19, 35])  # nothing is said of the third one's end
    assert data.known_next.all()


def test_actions_in_one_are_the_same_bits(convert):
    actions = np.array([[-0.0, 1e-30], [-1, 1], [np.nextafter(np.float32(1), 0), 1 / 3]], np.float32)
    create("one-v0", [numbers(3, actions=actions)], action_space=spaces.Box(-1, 1, (2,)))
    assert transitions.read(convert("one-v0")).actions.tobytes() == actions.tobytes()


def test_actions_come_from_the_bounds(convert):
    recorded = np.concatenate([numbers().actions, numbers(2).actions])
    low, high = LOW.astype(float), HIGH.astype(float)
    expected = 2 * (recorded - low) / (high - low) - 1
    np.testing.assert_allclose(transitions.read(convert(NOWHERE)).actions, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("id", [MAZE, SHUFFLED])
def test_observations_are_flat_in_the_same_order_as_the_environments(convert, said, played, id):
    data, env = transitions.read(convert(id)), minari_env.make(id, said.append)
    space = minari.load_dataset(id).observation_space
    assert env.observation_space.shape == data.observations.shape[1:] == spaces.flatten_space(space).shape
    for (buffer, seen), (first, stop) in zip(played[id], data.episodes(), strict=True):
        flat = np.array([spaces.flatten(space, one) for one in seen]).astype(np.float32)
        np.testing.assert_array_equal(data.observations[first:stop], flat[:-1])
        np.testing.assert_array_equal(data.next_observations[first:stop], flat[1:])
        actions = buffer.actions / env.action_space.high.astype(np.float64)
        np.testing.assert_array_equal(data.actions[first:stop], actions.astype(np.float32))
    state, _ = env.reset(seed=5 if id == MAZE else 6)  # and the last episode again
    for row, action in enumerate(buffer.actions, first):
        np.testing.assert_array_equal(state.astype(np.float32), data.observations[row])
        state, *_ = env.step(action)
        np.testing.assert_array_equal(state.astype(np.float32), data.next_observations[row])


@pytest.mark.parametrize("size", [5_000, 0])
def test_a_damaged_set_is_not_converted(convert, folder, tmp_path, size):
    os.truncate(folder / PENDULUM / "data" / "main_data.hdf5", size)
    with pytest.raises(CorruptError) as caught:
        convert(PENDULUM)
    assert caught.value.help == f"minari download --force {PENDULUM}"
    assert contents(tmp_path / "converted") == {}


@pytest.mark.parametrize(
    "episode",
    [
        numbers(observations=np.zeros((4, 3))),
        numbers(observations=np.zeros((5, 4))),
        numbers(truncations=np.zeros(3, bool)),
    ],
)
def test_episodes_must_be_whole(convert, episode):
    create("part-v0", [numbers(), episode])
    with pytest.raises(CorruptError, match="episode 1 is not a whole one, with an observation more than it has"):
        convert("part-v0")


@pytest.mark.parametrize("steps", [35, 37, 0])
def test_a_wrong_number_of_steps_is_noticed(convert, folder, steps):
    amend(folder, total_steps=steps)
    with pytest.raises(CorruptError, match=rf"its episodes have \d+ steps( or more)?, not {steps}"):
        convert(PENDULUM)


@pytest.mark.parametrize(
    ("observed", "acted", "words"),
    [
        (spaces.Discrete(4), ACTIONS, "observations are a Discrete, not a Box"),
        (spaces.Dict(x=BOX, y=spaces.Dict(z=spaces.Text(3))), ACTIONS, "observations['y']['z'] are a Text"),
        (spaces.Box(0, 255, (64, 64, 3), np.uint8), ACTIONS, "are a Box (64, 64, 3), not a Box of numbers"),
        (BOX, spaces.Discrete(3), "its actions are Discrete(3), not a vector"),
        (BOX, spaces.Box(-1, 1, (2, 2)), "not a vector of real numbers"),
        (BOX, spaces.Box(-1, np.inf, (2,)), "have no bounds"),
        (BOX, spaces.Box(np.float32([0, 0]), np.float32([1, 0])), "have no bounds"),
    ],
)
def test_spaces_that_no_network_takes_are_named(convert, tmp_path, observed, acted, words):
    create("odd-v0", [], observation_space=observed, action_space=acted)
    with pytest.raises(InputError) as caught:
        convert("odd-v0")
    assert words in str(caught.value)
    assert caught.value.help
    assert contents(tmp_path / "converted") == {}


# ---- the file


def test_equal_sets_give_equal_bytes_and_a_changed_one_another_file(convert, folder, tmp_path, monkeypatch):
    one = convert(PENDULUM)
    monkeypatch.setattr(minari_data, "CHUNK", 25)  # however it is read
    other = convert(PENDULUM, "other")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()
    assert minari_data.find(PENDULUM, tmp_path / "converted") == one
    os.utime(folder / PENDULUM / "data" / "main_data.hdf5", (1, 1))
    assert minari_data.find(PENDULUM, tmp_path / "converted") is None
    again = convert(PENDULUM)
    assert again.name != one.name
    assert again.read_bytes() == one.read_bytes()
    assert minari_data.find("test/unknown-v0", tmp_path / "converted") is None


def test_the_file_says_what_it_holds(convert):
    with h5py.File(convert(PENDULUM)) as file:
        assert {key: (file[key].shape, file[key].dtype.name) for key in layout.CONVERTED} == {
            "observations": ((36, 3), "float32"),
            "actions": ((36, 1), "float32"),
            "rewards": ((36,), "float32"),
            "next_observations": ((36, 3), "float32"),
            "terminals": ((36,), "bool"),
            "timeouts": ((36,), "bool"),
            "infos/next_observation_valid": ((36,), "bool"),
        }
        assert all(file[key].attrs["long_name"] and file[key].attrs["units"] for key in layout.CONVERTED)
        assert (file.attrs["source"], file.attrs["env"]) == (f"minari:{PENDULUM}", "Pendulum-v1")


def test_what_is_converted_is_said_once(convert, said):
    maze, pendulum = convert(MAZE), convert(PENDULUM)
    convert(MAZE)
    assert said == [
        f"minari:{MAZE}: converting 24 steps, 2 episodes, this once, into {maze}",
        f"minari:{MAZE} has no reference scores: results will be returns, without normalised scores",
        f"minari:{PENDULUM}: converting 36 steps, 3 episodes, this once, into {pendulum}",
    ]


def test_an_interrupted_conversion_leaves_nothing(convert, tmp_path, monkeypatch):
    def one_episode(dataset, episodes=minari_data._episodes):
        yield next(episodes(dataset))
        raise Interrupted("stopped by SIGTERM")

    monkeypatch.setattr(minari_data, "_episodes", one_episode)
    with pytest.raises(Interrupted):
        convert(PENDULUM)
    assert contents(tmp_path / "converted") == {}


# ---- the task and its environment


def test_the_task_is_what_the_set_says(said):
    task = minari_data.task_of(PENDULUM, said.append)
    assert task == Task(
        name="minari-test-pendulum-v0",
        environment=f"minari:{PENDULUM}",
        source=f"minari:{PENDULUM}",
        rewards="none",
        recipe="default",
        references=(-1200.0, -150.0),
        horizon=20,
    )
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    maze = minari_data.task_of(MAZE, said.append)
    assert (maze.references, maze.horizon) == (None, 300)
    assert (maze.rewards, maze.recipe) == family_of("PointMaze_UMaze-v3")
    assert said == []


def test_a_set_without_an_environment_takes_one_by_name(said):
    answer = swgctl("critic", f"minari:{NOWHERE}")
    answer.refused(3, f"minari:{NOWHERE} does not say which environment")
    assert answer.helps == [modules.NAME_IT]
    with pytest.raises(InputError, match="does not say which environment"):
        minari_env.make(NOWHERE, said.append)
    with pytest.raises(InputError, match=r"its actions are Box\(\[-1\..*, those of Pendulum-v1 Box"):
        minari_data.task_of(NOWHERE, said.append, "Pendulum-v1")
    create("mine-v3", [numbers(actions=np.ones((4, 1)))], action_space=spaces.Box(-2, 2, (1,)))
    task = tasks.get("minari:mine-v3", "Pendulum-v1")
    assert (task.environment, task.source, task.horizon) == ("Pendulum-v1", "minari:mine-v3", 200)
    assert task.references is None
    assert tasks.argument(task) == "minari:mine-v3 --env Pendulum-v1"


def test_another_environment_than_its_own_is_refused(said):
    assert minari_data.task_of(PENDULUM, said.append, "Pendulum-v1").environment == f"minari:{PENDULUM}"
    with pytest.raises(UsageError, match="is evaluated in Pendulum-v1, not Hopper-v4"):
        minari_data.task_of(PENDULUM, said.append, "Hopper-v4")


def test_the_evaluation_environment_comes_first(said, played):
    create("both-v0", [played[PENDULUM][0][0]], env="Pendulum-v1", eval_env=gymnasium.make("Pendulum-v1", g=3.0).spec)
    assert minari_env.make("both-v0", said.append).unwrapped.g == 3.0


def test_an_environment_that_cannot_be_made_says_what_to_install(folder, said):
    gymnasium.register("Absent-v0", "no_such_package.envs:Absent")
    path = folder / PENDULUM / "data" / "metadata.json"
    text = path.read_text().replace(
        "gymnasium.envs.classic_control.pendulum:PendulumEnv", "no_such_package.envs:Absent"
    )
    path.write_text(text.replace("Pendulum-v1", "Absent-v0"))
    assert minari_data.task_of(PENDULUM, said.append).horizon == 20  # which makes nothing
    with pytest.raises(InputError, match="No module named 'no_such_package'") as caught:
        minari_env.make(PENDULUM, said.append)
    assert caught.value.help == "pip install no-such-package"
    amend(folder, requirements=["no-such-package>=2", "numpy>99"])
    with pytest.raises(InputError) as caught:
        minari_env.make(PENDULUM, said.append)
    assert caught.value.help == "pip install 'no-such-package>=2' 'numpy>99'"


def test_a_package_in_another_version_is_remarked_on_once(folder, said):
    amend(folder, requirements=["numpy>99"])
    for _ in range(3):
        minari_env.make(PENDULUM, said.append)
    assert len(said) == 1
    assert 'pip install "numpy>99"' in said[0]


# ---- by the command


def test_a_data_set_is_named_on_the_command_line(tmp_path, said):
    name, recipe = f"minari:{PENDULUM}", tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    answer = swgctl("run", name, "--recipe", recipe, "--json")
    (cell,) = answer.json["metrics"]["cells"]
    assert answer.json["task"] == "minari-test-pendulum-v0"
    assert cell["score_mean"] == pytest.approx(100 * (cell["return_mean"] + 1200) / 1050)
    assert f"{name}: converting 36 steps, 3 episodes" in answer.err
    again = swgctl("critic", name, "--recipe", recipe, "--json")
    assert again.json["status"] == "cached"
    assert "converting" not in again.err
    assert tasks.argument(tasks.get(name)) == name
    assert tasks.at_hand(tasks.get(name)) == tasks.locate(tasks.get(name), said.append)[0]
    assert environments.spec(name).max_episode_steps == 20
    assert environments.make(name).observation_space.shape == (3,)
