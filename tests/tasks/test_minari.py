"""Minari's own data sets, recorded here in real environments: what is read, what is refused, and the way back."""

import collections
import http.server
import json
import os
import shutil
import socket
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium import spaces
from harness import swgctl

from swgctl import tasks
from swgctl.errors import CorruptError, InputError, Interrupted, SwgError, UsageError
from swgctl.tasks import environments, minari_data, minari_export, minari_folder, transitions
from swgctl.tasks.registry import Task

minari = pytest.importorskip("minari")
from minari.data_collector import EpisodeBuffer  # noqa: E402

PENDULUM, MAZE, NOWHERE, SHUFFLED = "test/pendulum-v0", "test/maze/umaze-v1", "nowhere-v0", "shuffled-v0"
LOW, HIGH = np.array([-1, 0], np.float32), np.array([3, 0.4], np.float32)
TINY = """\
critic: {steps: 20, hidden: [16], batch: 32}
diffuse: {steps: 20, width: 16, batch: 32, K: 3}
eval: {rho: [1], resample: [1], episodes: 1}
"""


class Shuffled(gymnasium.Env):
    """Keys in an order that is not the alphabet's, and actions in [-0.4, 0.4]; the state adds the actions up."""

    _first, _last = spaces.Box(-9, 9, (2,)), spaces.Tuple([spaces.Box(-9, 9, ()), spaces.Box(0, 9, (1, 1))])
    observation_space = spaces.Dict(collections.OrderedDict(b=_first, a=_last))
    action_space = spaces.Box(-0.4, 0.4, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2).astype(np.float32)
        return self._seen(), {}

    def step(self, action):
        self.state = self.state + np.asarray(action, np.float32)
        return self._seen(), float(self.state.sum()), False, False, {}

    def _seen(self):
        return {"b": self.state, "a": (self.state.sum(), np.array([[1.5]], np.float32))}


gymnasium.register("Shuffled-v0", f"{__name__}:Shuffled", max_episode_steps=6)


# ---- what is recorded


def stack(observations):
    """Of single observations, as Minari takes an episode's."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: stack([one[key] for one in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(stack([one[i] for one in observations]) for i in range(len(first)))
    return np.array(observations)


def play(env, steps, seed, ending=None):
    """(buffer, single observations) of random actions; `ending` is the flag that the last row has."""
    env.action_space.seed(seed)
    seen, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for _ in range(steps):
        actions.append(env.action_space.sample())
        observation, reward, *_ = env.step(actions[-1])
        seen.append(observation)
        rewards.append(reward)
    last = np.arange(steps) == steps - 1
    flags = {name: last & (name == ending) for name in ("terminations", "truncations")}
    return EpisodeBuffer(observations=stack(seen), actions=np.array(actions), rewards=rewards, infos={}, **flags), seen


def create(id, episodes, **about):
    """The set, as a user of Minari makes one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(id, episodes, **about)


def numbers(rows=4, **changes):
    """An episode of no environment: observations (rows + 1, 3), actions (rows, 2); `changes` replace arrays."""
    random = np.random.default_rng(0)
    arrays = {
        "observations": random.normal(size=(rows + 1, 3)),
        "actions": random.uniform(LOW, HIGH, (rows, 2)),
        "rewards": random.normal(size=rows),
        "terminations": np.zeros(rows, bool),
        "truncations": np.arange(rows) == rows - 1,
        "infos": {},
    }
    return EpisodeBuffer(**arrays | changes)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Minari's folder with four sets in it, not to be written to, and {id: [(buffer, single observations)]}."""
    root, played = tmp_path_factory.mktemp("minari"), {}
    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        pendulum = gymnasium.make("Pendulum-v1", max_episode_steps=20)
        played[PENDULUM] = [
            play(pendulum, 20, 1, "truncations"),
            play(pendulum, 7, 2, "terminations"),
            play(pendulum, 9, 3),
        ]
        maze = gymnasium.make("PointMaze_UMaze-v3")
        played[MAZE] = [play(maze, 12, seed, "truncations") for seed in (4, 5)]
        shuffled = gymnasium.make("Shuffled-v0", disable_env_checker=True)
        played[SHUFFLED] = [play(shuffled, 6, 6, "truncations")]
        for id, env, about in (
            (PENDULUM, pendulum, {"ref_min_score": -1200.0, "ref_max_score": -150.0}),
            (MAZE, maze, {}),
            (SHUFFLED, shuffled, {}),
        ):
            create(id, [episode for episode, _ in played[id]], env=env, **about)
        spaces_of = {"observation_space": spaces.Box(-np.inf, np.inf, (3,)), "action_space": spaces.Box(LOW, HIGH)}
        create(NOWHERE, [numbers(), numbers(2)], **spaces_of)
    return root, played


