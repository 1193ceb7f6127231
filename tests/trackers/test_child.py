"""The reader that a stage starts: it sends what the stage measures, which neither waits for it nor needs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.harness import swgctl
from support.trackers import SEEDS, board, record, rows, scalars

from swgctl import trackers
from swgctl.trackers import child, named
from swgctl.trackers.targets import PACKAGES


@pytest.fixture(autouse=True)
def readers(monkeypatch):
    """The readers that the test starts; killed at its end."""
    monkeypatch.setattr(child, "_readers", started := [])
    monkeypatch.setattr(child, "atexit", SimpleNamespace(register=lambda function: None))
    yield started
    for reader in started:
        reader.kill()
        reader.wait()


def to(tmp_path) -> list[trackers.Target]:
    return named([f"tensorboard:{tmp_path / 'runs'}"])


@pytest.fixture
def tensorboard():
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'swgctl[tensorboard]'")


@pytest.mark.slow  # a reader has the lowest priority, and waits for a core
@pytest.mark.usefixtures("tensorboard")
def test_a_reader_sends_all_to_the_end(store, train, readers, tmp_path):
    training = train()
    trackers.start(store, training.record["key"], to(tmp_path))
    training.measure(20)
    (reader,) = readers
    assert os.getpgid(reader.pid) != os.getpgid(0)  # Ctrl-C is for the stage alone
    time.sleep(0.5)
    training.measure(40)
    artifact = training.finish(60)
    assert reader.wait(120) == 0
    for s, seed in enumerate(SEEDS):
        points = scalars(board(tmp_path, artifact, seed))
        assert points["critic/q"] == pytest.approx({row["step"]: row["q"][s] for row in rows(60)})
        assert points["critic/final/loss"] == {61: 0.25}


@pytest.mark.slow  # a reader has the lowest priority, and waits for a core
@pytest.mark.usefixtures("tensorboard")
def test_a_reader_ends_with_a_run_that_is_killed(store, train, readers, tmp_path, capfd):
    training = train()
    training.measure(20)
    trackers.start(store, training.record["key"], to(tmp_path))
    training.die()
    assert readers[0].wait(120) == 0
    assert scalars(board(tmp_path, training.record, 0))["critic/q"] == {10: 5, 20: 10}
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("tensorboard")
def test_a_reader_that_is_killed_leaves_the_run_alone(store, train, readers, tmp_path):
    training = train()
    training.measure(20)
    trackers.start(store, training.record["key"], to(tmp_path))
    readers[0].send_signal(signal.SIGKILL)
    readers[0].wait()
    training.finish(40).check_all()


def test_a_missing_package_is_one_warning_with_what_installs_it(store, readers, monkeypatch, capfd):
    monkeypatch.setitem(PACKAGES, "wandb", "no_such_package")
    trackers.start(store, "0" * 64, named(["wandb:x"]))
    assert readers == []
    assert capfd.readouterr().err == (
        "warning: log: nothing goes to wandb:x, whose package is missing: pip install 'swgctl[wandb]'\n"
    )


def test_starting_imports_no_tracker_and_no_torch():
    script = (
        "import sys; from swgctl import trackers\n"
        "assert not {'torch', 'numpy', 'tensorboardX', 'trackio', 'wandb', 'matplotlib'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# -- stages with --log -------------------------------------------------------------------------------------------------


def digests(store: Path) -> dict[str, str]:
    from swgctl.store import Store

    return {artifact.key: artifact.digest for artifact in Store(store).artifacts()}


@pytest.mark.slow
@pytest.mark.usefixtures("tensorboard")
def test_keys_and_digests_are_the_same_with_and_without(built, readers, tmp_path):
    how = (built.data, "--env", "Pendulum-v1", "--recipe", built.recipe, "--store", tmp_path / "store")
    made = swgctl("run", *how, "--log", f"tensorboard:{tmp_path / 'runs'}")
    assert made.code == 0, made.err
    assert digests(tmp_path / "store") == digests(built.store)
    assert [reader.wait(200) for reader in readers] == [0] * 4
    assert sorted(path.name.partition("-")[0] for path in tmp_path.glob("runs/pendulum/*")) == [
        "augment",
        "critic",
        "diffuse",
        "eval",
    ]
    assert not list((tmp_path / "store" / "work").glob("*"))


@pytest.mark.usefixtures("tensorboard")
def test_what_was_built_before_is_logged_as_well(chain, readers, tmp_path, monkeypatch):
    monkeypatch.setenv("SWGCTL_LOG", f"tensorboard:{tmp_path / 'runs'}")
    assert chain.critic().code == 0
    assert [reader.wait(200) for reader in readers] == [0]
    (folder,) = tmp_path.glob("runs/pendulum/critic-*/seed-0")
    assert max(scalars(folder)["critic/q_loss"]) == 60


@pytest.mark.parametrize("option", [["--log", "tensorbord:x"], []])
def test_a_bad_name_is_refused_before_anything_is_built(option, chain, monkeypatch, tmp_path):
    if not option:
        monkeypatch.setenv("SWGCTL_LOG", "tensorbord:x")
    chain.critic("--seeds", "7", *option).refused(2, "no tracker 'tensorbord'")


def test_a_stage_without_the_package_runs(chain, monkeypatch):
    monkeypatch.setitem(PACKAGES, "trackio", "no_such_package")
    answer = chain.critic("--seeds", "7", "--log", "trackio")
    assert answer.path.is_dir()
    assert "pip install 'swgctl[trackio]'" in answer.err


def test_a_failed_build_leaves_no_record_behind(chain, tmp_path):
    swgctl("critic", tmp_path / "none.hdf5", "--env", "Pendulum-v1").refused(3)
    answer = chain.critic("--seeds", "7", "--set", "critic.lr=1e30")
    assert answer.code == 1
    assert not list(chain.store.glob("work/*/record.json")) or list(chain.store.glob("work/*/checkpoint.safetensors"))


@pytest.mark.timing
def test_logging_costs_the_training_process_a_fiftieth_of_two_seconds(store, readers, monkeypatch, tmp_path):
    """All that it does is to write a record and to start a process: its CPU time, the median of five."""
    monkeypatch.setattr(child, "sys", SimpleNamespace(executable="/bin/true"))
    spent = []
    for number in range(5):
        one = record(number=number)
        begun = time.process_time()
        with trackers.announced(one, tmp_path / str(number)):
            trackers.start(store, one["key"], to(tmp_path))
        spent.append(time.process_time() - begun)
    assert sorted(spent)[2] < 0.04
