"""`task` and `data`: what a task is, and the files that tasks learn from."""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
import yaml
from support.harness import shell, swgctl

from swgctl import tasks
from swgctl.tasks import published, quoted


@pytest.fixture
def door(tmp_path, monkeypatch):
    """write(rows=..., **changes): a file as D4RL's door-human-v0, two episodes, every field changed that is named.

    As if nobody had published checksums.
    """
    monkeypatch.setattr(published, "of", lambda path: None)

    def write(rows: int = 6_729, name: str = "door.hdf5", **changes):
        draw = np.random.default_rng(0)
        arrays = {
            "observations": draw.normal(size=(rows, 39)).astype(np.float32),
            "actions": draw.uniform(-1, 1, (rows, 28)).astype(np.float32),
            "rewards": np.arange(rows, dtype=np.float32),
            "terminals": np.zeros(rows, bool),
            "timeouts": np.isin(np.arange(rows), [99, rows - 1]),
        }
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, value in (arrays | changes).items():
                file[key] = value
        return path

    return write


# -- task --------------------------------------------------------------------------------------------------------------


def test_task_ls_is_names_for_scripts_and_a_table_for_people():
    answer = swgctl("task", "ls")
    assert answer.lines == tasks.names()
    for word in ("antmaze-large-diverse-v2", "swgctl/AntMazeLarge-v2", "minus_one", "12,135.0", "29/8"):
        assert word in answer.err


def test_every_task_shows_all_that_is_known_of_it():
    objects = [json.loads(line) for line in swgctl("task", "ls", "--json").lines]
    assert [found["task"] for found in objects] == tasks.names()
    for found in objects:
        assert found["dimensions"]["observation"] > found["dimensions"]["action"] > 0
        if "singletask" in found["environment"]:  # whose scores are success rates
            assert found["references"] is None
        else:
            assert found["references"]["random"] < found["references"]["expert"]
        assert found["horizon"] in (100, 200, 280, 300, 500, 600, 700, 800, 1000)
        assert found["terminal"]
        assert found["adapter"]
        assert found["rewards"]["means"]
        assert found["file"] is found["sha256"] is None  # nothing is here yet


def test_task_show_is_yaml_with_the_papers_scores():
    found = yaml.safe_load("\n".join(swgctl("task", "show", "hopper-medium-v2").lines))
    assert found == swgctl("task", "show", "hopper-medium-v2", "--json").json
    assert found["rows"] == 1_000_000
    assert found["references"] == {"random": -20.272305, "expert": 3234.3}
    assert found["scores"]["SWG, arXiv 2505.18345 v2"]["SWG-R"] == "74.6 ± 5.2"
    assert found["scores"]["AEPO, arXiv 2505.01822"]["AEPO"] == "100.2 ± 0.5"
    assert found["rho"] == 20
    assert found["recipe"] == "locomotion"


def test_a_name_one_letter_off():
    for command in (("task", "show"), ("data", "fetch"), ("data", "info"), ("data", "verify"), ("critic",)):
        swgctl(*command, "hoper-medium-v2").refused(2, "did you mean 'hopper-medium-v2'")


def test_the_recipes_guidance_scales_are_the_papers():
    for name in tasks.names():
        if (rho := quoted.guidance_scale(name)) is not None:
            resolved = yaml.safe_load("\n".join(swgctl("recipe", "show", name).lines))
            assert resolved["eval"]["rho"] == [0, rho]


# -- data --------------------------------------------------------------------------------------------------------------


def test_import_puts_a_file_where_the_task_looks(door, tmp_path):
    file = door()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = swgctl("data", "import", "door-human-v0", file).path
    assert path == tmp_path / "cache" / "hand_dapg" / "door-v0_demos_clipped.hdf5"
    assert path.read_bytes() == file.read_bytes()
    assert swgctl("data", "import", "door-human-v0", file).path == path  # the same again
    assert swgctl("data", "fetch", "door-human-v0").path == path
    assert swgctl("data", "verify").path == swgctl("data", "verify", "door-human-v0").path == path
    assert swgctl("task", "show", "door-human-v0", "--json").json["sha256"] == digest


