"""Minari sets whose metadata would run code, or are not what Minari writes: nothing runs, and one line says why."""

import json
import os
import sys

import gymnasium
import pytest
from support.harness import swgctl
from support.minari_sets import MAZE, PENDULUM, amend, create

from swgctl import tasks
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.tasks import environments, minari_data, minari_env, minari_folder, modules

pytestmark = pytest.mark.usefixtures("folder")

PLACE = "gymnasium.envs.classic_control.pendulum:PendulumEnv"


@pytest.fixture
def specify(folder):
    """specify(**changes) changes what the pendulum's set says of its environment."""

    def specify(**changes) -> None:
        path = folder / PENDULUM / "data" / "metadata.json"
        spec = json.loads(json.loads(path.read_text())["env_spec"])
        amend(folder, env_spec=json.dumps(spec | changes))

    return specify


def touching(tmp_path) -> dict:
    return {"entry_point": "os:system", "kwargs": {"command": f"touch {tmp_path}/RAN"}}


def wrapper(entry_point: str, **kwargs) -> dict:
    return {"additional_wrappers": [{"name": "Wrapper", "entry_point": entry_point, "kwargs": kwargs}]}


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["env_spec", "eval_env_spec"])
@pytest.mark.parametrize("id", ["Pendulum-v1", "Never-v0", "evil_module:Never-v0", "HalfCheetah-v2"])
def test_a_set_runs_no_command(folder, tmp_path, id, which):
    spec = {"id": id, "max_episode_steps": 20, "additional_wrappers": [], **touching(tmp_path)}
    amend(folder, **{which: json.dumps(spec)})
    answer = swgctl("critic", f"minari:{PENDULUM}", "--set", "critic.steps=1")
    answer.refused(3, f"minari:{PENDULUM}", id)
    assert f"--env MODULE:{id.rpartition(':')[2]} " in answer.helps[-1]
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_a_set_without_its_spaces_runs_no_command_either(folder, tmp_path, specify, space):
    """Minari makes the environment to get them, as soon as it loads the set."""
    specify(**touching(tmp_path))
    amend(folder, **{space: None})
    for command in ("critic", "data info", "task show", "data fetch"):
        swgctl(*command.split(), f"minari:{PENDULUM}").refused(3, f"minari:{PENDULUM} does not say of which spaces")
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entry_point": "gymnasium.envs.classic_control.cartpole:CartPoleEnv"}, "CartPoleEnv, and the one that is"),
        ({"entry_point": None}, "is None, and the one that is"),
        ({"entry_point": ["os:system"]}, "and the one that is"),
        ({"kwargs": {"xml_file": "/etc/passwd"}}, "is to be made with '/etc/passwd'"),
        ({"kwargs": {"g": {"a": ["x", "os:system"]}}}, "is to be made with 'os:system'"),
        (wrapper("os:system", command="true"), "has the wrapper os:system"),
        (wrapper("gymnasium.wrappers.rendering:RecordVideo", video_folder="x"), "has the wrapper gymnasium.wrappers.r"),
        (wrapper("gymnasium.wrappers.common:deepcopy"), "has the wrapper gymnasium.wrappers.common:deepcopy"),
        (wrapper("gymnasium.wrappers.common.os:system"), "has the wrapper gymnasium.wrappers.common.os:system"),
        ({"additional_wrappers": [{"colour": "red"}]}, "an issue occurred|a WrapperSpec"),
    ],
)
def test_only_what_is_registered_here_is_made(specify, said, changes, words):
    specify(**changes)
    with pytest.raises(InputError, match=words.replace("(", r"\(")) as raised:
        minari_env.make(PENDULUM, said.append)
    assert raised.value.code == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"kwargs": {"g": 3.0}},
        {"max_episode_steps": 7},
        wrapper("gymnasium.wrappers.transform_reward:ClipReward", min_reward=-0.1, max_reward=0.0),
        {"entry_point": "gymnasium.envs.where_it_was_before:PendulumEnv"},
    ],
)
def test_the_rest_of_a_specification_is_the_sets(specify, said, changes):
    specify(**changes)
    env = minari_env.make(PENDULUM, said.append)
    env.reset(seed=0)
    _, reward, *_ = env.step(env.action_space.high)
    assert env.unwrapped.g == changes.get("kwargs", {}).get("g", 10.0)
    assert env.spec.max_episode_steps == changes.get("max_episode_steps", 20)
    assert (reward >= -0.1) == ("additional_wrappers" in changes)
    assert env.unwrapped.spec.entry_point == PLACE


