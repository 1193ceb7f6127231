"""Sweeps whose commands are real processes: stopped, killed, and two at once."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.harness import CHAIN, Answer, published, swgctl
from support.sweeps import with_our_server

pytestmark = pytest.mark.slow  # dozens of processes, each with its imports

LONG = ["--set", "critic.steps=600", "--until", "critic"]  # seconds


@pytest.fixture(scope="module")
def words(built) -> list:
    return ["sweep", built.data, "--env", "Pendulum-v1", "--recipe", built.recipe]


@pytest.fixture
def drive(start, words):
    """drive(*more): a sweep in a process of its own."""
    return lambda *more: start(*words, *more, env={"SWGCTL_CHECKPOINT_EVERY": "0.1"}, setup=with_our_server)


def children(store: Path) -> list[int]:
    """The processes whose output is a log of a sweep in this store."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "fd/2").startswith(f"{store}/tmp/"):
                found.append(int(process.name))
    return found


def until(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value


def checkpointed(store: Path) -> bool:
    return bool(list(store.glob("work/*/checkpoint.safetensors")))


def left_behind(store: Path) -> list[Path]:
    """What a sweep that has ended leaves, beside artifacts, locks and checkpoints."""
    return list(store.glob("tmp/*"))


def digest(path: Path) -> str:
    return json.loads((path / "artifact.json").read_text())["digest"]


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory) -> str:
    """The digest of the long critic, by `swgctl run`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_SCOPE", "undisturbed")
        patch.setenv("OMP_NUM_THREADS", "1")
        return digest(swgctl("run", *words[1:], *LONG, "--store", tmp_path_factory.mktemp("undisturbed")).path)


def test_the_artifacts_of_processes_side_by_side_are_those_of_run(server, words, tmp_path):
    answer = swgctl(*words, "--grid", "critic.tau=0.6,0.8", "--until", "diffuse", "--slots", "2", "--json")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert Counter(row["stage"] for row in rows) == {"critic": 2, "augment": 2, "diffuse": 2}
    assert {row["state"] for row in rows} == {"built"}
    more = ["--until", "diffuse", "--set", "critic.tau=0.8", "--store", tmp_path / "other", "--json"]
    alone = swgctl("run", *words[1:], *more)
    assert alone.json["digest"] in {row["digest"] for row in rows}
    assert left_behind(tmp_path / "store") == []
    assert swgctl("gc", "--dry-run").lines == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_stops_all_with_checkpoints_and_the_same_command_goes_on(number, code, drive, tmp_path, undisturbed):
    store = tmp_path / "store"
    driver = drive(*LONG, "--grid", "critic.tau=0.7,0.8", "--slots", "2")
    driver.wait_for(lambda: len(list(store.glob("work/*/checkpoint.safetensors"))) == 2)
    assert len(children(store)) == 2
    driver.send(number)
    answer = driver.answer()
    answer.refused(code, f"stopped by {signal.Signals(number).name}")
    assert children(store) == []
    assert left_behind(store) == []
    assert published(store) == []
    again = drive(*LONG, "--json").answer()
    assert again.json["digest"] == undisturbed
    (log,) = store.glob("objects/critic/*/*/log.txt")
    assert "going on from step" in log.read_text()


def test_a_killed_driver_leaves_checkpoints_and_no_process(drive, tmp_path, undisturbed):
    store = tmp_path / "store"
    driver = drive(*LONG)
    driver.wait_for(lambda: checkpointed(store))
    driver.send(signal.SIGKILL)
    assert driver.answer().code == -signal.SIGKILL
    until(lambda: children(store) == [])
    assert published(store) == []
    assert drive(*LONG, "--json").answer().json["digest"] == undisturbed
    assert swgctl("gc").code == 0
    assert left_behind(store) == []


def test_a_killed_command_is_tried_again_from_its_checkpoint(drive, tmp_path, undisturbed):
    store = tmp_path / "store"
    driver = drive(*LONG, "--json")
    driver.wait_for(lambda: checkpointed(store))
    (child,) = children(store)
    os.kill(child, signal.SIGKILL)
    answer = driver.answer()
    assert "killed by SIGKILL; trying again, 1 of 3" in answer.err
    assert answer.json["digest"] == undisturbed
    (log,) = store.glob("objects/critic/*/*/log.txt")
    assert "going on from step" in log.read_text()


def test_two_sweeps_at_once_divide_the_work(drive, tmp_path):
    store = tmp_path / "store"
    grid = ["--grid", "critic.tau=0.6,0.7", "--set", "critic.steps=300", "--until", "diffuse"]
    more = [*grid, "--slots", "1", "--json"]
    answers = [driver.answer() for driver in [drive(*more), drive(*more)]]
    assert [answer.code for answer in answers] == [0, 0]
    tables = [[json.loads(line) for line in answer.out.splitlines()] for answer in answers]
    built = Counter(row["key"] for row in itertools.chain(*tables) if row["state"] == "built")
    assert len(published(store)) == 6
    assert built.keys() == {row["key"] for row in tables[0]}
    logs = [log.read_text() for log in store.glob("objects/*/*/*/log.txt")]
    assert all(text.count(": building ") == 1 for text in logs)  # each by one process, from its start
    assert left_behind(store) == []


@pytest.mark.slow
def test_from_a_shell(words, tmp_path, monkeypatch):
    """With the server of its own that the command starts, and Ctrl-C to the whole group, as a terminal sends it."""
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", "0.1")
    command = [sys.executable, "-m", "swgctl", *map(str, words)]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, *LONG], stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    store = tmp_path / "store"
    until(lambda: checkpointed(store), 300)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    Answer(process.returncode, out, err).refused(130, "stopped by SIGINT")
    assert children(store) == []
    done = subprocess.run([*command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.parts[-3] for path in published(store)) == sorted(CHAIN)
    assert left_behind(store) == []
