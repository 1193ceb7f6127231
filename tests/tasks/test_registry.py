"""Tasks by name and by file, their scores, and where `locate` looks for their data."""

import hashlib
import json
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
import yaml

from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.tasks import Task, get, locate, modules, names, normalized_score, quoted, registry


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my own data (1).hdf5"
    path.write_bytes(b"")
    return path


def test_the_locomotion_tasks_and_the_demo():
    for robot in ("halfcheetah", "hopper", "walker2d"):
        for data in ("random", "medium", "medium-replay", "medium-expert", "expert"):
            task = get(f"{robot}-{data}-v2")
            assert task.source == f"d4rl:gym_mujoco_v2/{robot}_{data.replace('-', '_')}-v2.hdf5"
            assert task.environment.lower().removeprefix("swgctl/") == f"{robot}-v4"
            assert (task.rewards, task.recipe, task.horizon) == ("return_range", "locomotion", 1000)
    demo = get("demo")
    assert (demo.source, demo.environment, demo.recipe) == ("local:demo", "HalfCheetah-v4", "demo")
    assert demo.references == get("halfcheetah-medium-v2").references


def test_every_task_of_the_papers_is_known():
    mazes = [f"{size}-{kind}" for size in ("medium", "large") for kind in ("play", "diverse")]
    antmaze = [f"antmaze-{maze}-{v}" for maze in ("umaze", "umaze-diverse", *mazes) for v in ("v0", "v2")]
    kitchen = [f"kitchen-{kind}-v0" for kind in ("complete", "partial", "mixed")]
    adroit = [
        f"{hand}-{kind}-{v}"
        for hand in ("pen", "door", "hammer", "relocate")
        for kind in ("human", "cloned", "expert")
        for v in ("v0", "v1")
    ]
    maze2d = [f"maze2d-{size}{dense}-v1" for size in ("umaze", "medium", "large") for dense in ("", "-dense")]
    for family, rewards, listed in (
        ("antmaze", "minus_one", antmaze),
        ("kitchen", "none", kitchen),
        ("adroit", "none", adroit),
        ("maze2d", "none", maze2d),
    ):
        for name in listed:
            task = get(name)
            assert (task.recipe, task.rewards) == (family, rewards)
            assert task.source.startswith("d4rl:")
            assert task.references[0] < task.references[1]
    assert len(antmaze + kitchen + adroit + maze2d) + 15 == sum(get(n).source.startswith("d4rl:") for n in names())


@pytest.mark.parametrize("paper", [paper for paper in quoted.papers() if paper != "fql"])  # which has averages alone
def test_the_papers_averages_are_those_of_their_rows(paper):
    """But for a few, as printed: a mean that is rounded another way, and one that the rows do not give at all."""
    wrong = set()
    for family, section in quoted.paper(paper)["scores"].items():
        for method, printed in section["averages"].items():
            row = section["methods"][method]
            assert None not in row
            mean = sum(map(Decimal, map(str, row))) / len(row)
            if mean.quantize(Decimal("0.1"), ROUND_HALF_UP) != Decimal(str(printed)):
                wrong.add((family, method, float(round(mean, 2)), printed))
    assert wrong == KNOWN_MISPRINTS[paper]


KNOWN_MISPRINTS = {
    "swg": {
        ("locomotion", "IQL", 76.96, 76.9),
        ("locomotion", "D-QL", 87.91, 88.0),
        ("antmaze", "IDQL", 79.15, 79.1),
    },
    "aepo": set(),
    "pgd": {
        ("locomotion", "IQL", 46.99, 46.9),
        ("locomotion", "IQL, unguided", 47.1, 47.0),
    },
}


def test_quoted_scores_are_of_known_tasks():
    for paper in quoted.papers():
        for section in quoted.paper(paper)["scores"].values():
            assert all(get(task).name == task for task in section["tasks"])
            assert all(len(row) == len(section["tasks"]) for row in section["methods"].values())
    assert quoted.scores("hopper-medium-v2")["SWG-R"] == (74.6, 5.2)
    assert quoted.scores("hopper-medium-v2")["IDQL"] == (65.4, None)
    assert "Diffuser" not in quoted.scores("antmaze-umaze-v0")
    assert quoted.scores("demo") == {}
    assert quoted.guidance_scale("pen-cloned-v0") == 25
    assert quoted.guidance_scale("demo") is None


def test_a_task_survives_json():
    for task in map(get, names()):
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_a_record_of_another_version_is_named():
    with pytest.raises(CorruptError, match=r"task demo: .*colour"):
        Task.from_json(get("demo").to_json() | {"colour": "red"})


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean 'hopper-medium-v2'") as caught:
        get("hoper-medium-v2")
    assert caught.value.code == 2
    assert caught.value.help


