"""Export of any task's transitions as a Minari data set, which `minari_data` reads back as they were."""

import contextlib
import os
import re
import tempfile
from pathlib import Path

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from swgctl.errors import InputError, SwgError, UsageError
from swgctl.files import sync
from swgctl.tasks import environments, minari_folder
from swgctl.tasks.cache import Say
from swgctl.tasks.minari_env import bounds
from swgctl.tasks.spaces import box, spec_of
from swgctl.tasks.task import Task
from swgctl.tasks.transitions import Transitions


def export(task: Task, transitions: Transitions, id: str | None, say: Say) -> str:
    """Write a task's transitions as a new Minari data set; returns its id, swgctl/<task>-v0 where none is given.

    `minari_data` reads every row back as it was, with two exceptions, which `say` reports: rows whose next observation
    is unknown are left out, since Minari needs it, and an episode is cut where a row's next observation is not the
    observation of the row that follows.  Actions are written in the environment's units: where its bounds are not
    symmetric about zero, those within 1e-9 of the middle are rounded.  The set appears by one rename.

    Raises InputError where the id is taken or no row would be left, UsageError where it is malformed, SwgError where
    the set cannot be written.
    """
    version = minari_folder.library().__version__
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    id = id or f"swgctl/{re.sub(r'[^A-Za-z0-9_-]', '-', task.name)}-v0"
    folder = minari_folder.folder(id)
    if folder.exists():
        raise _taken(id, folder)
    observation_space, action_space, spec = _spaces(task, transitions, say)
    actions = _to_units(transitions.actions, action_space)
    runs = _runs(transitions, say)
    metadata = {
        "dataset_id": id,
        "minari_version": version,
        "description": f"{task.name}, written by swgctl",
    }
    if task.references:
        metadata |= dict(zip(("ref_min_score", "ref_max_score"), task.references, strict=True))

    def buffer(first: int, stop: int) -> EpisodeBuffer:
        rows, last = slice(first, stop), slice(stop - 1, stop)
        terminals, cut = transitions.terminals[rows], transitions.timeouts[rows].copy()
        cut[-1] |= ~terminals[-1]
        observations = np.concatenate([transitions.observations[rows], transitions.next_observations[last]])
        return EpisodeBuffer(
            observations=observations,
            actions=actions[rows],
            rewards=transitions.rewards[rows],
            terminations=terminals,
            truncations=cut,
            infos={},
        )

    try:
        with tempfile.TemporaryDirectory(prefix=".swgctl-", dir=minari_folder.root()) as draft:
            whole = Path(draft, "set")
            whole.mkdir()
            storage = MinariStorage.new(whole / "data", observation_space, action_space, spec)
            storage.update_metadata(metadata)
            storage.update_episodes(buffer(*run) for run in runs)
            for file in (whole / "data").iterdir():
                sync(file)
            _make_namespace(id.rpartition("/")[0])
            os.rename(whole, folder)
    except OSError as error:
        if folder.exists():  # another process was faster
            raise _taken(id, folder) from None
        raise SwgError(
            f"{folder} cannot be written: {error.strerror or error}",
            "make room, or set MINARI_DATASETS_PATH to a folder on another disk",
        ) from None
    return id


def _taken(id: str, folder: Path) -> InputError:
    return InputError(f"{folder} exists: the id {id} is taken", f"minari delete {id}   # or another --id")


def _make_namespace(namespace: str) -> None:
    from minari.namespace import create_namespace, list_local_namespaces

    if namespace and namespace not in list_local_namespaces():
        with contextlib.suppress(ValueError):  # another process was faster
            create_namespace(namespace)


def _spaces(task: Task, transitions: Transitions, say: Say) -> tuple[spaces.Box, spaces.Box, EnvSpec | None]:
    """The observation and the action space of the task's environment, and its specification if it can be written."""
    try:
        env = environments.make(task.environment)
    except (UsageError, InputError) as error:
        say(f"{task.name}: the set will name no environment, since {error}")
        width, depth = transitions.observations.shape[1], transitions.actions.shape[1]
        return spaces.Box(-np.inf, np.inf, (width,)), spaces.Box(-1, 1, (depth,)), None
    environments.check(env, transitions)
    env.close()
    observations, actions, spec = box(env.observation_space), box(env.action_space), spec_of(env)
    try:
        spec.to_json()
    except (TypeError, ValueError) as error:
        say(f"{task.name}: the set will name no environment, since {spec.id} cannot be written down: {error}")
        return observations, actions, None
    return observations, actions, spec


def _to_units(actions: np.ndarray, space: spaces.Box) -> np.ndarray:
    """Actions (N, A) from [-1, 1] to the environment's bounds, in its dtype if that is exact, else in float64."""
    middle, half = bounds(space, "the environment")
    exact = middle + actions * half
    short = exact.astype(space.dtype)
    return short if np.array_equal(((short - middle) / half).astype(np.float32), actions) else exact


def _runs(transitions: Transitions, say: Say) -> np.ndarray:
    """First and one past the last row of each run of rows that follow each other and whose last state is known."""
    data, who = transitions, transitions.source
    ends = data.terminals | data.timeouts
    ends[-1] = True
    follows = (data.next_observations[:-1] == data.observations[1:]).all(axis=1)
    gaps = ~ends[:-1] & ~follows
    ends[:-1] |= gaps
    stops = np.flatnonzero(ends) + 1
    runs = np.stack([np.append(0, stops[:-1]), stops - ~data.known_next[stops - 1]], axis=1)
    runs = runs[runs[:, 1] > runs[:, 0]]
    if not len(runs):
        raise InputError(f"{who}: no row has a known next observation", "a data set with next_observations")
    if gaps.any():
        say(f"{who}: {gaps.sum():,} episode(s) cut where the observations of two rows do not follow each other")
    if dropped := len(data) - int(np.diff(runs).sum()):
        say(f"{who}: {dropped:,} of {len(data):,} rows left out: their next observation is unknown")
    last = runs[:, 1] - 1
    made_up = data.terminals[last] & (data.next_observations[last] == data.observations[last]).all(axis=1)
    if made_up.any():
        say(f"{who}: {made_up.sum():,} terminal observation(s) unknown: the one before stands in")
    return runs
