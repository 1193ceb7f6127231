"""Minari's data sets as tasks, each in the environment that it was recorded in.

All data has one reader (`transitions`), so that a set is converted once to D4RL's layout, episode by episode; equal
sets give equal bytes.  Minari: Younis et al., 2024, https://minari.farama.org.
"""

import hashlib
import itertools
import json
import math
import shlex
import warnings
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import gymnasium
import h5py
import numpy as np
from gymnasium import spaces

from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import canonical, write_atomically
from swgctl.tasks import environments, minari_folder
from swgctl.tasks.cache import Say, cached
from swgctl.tasks.registry import Task, family_of
from swgctl.tasks.transitions import SCHEMA

CHUNK = 1 << 15  # rows that are written at once

# What each data set of a converted file holds, and in which units.
FIELDS = {
    "observations": ("observation before the action, flattened", "the environment's"),
    "actions": ("action, from the environment's bounds to [-1, 1]", "1"),
    "rewards": ("reward of the step", "1"),
    "next_observations": ("observation after the action, flattened", "the environment's"),
    "terminals": ("the action led to a terminal state", "bool"),
    "timeouts": ("the episode was cut after the action", "bool"),
    "infos/next_observation_valid": ("next_observations holds what followed", "bool"),
}


def task_of(id: str, say: Say, environment: str | None = None) -> Task:
    """The task of a Minari id; the set is downloaded first where it is not on this machine.

    environment  for a set that does not say which one it was recorded in, and for no other
    References are the set's own scores of a random and of an expert policy, where it has both.
    Raises UsageError for a malformed id or another environment than the set's, InputError where the set cannot be had
    or has none.
    """
    dataset = minari_folder.load(id, say)
    name, source, recorded = name_of(id), f"minari:{id}", _environment(dataset)
    if not recorded:
        if environment is None:
            raise _nowhere(id)
        _check_actions(environments.make(environment), dataset)
        horizon = environments.spec(environment).max_episode_steps
        return Task(name, environment, source, *family_of(environment), references=None, horizon=horizon)
    if environment not in (None, recorded["id"]):
        raise UsageError(f"{source} is evaluated in {recorded['id']}, not {environment}", f"swgctl critic {source}")
    horizon = recorded.get("max_episode_steps")
    return Task(name, source, source, *family_of(recorded["id"]), references=_references(dataset), horizon=horizon)


def name_of(id: str) -> str:
    """Of the task of a Minari id; also a directory's name."""
    return f"minari-{id.replace('/', '-')}"


def build(id: str, directory: Path, say: Say) -> tuple[Path, str]:
    """The set in D4RL's layout, in `directory`, converted where it is not there yet; its sha256.

    The file's name carries a hash of the set's files' sizes and times: a set that has changed is converted anew.
    Raises InputError where the set cannot be had or its spaces are no Boxes, CorruptError where it is damaged or the
    converted file is not the one that was written, SwgError where that cannot be written.
    """
    dataset = minari_folder.load(id, say)
    path = _path(dataset, directory)

    def convert() -> None:
        size = f"{dataset.total_steps:,} steps, {dataset.total_episodes:,} episodes"
        say(f"minari:{id}: converting {size}, this once, into {path}")
        if _references(dataset) is None:
            say(f"minari:{id} has no reference scores: results will be returns, without normalised scores")
        write_atomically(path, lambda draft: _write(draft, dataset))

    return path, cached(path, say, convert)


def find(id: str, directory: Path) -> Path | None:
    """The file where `build` would neither download nor convert anything, unchecked; else None."""
    dataset = minari_folder.local(id)
    path = None if dataset is None else _path(dataset, directory)
    return path if path and path.is_file() else None


def make(id: str, say: Say) -> gymnasium.Env:
    """The environment that the set was recorded in, or the one that it names for evaluation, its observations flat.

    Raises InputError where the set names none, where it cannot be made, or where its spaces are not the set's.
    """
    dataset = minari_folder.load(id, say)
    recorded = _environment(dataset)
    if not recorded:
        raise _nowhere(id)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            env = dataset.recover_environment(eval_env=True, disable_env_checker=True)
        except (ImportError, gymnasium.error.Error, TypeError, ValueError, AttributeError, OSError) as error:
            where = f"minari:{id}: its environment {recorded['id']}"
            raise InputError(f"{where} cannot be made: {error}", _requirements(dataset, error)) from None
    for warning in told:
        if "pip install" in str(warning.message):  # of a package that the set asks for, in another version
            _once(say, f"minari:{id}: {' '.join(str(warning.message).split())}")
    _check_actions(env, dataset)
    ours, theirs = (_boxes(space, f"minari:{id}") for space in (dataset.observation_space, env.observation_space))
    if {path: box.shape for path, box in ours.items()} != {path: box.shape for path, box in theirs.items()}:
        raise InputError(
            f"minari:{id}: its observations are {dataset.observation_space}, "
            f"those of {recorded['id']} {env.observation_space}",
            _requirements(dataset),
        )
    if len(env.observation_space.shape or ()) == 1:
        return env
    if list(ours) == list(theirs):
        return gymnasium.wrappers.FlattenObservation(env)
    # The data is in the set's order, which is sorted; an environment may have another.
    space = dataset.observation_space
    return gymnasium.wrappers.TransformObservation(
        env, lambda observation: spaces.flatten(space, observation), spaces.flatten_space(space)
    )


@cache
def _once(say: Say, line: str) -> None:
    say(line)


def _environment(dataset) -> dict | None:
    """The specification of the environment that policies are evaluated in, as gymnasium writes it; or None."""
    metadata = dataset.storage.metadata
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    return text and json.loads(text)


