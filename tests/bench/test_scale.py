"""What large stores and large data sets cost: time by the artifact, memory by the row."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.harness import swgctl

from swgctl.stages import augment
from swgctl.store import KEY_LENGTH, record_checksum
from swgctl.tasks import transitions

COMMAND = Path(sys.executable).with_name("swgctl")
ARTIFACTS = 5_000
ROWS, OBSERVATION, ACTION = 2_000_000, 60, 9  # what must train within 4 GB
KITCHEN = "swgctl/KitchenMicrowaveKettleLightSlider-v0"  # an environment of these dimensions


# -- artifacts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(built, tmp_path_factory) -> Path:
    """A store of 5,000 records, those of `built` under other keys.  Only what verifies an artifact misses its files."""
    store = tmp_path_factory.mktemp("crowd")
    records = [
        (path.parent.parent, path.read_text()) for path in sorted(built.store.glob("objects/*/*/*/artifact.json"))
    ]
    for i in range(ARTIFACTS):
        place, text = records[i % len(records)]
        key = f"{i:08x}".ljust(64, "0")
        artifact = store / place.relative_to(built.store) / key[:KEY_LENGTH]
        artifact.mkdir(parents=True)
        record = json.loads(text) | {"key": key}
        record["sha256"] = record_checksum(record)
        (artifact / "artifact.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return store


# What Python itself does to read all records of a store.
PLAINLY = "import json, pathlib, sys; [json.loads(p.read_bytes()) for p in pathlib.Path(sys.argv[1]).rglob('*.json')]"


def processor_seconds(command: list) -> tuple[float, int]:
    """Of one run; and how many lines it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, len(done.stdout.splitlines())


@pytest.mark.timing
@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["ls"], ARTIFACTS),
        (["ls", "--json"], ARTIFACTS),
        (["ls", "--stage", "eval"], ARTIFACTS // 4),
        (["tree", f"{5:08x}"], 1),
        (["gc"], 0),
    ],
)
def test_a_store_of_thousands_answers_at_once(crowd, args, lines):
    """In less than twice the processor time that reading every record plainly takes, the least of three runs of each.

    They take turns, so that a processor that slows down slows both.
    """
    plainly, seconds = [], []
    for _ in range(3):
        plainly.append(processor_seconds([sys.executable, "-c", PLAINLY, crowd])[0])
        taken, printed = processor_seconds([COMMAND, *args, "--store", crowd])
        seconds.append(taken)
        assert printed == lines
    assert min(seconds) < 2 * min(plainly)


# -- rows --------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: int) -> Path:
    """Noise in D4RL's layout, episodes of 1,000 steps."""
    random = np.random.default_rng(0)
    widths = {"observations": (OBSERVATION,), "actions": (ACTION,), "rewards": (), "next_observations": (OBSERVATION,)}
    with h5py.File(path, "w") as file:
        for name, width in widths.items():
            dataset = file.create_dataset(name, (rows, *width), np.float32)
            for start in range(0, rows, 100_000):
                stop = min(start + 100_000, rows)
                dataset[start:stop] = random.uniform(-1, 1, (stop - start, *width))
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 1_000 == 999
    return path


def commands(data: Path, store: Path) -> dict[str, list]:
    """Each stage for five seeds; few steps, since their number costs no memory."""
    return {
        "critic": ["critic", data, "--env", KITCHEN, "--seeds", "0-4", "--steps", "2", "--store", store],
        "augment": ["augment", "--store", store],
        "diffuse": ["diffuse", "--steps", "2", "--store", store],
    }


# By the row, of two sizes' difference: what was read, 531; whether it is finite, 60; five seeds' q, v, A and w, 80.
LIMITS = {"critic": 650, "augment": 700, "diffuse": 350}


@pytest.mark.training
@pytest.mark.slow
def test_memory_grows_by_little_more_than_the_rows(tmp_path, monkeypatch):
    """NumPy's and Python's, at the peak.  At 700 bytes, 2 million rows leave 2.6 GB to PyTorch and the networks."""
    for module in (transitions, augment):
        monkeypatch.setattr(module, "BLOCK", 2_048)
    small = {"critic": ["--set", "critic.hidden=[8]"], "augment": [], "diffuse": ["--set", "diffuse.width=8"]}
    few, many = 20_000, 50_000
    peaks = {}
    for rows in (2_000, few, many):  # what the first run imports is no growth
        data = write(tmp_path / f"{rows}.hdf5", rows)
        for stage, args in commands(data, tmp_path / f"{rows}").items():
            tracemalloc.start()
            try:
                _ = swgctl(*args, *small[stage]).path
                peaks[stage, rows] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    for stage, limit in LIMITS.items():
        assert (peaks[stage, many] - peaks[stage, few]) / (many - few) < limit, stage


@pytest.mark.slow
def test_two_million_rows_train_within_four_gigabytes(tmp_path):
    """Peak resident set of each stage's process, PyTorch and all, on a CPU; five seeds of the default networks.

    And the processor's time of a quarter of the rows is no less than a fifth: nothing grows faster than the rows.
    """
    seconds = {}
    for rows in (ROWS // 4, ROWS):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:  # gigabytes, which pytest would keep
            data = write(Path(folder) / "data.hdf5", rows)
            for stage, args in commands(data, Path(folder) / "store").items():
                process = subprocess.Popen([COMMAND, *args, "--device", "cpu"], stderr=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.returncode == 0, stage
                assert usage.ru_maxrss * 1024 < 4e9, stage
                seconds[stage, rows] = usage.ru_utime + usage.ru_stime
    for stage in LIMITS:
        assert seconds[stage, ROWS] < 5 * seconds[stage, ROWS // 4], stage
