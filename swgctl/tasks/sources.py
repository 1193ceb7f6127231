"""The table of data sources: a row for each kind, `KIND:WHERE` in `Task.source`."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.console import quoted, say
from swgctl.errors import InputError, UsageError
from swgctl.tasks import modules, registry
from swgctl.tasks.task import Task, family_of

if TYPE_CHECKING:
    from swgctl.tasks.downloads import Download

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Source:
    """A kind of source.

    locate     WHERE -> the file on this machine and its sha256; it is downloaded or made first where it is missing.
               `say` gets a line for each step, `progress` the (bytes done, total bytes or None) of a download
    find       WHERE -> the file that `locate` would give, unchecked; None where it would first download or make it
    task_of    (WHERE, --env) -> the task, for a kind that a command line names as KIND:WHERE
    argument   the words that name its tasks on a command line; None: the task's name
    download   WHERE -> the file that is downloaded for it, for a kind whose files others have published
    standing   (WHERE, the located file, its sha256) -> how that download stands to the published one (`published`)
    """

    kind: str
    locate: Callable[[str, Callable[[str], None], Progress | None], tuple[Path, str]]
    find: Callable[[str], Path | None]
    task_of: Callable[[str, str | None], Task] | None = None
    argument: Callable[[Task], str] | None = None
    download: Callable[[str], "Download"] | None = None
    standing: Callable[[str, Path, str], str | None] | None = None


def _with_environment(task: Task) -> str:
    """The data, quoted for a shell, with --env unless the data itself names the environment."""
    kind, _, where = task.source.partition(":")
    name = where if kind == "file" else task.source
    return quoted(name) if name == task.environment else f"{quoted(name)} --env {quoted(task.environment)}"


# -- d4rl --------------------------------------------------------------------------------------------------------------


def _locate_d4rl(where: str, say: Callable[[str], None], progress: Progress | None) -> tuple[Path, str]:
    from swgctl.tasks import downloads

    return downloads.fetch(_download_d4rl(where), say, progress)


def _find_d4rl(where: str) -> Path | None:
    from swgctl.tasks import downloads

    return downloads.find(_download_d4rl(where))


def _download_d4rl(where: str) -> "Download":
    from swgctl.tasks import d4rl

    return d4rl.download(where)


def _standing_d4rl(where: str, file: Path, digest: str) -> str | None:
    from swgctl.tasks import published

    return published.standing(where, digest)


# -- ogbench -----------------------------------------------------------------------------------------------------------


def _locate_ogbench(where: str, say: Callable[[str], None], progress: Progress | None) -> tuple[Path, str]:
    from swgctl.tasks import ogbench

    return ogbench.locate(where, say, progress)


def _find_ogbench(where: str) -> Path | None:
    from swgctl.tasks import ogbench

    return ogbench.find(where)


def _download_ogbench(where: str) -> "Download":
    from swgctl.tasks import ogbench

    return ogbench.download(where)


def _standing_ogbench(where: str, file: Path, digest: str) -> str | None:
    from swgctl.tasks import ogbench

    return ogbench.standing(where, file)


# -- local -------------------------------------------------------------------------------------------------------------


def _locate_local(where: str, say: Callable[[str], None], progress: Progress | None) -> tuple[Path, str]:
    from swgctl.tasks import cache, local

    return local.build(where, cache.cache_folder() / "local", say)


def _find_local(where: str) -> Path | None:
    from swgctl.tasks import cache, local

    path = local.path_of(where, cache.cache_folder() / "local")
    return path if os.path.isfile(path) else None


# -- minari ------------------------------------------------------------------------------------------------------------


def _locate_minari(where: str, say: Callable[[str], None], progress: Progress | None) -> tuple[Path, str]:
    from swgctl.tasks import cache, minari_data

    return minari_data.build(where, cache.cache_folder() / "minari", say)


def _find_minari(where: str) -> Path | None:
    from swgctl.tasks import cache, minari_data

    return minari_data.find(where, cache.cache_folder() / "minari")


def _minari_task(where: str, environment: str | None) -> Task:
    from swgctl.tasks import minari_data

    return minari_data.task_of(where, say, environment)


# -- files -------------------------------------------------------------------------------------------------------------


def _locate_file(where: str, say: Callable[[str], None], progress: Progress | None) -> tuple[Path, str]:
    from swgctl.tasks import cache

    if not os.path.exists(where):
        raise InputError(f"{where}: no such file", "swgctl plan FILE --env ENV_ID   # where it is now; then this again")
    sha256 = cache.digest(Path(where))
    cache.note_place(Path(where), sha256)
    return Path(where), sha256


def _find_file(where: str) -> Path | None:
    return Path(where) if os.path.isfile(where) else None


def file_task(where: str, environment: str | None) -> Task:
    """A task for a user's own data.  It has no references: a score on it must not pass for one of D4RL's.

    Raises UsageError for an environment that is unknown or missing.
    """
    path = Path(where)
    if environment is None:
        raise UsageError(
            f"{path}: a file does not say which environment its policies are evaluated in",
            modules.NAME_IT,
        )
    from swgctl.tasks import environments

    horizon = environments.spec(environment).max_episode_steps
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.")[:200] or "data"
    if registry.named(name):
        name += "-file"
    rewards, recipe = family_of(environment)
    return Task(name, environment, f"file:{path.resolve()}", rewards, recipe, references=None, horizon=horizon)


SHIPPED = {
    row.kind: row
    for row in (
        Source("d4rl", _locate_d4rl, _find_d4rl, download=_download_d4rl, standing=_standing_d4rl),
        Source("ogbench", _locate_ogbench, _find_ogbench, download=_download_ogbench, standing=_standing_ogbench),
        Source("local", _locate_local, _find_local),
        Source("minari", _locate_minari, _find_minari, _minari_task, _with_environment),
        Source("file", _locate_file, _find_file, file_task, _with_environment),
    )
}


def sources() -> dict[str, Source]:
    """Every kind of source by name, plugins' after the shipped ones."""
    return SHIPPED | {source.kind: source for family in registry.plugged() for source in family.sources}
