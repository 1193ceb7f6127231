"""With the package: what is downloaded, relabelled and played is OGBench's."""

import contextlib
import hashlib
import io

import h5py
import numpy as np
import pytest
from support.harness import swgctl

pytest.importorskip("ogbench")

import gymnasium
import ogbench as package

from swgctl import tasks
from swgctl.tasks import environments, fleet, ogbench, published, registry, transitions

NAME = "pointmaze-medium-navigate-singletask-task1-v0"
CUBE = "cube-single-play-singletask-task2-v0"
pytestmark = pytest.mark.training


def trajectories(environment: str, count: int = 3, length: int = 40) -> bytes:
    """An npz in OGBench's layout: `count` trajectories of `length` actions and one more row."""
    world, parts = gymnasium.make(environment, disable_env_checker=True), []
    for seed in range(count):
        observation, _ = world.reset(seed=seed)
        world.action_space.seed(seed)
        for step in range(length + 1):
            action = world.action_space.sample()
            row = {"observations": observation, "actions": action, "terminals": step == length}
            row |= {name: getattr(world.unwrapped.data, name).copy() for name in ("qpos", "qvel")}
            parts.append(row)
            observation = world.step(action)[0]
    world.close()
    body = io.BytesIO()
    np.savez_compressed(body, **{key: np.stack([part[key] for part in parts]) for key in parts[0]})
    return body.getvalue()


@pytest.fixture
def served(server):
    server.body = trajectories(tasks.get(NAME).environment)
    return server


def test_a_set_is_relabelled_as_the_package_does_it(served, tmp_path, monkeypatch):
    path = swgctl("data", "fetch", NAME).path
    (tmp_path / "pointmaze-medium-navigate-v0.npz").write_bytes(served.body)
    (tmp_path / "pointmaze-medium-navigate-v0-val.npz").write_bytes(served.body)
    _, expected, _ = package.make_env_and_datasets(
        NAME, dataset_path=str(tmp_path / "pointmaze-medium-navigate-v0.npz"), add_info=True
    )
    with h5py.File(path) as file:
        assert file.attrs["success_timing"] == "pre"
        assert file.attrs["set_sha256"] == hashlib.sha256(served.body).hexdigest()
        for name in ("observations", "next_observations", "rewards"):
            np.testing.assert_array_equal(file[name][()], expected[name])
        np.testing.assert_array_equal(file["terminals"][()], expected["masks"] == 0)
        ended = file["terminals"][()] | file["timeouts"][()]
        assert ended[expected["terminals"] == 1].all()
    data = transitions.read(path)
    assert len(data) == 120  # a trajectory's last action leads nowhere
    assert data.known_next.all()


def test_the_version_and_the_timing_are_in_the_data(served, monkeypatch):
    one = tasks.locate(tasks.get(NAME), print)
    assert tasks.locate(tasks.get(NAME), print) == one
    monkeypatch.setattr(ogbench, "timing", lambda environment: "post")
    other = tasks.locate(tasks.get(NAME), print)
    assert other[0] != one[0]
    assert other[1] != one[1]
    monkeypatch.setattr(ogbench, "version", lambda package: "9.9")
    assert tasks.locate(tasks.get(NAME), print)[1] not in (one[1], other[1])
    assert len(served.log) == 1


def test_how_the_set_stands_is_that_of_its_download(served, monkeypatch):
    path, digest = tasks.locate(tasks.get(NAME), print)
    assert tasks.standing(tasks.get(NAME), path, digest) == published.PINNED
    row = published.Published(len(served.body), hashlib.sha256(served.body).hexdigest(), "test", False)
    monkeypatch.setitem(published.table(), "ogbench/pointmaze-medium-navigate-v0.npz", row)
    assert tasks.standing(tasks.get(NAME), path, digest) == published.PUBLISHED
    assert "published: " in swgctl("data", "verify").err


@pytest.mark.parametrize("body", [b"PK\x03\x04 cut off", b"no zip at all"])
def test_what_is_no_set_is_refused(server, body):
    server.body = body
    swgctl("data", "fetch", NAME).refused(3, "pointmaze-medium-navigate-v0.npz: ")


class Hostile:
    """What a pickle would run."""

    def __reduce__(self):
        return print, ("unpickled",)


WRONG = {
    "fewer actions": {"actions": np.zeros((100, 2))},
    "fewer ends": {"terminals": np.zeros(120)},
    "only ends": {"terminals": np.ones(123)},
    "no positions": {"qpos": None},
    "positions in a row": {"qpos": np.zeros(123)},
    "text": {"observations": np.full((123, 4), "x")},
    "pickles": {"observations": np.full((123, 4), Hostile(), object)},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_set_whose_arrays_are_not_as_they_should_be_is_damaged(served, changes, capfd):
    arrays = dict(np.load(io.BytesIO(served.body))) | changes
    body = io.BytesIO()
    np.savez(body, **{name: values for name, values in arrays.items() if values is not None})
    served.body = body.getvalue()
    swgctl("data", "fetch", NAME).refused(4, "is not a whole set of OGBench")
    assert "unpickled" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["pointmaze-medium", "antmaze-large", "cube-single"])
def test_a_set_is_as_the_table_has_it(name):
    about = registry.sets()[name]
    task = tasks.get(f"{name}-{about['kinds'][0]}-singletask-v0")
    with contextlib.closing(environments.make(task.environment)) as world:
        assert [*world.observation_space.shape, *world.action_space.shape] == about["dimensions"]
        assert gymnasium.spec(task.environment).max_episode_steps == about["horizon"]
    with contextlib.closing(gymnasium.make(f"{name}-singletask-v0", disable_env_checker=True)) as world:
        assert world.unwrapped._reward_task_id == about["default"]


def test_success_is_what_is_measured():
    task = tasks.get(CUBE)
    with fleet.launch(task.environment, [0, 1], 2, task.measures) as copies:
        copies.actions[:] = 0
        copies.step()
        assert copies.measured["success"].tolist() == [0, 0]
        assert copies.rewards.tolist() == [-1, -1]
    assert tasks.score(task, {"return": -3.0, "success": 1.0}) == 100


def test_a_policy_learns_from_a_set_and_is_scored_by_success(served, tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "critic: {steps: 2, hidden: [8], batch: 8}\n"
        "diffuse: {steps: 2, width: 16, batch: 8, K: 2}\n"
        "eval: {rho: [0], resample: [1], temperature: 1, episodes: 1}\n"
    )
    evaluation = swgctl("run", NAME, "--recipe", recipe)
    assert "score" in evaluation.err
    report = swgctl("report")
    assert "learnt from 120 rows" in report.err
    assert "data: no published checksum" in report.err
    assert "it is the share of successes, in per cent" in report.err
    assert swgctl("report", "--json").json["rows"][0]["score_mean"] in (0, 100)