@pytest.fixture(autouse=True)
def folder(recorded, tmp_path, monkeypatch):
    """A folder of Minari's of the test's own, with the four sets in it; no remote answers."""
    shutil.copytree(recorded[0], tmp_path / "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    for name in ("MINARI_REMOTE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "minari"


@pytest.fixture
def played(recorded):
    return recorded[1]


@pytest.fixture
def said():
    return []


@pytest.fixture
def convert(tmp_path, said):
    """convert(id) -> Path"""
    return lambda id, cache="converted": minari_data.build(id, tmp_path / cache, said.append)[0]


def files(folder: Path) -> dict:
    """Every file in a folder, locks aside, and its bytes."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


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
    space = {"observation_space": spaces.Box(-1, 1, (3,)), "action_space": spaces.Box(-1, 1, (2,))}
    create("one-v0", [numbers(3, actions=actions)], **space)
    assert transitions.read(convert("one-v0")).actions.tobytes() == actions.tobytes()


def test_actions_come_from_the_bounds(convert):
    recorded = np.concatenate([numbers().actions, numbers(2).actions])
    low, high = LOW.astype(float), HIGH.astype(float)
    expected = 2 * (recorded - low) / (high - low) - 1
    np.testing.assert_allclose(transitions.read(convert(NOWHERE)).actions, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("id", [MAZE, SHUFFLED])
def test_observations_are_flat_in_the_same_order_as_the_environments(convert, said, played, id):
    data, env = transitions.read(convert(id)), minari_data.make(id, said.append)
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
    assert (maze.rewards, maze.recipe) == tasks.registry.family_of("PointMaze_UMaze-v3")
    assert said == []


def test_a_set_without_reference_scores_says_so_once(convert, said):
    convert(MAZE)
    assert said[1] == f"minari:{MAZE} has no reference scores: results will be returns, without normalised scores"
    convert(MAZE)
    convert(PENDULUM)
    assert len(said) == 3
    assert said[2].startswith(f"minari:{PENDULUM}: converting 36 steps, 3 episodes, this once, into ")


def test_the_evaluation_environment_comes_first(said, played):
    create("both-v0", [played[PENDULUM][0][0]], env="Pendulum-v1", eval_env=gymnasium.make("Pendulum-v1", g=3.0).spec)
    assert minari_data.make("both-v0", said.append).unwrapped.g == 3.0


def test_a_set_without_an_environment_takes_one_by_name(said):
    with pytest.raises(InputError, match="does not say which environment") as caught:
        minari_data.task_of(NOWHERE, said.append)
    assert caught.value.help == f"swgctl critic minari:{NOWHERE} --env ENV_ID"
    with pytest.raises(InputError, match="does not say which environment"):
        minari_data.make(NOWHERE, said.append)
    with pytest.raises(InputError, match=r"its actions are Box\(\[-1\..*, those of Pendulum-v1 Box"):
        minari_data.task_of(NOWHERE, said.append, "Pendulum-v1")
    space = {"observation_space": spaces.Box(-9, 9, (3,)), "action_space": spaces.Box(-2, 2, (1,))}
    create("mine-v3", [numbers(actions=np.ones((4, 1)))], **space)
    task = minari_data.task_of("mine-v3", said.append, "Pendulum-v1")
    assert (task.environment, task.source, task.horizon) == ("Pendulum-v1", "minari:mine-v3", 200)
    assert task.references is None


def test_another_environment_than_its_own_is_refused(said):
    assert minari_data.task_of(PENDULUM, said.append, "Pendulum-v1").environment == f"minari:{PENDULUM}"
    with pytest.raises(UsageError, match="is evaluated in Pendulum-v1, not Hopper-v4"):
        minari_data.task_of(PENDULUM, said.append, "Hopper-v4")


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
        assert {key: (file[key].shape, file[key].dtype.name) for key in minari_data.FIELDS} == {
            "observations": ((36, 3), "float32"),
            "actions": ((36, 1), "float32"),
            "rewards": ((36,), "float32"),
            "next_observations": ((36, 3), "float32"),
            "terminals": ((36,), "bool"),
            "timeouts": ((36,), "bool"),
            "infos/next_observation_valid": ((36,), "bool"),
        }
        assert all(file[key].attrs["long_name"] and file[key].attrs["units"] for key in minari_data.FIELDS)
        assert (file.attrs["source"], file.attrs["env"]) == (f"minari:{PENDULUM}", "Pendulum-v1")


def test_an_interrupted_conversion_leaves_nothing(convert, tmp_path, monkeypatch):
    def one_episode(dataset, episodes=minari_data._episodes):
        yield next(episodes(dataset))
        raise Interrupted("stopped by SIGTERM")

    monkeypatch.setattr(minari_data, "_episodes", one_episode)
    with pytest.raises(Interrupted):
        convert(PENDULUM)
    assert files(tmp_path / "converted") == {}


@pytest.mark.parametrize("size", [5_000, 0])
def test_a_damaged_set_is_not_converted(convert, folder, tmp_path, size):
    data = folder / PENDULUM / "data" / "main_data.hdf5"
    os.truncate(data, size)
    with pytest.raises(CorruptError) as caught:
        convert(PENDULUM)
    assert caught.value.help == f"minari download --force {PENDULUM}"
    assert files(tmp_path / "converted") == {}


@pytest.mark.parametrize(
    ("episode", "words"),
    [
        (numbers(observations=np.zeros((4, 3))), "episode 1 is not a whole one, with an observation more than it has"),
        (numbers(truncations=np.zeros(3, bool)), "episode 1 is not a whole one"),
        (numbers(observations=np.zeros((5, 4))), "episode 1 is not a whole one"),
    ],
)
def test_episodes_must_be_whole(convert, episode, words):
    space = {"observation_space": spaces.Box(-9, 9, (3,)), "action_space": spaces.Box(LOW, HIGH)}
    create("part-v0", [numbers(), episode], **space)
    with pytest.raises(CorruptError, match=words):
        convert("part-v0")


def test_a_wrong_number_of_steps_is_noticed(convert, folder):
    for steps in (35, 37, 0):
        path = folder / PENDULUM / "data" / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"total_steps": steps}))
        with pytest.raises(CorruptError, match=rf"its episodes have \d+ steps( or more)?, not {steps}"):
            convert(PENDULUM)


BOX, ACTIONS = spaces.Box(-9, 9, (3,)), spaces.Box(LOW, HIGH)


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
    assert files(tmp_path / "converted") == {}


# ---- sets that are not here


def refused(id="test/pendulum-v1", say=lambda _: None):
    with pytest.raises(SwgError) as caught:
        minari_data.task_of(id, say)
    return caught.value


@pytest.mark.parametrize("remote", ["hf://farama-minari", "gcp://minari-remote"])
def test_a_dead_remote_is_answered_at_once(monkeypatch, remote, said):
    monkeypatch.setenv("MINARI_REMOTE", remote)
    started = time.monotonic()
    error = refused(say=said.append)
    assert time.monotonic() - started < 5
    assert error.code == 3
    assert "test/pendulum-v1 (did you mean 'test/pendulum-v0'?) cannot be had" in str(error)
    assert f"{remote} at http://127.0.0.1:9: " in str(error)
    assert "Connection refused" in str(error)
    assert error.help.startswith("minari download test/pendulum-v1 ")
    assert "MINARI_REMOTE" in error.help
    assert "MINARI_DATASETS_PATH" in error.help
    assert len(said) == 1


def test_a_silent_remote_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(minari_folder, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "timed out" in str(refused())


@pytest.mark.parametrize("host", ["http://no-such-host.invalid", "no url"])
def test_a_remote_that_is_nowhere_is_named(monkeypatch, host):
    monkeypatch.setenv("HF_ENDPOINT", host)
    error = refused()
    assert (error.code, host in str(error)) == (3, True)


@pytest.fixture
def refusing(monkeypatch):
    """A remote that answers every request with 403."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_missing_extra_is_the_line_to_type(monkeypatch, refusing):
    for name in ("huggingface_hub", "google.cloud.storage"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("huggingface", "gcp"):
        monkeypatch.delitem(sys.modules, f"minari.storage.remotes.{name}", raising=False)
    error = refused()
    assert (error.code, error.help) == (3, 'pip install "minari[hf]"')
    assert str(error) == "minari:test/pendulum-v1: huggingface_hub is not installed"


def test_a_refusing_remote_is_quoted(refusing):
    pytest.importorskip("huggingface_hub")
    error = refused()
    assert error.code == 3
    assert "403" in str(error)


def test_without_minari_there_is_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    error = refused()
    assert (error.code, error.help) == (3, "pip install 'minari[hdf5,hf]'")


@pytest.mark.parametrize("id", ["", "test/pendulum", "../etc/passwd-v0", "test/pend ulum-v0", "hf://x/pendulum-v0"])
def test_a_malformed_id_is_refused(id):
    error = refused(id)
    assert (error.code, "is no id of a Minari data set" in str(error)) == (2, True)


def test_the_nearest_set_on_this_machine_is_named():
    assert "did you mean 'test/pendulum-v0'" in str(refused("test/pendulum"))


@pytest.mark.parametrize("remote", ["nonsense", "s3://bucket", "hf://"])
def test_a_malformed_remote_is_refused(monkeypatch, remote):
    monkeypatch.setenv("MINARI_REMOTE", remote)
    error = refused()
    assert (error.code, f"'{remote}'" in str(error)) == (2, True)


@pytest.fixture
def download(monkeypatch, folder):
    """Stands in for Minari's download: `download.then()` is what it does, `download.forced` how it was called."""

    class Download:
        def __call__(self, id, force_download):
            print("Downloading from Farama servers")
            self.forced.append(force_download)
            self.then(id)

    fake = Download()
    fake.forced = []
    monkeypatch.setattr(minari, "download_dataset", fake)
    monkeypatch.setattr(minari_folder, "_knock", lambda host: None)
    return fake


def test_a_set_is_downloaded_once_and_standard_output_stays_empty(download, folder, tmp_path, said, capsys):
    shutil.move(folder / PENDULUM, tmp_path / "remote")
    download.then = lambda id: shutil.copytree(tmp_path / "remote", folder / id)
    assert minari_data.find(PENDULUM, tmp_path) is None
    assert minari_data.task_of(PENDULUM, said.append) == minari_data.task_of(PENDULUM, said.append)
    assert download.forced == [False]
    assert said == [
        f"minari:{PENDULUM} is not in {folder}: downloading it from hf://farama-minari at http://127.0.0.1:9"
    ]
    assert capsys.readouterr() == ("", "Downloading from Farama servers\n")


@pytest.mark.parametrize("missing", ["main_data.hdf5", "metadata.json"])
def test_a_download_that_broke_off_is_resumed(download, folder, said, missing):
    path = folder / PENDULUM / "data" / missing
    content = path.read_bytes()
    path.unlink()
    download.then = lambda id: path.write_bytes(content)
    assert minari_data.task_of(PENDULUM, said.append).horizon == 20
    assert download.forced == [True]
    path.unlink()
    download.then = lambda id: None
    assert "is not whole" in str(refused(PENDULUM))


def test_a_signal_stops_a_download(download):
    def stop(_):
        raise Interrupted("stopped by SIGINT")

    download.then = stop
    assert isinstance(refused(), Interrupted)


def test_a_set_of_another_minari_says_what_to_update(folder):
    path = folder / PENDULUM / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"minari_version": "9.0.0"}))
    error = refused(PENDULUM)
    assert (error.code, "9.0.0" in str(error)) == (3, True)
    assert error.help.startswith("pip install --upgrade minari")


