"""What a task is: a data source, an environment, a reward transform and reference scores.

`task` says what one is, `registry` holds them by name, `sources` says where each kind of data comes from, and `quoted`
what papers print; `d4rl`, `local` and `minari_data` put their files on this machine, `transitions` reads a file into
arrays, and `environments` makes what a policy is evaluated in, D4RL's from `adapters`.  Importing this package is
cheap: what needs numpy, HDF5 or gymnasium is imported where it is used.
"""

from collections.abc import Callable
from pathlib import Path

from swgctl.errors import CorruptError, InputError, UsageError, nearest
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
    "names",
    "normalized_score",
    "score",
    "source_of",
]


def get(name_or_data: str, environment: str | None = None) -> Task:
    """The task of that name, or one made of an HDF5 file or of KIND:WHERE, which is evaluated in `environment`.

    Raises UsageError for an unknown name or environment and for a file without one, InputError for a missing file.
    """
    if task := named(name_or_data):
        if environment not in (None, task.environment):
            # Its references are those of its own environment: scores in another would not be comparable.
            raise UsageError(
                f"{task.name} is evaluated in {task.environment}, not {environment}",
                f"swgctl critic {task.name}   (--env belongs to a file)",
            )
        return task
    kind, colon, where = name_or_data.partition(":")
    source = sources().get(kind) if colon and kind != "file" else None
    if source and source.task_of:
        return source.task_of(where, environment)
    path = Path(name_or_data)
    if not path.is_file():
        if path.suffix in (".hdf5", ".h5") or path.exists():
            raise InputError(f"{path}: no such file", "name an HDF5 file or a task: swgctl task ls")
        raise UsageError(
            f"no task is called '{name_or_data}'{nearest(name_or_data, names())}",
            "swgctl task ls   (or: swgctl critic FILE --env ENV_ID)",
        )
    return file_task(name_or_data, environment)


def argument(task: Task) -> str:
    """How a command line names a task."""
    row = sources().get(task.source.partition(":")[0])
    return row.argument(task) if row and row.argument else task.name


def source_of(task: Task) -> tuple[Source, str]:
    """The row of a task's source, and where its data is.  Raises CorruptError for a kind that is not known here."""
    kind, _, where = task.source.partition(":")
    if row := sources().get(kind):
        return row, where
    raise CorruptError(f"{task.name}: this version knows no data source '{task.source}'", "update swgctl")


def locate(
    task: Task, say: Callable[[str], None], progress: Callable[[int, int | None], None] | None = None
) -> tuple[Path, str]:
    """The task's HDF5 file on this machine and its sha256, downloaded or made first where it has to be.

    `say` is told what is done, `progress` the (bytes done, bytes in all or None) of a download.
    Raises InputError where the file cannot be had, CorruptError where it is not the one that was here before.
    """
    source, where = source_of(task)
    return source.locate(where, say, progress)


def at_hand(task: Task) -> Path | None:
    """The file that `locate` would find, unchecked; None where it would first download or make it."""
    source, where = source_of(task)
    return source.find(where)
