"""The environment that a Minari data set was recorded in, its observations flat."""

import json
import shlex
import warnings
from collections.abc import Iterable
from functools import cache

import gymnasium
import numpy as np
from gymnasium import spaces

from swgctl.errors import InputError
from swgctl.tasks import minari_folder
from swgctl.tasks.cache import Say
from swgctl.tasks.spaces import spec_of


def make(id: str, say: Say) -> gymnasium.Env:
    """The set's environment for evaluation, else the one that it was recorded in, with flat observations.

    Raises InputError where the set names none, where it cannot be made, or where its spaces differ from the set's.
    """
    dataset = minari_folder.load(id, say)
    recorded = environment_of(dataset)
    if not recorded:
        raise without_environment(id)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env = dataset.recover_environment(eval_env=True, disable_env_checker=True)
        except (ImportError, gymnasium.error.Error, TypeError, ValueError, AttributeError, OSError) as error:
            where = f"minari:{id}: its environment {recorded['id']}"
            raise InputError(f"{where} cannot be made: {error}", _requirements(dataset, error)) from None
    for warning in caught:
        if "pip install" in str(warning.message):  # the set asks for another version of a package
            _once(say, f"minari:{id}: {' '.join(str(warning.message).split())}")
    check_actions(env, dataset)
    ours, theirs = (boxes(space, f"minari:{id}") for space in (dataset.observation_space, env.observation_space))
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


def environment_of(dataset) -> dict | None:
    """gymnasium's JSON specification of the environment for evaluation; None where the set names none."""
    metadata = dataset.storage.metadata
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    return text and json.loads(text)


def without_environment(id: str) -> InputError:
    return InputError(
        f"minari:{id} does not say which environment it was recorded in", f"swgctl critic minari:{id} --env ENV_ID"
    )


def _requirements(dataset, error: Exception | None = None) -> str:
    """The command that installs the packages that the set names, or the one that `error` missed."""
    needed = dataset.storage.metadata.get("requirements") or []
    if not needed and isinstance(error, ModuleNotFoundError) and error.name:
        needed = [error.name.partition(".")[0].replace("_", "-")]
    return f"pip install {shlex.join(needed)}" if needed else "install the version that it was recorded with"


def boxes(space: spaces.Space, who: str, path: tuple = ()) -> dict[tuple, spaces.Box]:
    """The Boxes of a space by their keys, in the order in which gymnasium flattens them.

    Raises InputError for other spaces and for images.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts: Iterable = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        return {key: box for name, part in parts for key, box in boxes(part, who, (*path, name)).items()}
    if isinstance(space, spaces.Box) and not (space.dtype == np.uint8 and len(space.shape) > 1):
        return {path: space}
    which = "".join(f"[{name!r}]" for name in path)
    raise InputError(
        f"{who}: observations{which} are a {type(space).__name__} {space.shape or ''}".rstrip()
        + ", not a Box of numbers that a network could take",
        "another data set, or a file of your own features: swgctl critic FILE --env ENV_ID",
    )


def bounds(space: spaces.Space, who: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half the width of the actions' bounds, both (A,) float64.  Raises InputError for unbounded actions."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        if space.is_bounded() and (space.high > space.low).all():
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            return (low + high) / 2, (high - low) / 2
        raise InputError(
            f"{who}: its actions, {space}, have no bounds to which [-1, 1] could be rescaled", "another data set"
        )
    raise InputError(f"{who}: its actions are {space}, not a vector of real numbers", "another data set")


def check_actions(env: gymnasium.Env, dataset) -> None:
    """Check that the environment's action bounds are the set's.  Raises InputError."""
    ours, theirs = dataset.action_space, env.action_space
    bounds(ours, f"minari:{dataset.id}")
    equal = isinstance(theirs, spaces.Box) and np.array_equal([ours.low, ours.high], [theirs.low, theirs.high])
    if not equal:
        raise InputError(
            f"minari:{dataset.id}: its actions are {ours}, those of {spec_of(env).id} {theirs}", _requirements(dataset)
        )
