"""Minari's data sets as tasks, each evaluated in the environment that it was recorded in.

All data has one reader (`transitions`), so a set is converted once to D4RL's layout, episode by episode; equal sets
give equal bytes.  Minari: Younis et al., 2024, https://minari.farama.org.
"""

import contextlib
import hashlib
import itertools
import math
import os
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path

import h5py
import numpy as np

from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.files import canonical, unreadable, write_atomically
from swgctl.tasks import environments, hdf5, layout, minari_folder, modules
from swgctl.tasks.cache import Say, cached
from swgctl.tasks.layout import SCHEMA
from swgctl.tasks.minari_env import bounds, boxes, check_actions, environment_of, without_environment
from swgctl.tasks.task import Task, family_of

CHUNK = 1 << 15  # rows written at once


def task_of(id: str, say: Say, environment: str | None = None) -> Task:
    """The task of a Minari id; the set is downloaded first where it is missing.

    environment  only for a set that does not name the one it was recorded in; or that one with the module that
                 registers it, `module:Id`
    References are the set's own scores of a random and of an expert policy, where it has both.
    Raises UsageError for a malformed id or another environment than the set's, InputError where the set is unavailable
    or has no environment, CorruptError where what it says of either is damaged.
    """
    dataset = minari_folder.load(id, say)
    name, source, recorded = name_of(id), f"minari:{id}", environment_of(dataset)
    if not recorded:
        if environment is None:
            raise without_environment(id)
        check_actions(environments.make(environment), dataset)
        horizon = environments.spec(environment).max_episode_steps
        return Task(name, environment, source, *family_of(environment), references=None, horizon=horizon)
    if environment is not None and modules.split(environment)[1] != recorded["id"]:
        raise UsageError(f"{source} is evaluated in {recorded['id']}, not {environment}", f"swgctl critic {source}")
    horizon = recorded.get("max_episode_steps")
    return Task(name, source, source, *family_of(recorded["id"]), references=_references(dataset), horizon=horizon)


def name_of(id: str) -> str:
    """The name of a Minari id's task, which is also a directory's name."""
    return f"minari-{id.replace('/', '-')}"


def build(id: str, directory: Path, say: Say) -> tuple[Path, str]:
    """The set in D4RL's layout, in `directory`, converted where it is missing; its sha256.

    The file's name carries a hash of the sizes and times of the set's files: a set that has changed is converted anew.
    Raises InputError where the set is unavailable or a space is not a Box, CorruptError where the set is damaged or the
    converted file has changed since it was written, SwgError where that cannot be written.
    """
    dataset = minari_folder.load(id, say)
    path = _path(dataset, directory)

    def convert() -> None:
        for file in sorted(Path(dataset.storage.data_path).glob("*.hdf5")):
            _check_arrays(file, f"minari:{id}", f"minari download --force {id}")
        size = f"{dataset.total_steps:,} steps, {dataset.total_episodes:,} episodes"
        say(f"minari:{id}: converting {size}, this once, into {path}")
        if _references(dataset) is None:
            say(f"minari:{id} has no reference scores: results will be returns, without normalised scores")
        write_atomically(path, lambda draft: _write(draft, dataset))

    return path, cached(path, say, convert)


def _check_arrays(file: Path, who: str, help: str) -> None:
    """Raise InputError where a set's arrays are not in its own file or larger than that, CorruptError for damage."""
    try:
        why = hdf5.problem(file)
    except PermissionError:
        raise unreadable(file) from None
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise CorruptError(f"{who}: {file} is not a whole HDF5 file: {error}", help) from None
    if why:
        raise InputError(f"{who}: {file.name}: {why}", help)


def find(id: str, directory: Path) -> Path | None:
    """The file that `build` would give, unchecked; None where it would first download or convert the set."""
    dataset = minari_folder.local(id)
    path = None if dataset is None else _path(dataset, directory)
    return path if path and os.path.isfile(path) else None


