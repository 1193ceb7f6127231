"""What a task is: a data source, an environment, a reward transform and reference scores.

`registry` holds the tasks by name and `quoted` what papers print of them; `d4rl`, `local` and `minari_data` put their
files on this machine, `transitions` reads a file into arrays, and `environments` makes what a policy is evaluated
in, D4RL's from `adapters`.  Importing this package is cheap: what needs numpy, HDF5 or gymnasium is imported where it
is used.
"""

from collections.abc import Callable
from pathlib import Path

from swgctl.errors import CorruptError, InputError
from swgctl.files import sha256
from swgctl.tasks.registry import Task, get, names, normalized_score

__all__ = ["Task", "at_hand", "get", "locate", "names", "normalized_score"]


def locate(
    task: Task, say: Callable[[str], None], progress: Callable[[int, int | None], None] | None = None
) -> tuple[Path, str]:
    """The task's HDF5 file on this machine and its sha256, downloaded or made first where it has to be.

    `say` is told what is done, `progress` the (bytes done, bytes in all or None) of a download.
    Raises InputError where the file cannot be had, CorruptError where it is not the one that was here before.
    """
    kind, _, where = task.source.partition(":")
    if kind == "file":
        if not Path(where).is_file():
            raise InputError(f"{where}: no such file, which is the data of {task.name}", "check the path")
        return Path(where), sha256(Path(where))
    if kind == "d4rl":
        from swgctl.tasks import d4rl

        return d4rl.fetch(where, say, progress)
    if kind == "local":
        from swgctl.tasks import cache, local

        return local.build(where, cache.cache_folder() / "local", say)
    if kind == "minari":
        from swgctl.tasks import cache, minari_data

        return minari_data.build(where, cache.cache_folder() / "minari", say)
    raise CorruptError(f"{task.name}: this version knows no data source '{task.source}'", "update swgctl")


def at_hand(task: Task) -> Path | None:
    """The file that `locate` would find, unchecked; None where it would first download or make it."""
    kind, _, where = task.source.partition(":")
    if kind == "d4rl":
        from swgctl.tasks import d4rl

        return d4rl.find(where)
    if kind == "minari":
        from swgctl.tasks import cache, minari_data

        return minari_data.find(where, cache.cache_folder() / "minari")
    if kind == "local":
        from swgctl.tasks import cache, local

        path = local.path_of(where, cache.cache_folder() / "local")
    else:
        path = Path(where)
    return path if path.is_file() else None