def test_import_refuses_what_is_not_the_tasks_data_and_keeps_what_is(door):
    path = swgctl("data", "import", "door-human-v0", door()).path
    good = path.read_bytes()
    swgctl("data", "import", "door-human-v0", door(rewards=np.ones(6_729, np.float32))).refused(3, "another file")
    swgctl("data", "import", "door-cloned-v0", door()).refused(3, "6,729 rows", "1,000,000")
    swgctl("data", "import", "cube-single-play-singletask-v0", door()).refused(2, "is not D4RL's")
    swgctl("data", "import", "pen-human-v0", door()).refused(3, "39 dimensions", "pen-human-v0 45")
    swgctl("data", "import", "door-human-v0", door(terminals=np.zeros(5, bool))).refused(3, "rows differ")
    swgctl("data", "import", "demo", door()).refused(2, "downloads no file")
    assert path.read_bytes() == good
    assert swgctl("data", "verify").path == path


def test_verify_names_what_is_damaged_after_looking_at_all(door, tmp_path):
    path = swgctl("data", "import", "door-human-v0", door()).path
    other = swgctl("data", "import", "door-human-v1", door(rows=300)).path
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    swgctl("data", "verify").refused(4, "1 of 2 file(s)", str(path))
    swgctl("data", "info", "door-human-v0")  # still looks at it
    swgctl("critic", "door-human-v0").refused(4, "sha256")
    assert swgctl("data", "verify", "door-human-v1").path == other
    other.unlink()
    swgctl("data", "verify", "door-human-v1").refused(3, "no file")
    swgctl("data", "verify").refused(4, "2 of 2 file(s)")


def test_info_says_what_is_in_a_file(door):
    file = door(rows=300)
    found = swgctl("data", "info", file, "--json").json
    assert (found["rows"], found["dimensions"], found["episodes"]) == (300, [39, 28], 2)
    assert found["lengths"] == [100, 150, 200]
    assert found["returns"] == [sum(range(100)), sum(range(300)) / 2, sum(range(100, 300))]
    assert found["ranges"]["rewards"] == [0, 299]
    assert (found["terminals"], found["timeouts"], found["unknown_next"]) == (0, 2, 2)
    assert (found["problems"], found["task"]) == ([], None)
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    text = swgctl("data", "info", file)
    assert "returns (least, mean, greatest): 4,950, 2.242e+04, 3.99e+04" in text.lines


def test_info_shows_also_what_cannot_be_learnt_from(door):
    rewards = np.ones(300, np.float32)
    rewards[[7, 8]] = np.nan, np.inf
    found = swgctl("data", "info", door(rows=300, rewards=rewards, actions=np.full((300, 28), 2.0)), "--json").json
    assert found["not_finite"] == {"observations": 0, "actions": 0, "rewards": 2}
    assert found["ranges"]["actions"] == [2, 2]
    assert len(found["problems"]) == 2
    assert "episodes" not in found


def test_info_compares_a_file_with_the_environment_that_is_named(door):
    file = door(rows=300)
    assert swgctl("data", "info", file, "--env", "swgctl/AdroitDoor-v1", "--json").json["problems"] == []
    assert swgctl("data", "info", file, "--env", "Pendulum-v1", "--json").json["problems"] == [
        "observations have 39 dimensions, those of Pendulum-v1 3",
        "actions have 28 dimensions, those of Pendulum-v1 1",
    ]


@pytest.mark.parametrize(
    ("environment", "problem"), [("CartPole-v1", "is not a space of vectors"), ("Nowhere-v0", "Nowhere-v0")]
)
def test_info_of_a_file_whose_environment_does_not_serve(door, environment, problem):
    answer = swgctl("data", "info", door(rows=300), "--env", environment)
    if environment == "Nowhere-v0":
        answer.refused(2, problem)
    else:
        assert problem in answer.out
        assert "rows: 300" in answer.lines