def _references(dataset) -> tuple[float, float] | None:
    least, most = (dataset.storage.metadata.get(f"ref_{end}_score") for end in ("min", "max"))
    if None in (least, most) or least == most:
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        scores = float(least), float(most)
        if all(map(math.isfinite, scores)):
            return scores
    raise CorruptError(
        f"minari:{dataset.id}: its reference scores, {least} and {most}, are not numbers",
        f"minari download --force {dataset.id}",
    )


# -- conversion --------------------------------------------------------------------------------------------------------


def _path(dataset, directory: Path) -> Path:
    data = Path(dataset.storage.data_path)
    states = [(file, file.stat()) for file in sorted(data.rglob("*")) if file.is_file()]
    files = [[file.relative_to(data).as_posix(), state.st_size, state.st_mtime_ns] for file, state in states]
    version = hashlib.sha256(canonical([SCHEMA, dataset.id, files]).encode()).hexdigest()
    return directory / f"{name_of(dataset.id)}-{version[:8]}.hdf5"


def _write(draft: Path, dataset) -> None:
    """Write the set in D4RL's layout.  Raises CorruptError for a damaged set, SwgError where it reads back changed."""
    total, row = dataset.total_steps, 0
    with h5py.File(draft, "w", libver=("earliest", "v110")) as file:
        file.attrs.update(
            schema=SCHEMA, source=f"minari:{dataset.id}", env=(environment_of(dataset) or {}).get("id", "")
        )
        writer = layout.Writer(file, layout.CONVERTED)
        for columns in _chunks(dataset):
            rows = slice(row, row := row + len(columns["rewards"]))
            if row > total:
                break
            for name, values in columns.items():
                writer.put(name, values, rows.start, total)
    if row != total or not total:
        at_least = " or more" if row > total else ""
        raise CorruptError(
            f"minari:{dataset.id}: its episodes have {row:,} steps{at_least}, not {total:,}",
            f"minari download --force {dataset.id}",
        )
    writer.check(draft)


def _chunks(dataset) -> Iterator[dict[str, np.ndarray]]:
    """The fields of whole episodes, about CHUNK rows at a time: there may be many short ones."""
    episodes, rows = [], 0
    for episode in itertools.chain(_episodes(dataset), [None]):
        if episode:
            episodes.append(episode)
            rows += len(episode["rewards"])
        if episodes and (rows >= CHUNK or not episode):
            yield {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
            episodes, rows = [], 0


def _episodes(dataset) -> Iterator[dict[str, np.ndarray]]:
    """The fields of each episode of n steps, (n, ...).  Its last row is a timeout unless Minari says terminal.

    Raises InputError for a space that is not a Box, CorruptError for a damaged episode.
    """
    who = f"minari:{dataset.id}"
    parts, (middle, half) = boxes(dataset.observation_space, who), bounds(dataset.action_space, who)
    number = 0
    try:
        for episode in dataset.iterate_episodes():
            n = len(episode.rewards)
            leaves = [
                np.asarray(reduce(getitem, path, episode.observations)).reshape(n + 1, math.prod(box.shape))
                for path, box in parts.items()
            ]
            observations = np.concatenate(leaves, axis=1).astype(np.float32)
            actions = np.asarray(episode.actions, np.float64).reshape(n, len(middle))
            terminals, cut = (np.array(flags, bool).reshape(n) for flags in (episode.terminations, episode.truncations))
            cut[-1:] |= ~terminals[-1:]
            if n:
                yield {
                    "observations": observations[:-1],
                    "actions": ((actions - middle) / half).astype(np.float32),
                    "rewards": np.asarray(episode.rewards, np.float32).reshape(n),
                    "next_observations": observations[1:],
                    "terminals": terminals,
                    "timeouts": cut,
                    "infos/next_observation_valid": np.ones(n, bool),
                }
            number += 1
    except (OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{who}: episode {number} is not a whole one, with an observation more than it has actions: {error}",
            f"minari download --force {dataset.id}",
        ) from None
