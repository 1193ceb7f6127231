"""The environments that policies are evaluated in, and how a policy's actions meet their bounds."""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np

import swgctl.tasks.adapters  # noqa: F401 - registers D4RL's
from swgctl.errors import InputError, SwgError, UsageError, nearest
from swgctl.tasks.transitions import Transitions


def spec(environment: str) -> gymnasium.envs.registration.EnvSpec:
    """What gymnasium knows of an id, written as `Name-v4` or `module:Name-v4`; makes nothing.

    Raises UsageError where there is none.
    """
    module, _, name = environment.rpartition(":")
    if module == "minari":
        return make(environment).spec
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"environment {environment}: {error}", f"pip install {module}") from None
    found = gymnasium.registry.get(name) or _robotics(name)
    if found is None:
        raise UsageError(
            f"gymnasium has no environment '{environment}'{nearest(name, gymnasium.registry)}",
            'python -c "import gymnasium; gymnasium.pprint_registry()"',
        )
    if getattr(found.entry_point, "__name__", "").startswith("_raise") or "robotics.envs.mujoco." in str(
        found.entry_point
    ):
        # The MuJoCo environments of v2 and v3 are still registered: by gymnasium as functions that raise, and by
        # gymnasium-robotics over mujoco-py.
        newer = f"{found.name}-v4"
        helps = f"--env {newer}   (the same physics; v5 changed some of it)"
        raise UsageError(
            f"gymnasium no longer makes '{environment}'",
            helps if newer in gymnasium.registry else 'python -c "import gymnasium; gymnasium.pprint_registry()"',
        )
    return found


def _robotics(name: str) -> gymnasium.envs.registration.EnvSpec | None:
    """gymnasium-robotics registers its environments only where it is imported, which takes a second."""
    with contextlib.suppress(ImportError):
        importlib.import_module("gymnasium_robotics")
    return gymnasium.registry.get(name)


@contextlib.contextmanager
def named(environment: str) -> Iterator[None]:
    """An environment's own exceptions, as one that names it; what it prints goes to stderr: stdout belongs to paths."""
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
    found = spec(environment)
    with warnings.catch_warnings():
        # D4RL's data was made with the old versions: an upgrade would change what is measured.
        warnings.filterwarnings("ignore", message=".*out of date")
        try:
            return gymnasium.make(found.id, disable_env_checker=True)
        except ImportError as error:
            package = (error.name or "gymnasium-robotics").partition(".")[0].replace("_", "-")
            raise UsageError(f"environment {environment} cannot be made: {error}", f"pip install {package}") from None
        except gymnasium.error.Error as error:
            raise UsageError(f"environment {environment} cannot be made: {error}", "install what it names") from None


def rescale(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (..., A) from [-1, 1] to the environment's [low, high], both (A,)."""
    return np.clip(low + (actions + 1) * (high - low) / 2, low, high)  # rounding may lead out


def check(env: gymnasium.Env, transitions: Transitions) -> None:
    """Raises InputError unless the data has the environment's dimensions, and its actions have bounds."""
    shapes = []
    for space in (env.observation_space, env.action_space):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise InputError(f"{env.spec.id}: {space} is no vector", "name an environment of vectors: --env ENV_ID")
        shapes.append(space.shape[0])
    check_dimensions(transitions, tuple(shapes), env.spec.id)
    if not (env.action_space.is_bounded() and np.issubdtype(env.action_space.dtype, np.floating)):
        raise InputError(
            f"{env.spec.id}: its actions, {env.action_space}, have no bounds to which [-1, 1] could be rescaled",
            "name an environment with bounds: --env ENV_ID",
        )


def check_dimensions(
    transitions: Transitions,
    dimensions: tuple[int, int],
    whose: str,
    help: str = "name the environment that the data is from: --env ENV_ID",
) -> None:
    """Raises InputError unless observations and actions have these many dimensions, which are those of `whose`."""
    rows = (transitions.observations, transitions.actions)
    for what, found, expected in zip(("observations", "actions"), rows, dimensions, strict=True):
        if found.shape[1] != expected:
            raise InputError(
                f"{transitions.source}: {what} have {found.shape[1]} dimensions, those of {whose} {expected}", help
            )
