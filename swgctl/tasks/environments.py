"""The environments that policies are evaluated in, and the map from a policy's actions to their bounds."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

import swgctl.tasks.adapters  # noqa: F401 - registers D4RL's
from swgctl.errors import InputError, SwgError, UsageError, nearest
from swgctl.tasks.spaces import box, spec_of
from swgctl.tasks.transitions import Transitions

LIST_ALL = 'python -c "import gymnasium; gymnasium.pprint_registry()"'


def spec(environment: str) -> EnvSpec:
    """gymnasium's specification of an id, `Name-v4` or `module:Name-v4`, without making the environment.

    Raises UsageError for an unknown id.
    """
    module, _, name = environment.rpartition(":")
    if module == "minari":
        return spec_of(make(environment))
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"environment {environment}: {error}", f"pip install {module}") from None
    row = gymnasium.registry.get(name) or _robotics(name)
    if row is None:
        raise UsageError(
            f"gymnasium has no environment '{environment}'{nearest(name, gymnasium.registry)}",
            LIST_ALL,
        )
    entry = row.entry_point
    if getattr(entry, "__name__", "").startswith("_raise") or "robotics.envs.mujoco." in str(entry):
        # The MuJoCo environments of v2 and v3 are still registered: by gymnasium as functions that raise, and by
        # gymnasium-robotics over mujoco-py.
        newer = f"{row.name}-v4"
        advice = f"swgctl critic FILE --env {newer}   # the same physics; v5 changed some of it"
        raise UsageError(
            f"gymnasium no longer makes '{environment}'", advice if newer in gymnasium.registry else LIST_ALL
        )
    return row


def _robotics(name: str) -> EnvSpec | None:
    """gymnasium-robotics' specification of an id; it registers them when it is imported, which takes a second."""
    with contextlib.suppress(ImportError):
        importlib.import_module("gymnasium_robotics")
    return gymnasium.registry.get(name)


@contextlib.contextmanager
def named(environment: str) -> Iterator[None]:
    """Turn an environment's exceptions into SwgError with its name, and send what it prints to stderr, in the block."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SwgError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise SwgError(f"environment {environment} failed: {what}", "SWGCTL_DEBUG=1 shows where") from error


def make(environment: str) -> gymnasium.Env:
    """The environment of an id.  Raises UsageError where it is unknown or cannot be made, SwgError where it fails."""
    with named(environment):
        return _make(environment)


def _make(environment: str) -> gymnasium.Env:
    if environment.startswith("minari:"):
        from swgctl.console import say
        from swgctl.tasks import minari_env

        return minari_env.make(environment.removeprefix("minari:"), say)
    row = spec(environment)
    with warnings.catch_warnings():
        # D4RL's data was made with the old versions: an upgrade would change what is measured.
        warnings.filterwarnings("ignore", message=".*out of date")
        try:
            return gymnasium.make(row.id, disable_env_checker=True)
        except ImportError as error:
            package = (error.name or "gymnasium-robotics").partition(".")[0].replace("_", "-")
            raise UsageError(f"environment {environment} cannot be made: {error}", f"pip install {package}") from None
        except gymnasium.error.Error as error:
            raise UsageError(
                f"environment {environment} cannot be made: {error}", "install the package that it names"
            ) from None


def rescale(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (..., A) from [-1, 1] to the environment's [low, high], both (A,)."""
    return np.clip(low + (actions + 1) * (high - low) / 2, low, high)  # rounding may overshoot


def check(env: gymnasium.Env, transitions: Transitions) -> None:
    """Check that the data has the environment's dimensions, and that its actions have bounds.  Raises InputError."""
    name = spec_of(env).id
    for space in (env.observation_space, env.action_space):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise InputError(
                f"{name}: {space} is not a space of vectors",
                "swgctl critic FILE --env ENV_ID   # an environment of vectors",
            )
    observations, actions = box(env.observation_space), box(env.action_space)
    check_dimensions(transitions, (observations.shape[0], actions.shape[0]), name)
    if not (actions.is_bounded() and np.issubdtype(actions.dtype, np.floating)):
        raise InputError(
            f"{name}: its actions, {actions}, have no bounds to which [-1, 1] could be rescaled",
            "swgctl critic FILE --env ENV_ID   # an environment with bounds",
        )


def check_dimensions(
    transitions: Transitions,
    dimensions: tuple[int, int],
    whose: str,
    help: str = "swgctl critic FILE --env ENV_ID   # the environment that the data is from",
) -> None:
    """Check that observations and actions have the `dimensions` (O, A) of `whose`.  Raises InputError."""
    arrays = {"observations": transitions.observations, "actions": transitions.actions}
    for (name, array), expected in zip(arrays.items(), dimensions, strict=True):
        if array.shape[1] != expected:
            raise InputError(
                f"{transitions.source}: {name} have {array.shape[1]} dimensions, those of {whose} {expected}", help
            )
