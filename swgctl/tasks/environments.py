"""The environments that policies are evaluated in, and the map from a policy's actions to their bounds."""

import contextlib
from collections.abc import Iterator

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from swgctl.errors import InputError, SwgError, UsageError, said_by
from swgctl.tasks import modules
from swgctl.tasks.registered import quietly, registered
from swgctl.tasks.spaces import box, spec_of
from swgctl.tasks.transitions import Transitions

WHERE = "SWGCTL_DEBUG=1 shows where"


def spec(environment: str) -> EnvSpec:
    """gymnasium's specification of an id, `Name-v4` or `module:Name-v4`, without making the environment.

    Raises UsageError for an unknown id, InputError for a module that nobody named in this process (`modules`).
    """
    module, name = modules.split(environment)
    if module == "minari":
        return spec_of(make(environment))
    if module:
        with quietly():
            modules.load(environment)
    return registered(name, environment)


@contextlib.contextmanager
def named(environment: str) -> Iterator[None]:
    """Turn an environment's exceptions into SwgError with its name, within the block, and what it prints to stderr.

    `sys.exit` is one of them.
    """
    try:
        with quietly():
            yield
    except (SwgError, KeyboardInterrupt, GeneratorExit):  # the last is also how Python ends a generator
        raise
    except BaseException as error:
        raise SwgError(f"environment {environment} failed: {said_by(error)}", WHERE) from error


def make(environment: str) -> gymnasium.Env:
    """The environment of an id.

    Raises UsageError where it is unknown or cannot be made, InputError for a module that nobody named in this process,
    SwgError where it fails.
    """
    with named(environment):
        return _make(environment)


def _make(environment: str) -> gymnasium.Env:
    if environment.startswith("minari:"):
        from swgctl.console import say
        from swgctl.tasks import minari_env

        return minari_env.make(environment.removeprefix("minari:"), say)
    row = spec(environment)
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
    check_dimensions(transitions, dimensions(env), name)
    actions = box(env.action_space)
    if not (actions.is_bounded() and np.issubdtype(actions.dtype, np.floating)):
        raise InputError(
            f"{name}: its actions, {actions}, have no bounds to which [-1, 1] could be rescaled",
            "--env ENV_ID   # an environment with bounds",
        )


def dimensions(env: gymnasium.Env) -> tuple[int, int]:
    """O and A of an environment of vectors.  Raises InputError for any other."""
    for space in (env.observation_space, env.action_space):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise InputError(
                f"{spec_of(env).id}: {space} is not a space of vectors",
                "--env ENV_ID   # an environment of vectors",
            )
    return box(env.observation_space).shape[0], box(env.action_space).shape[0]


def check_dimensions(
    transitions: Transitions,
    expected: tuple[int, int],
    whose: str,
    help: str = modules.NAME_IT,
) -> None:
    """Check that observations and actions have the dimensions (O, A) of `whose`.  Raises InputError."""
    present = transitions.observations.shape[1], transitions.actions.shape[1]
    for misfit in misfits(present, expected, whose):
        raise InputError(f"{transitions.source}: {misfit}", help)


def misfits(present: tuple[int, int], expected: tuple[int, int], whose: str) -> list[str]:
    """How the dimensions (O, A) that are present differ from those of `whose`."""
    names = "observations", "actions"
    pairs = zip(names, present, expected, strict=True)
    return [f"{name} have {n} dimensions, those of {whose} {m}" for name, n, m in pairs if n != m]
