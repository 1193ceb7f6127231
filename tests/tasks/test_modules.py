"""Whose code runs: the modules that a person named, and no other that a record or a data file does."""

import json
import os
import sys

import gymnasium
import pytest
from support.harness import shell, swgctl, write_pendulum

from swgctl import tasks
from swgctl.errors import InputError, UsageError
from swgctl.tasks import environments, modules

WORKING = """\
import ctypes, os, warnings, gymnasium
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
print("imported")
os.write(1, b"imported from C")
warnings.warn("so old")
gymnasium.register("Own-v0", "gymnasium.envs.classic_control.pendulum:PendulumEnv", max_episode_steps=200)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(name, text) -> what shows that the module of that name has run; it is on the path of this process, too."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(modules, "_allowed", set())

    def write(name: str, text: str = WORKING):
        path = folder / f"{name}.py"
        path.write_text(text)
        return path.with_suffix(".ran")

    yield write
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
    gymnasium.registry.pop("Own-v0", None)


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        *("", "..", ":", ":X-v0", "..:X-v0", ".x:Y-v0", "x.:Y-v0", "x:", "a b:Y-v0", "x:y:Z-v0", "1x:Y-v0", "x:Y\nZ"),
        *("../x", "x/y/Z-v0", "minari:", "minari:a b-v0", "os;id:X-v0", "x" * 5_000, "\x1b[31m", "\ud800", "é-v0"),
    ],
    ids=ascii,
)
def test_what_is_no_id_is_refused_before_anything_is_imported(environment, pendulum):
    before = set(sys.modules)
    with pytest.raises(UsageError) as raised:
        tasks.get(str(pendulum()), environment)
    assert raised.value.code == 2
    assert "is not an environment's id" in str(raised.value)
    assert len(str(raised.value)) < 400
    with pytest.raises(UsageError):
        environments.make(environment)
    assert not {name for name in set(sys.modules) - before if name and name in environment}


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ("Pendulum-v1", ("", "Pendulum-v1")),
        ("swgctl/Hopper-v4", ("", "swgctl/Hopper-v4")),
        ("package.module:ns/Id-v0", ("package.module", "ns/Id-v0")),
        ("minari:D4RL/pen/human-v2", ("minari", "D4RL/pen/human-v2")),
    ],
)
def test_ids_are_a_module_and_a_name(environment, parts):
    assert modules.split(environment) == parts


# -- who names a module ------------------------------------------------------------------------------------------------


def test_a_module_of_a_record_runs_when_a_person_names_it_again(module, pendulum, monkeypatch):
    ran = module("own_simulator")
    record = json.loads(json.dumps(tasks.get(str(pendulum()), "own_simulator:Own-v0").to_json()))
    assert ran.exists()
    ran.unlink()
    monkeypatch.setattr(modules, "_allowed", set())  # as in the next process
    del sys.modules["own_simulator"], gymnasium.registry["Own-v0"]

    task = tasks.Task.from_json(record)
    assert task.environment == "own_simulator:Own-v0"
    with pytest.raises(InputError, match="own_simulator, whose code this would run, was named by a record") as raised:
        environments.make(task.environment)
    assert raised.value.code == 3
    assert "--env own_simulator:Own-v0" in raised.value.help
    assert not ran.exists()
    with pytest.raises(UsageError, match=r"evaluated in own_simulator:Own-v0, not other:Own-v0"):
        tasks.trust(task, "other:Own-v0")
    tasks.trust(task, None)
    assert modules.allowed() == []
    tasks.trust(task, "own_simulator:Own-v0")
    assert environments.make(task.environment).spec.id == "Own-v0"
    assert ran.exists()


def test_what_a_module_prints_and_warns_of_is_not_on_stdout(module, pendulum):
    module("loud_simulator")
    answer = shell(f"swgctl data info {pendulum()} --env loud_simulator:Own-v0 --json")
    assert answer.json["rows"] == 400
    assert "imported from C" in answer.err
    assert "so old" not in answer.err


def test_environments_that_swgctl_depends_on_need_no_leave():
    modules.load("gymnasium.envs:Pendulum-v1")


# -- modules that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit(5)", "SystemExit: 5"),
        ("import sys; sys.exit()", "SystemExit"),
        ("def (", "SyntaxError"),
        ("raise ValueError('not today')", "ValueError: not today"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("from os import no_such_name", "cannot import name 'no_such_name'"),
        ("class E(Exception): __str__ = lambda self: 'odd'\nraise E", "E: odd"),
        ("class E(Exception): __str__ = lambda self: 1 / 0\nraise E", "failing: E"),
        ("class E(BaseException): pass\nraise E(5)", "E: 5"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import sys\nsys.stdout = sys.stderr = None\nraise ValueError(1)", "ValueError: 1"),
        ("", "gymnasium has no environment 'failing:Own-v0'"),
    ],
)
def test_a_module_that_fails_is_one_line(module, pendulum, text, words):
    module("failing", text)
    answer = swgctl("critic", pendulum(), "--env", "failing:Own-v0")
    answer.refused(2, "failing:Own-v0", words)


@pytest.mark.parametrize("environment", ["Hoper-v4", "PointMaze_UMaze-v2", "HalfCheetah-v2", "no_such_module:X-v0"])
def test_the_error_is_all_that_is_said(environment, tmp_path):
    data = write_pendulum(tmp_path / "data.hdf5")
    answer = shell(f"swgctl data info {data} --env {environment}")
    answer.refused(2, environment)
    assert len(answer.err.splitlines()) == 2
    assert "DeprecationWarning" not in answer.err


def test_debugging_shows_the_warnings(module, pendulum):
    module("warning_simulator")
    answer = shell(f"swgctl data info {pendulum()} --env warning_simulator:Own-v0", SWGCTL_DEBUG="1")
    assert "so old" in answer.err


# -- data that cannot be read ------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", ["critic {} --env Pendulum-v1", "data info {}", "data info {} --env Pendulum-v1"])
def test_a_file_that_may_not_be_read_says_how_to_allow_it(pendulum, command):
    data = pendulum("my 'data'")
    data.chmod(0)
    answer = swgctl(*(str(data) if word == "{}" else word for word in command.split()))
    answer.refused(3, str(data), "Permission denied")
    assert shell(answer.helps[0]).code == 0
    assert os.access(data, os.R_OK)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link in a circle"])
def test_a_data_file_must_be_one(tmp_path, kind):
    path = tmp_path / "data.hdf5"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link in a circle": lambda: path.symlink_to(path)}[kind]()
    swgctl("critic", path, "--env", "Pendulum-v1").refused(3, str(path))
    swgctl("data", "info", path, "--env", "Pendulum-v1").refused(3, str(path))


@pytest.mark.parametrize("name", ["x" * 5_000, "x" * 5_000 + ".hdf5", "a/" * 3_000])
def test_a_name_that_no_file_can_have_is_refused(name):
    answer = swgctl("critic", name, "--env", "Pendulum-v1")
    assert answer.code in (2, 3)
    assert answer.error
