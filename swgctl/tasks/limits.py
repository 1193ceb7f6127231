"""What this process may use of its machine: cores and memory."""

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """The number of cores that this process may use: those of its affinity, no more than its cgroup's quota.

    $OMP_NUM_THREADS, by which people share a machine, is a cap as well.
    """
    if sys.platform != "linux":
        return 1  # `fleet.Workers` share memory by memfd, which Linux alone has
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    available = max(1, min(len(os.sched_getaffinity(0)), math.ceil(min(cpu_quota(), 1 << 20))))
    return min(available, int(threads)) if threads.isdecimal() and int(threads) else available


def memory() -> float:
    """Bytes of memory that can be had: of the machine, no more than this cgroup's; inf where Linux does not say."""
    return min(machine_memory(), cgroup_memory())


def held() -> int:
    """Bytes of memory that this process holds; 0 where Linux does not say.

    What it has freed is given back first, else a new object in the place of an old one would seem to take nothing.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library, another system
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def machine_memory(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Bytes that the kernel estimates to be available without swapping; inf where it does not say."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return 1024 * _numbers(meminfo)["MemAvailable:"]
    return math.inf


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """CPUs' worth of time that this process's cgroup and those above it grant; inf for no limit."""
    return _least("cpu", _quota_v2, _quota_v1, cgroups, membership)


def cgroup_memory(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """Bytes that this process's cgroup and those above it still grant; inf for no limit.

    The cache of files that nobody has used lately counts as free, since the kernel drops it first.
    """
    return _least("memory", _memory_v2, _memory_v1, cgroups, membership)


def _least(
    controller: str,
    version_2: Callable[[Path], float],
    version_1: Callable[[Path], float],
    cgroups: Path,
    membership: Path,
) -> float:
    """The least of what the groups on the path of this process's own say; inf where none does."""
    limits = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                mount, read = cgroups, version_2
            elif controller in controllers.split(","):
                mount, read = cgroups / controller, version_1
            else:
                continue
            group = mount / path.strip("/")
            # In a container the path may be the host's, and only the mount be here.
            for folder in (group, *group.parents):
                if folder.is_relative_to(mount):
                    with contextlib.suppress(OSError, ValueError, KeyError):
                        limits.append(read(folder))
    return min(limits)


def _quota_v2(folder: Path) -> float:
    """cpu.max: microseconds, or "max", in a period of microseconds."""
    most, period = (folder / "cpu.max").read_text().split()
    return int(most) / int(period)


def _quota_v1(folder: Path) -> float:
    """cpu.cfs_quota_us, -1 for none, in a period of cpu.cfs_period_us."""
    most, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return most / period if most > 0 else math.inf


def _memory_v2(folder: Path) -> float:
    """memory.max, bytes or "max", less memory.current."""
    most, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
    return max(0, most - used + _numbers(folder / "memory.stat")["inactive_file"])


def _memory_v1(folder: Path) -> float:
    """memory.limit_in_bytes, of which almost 2^63 stands for none, less memory.usage_in_bytes."""
    most, used = (int((folder / f"memory.{name}_in_bytes").read_text()) for name in ("limit", "usage"))
    return max(0, most - used + _numbers(folder / "memory.stat")["total_inactive_file"])


def _numbers(table: Path) -> dict[str, int]:
    """The second column of a table by its first."""
    return {name: int(number) for name, number, *_ in map(str.split, table.read_text().splitlines())}
