"""The environments that policies are evaluated in, and how a policy's actions meet their bounds."""

import importlib
import warnings

import gymnasium
import numpy as np

from swgctl.errors import InputError, UsageError, nearest
from swgctl.tasks.transitions import Transitions


def spec(environment: str) -> gymnasium.envs.registration.EnvSpec:
    """What gymnasium knows of an id, written as `Name-v4` or `module:Name-v4`; makes nothing.

    Raises UsageError where there is none.
    """
    module, _, name = environment.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"environment {environment}: {error}", f"pip install {module}") from None
    found = gymnasium.registry.get(name)
    if found is None:
        raise UsageError(
            f"gymnasium has no environment '{environment}'{nearest(name, gymnasium.registry)}",
            'python -c "import gymnasium; gymnasium.pprint_registry()"',
        )
    if getattr(found.entry_point, "__name__", "").startswith("_raise"):
        # The MuJoCo environments of v2 and v3 are still registered, as functions that raise.
        raise UsageError(
            f"gymnasium no longer makes '{environment}'",
            f"--env {found.name}-v4   (the same physics; v5 changed some of it)",
        )
    return found


def make(environment: str) -> gymnasium.Env:
    """The environment of an id.  Raises UsageError where it is unknown or cannot be made here."""
    found = spec(environment)
    with warnings.catch_warnings():
        # D4RL's data was made with the old versions: an upgrade would change what is measured.
        warnings.filterwarnings("ignore", message=".*out of date")
        try:
            return gymnasium.make(found.id, disable_env_checker=True)
        except (ImportError, gymnasium.error.Error) as error:
            raise UsageError(f"environment {environment} cannot be made: {error}", "install what it names") from None


def rescale(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (..., A) from [-1, 1] to the environment's [low, high], both (A,)."""
    return low + (actions + 1) * (high - low) / 2


def check(env: gymnasium.Env, transitions: Transitions) -> None:
    """Raises InputError unless the data has the environment's dimensions, and its actions have bounds."""
    for what, space, rows in (
        ("observations", env.observation_space, transitions.observations),
        ("actions", env.action_space, transitions.actions),
    ):
        shape = space.shape if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
        if shape != rows.shape[1:]:
            raise InputError(
                f"{transitions.source}: {what} have shape {rows.shape[1:]}, those of {env.spec.id} {shape}",
                "name the environment that the data is from: --env ENV_ID",
            )
    if not env.action_space.is_bounded():
        raise InputError(
            f"{env.spec.id}: its actions have no bounds to which [-1, 1] could be rescaled",
            "name an environment with bounds: --env ENV_ID",
        )
