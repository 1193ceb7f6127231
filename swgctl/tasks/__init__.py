"""Tasks: a data source, an environment, a reward transform and reference scores, under one name.

`task` defines them, `registry` holds them by name, `sources` is the table of data sources, and `quoted` has the numbers
that papers print; `downloads`, `local` and `minari_data` put data files on this machine, `transitions` reads a file
into arrays, and `environments` makes the environment that a policy is evaluated in, D4RL's from `adapters`.  Importing
this package is cheap: what needs numpy, HDF5 or gymnasium is imported where it is used.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from swgctl import console
from swgctl.errors import CorruptError, InputError, UsageError, nearest
from swgctl.tasks import modules
from swgctl.tasks.registry import Family, named, names
from swgctl.tasks.sources import Source, file_task, sources
from swgctl.tasks.task import Task, normalized_score, score

__all__ = [
    "Family",
    "Source",
    "Task",
    "argument",
    "at_hand",
    "get",
    "locate",
    "located_once",
    "named",
    "names",
    "normalized_score",
    "score",
    "source_of",
    "standing",
    "trust",
]


def get(name_or_data: str, environment: str | None = None) -> Task:
    """The task of that name, or a new one for an HDF5 file or KIND:WHERE, evaluated in `environment`.

    A module that `environment` names, as in module:Id, may be imported by this process from then on: whoever calls this
    passes on what a person typed.

    Raises UsageError for an unknown name or environment and for a file without one, InputError for a missing file.
    """
    if environment is not None:
        modules.allow(environment)
    if task := named(name_or_data):
        if environment not in (None, task.environment):
            # The references belong to the task's environment: scores in another would not be comparable.
            raise UsageError(
                f"{task.name} is evaluated in {task.environment}, not {environment}",
                f"swgctl critic {task.name}   # --env belongs to a file",
            )
        return task
    kind, colon, where = name_or_data.partition(":")
    source = sources().get(kind) if colon and kind != "file" else None
    if source and source.task_of:
        return source.task_of(where, environment)
    path = Path(name_or_data)
    if not os.path.isfile(path):
        _check_reachable(path)
        if path.suffix in (".hdf5", ".h5"):
            raise InputError(f"{path}: no such file", "swgctl task ls   # or name an HDF5 file that exists")
        raise UsageError(
            f"no task is called '{name_or_data}'{nearest(name_or_data, names())}",
            "swgctl task ls   # or, for a file: swgctl critic FILE --env ENV_ID",
        )
    return file_task(name_or_data, environment)


def trust(task: Task, environment: str | None) -> None:
    """Let the module of a record's task be imported by this process, since a person named it: `environment`, or None.

    Raises UsageError where that is not the task's environment.  A Minari set names its own, which `module:Id` may
    register: that is compared when it is made.
    """
    if environment is None:
        return
    if environment != task.environment and not task.environment.startswith("minari:"):
        raise UsageError(
            f"{task.name} is evaluated in {task.environment}, not {environment}",
            f"leave out --env, or --env {console.quoted(task.environment)}",
        )
    modules.allow(environment)


def _check_reachable(path: Path) -> None:
    """Raise InputError where something is there that is no file, or where one may not look."""
    look = f"ls -ld {console.quoted(path.parent)} {console.quoted(path)}"
    try:
        os.stat(path)
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror}", look) from None
    except (OSError, ValueError):  # it is not there, or could not be
        return
    raise InputError(f"{path} is not a file", look)


def argument(task: Task) -> str:
    """The words that name a task on a command line."""
    row = sources().get(task.source.partition(":")[0])
    return row.argument(task) if row and row.argument else task.name


def source_of(task: Task) -> tuple[Source, str]:
    """The row of a task's source, and WHERE in it.  Raises CorruptError for an unknown kind of source."""
    kind, _, where = task.source.partition(":")
    if row := sources().get(kind):
        return row, where
    raise CorruptError(f"{task.name}: this version knows no data source '{task.source}'", "update swgctl")


def locate(
    task: Task,
    say: Callable[[str], None],
    progress: Callable[[int, int | None], None] | None = None,
    wanted: str | None = None,
) -> tuple[Path, str]:
    """The task's HDF5 file on this machine and its sha256; it is downloaded or made first where it is missing.

    `say` gets a line for each step, `progress` the (bytes done, total bytes or None) of a download.
    wanted  the checksum of the file that was read before: a user's own that has been moved since is then the one that
            was named where it is now; None: whatever is there
    Raises InputError where the file is unavailable, CorruptError where it differs from the one that was here before.
    """
    if _located is None:
        return _sought(task, say, progress, wanted)
    if (task.source, wanted) not in _located:
        _located[task.source, wanted] = _sought(task, say, progress, wanted)
    return _located[task.source, wanted]


def _sought(
    task: Task, say: Callable[[str], None], progress: Callable[[int, int | None], None] | None, wanted: str | None
) -> tuple[Path, str]:
    from swgctl.tasks import cache

    source, where = source_of(task)
    own = wanted if source.kind == "file" else None
    try:
        path, digest = source.locate(where, say, progress)
    except InputError:
        if own and (place := cache.place_of(own)):
            return place, own
        raise
    if own and digest != own and (place := cache.place_of(own)):
        return place, own
    return path, digest


_located: dict[tuple[str, str | None], tuple[Path, str]] | None = None


@contextlib.contextmanager
def located_once() -> Iterator[None]:
    """Within the block `locate` asks each source once, so that a plan of thousands reads a file's checksum once."""
    global _located
    _located = {}
    try:
        yield
    finally:
        _located = None


def at_hand(task: Task) -> Path | None:
    """The file that `locate` would give, unchecked; None where it would first download or make it."""
    source, where = source_of(task)
    return source.find(where)


def standing(task: Task, file: Path, digest: str) -> str | None:
    """How a data file stands to the one that was published for the task (`published.MEANS`).

    None where nobody publishes the task's data, where `file` is not the task's, and where it is not what it should be.
    """
    source, where = source_of(task)
    return source.standing(where, file, digest) if source.standing and file == source.find(where) else None
