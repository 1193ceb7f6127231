"""Cores and memory that a process may use: closed forms on files as Linux writes them, and this process's."""

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from swgctl import runtime
from swgctl.tasks import limits


def written(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A cgroup mount with these files, and a /proc/self/cgroup."""
    (folder / "self").write_text(membership)
    for name, text in files.items():
        (folder / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / name).write_text(text)
    return folder / "cgroup", folder / "self"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        (
            "0::/job/step\n",
            {"cpu.max": "max 100000", "job/cpu.max": "250000 100000", "job/step/cpu.max": "max 100000"},
            2.5,
        ),
        ("0::/host/only\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../../up\n", {"cpu.max": "400000 100000"}, 4),
        (
            "5:memory:/a\n4:cpu,cpuacct:/a\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            math.inf,
        ),
        (
            "4:cpu,cpuacct:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        ("4:cpuset:/a\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense"}, math.inf),
        ("nonsense\n", {"cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path, membership, files, expected):
    assert limits.cpu_quota(*written(tmp_path, membership, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 2), (16, 16), (math.inf, 64)])
def test_no_more_cores_than_the_quota(monkeypatch, quota, expected):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(limits, "cpu_quota", lambda: quota)
    assert limits.cores() == expected


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(limits, "cpu_quota", lambda: math.inf)
    here = len(os.sched_getaffinity(0))
    for text, expected in (("1", 1), (str(here + 1), here), ("0", here), ("1,2", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert limits.cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert limits.cores() == here
    monkeypatch.setattr(sys, "platform", "darwin")
    assert limits.cores() == 1


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n", "memory.stat": "inactive_file 1\n"}, math.inf),
        (
            "0::/job/step\n",
            {
                "job/memory.max": "1000",
                "job/memory.current": "700",
                "job/memory.stat": "anon 600\ninactive_file 50\n",
                "job/step/memory.max": "max",
            },
            350,
        ),
        ("0::/\n", {"memory.max": "10", "memory.current": "30", "memory.stat": "inactive_file 5"}, 0),
        ("0::/\n", {"memory.max": "10", "memory.current": "3"}, math.inf),
        (
            "5:memory:/a\n4:cpu,cpuacct:/a\n",
            {
                "memory/a/memory.limit_in_bytes": "9000",
                "memory/a/memory.usage_in_bytes": "8000",
                "memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
            },
            1200,
        ),
    ],
)
def test_the_memory_of_a_container(tmp_path, membership, files, expected):
    assert limits.cgroup_memory(*written(tmp_path, membership, files)) == expected


def test_the_memory_of_a_machine(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:      23 kB\nHugePages_Total:       0\n")
    assert limits.machine_memory(tmp_path / "meminfo") == 23 * 1024
    assert limits.machine_memory(tmp_path / "none") == math.inf


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is known")
def test_an_array_is_held_while_it_lives_also_in_the_place_of_an_earlier_one():
    assert 0 < limits.memory() < math.inf
    runtime.prepare()  # by which malloc keeps what is freed
    size = 20_000_000  # below its threshold for blocks of their own
    for _ in range(2):
        before = limits.held()
        taken = np.ones(size // 8)
        assert limits.held() - before == pytest.approx(size, rel=0.05)
        del taken
    assert limits.held() - before < 0.05 * size