def _references(dataset) -> tuple[float, float] | None:
    least, most = (dataset.storage.metadata.get(f"ref_{end}_score") for end in ("min", "max"))
    return None if None in (least, most) or least == most else (float(least), float(most))


def _nowhere(id: str) -> InputError:
    return InputError(
        f"minari:{id} does not say which environment it was recorded in", f"swgctl critic minari:{id} --env ENV_ID"
    )


def _requirements(dataset, error: Exception | None = None) -> str:
    """The line that installs what the set's environment needs, as far as it is known."""
    needed = dataset.storage.metadata.get("requirements") or []
    if not needed and isinstance(error, ModuleNotFoundError) and error.name:
        needed = [error.name.partition(".")[0].replace("_", "-")]
    return f"pip install {shlex.join(needed)}" if needed else "install the version that it was recorded with"


# ---- spaces


def _boxes(space: spaces.Space, who: str, path: tuple = ()) -> dict[tuple, spaces.Box]:
    """The Boxes of a space by their keys, in the order in which gymnasium flattens them.

    Raises InputError for any other space, and for images.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        return {key: box for name, part in parts for key, box in _boxes(part, who, (*path, name)).items()}
    if isinstance(space, spaces.Box) and not (space.dtype == np.uint8 and len(space.shape) > 1):
        return {path: space}
    which = "".join(f"[{name!r}]" for name in path)
    raise InputError(
        f"{who}: observations{which} are a {type(space).__name__} {space.shape or ''}".rstrip()
        + ", not a Box of numbers that a network could take",
        "another data set, or a file of your own features: swgctl critic FILE --env ENV_ID",
    )


def bounds(space: spaces.Space, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half the width of the actions' bounds, both (A,) float64.  Raises InputError where there are none."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        if space.is_bounded() and (space.high > space.low).all():
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            return (low + high) / 2, (high - low) / 2
        raise InputError(f"{who}: its actions, {space}, have no bounds that [-1, 1] could be", "another data set")
    raise InputError(f"{who}: its actions are {space}, not a vector of real numbers", "another data set")


def _check_actions(env: gymnasium.Env, dataset) -> None:
    """Raises InputError unless [-1, 1] means the same to both."""
    ours, theirs = dataset.action_space, env.action_space
    bounds(ours, f"minari:{dataset.id}")
    alike = isinstance(theirs, spaces.Box) and np.array_equal([ours.low, ours.high], [theirs.low, theirs.high])
    if not alike:
        raise InputError(
            f"minari:{dataset.id}: its actions are {ours}, those of {env.spec.id} {theirs}", _requirements(dataset)
        )


# ---- conversion


def _path(dataset, directory: Path) -> Path:
    data = Path(dataset.storage.data_path)
    states = [(file, file.stat()) for file in sorted(data.rglob("*")) if file.is_file()]
    files = [[file.relative_to(data).as_posix(), state.st_size, state.st_mtime_ns] for file, state in states]
    version = hashlib.sha256(canonical([SCHEMA, dataset.id, files]).encode()).hexdigest()
    return directory / f"{name_of(dataset.id)}-{version[:8]}.hdf5"


def _write(draft: Path, dataset) -> None:
    """The set in D4RL's layout.  Raises CorruptError for a damaged set, SwgError where other data is read back."""
    total, row, written = dataset.total_steps, 0, []
    with h5py.File(draft, "w", libver=("earliest", "v110")) as file:
        file.attrs.update(schema=SCHEMA, source=f"minari:{dataset.id}", env=(_environment(dataset) or {}).get("id", ""))
        for columns in _chunks(dataset):
            rows = slice(row, row := row + len(columns["rewards"]))
            if row > total:
                break
            for name, values in columns.items():
                if name not in file:
                    field = file.create_dataset(name, (total, *values.shape[1:]), values.dtype, track_times=False)
                    field.attrs["long_name"], field.attrs["units"] = FIELDS[name]
                file[name][rows] = values
                written.append((name, rows, hashlib.sha256(values).digest()))
    if row != total or not total:
        raise CorruptError(
            f"minari:{dataset.id}: its episodes have {row:,} steps{' or more' * (row > total)}, not {total:,}",
            f"minari download --force {dataset.id}",
        )
    with h5py.File(draft) as file:
        if any(hashlib.sha256(file[name][rows]).digest() != digest for name, rows, digest in written):
            raise SwgError(f"{draft}: reads back as other data than was written", "check the disk")


def _chunks(dataset) -> Iterator[dict[str, np.ndarray]]:
    """The fields of about CHUNK rows of whole episodes, since there may be many short ones."""
    episodes, rows = [], 0
    for episode in itertools.chain(_episodes(dataset), [None]):
        if episode:
            episodes.append(episode)
            rows += len(episode["rewards"])
        if episodes and (rows >= CHUNK or not episode):
            yield {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
            episodes, rows = [], 0


def _episodes(dataset) -> Iterator[dict[str, np.ndarray]]:
    """The fields of each episode of n steps, (n, ...).  Its last row is a timeout where Minari says nothing of it.

    Raises InputError for spaces that are no Boxes, CorruptError for episodes that are not whole.
    """
    who = f"minari:{dataset.id}"
    boxes, (middle, half) = _boxes(dataset.observation_space, who), bounds(dataset.action_space, who)
    number = 0
    try:
        for episode in dataset.iterate_episodes():
            n = len(episode.rewards)
            leaves = [
                np.asarray(reduce(getitem, path, episode.observations)).reshape(n + 1, math.prod(box.shape))
                for path, box in boxes.items()
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