def test_a_person_may_name_the_module_that_registers_it(specify, said, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(modules, "_allowed", set())
    (tmp_path / "own_pendulum.py").write_text(f"import gymnasium\ngymnasium.register('Own-v7', '{PLACE}')\n")
    specify(id="Own-v7")
    with pytest.raises(InputError, match="Own-v7 is not registered here"):
        minari_env.make(PENDULUM, said.append)
    assert "own_pendulum" not in sys.modules
    try:
        task = tasks.get(f"minari:{PENDULUM}", "own_pendulum:Own-v7")
        assert task.environment == task.source == f"minari:{PENDULUM}"
        assert environments.make(task.environment).spec.id == "Own-v7"
        with pytest.raises(UsageError, match="is evaluated in Own-v7, not own_pendulum:Pendulum-v1"):
            tasks.get(f"minari:{PENDULUM}", "own_pendulum:Pendulum-v1")
    finally:
        gymnasium.registry.pop("Own-v7", None)


def test_packages_that_a_set_asks_for_are_names(folder, said):
    amend(folder, requirements=["evil @ http://127.0.0.1/x.whl", "--index-url=http://x", "a; rm -rf b", 5, "numpy>99"])
    minari_env.make(PENDULUM, said.append)
    assert len(said) == 1
    assert 'pip install "numpy>99"' in said[0]


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", "null", "{", "{}", "[" * 100_000, '{"dataset_id": "x; touch y"}', '{"dataset_id": 5}', "\x00\xff"],
    ids=lambda text: text[:8].encode("unicode_escape").decode(),
)
def test_metadata_that_are_not_minaris_are_damage(folder, text):
    (folder / PENDULUM / "data" / "metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptError) as raised:
        minari_folder.local(PENDULUM)
    assert raised.value.help == f"minari download --force {PENDULUM}"


@pytest.mark.parametrize(
    "changes",
    [
        {"env_spec": "{"},
        {"env_spec": "[]"},
        {"env_spec": "[" * 100_000},
        {"env_spec": '{"id": 5, "additional_wrappers": []}'},
        {"env_spec": '{"id": "x", "kwargs": 5, "additional_wrappers": []}'},
        {"eval_env_spec": '{"id": "Pendulum-v1", "max_episode_steps": "x", "additional_wrappers": []}'},
        {"env_spec": 5},
        {"total_steps": "x"},
        {"total_episodes": None},
        {"observation_space": "{"},
        {"observation_space": '{"type": "Nothing"}'},
        {"action_space": '{"type": "Box", "shape": [9], "dtype": "O", "low": [], "high": 5}'},
        {"data_format": "pickle"},
        {"data_format": 5},
        {"minari_version": None},
        {"ref_min_score": "x", "ref_max_score": 5},
        {"ref_min_score": float("nan"), "ref_max_score": 5},
        {"author": 5},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_damaged_set_is_one_line(folder, tmp_path, said, changes):
    amend(folder, **changes)
    with pytest.raises(SwgError) as raised:
        _use(PENDULUM, tmp_path, said.append)
    assert raised.value.code in (3, 4)
    assert raised.value.help


def _use(id, tmp_path, say) -> None:
    task = minari_data.task_of(id, say)
    environments.make(task.environment)
    minari_data.build(id, tmp_path / "converted", say)


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link", "large"])
def test_metadata_must_be_a_file(folder, monkeypatch, kind):
    path = folder / PENDULUM / "data" / "metadata.json"
    if kind == "large":
        monkeypatch.setattr(minari_folder, "LARGEST", 100)
    else:
        path.unlink()
        deeds = {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "dangling link": lambda: path.symlink_to("x")}
        deeds[kind]()
    if kind == "dangling link":  # as a download that broke off leaves it
        assert minari_folder.local(PENDULUM) is None
        return
    with pytest.raises((InputError, CorruptError)):
        minari_folder.local(PENDULUM)


def test_a_password_of_a_remote_is_not_printed(folder, said, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    with pytest.raises(InputError) as raised:
        minari_folder.load("test/pendulum-v7", said.append)
    assert "secret" not in f"{raised.value} {raised.value.help} {said}"
    assert "http://127.0.0.1:9" in str(raised.value)


def test_real_environments_pass(said):
    """With arguments, wrappers and modules as gymnasium-robotics has them."""
    assert minari_env.make(MAZE, said.append).observation_space.shape == (8,)
    create("kitchen-v0", [], env=environments.make("swgctl/Hopper-v4"))
    assert minari_env.specification("kitchen-v0", minari_folder.local("kitchen-v0")).id == "swgctl/Hopper-v4"