def test_info_says_where_a_file_without_timeouts_is_cut(tmp_path):
    """Its next observations show three ends more, which nothing marks."""
    rows = 40
    observations = np.arange(3.0 * rows, dtype=np.float32).reshape(rows, 3)
    following = np.roll(observations, -1, 0)
    following[[9, 14, 29]] += 1
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"], file["next_observations"] = observations, following
        file["actions"], file["rewards"] = np.zeros((rows, 1), np.float32), np.zeros(rows, np.float32)
        file["terminals"] = np.arange(rows) == 19
    found = swgctl("data", "info", path, "--json").json
    assert found["assumed"] == (
        "no timeouts: episodes are cut nowhere but at terminals; 3 other rows are followed by another observation than "
        "their next"
    )
    assert found["episodes"] == 2


def test_info_compares_with_what_was_published(door, monkeypatch, tmp_path):
    shutil.copy(door(), tmp_path / "door-v0_demos_clipped.hdf5")
    shutil.copy(door(rows=9_000), tmp_path / "pen-v0_demos_clipped.hdf5")
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path))
    found = swgctl("data", "info", "door-human-v0", "--json")
    assert found.json["published"] == {"rows": 6_729, "dimensions": [39, 28], "agrees": True}
    assert "agrees with what was published" in found.err
    score = 100 * (np.array(found.json["returns"]) + 56.512833) / (2880.5693087298737 + 56.512833)
    np.testing.assert_allclose(found.json["scores"], score, atol=0.005)
    found = swgctl("data", "info", "pen-human-v0", "--json")
    assert found.json["published"]["agrees"] is False
    assert "rows 9,000, published 5,000" in found.err
    assert "dimensions (39, 28), published (45, 24)" in found.err


def test_info_downloads_nothing():
    swgctl("data", "info", "hopper-medium-v2").refused(3, "not on this machine")


@pytest.mark.parametrize("command", [("data", "info"), ("data", "verify"), ("task", "show")])
def test_a_look_at_a_minari_set_downloads_nothing(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    answer = swgctl(*command, "minari:D4RL/pen/human-v2")
    answer.refused(3, "minari:D4RL/pen/human-v2 is not on this machine")
    assert "downloading" not in answer.err


def test_an_empty_checksum_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SWGCTL_CACHE", str(tmp_path))
    place = tmp_path / "gym_mujoco_v2" / "hopper_medium-v2.hdf5.sha256"
    place.parent.mkdir()
    for name in (place.name, place.with_suffix("").name):
        (place.parent / name).touch()
    assert swgctl("task", "show", "hopper-medium-v2", "--json").json["sha256"] is None


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        monkeypatch.setenv("SWGCTL_CACHE", str(folder))
        for name in ("local-maze2d-umaze", "hopper-medium-v2"):
            swgctl("data", "fetch", name).refused(2, "cannot be a cache")


def test_a_dead_mirror_is_one_line(monkeypatch):
    monkeypatch.setenv("SWGCTL_D4RL_URL", "http://127.0.0.1:9/d4rl")
    swgctl("data", "fetch", "kitchen-partial-v0").refused(3, "127.0.0.1:9", "Connection refused")


def test_export_wants_a_format(door):
    swgctl("data", "export", "demo").refused(2, "export to what?")


def test_task_show_answers_soon():
    """Without PyTorch, gymnasium or HDF5."""
    code = "import sys; from swgctl.cli import app; app(['task', 'show', 'demo'], standalone_mode=False); "
    heavy = "{'torch', 'mujoco', 'minari', 'gymnasium_robotics'}"
    answer = shell(f'python -c "{code}print(sys.modules.keys() & {heavy})"')
    assert answer.lines[-1] == "set()"