def test_an_environment_that_cannot_be_made_says_what_to_install(folder, said):
    path = folder / PENDULUM / "data" / "metadata.json"
    text = path.read_text().replace("gymnasium.envs.classic_control.pendulum:", "no_such_package.envs:")
    path.write_text(text)
    task = minari_data.task_of(PENDULUM, said.append)  # which makes nothing
    with pytest.raises(InputError, match="No module named 'no_such_package'") as caught:
        minari_data.make(PENDULUM, said.append)
    assert caught.value.help == "pip install no-such-package"
    path.write_text(json.dumps(json.loads(text) | {"requirements": ["no-such-package>=2", "numpy>99"]}))
    with pytest.raises(InputError) as caught:
        minari_data.make(PENDULUM, said.append)
    assert caught.value.help == "pip install 'no-such-package>=2' 'numpy>99'"
    assert task.horizon == 20


def test_a_package_in_another_version_is_remarked_on_once(folder, said):
    path = folder / PENDULUM / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"requirements": ["numpy>99"]}))
    for _ in range(3):
        minari_data.make(PENDULUM, said.append)
    assert len(said) == 1
    assert 'pip install "numpy>99"' in said[0]


# ---- the way back


def pendulum_task(references=(-1200.0, -150.0), environment="Pendulum-v1", name="pen.d"):
    return Task(name, environment, "file:/x", "none", "default", references, 200)


