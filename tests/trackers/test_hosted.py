"""trackio and wandb, as the process that a stage starts sends to them; what they hold is read back."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trackers import SEEDS, rows

from swgctl.trackers.subject import find, of

pytestmark = pytest.mark.training  # seconds: each starts an interpreter


def needs(package: str):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install 'swgctl[{package}]'")


def python(*args: str, **env: str) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *args], env=os.environ | env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def log(subject, target: str, **env: str) -> str:
    """What `swgctl.trackers` says while it sends."""
    done = python("-m", "swgctl.trackers", str(subject.store.root), subject.key, target, **env)
    assert done.stdout == ""
    return done.stderr


def check(points: list[dict], s: int, steps: int) -> None:
    """All rows of a seed are there, once and in order, then one row with the ending."""
    *measured, ending = points
    assert [(p["step"], p["critic/q"], p["critic/loss"]) for p in measured] == [
        (row["step"], row["q"][s], pytest.approx(row["loss"][s])) for row in rows(steps)
    ]
    assert ending["step"] == steps + 1
    assert (ending["critic/final/loss"], ending["critic/final/holdout"]) == (0.25, [0.5, 0.75][s])
    assert all(any(name.startswith(word) for name in ending) for word in ("figures/training", "report"))


# -- trackio -----------------------------------------------------------------------------------------------------------

READ = """
import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
runs = trackio.Api().runs("hopper")
print(json.dumps({run.name: [run.config, SQLiteStorage.get_logs("hopper", run.name)] for run in runs}))
"""


def in_trackio(folder: Path) -> dict[str, list]:
    """{run: [configuration, rows]}"""
    return json.loads(python("-c", READ, TRACKIO_DIR=str(folder)).stdout)


@needs("trackio")
def test_trackio_has_a_run_a_seed_which_goes_on_and_is_not_doubled(store, train, tmp_path):
    training, folder = train(), tmp_path / "trackio"
    training.measure(30)
    assert log(find(store, training.record["key"]), "trackio:hopper", TRACKIO_DIR=str(folder)) == ""
    artifact = training.finish(50)
    for _ in range(2):
        assert log(of(artifact), "trackio:hopper", TRACKIO_DIR=str(folder)) == ""
    held = in_trackio(folder)
    assert list(held) == [f"{artifact.id}-{seed}" for seed in SEEDS]
    for s, (config, points) in enumerate(held.values()):
        check(points, s, 50)
        assert config["_Group"] == f"hopper/critic-{artifact.id}"
        assert (config["seed"], config["params"]["lr"], config["key"]) == (SEEDS[s], 3e-4, artifact.key)


# -- wandb -------------------------------------------------------------------------------------------------------------


def records(raw: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format in blocks of 32 KiB; the file's first seven bytes are wandb's own."""
    start, record = 7, b""
    while start + 7 <= len(raw):
        if 32768 - start % 32768 < 7:  # no header begins there
            start += 32768 - start % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, start)
        record += raw[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def in_wandb(tmp_path: Path, run: str) -> tuple[dict, list[dict]]:
    """The configuration and the rows of an offline run, in the order of its folders."""
    from wandb.proto import wandb_internal_pb2

    config: dict = {}
    points = []
    for path in sorted(tmp_path.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb")):
        for raw in records(path.read_bytes()):
            one = wandb_internal_pb2.Record()
            one.ParseFromString(raw)
            if one.WhichOneof("record_type") == "run":
                assert (one.run.job_type, one.run.project) == ("critic", "hopper")
                config |= {item.key: json.loads(item.value_json) for item in one.run.config.update}
                config["group"] = one.run.run_group
            if one.WhichOneof("record_type") == "history":
                items = one.history.item
                row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                points.append(row | {"step": one.history.step.num})
    return config, points


@needs("wandb")
def test_wandb_offline_has_a_run_a_seed_which_goes_on_and_is_not_doubled(store, train, tmp_path):
    training = train()
    training.measure(30)
    assert log(find(store, training.record["key"]), "wandb:hopper") == ""
    artifact = training.finish(50)
    for _ in range(2):
        assert log(of(artifact), "wandb:hopper") == ""
    for s, seed in enumerate(SEEDS):
        config, points = in_wandb(tmp_path, f"{artifact.id}-{seed}")
        check(points, s, 50)
        assert (config["seed"], config["params"]["lr"], config["key"]) == (seed, 3e-4, artifact.key)
        assert config["group"] == f"hopper/critic-{artifact.id}"


@needs("wandb")
def test_a_dead_network_is_one_warning(finished):
    dead = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    said = log(of(finished(20)), "wandb:hopper", **dead)
    assert said.startswith("warning: log: wandb:hopper: ")
    assert said.endswith("; what is built is not affected\n")
    assert len(said.splitlines()) == 1


@needs("wandb")
def test_wandb_without_a_key_is_one_line_that_helps(finished, tmp_path):
    env = {"WANDB_MODE": "online", "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}
    said = log(of(finished(20)), "wandb:hopper", **env)
    assert said == "warning: log: wandb has no API key; what is built is not affected\n"


# -- whatever a tracker does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_a_tracker_that_cannot_be_imported_is_a_warning(kind, finished, tmp_path):
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "__init__.py").write_text("raise OSError('broken\\ninstallation')")
    said = log(of(finished(20)), kind, PYTHONPATH=str(tmp_path))
    assert said == f"warning: log: {kind}:swgctl: OSError: broken installation; what is built is not affected\n"
