"""OGBench's data sets as tasks: downloaded as npz, relabelled for a task by the package ogbench, and written once in
D4RL's layout.

A file has no rewards: the package's own function computes them, and whether a step's is that of the state before or
after it is the environment's setting `success_timing`, which changed in ogbench 1.2.0.  So its version and that setting
are in the file, and with them in the keys of what learns from it.
"""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from swgctl.console import quoted
from swgctl.errors import CorruptError, InputError, SwgError, said_by
from swgctl.files import canonical, write_atomically
from swgctl.tasks import downloads, hdf5, layout, published, registry
from swgctl.tasks.cache import Say, cache_folder, cached, digest, pin
from swgctl.tasks.downloads import Download, Progress
from swgctl.tasks.registered import library, quietly
from swgctl.tasks.task import Task

SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
COPY = "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/8e7f4278a635a75338f0f1dc0e8f029d61503c4b"
VARIABLE = "SWGCTL_OGBENCH_URL"


def download(where: str) -> Download:
    """The download of the set of the task `where`.

    Its sources: those of $SWGCTL_OGBENCH_URL, the server, and the copy that the benchmark's author recommends.
    Raises CorruptError for no such task, UsageError for a malformed setting.
    """
    name = f"{registry.set_of(_task(where).name)}.npz"
    return Download(
        f"ogbench/{name}",
        (*downloads.from_setting(VARIABLE, name), f"{SERVER}/{name}", f"{COPY}/{name}"),
        where,
        VARIABLE,
    )


def locate(where: str, say: Say, progress: Progress | None) -> tuple[Path, str]:
    """The relabelled set of the task in D4RL's layout, and its sha256; it is downloaded and relabelled where missing.

    Raises what `downloads.fetch` does, InputError without the package, CorruptError for a damaged file.
    """
    library()
    file, _ = downloads.fetch(download(where), say, progress)
    path = _converted(where, file)

    def convert() -> None:
        say(f"{where}: relabelling {file.name}, this once, into {path}")
        write_atomically(path, lambda draft: _write(draft, file, _task(where)))

    return path, cached(path, say, convert)


def find(where: str) -> Path | None:
    """The file that `locate` would give, unchecked; None where it would first download or relabel the set."""
    file = downloads.find(download(where))
    try:
        path = file and _converted(where, file)
    except InputError:  # without the package nothing can be relabelled
        return None
    return path if path and os.path.isfile(path) else None


def standing(where: str, file: Path) -> str | None:
    """How the set behind a relabelled file stands to the published one (`published.standing`)."""
    with h5py.File(file) as relabelled:
        return published.standing(download(where).path, str(relabelled.attrs["set_sha256"]))


def timing(environment: str) -> str:
    """The rule by which an environment, and so its data, times success: `pre` or `post` the step."""
    library()
    import gymnasium

    return gymnasium.spec(environment).kwargs.get("success_timing", "post")


def _task(where: str) -> Task:
    row = registry.by_rule(where)
    if row is None:
        raise CorruptError(f"'{where}' is no single task of OGBench", "swgctl task ls --family ogbench")
    return row[0]


def _converted(where: str, file: Path) -> Path:
    state = file.stat()
    known = pin(file) or [state.st_size, state.st_mtime_ns]
    about = [layout.SCHEMA, where, known, version("ogbench") if library() else "", timing(_task(where).environment)]
    return cache_folder() / "ogbench" / f"{where}-{hashlib.sha256(canonical(about).encode()).hexdigest()[:8]}.hdf5"


def _write(draft: Path, file: Path, task: Task) -> None:
    """Write the set of `file` for a task.  Raises CorruptError for a damaged set."""
    with _whole(file):
        data = _read(file)
        relabel(data, task.environment)
    write(draft, data, {"source": task.source, "set_sha256": digest(file)} | about(task.environment))


def about(environment: str) -> dict[str, str]:
    """What determines rewards beside the set: attributes of a relabelled file."""
    return {"env": environment, "ogbench": version("ogbench"), "success_timing": timing(environment)}


def relabel(data: dict[str, np.ndarray], environment: str) -> None:
    """Add `rewards` and `masks` to the arrays that `ogbench.load_dataset` gave, by the package's function."""
    library()
    import gymnasium
    from ogbench.relabel_utils import relabel_dataset

    with quietly():
        world = gymnasium.make(environment, disable_env_checker=True)
    try:
        relabel_dataset(environment, world, data)
    finally:
        world.close()


@contextlib.contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Turn whatever the package raises at a set that is not as it should be into CorruptError, within the block."""
    try:
        yield
    except SwgError:
        raise
    except Exception as error:
        raise _damaged(file, said_by(error)) from error


def _damaged(file: Path, why: str) -> CorruptError:
    return CorruptError(f"{file} is not a whole set of OGBench: {why}", f"rm {quoted(file)}   # to get it again")


def _read(file: Path) -> dict[str, np.ndarray]:
    """The transitions of a set and what relabelling reads, without a trajectory's last row, which has no next state."""
    with zipfile.ZipFile(file) as parts:
        declared = sum(part.file_size for part in parts.infolist())
    if why := hdf5.oversize(declared, file, needed=2 * declared):
        raise InputError(f"{file}: {why}", f"rm {quoted(file)}   # to get it again")
    data = library().load_dataset(str(file), add_info=True)
    rows = {len(values) for values in data.values()}
    if len(rows) > 1:
        raise _damaged(file, "its arrays differ in their rows")
    if not min(rows):
        raise _damaged(file, "no trajectory has two rows")
    return data


def write(draft: Path, data: dict[str, np.ndarray], attributes: dict[str, str]) -> None:
    """Write relabelled arrays in D4RL's layout: masks of 0 are terminal, a trajectory's end is a timeout.

    Actions are clipped to [-1, 1], as FQL's code does.
    """
    ended = data["terminals"].astype(bool)
    columns = {
        "observations": data["observations"],
        "actions": np.clip(data["actions"], -1, 1),
        "rewards": data["rewards"],
        "next_observations": data["next_observations"],
        "terminals": data["masks"] == 0,
        "timeouts": ended & (data["masks"] != 0),
        "infos/next_observation_valid": np.ones(len(ended), bool),
    }
    with h5py.File(draft, "w", libver=("earliest", "v110")) as file:
        file.attrs.update({"schema": layout.SCHEMA} | attributes)
        writer = layout.Writer(file, layout.CONVERTED)
        for name, values in columns.items():
            writer.put(name, values)
    writer.check(draft)