def test_a_known_task_keeps_its_environment():
    assert get("demo", "HalfCheetah-v4") == get("demo")
    with pytest.raises(UsageError, match="HalfCheetah-v4, not HalfCheetah-v5"):
        get("demo", "HalfCheetah-v5")


def test_a_file_needs_an_environment(file):
    with pytest.raises(UsageError) as caught:
        get(str(file))
    assert caught.value.help == modules.NAME_IT


def test_a_missing_file_is_not_an_unknown_task(tmp_path):
    with pytest.raises(InputError, match="no such file") as caught:
        get(str(tmp_path / "data.hdf5"), "Hopper-v4")
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("environment", "rewards", "recipe", "horizon"),
    [
        ("HalfCheetah-v4", "return_range", "locomotion", 1000),
        ("Walker2d-v5", "return_range", "locomotion", 1000),
        ("Pendulum-v1", "none", "default", 200),
        ("gymnasium.envs:Hopper-v4", "return_range", "locomotion", 1000),
    ],
)
def test_a_file_takes_its_settings_from_the_environment(file, environment, rewards, recipe, horizon):
    task = get(str(file), environment)
    assert task == Task("my-own-data-1", environment, f"file:{file.resolve()}", rewards, recipe, None, horizon)
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_an_antmaze_file_costs_one_a_step(file):
    import gymnasium

    gymnasium.register("AntMaze_Test-v4", entry_point="nowhere:Maze", max_episode_steps=700)
    try:
        assert get(str(file), "AntMaze_Test-v4").rewards == "minus_one"
    finally:
        del gymnasium.registry["AntMaze_Test-v4"]


def test_a_file_never_passes_for_a_known_task(tmp_path):
    path = tmp_path / "hopper-medium-v2.hdf5"
    path.write_bytes(b"")
    task = get(str(path), "Hopper-v4")
    assert (task.name, task.references) == ("hopper-medium-v2-file", None)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ("HalfCheeta-v4", "did you mean 'HalfCheetah-v4'"),
        ("HalfCheetah", "no environment 'HalfCheetah'"),
        ("HalfCheetah-v2", "no longer makes 'HalfCheetah-v2'"),
        ("no_such_module:Maze-v0", "No module named 'no_such_module'"),
    ],
)
def test_an_unknown_environment_is_a_usage_error(file, environment, message):
    with pytest.raises(UsageError, match=message) as caught:
        get(str(file), environment)
    assert caught.value.help


def test_normalized_scores():
    task = get("hopper-medium-v2")
    assert normalized_score(task, -20.272305) == 0
    assert normalized_score(task, 3234.3) == 100
    halfway = (3234.3 - 20.272305) / 2
    np.testing.assert_allclose(normalized_score(task, np.array([halfway, 3234.3])), [50, 100])


def test_a_task_without_references_has_no_score(file):
    assert normalized_score(get(str(file), "Hopper-v4"), 1000.0) is None


def test_locate_finds_a_file_and_says_when_it_is_gone(file):
    task = get(str(file), "Hopper-v4")
    assert locate(task, print) == (file, hashlib.sha256(b"").hexdigest())
    file.unlink()
    with pytest.raises(InputError, match="no such file"):
        locate(task, print)


def test_locate_builds_local_tasks_in_the_cache(tmp_path, monkeypatch):
    from swgctl.tasks import local

    monkeypatch.setenv("SWGCTL_CACHE", str(tmp_path))
    monkeypatch.setattr(local, "build", lambda name, directory, say: (directory / f"{name}.hdf5", "digest"))
    assert locate(get("demo"), print) == (tmp_path / "local" / "demo.hdf5", "digest")


def test_locate_refuses_a_source_of_another_version():
    with pytest.raises(CorruptError, match="cloud:demo"):
        locate(Task.from_json(get("demo").to_json() | {"source": "cloud:demo"}), print)


def test_locate_takes_d4rl_files_from_the_local_folder(tmp_path, monkeypatch):
    (tmp_path / "maze2d-umaze-sparse-v1.hdf5").write_bytes(b"data")
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path))
    assert locate(get("maze2d-umaze-v1"), print)[0] == tmp_path / "maze2d-umaze-sparse-v1.hdf5"


def test_importing_the_room_is_cheap():
    heavy = "{'numpy', 'h5py', 'gymnasium', 'torch', 'urllib.request'}"
    code = f"import sys, swgctl.tasks; swgctl.tasks.get('demo'); print({heavy} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


def test_no_task_is_listed_twice():
    """PyYAML lets a duplicate key win in silence."""
    for family in registry.FAMILIES.glob("*.yaml"):
        node = yaml.compose(family.read_text())
        rows = next(value for key, value in node.value if key.value == "tasks")
        keys = [key.value for key, _ in rows.value]
        assert len(keys) == len(set(keys))