def some(rows=40, actions=1, seed=0, **changes):
    """Transitions of four episodes: a terminal, two timeouts of which the second's end is not known, an open end."""
    random = np.random.default_rng(seed)
    seen = random.normal(size=(rows + 4, 3)).astype(np.float32)
    first = np.arange(rows) + np.repeat(np.arange(4), rows // 4)  # one more observation for each episode
    ends = np.arange(rows) % (rows // 4) == rows // 4 - 1
    episode = np.repeat(np.arange(4), rows // 4)
    data = transitions.Transitions(
        observations=seen[first],
        actions=(random.uniform(-1, 1, (rows, actions)) * 10.0 ** -random.integers(0, 9, (rows, 1))).astype(np.float32),
        rewards=random.normal(size=rows).astype(np.float32),
        next_observations=seen[first + 1],
        terminals=ends & (episode == 0),
        timeouts=ends & ((episode == 1) | (episode == 2)),
        known_next=~(ends & (episode == 2)),
    )
    return replace(data, **changes)


ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminals")


def assert_same(found, data, rows):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name)[rows], err_msg=name)


def test_there_and_back_every_known_row_is_the_same(convert, said):
    data, task = some(), pendulum_task()
    id = minari_export.export(task, data, None, said.append)
    assert id == "swgctl/pen-d-v0"
    assert said == ["the data set: 1 of 40 rows left out: what was observed after them is not known"]
    back = minari_data.task_of(id, said.append)
    assert (back.references, back.horizon) == (task.references, 200)
    found = transitions.read(convert(id))
    assert_same(found, data, data.known_next)
    assert found.known_next.all()
    np.testing.assert_array_equal(np.flatnonzero(found.timeouts), [19, 28, 38])
    environments.check(minari_data.make(id, said.append), found)


def test_minari_reads_what_was_written(said):
    data = some()
    dataset = minari.load_dataset(minari_export.export(pendulum_task(), data, "mine-v2", said.append))
    assert (dataset.total_episodes, dataset.total_steps, dataset.id) == (4, 39, "mine-v2")
    assert dataset.env_spec.id == "Pendulum-v1"
    assert isinstance(dataset.recover_environment().unwrapped, gymnasium.make("Pendulum-v1").unwrapped.__class__)
    assert minari.get_normalized_score(dataset, np.array(-150.0)) == 1
    episode = dataset[1]
    np.testing.assert_array_equal(episode.observations, [*data.observations[10:20], data.next_observations[19]])
    np.testing.assert_array_equal(episode.actions, 2 * data.actions[10:20])
    assert episode.actions.dtype == np.float32
    assert dataset.action_space.contains(episode.actions[0])
    np.testing.assert_array_equal(episode.truncations, np.arange(10) == 9)
    assert not episode.terminations.any()
    assert dataset[0].terminations[-1]
    assert not dataset[0].truncations.any()
    assert [len(dataset[i]) for i in range(4)] == [10, 10, 9, 10]
    assert PENDULUM in minari.list_local_datasets()
    assert "mine-v2" in minari.list_local_datasets()


def test_actions_survive_bounds_that_are_no_power_of_two(convert, said):
    still = np.zeros((40, 4), np.float32)
    data = some(actions=2, observations=still, next_observations=still)
    # The function that puts its keys in order cannot be written down.
    id = minari_export.export(pendulum_task(environment=f"minari:{SHUFFLED}", name="odd"), data, None, said.append)
    assert any("the set will name no environment" in line for line in said)
    assert minari.load_dataset(id).action_space == Shuffled.action_space
    assert_same(transitions.read(convert(id)), data, data.known_next)


def test_a_recorded_maze_comes_back_with_its_environment(convert, said):
    task, data = minari_data.task_of(MAZE, said.append), transitions.read(convert(MAZE))
    id = minari_export.export(task, data, None, said.append)
    assert id == "swgctl/minari-test-maze-umaze-v1-v0"
    found = transitions.read(convert(id))
    assert_same(found, data, slice(None))
    np.testing.assert_array_equal(found.timeouts, data.timeouts)
    ours, theirs = (minari_data.make(name, said.append) for name in (id, MAZE))
    for env in (ours, theirs):
        env.action_space.seed(0)
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    np.testing.assert_array_equal(ours.step(np.ones(2))[0], theirs.step(np.ones(2))[0])


def test_rows_that_do_not_follow_each_other_end_an_episode(convert, said):
    data = some()
    jumped = data.observations.copy()
    jumped[5] += 1
    data = replace(data, observations=jumped)
    found = transitions.read(convert(minari_export.export(pendulum_task(), data, None, said.append)))
    assert_same(found, data, data.known_next)
    assert found.timeouts[4]
    assert said[0] == "the data set: 1 episode(s) cut where the observations of two rows do not follow each other"


def test_terminal_observations_that_were_made_up_are_told(said):
    data = some()
    data.next_observations[9] = data.observations[9]
    minari_export.export(pendulum_task(), data, None, said.append)
    assert "the data set: 1 terminal observation(s) not known: the one before stands in" in said


def test_nothing_known_is_nothing_to_write(said, folder):
    before, never = files(folder), np.zeros(4, bool)
    data = some(4, known_next=never, terminals=never, timeouts=~never)
    with pytest.raises(InputError, match="of no row is the next observation known"):
        minari_export.export(pendulum_task(), data, None, said.append)
    assert files(folder) == before


def test_a_task_whose_environment_is_not_here_is_written_without(convert, said):
    id = minari_export.export(pendulum_task(environment="Elsewhere-v7"), some(), None, said.append)
    assert said[0].startswith("pen.d: the set will name no environment, since gymnasium has no environment 'Elsewhere")
    dataset = minari.load_dataset(id)
    assert dataset.env_spec is None
    assert dataset.storage.metadata["ref_max_score"] == -150.0
    assert_same(transitions.read(convert(id)), some(), some().known_next)


def test_an_id_that_exists_is_not_written_over(said, folder):
    before = files(folder)
    with pytest.raises(InputError, match="the id test/pendulum-v0 is taken") as caught:
        minari_export.export(pendulum_task(), some(), PENDULUM, said.append)
    assert caught.value.help.startswith("minari delete test/pendulum-v0 ")
    assert files(folder) == before
    with pytest.raises(UsageError, match="is no id of a Minari data set"):
        minari_export.export(pendulum_task(), some(), "mine", said.append)


def test_of_two_at_once_one_wins(said, folder, monkeypatch):
    def other_first(whole, target, rename=os.rename):
        shutil.copytree(folder / PENDULUM, target)
        rename(whole, target)

    monkeypatch.setattr(os, "rename", other_first)
    with pytest.raises(InputError, match="is taken"):
        minari_export.export(pendulum_task(), some(), "new/space/mine-v0", said.append)
    assert not list(folder.glob(".swgctl-*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted("stopped by SIGTERM"), OSError(28, "No space left")])
def test_an_export_that_fails_leaves_nothing(said, folder, monkeypatch, error):
    from minari.dataset._storages.hdf5_storage import HDF5Storage

    def fails(self, episodes, update=HDF5Storage.update_episodes):
        update(self, [next(iter(episodes))])
        raise error

    before = files(folder)
    monkeypatch.setattr(HDF5Storage, "update_episodes", fails)
    expected = SwgError if isinstance(error, OSError) else error if isinstance(error, type) else type(error)
    with pytest.raises(expected) as caught:
        minari_export.export(pendulum_task(), some(), "new/mine-v0", said.append)
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
    assert files(folder) == before
    assert not (folder / "new").exists()
    assert not list(folder.glob(".swgctl-*"))


# ---- by the command


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def test_a_data_set_is_named_on_the_command_line(recipe, said):
    name = f"minari:{PENDULUM}"
    answer = swgctl("run", name, "--recipe", recipe, "--json")
    (cell,) = answer.json["metrics"]["cells"]
    assert answer.json["task"] == "minari-test-pendulum-v0"
    assert cell["score_mean"] == pytest.approx(100 * (cell["return_mean"] + 1200) / 1050)
    assert f"{name}: converting 36 steps, 3 episodes" in answer.err
    again = swgctl("critic", name, "--recipe", recipe, "--json")
    assert again.json["status"] == "cached"
    assert "converting" not in again.err
    assert tasks.get(name).argument == name
    assert tasks.at_hand(tasks.get(name)) == tasks.locate(tasks.get(name), said.append)[0]
    assert environments.spec(name).max_episode_steps == 20
    assert environments.make(name).observation_space.shape == (3,)


def test_a_set_without_an_environment_is_named_with_one(folder):
    space = {"observation_space": spaces.Box(-9, 9, (3,)), "action_space": spaces.Box(-2, 2, (1,))}
    create("mine-v3", [numbers(actions=np.ones((4, 1)))], **space)
    assert tasks.get("minari:mine-v3", "Pendulum-v1").argument == "minari:mine-v3 --env Pendulum-v1"
    answer = swgctl("critic", "minari:mine-v3")
    answer.refused(3, "minari:mine-v3 does not say which environment")
    assert answer.helps == ["swgctl critic minari:mine-v3 --env ENV_ID"]


def test_an_unknown_set_is_refused_by_the_command():
    answer = swgctl("critic", "minari:test/pendulum-v9")
    answer.refused(3, "minari:test/pendulum-v9", "did you mean 'test/pendulum-v0'")
    assert answer.helps[0].startswith("minari download test/pendulum-v9")
