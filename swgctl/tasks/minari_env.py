"""The environment that a Minari data set was recorded in, its observations flat."""

import contextlib
import copy
import importlib
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from packaging.requirements import InvalidRequirement, Requirement

from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.tasks import minari_folder, modules
from swgctl.tasks.cache import Say
from swgctl.tasks.registered import quietly, registered
from swgctl.tasks.spaces import spec_of


def make(id: str, say: Say) -> gymnasium.Env:
    """The set's environment for evaluation, else the one that it was recorded in, with flat observations.

    Raises InputError where the set names none, where it cannot be made or `specification` refuses it, and where its
    spaces differ from the set's; CorruptError for a damaged specification.
    """
    dataset = minari_folder.load(id, say)
    recorded = environment_of(dataset)
    if not recorded:
        raise without_environment(id)
    spec = specification(id, dataset)
    for line in _missed(dataset):
        _once(say, f"minari:{id}: {line}")
    try:
        env = gymnasium.make(spec, disable_env_checker=True)
    except (ImportError, gymnasium.error.Error, TypeError, ValueError, AttributeError, OSError) as error:
        where = f"minari:{id}: its environment {recorded['id']}"
        raise InputError(f"{where} cannot be made: {error}", _requirements(dataset, error)) from None
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
    """gymnasium's JSON specification of the environment for evaluation; None where the set names none.

    Raises CorruptError where it is damaged.
    """
    metadata = dataset.storage.metadata
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if not text:
        return None
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        spec = json.loads(text)
        horizon = spec.get("max_episode_steps") if isinstance(spec, dict) else 0
        whole = horizon is None or (type(horizon) is int and 0 < horizon < 1 << 31)
        if whole and isinstance(spec.get("id"), str) and isinstance(spec.get("kwargs", {}), dict):
            return spec
    raise CorruptError(
        f"minari:{dataset.id}: what it says of its environment is damaged", f"minari download --force {dataset.id}"
    )


def specification(id: str, dataset) -> EnvSpec:
    """The specification of the environment that a set recorded, on the entry point that is registered here.

    The set's own `entry_point` is any function, which would be called with the set's arguments: it is compared with the
    registered one, by package and class, and never used.  Nor may an argument name a file or a module, or a wrapper be
    another than gymnasium's own.  Raises InputError for all of these, and for an id that is unknown here.
    """
    recorded = environment_of(dataset)
    assert recorded
    name = recorded["id"]
    if ":" in name:
        raise _refused(id, name, "is no id, but has a module, whose code would run")
    try:
        if name not in gymnasium.registry:
            with quietly():
                for module in modules.allowed():
                    modules.load(f"{module}:{name}")
        row = registered(name)
    except UsageError as error:
        install = [_requirements(dataset)] if any(_missed(dataset)) else []
        raise _refused(id, name, f"is not registered here: {error}", install) from None
    ours, theirs = row.entry_point, recorded.get("entry_point")
    if not (isinstance(ours, str) and isinstance(theirs, str) and _class(ours) == _class(theirs)):
        raise _refused(id, name, f"is {theirs}, and the one that is registered here {ours}")
    if odd := next(filter(_PLACE.search, _texts(recorded.get("kwargs", {}))), None):
        raise _refused(id, name, f"is to be made with '{odd}', which could be a file or a module")
    spec = copy.deepcopy(row)
    spec.kwargs, spec.max_episode_steps = recorded.get("kwargs", {}), recorded.get("max_episode_steps")
    spec.order_enforce = bool(recorded.get("order_enforce", True))
    known = {(wrapper.name, wrapper.entry_point) for wrapper in row.additional_wrappers}
    wrappers = recorded.get("additional_wrappers") or []
    try:
        spec.additional_wrappers = tuple(WrapperSpec(**wrapper) for wrapper in wrappers)
    except TypeError as error:
        raise _refused(id, name, f"has wrappers of another gymnasium: {error}") from None
    for wrapper in spec.additional_wrappers:
        if (wrapper.name, wrapper.entry_point) not in known and not _of_gymnasium(wrapper):
            raise _refused(id, name, f"has the wrapper {wrapper.entry_point}, which is not gymnasium's")
    return spec


_PLACE = re.compile(r"[/\\:]")
_WRAPPERS = re.compile(
    r"(gymnasium\.wrappers\.(?:common|stateful_\w+|transform_(?:action|observation|reward))):([A-Z]\w*)", re.ASCII
)


def _class(entry_point: str) -> tuple[str, str]:
    """The package and the class of an entry point: a class may move within its package from version to version."""
    module, _, name = entry_point.partition(":")
    return module.partition(".")[0], name


def _texts(value: Any) -> Iterator[str]:
    """Every string within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *(value.values() if isinstance(value, dict) else ())]:
            yield from _texts(part)


def _of_gymnasium(wrapper: WrapperSpec) -> bool:
    """Whether it is one of gymnasium's wrappers that neither write nor draw."""
    match = _WRAPPERS.fullmatch(str(wrapper.entry_point))
    kind = match and getattr(importlib.import_module(match[1]), match[2], None) if match else None
    return isinstance(kind, type) and issubclass(kind, gymnasium.Wrapper)


def _refused(id: str, name: str, why: str, helps: list[str] | None = None) -> InputError:
    short = name.rpartition(":")[2]
    line = f"swgctl critic {shlex.join([f'minari:{id}', '--env', f'MODULE:{short}'])}"
    advice = f"{line}   # with the module that registers it, if you trust its code"
    return InputError(f"minari:{id}: its environment {name} {why}", [*(helps or []), advice])


def without_environment(id: str) -> InputError:
    return InputError(f"minari:{id} does not say which environment it was recorded in", modules.NAME_IT)


def _requirements(dataset, error: Exception | None = None) -> str:
    """The command that installs the packages that the set names, or the one that `error` missed."""
    needed = [str(requirement) for requirement in _wanted(dataset)]
    if not needed and isinstance(error, ModuleNotFoundError) and error.name:
        needed = [error.name.partition(".")[0].replace("_", "-")]
    return f"pip install {shlex.join(needed)}" if needed else "install the version that it was recorded with"


def _wanted(dataset) -> Iterator[Requirement]:
    """The packages that the set asks for by name and version; what names a place instead is left out."""
    texts = dataset.storage.metadata.get("requirements")
    for text in texts if isinstance(texts, list) else []:
        with contextlib.suppress(InvalidRequirement, TypeError):
            if not (requirement := Requirement(text)).url:
                yield requirement


def _missed(dataset) -> Iterator[str]:
    """A line for each of those packages that is missing here, or here in another version."""
    for requirement in _wanted(dataset):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not requirement.specifier.contains(version, prereleases=True):
            yield f'it asks for {requirement}, and here is {version}: pip install "{requirement}"'


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
