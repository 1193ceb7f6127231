"""gymnasium's registry of environments, and what importing or making one prints."""

import contextlib
import ctypes
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from swgctl.errors import InputError, UsageError, nearest
from swgctl.tasks import adapters  # which registers D4RL's

LIBC = ctypes.CDLL(None)
LIST_ALL = 'python -c "import gymnasium; gymnasium.pprint_registry()"'


def registered(name: str, environment: str | None = None) -> EnvSpec:
    """The specification of an id in gymnasium's registry, which messages call `environment`.

    Raises UsageError for an unknown id, and for one that gymnasium no longer makes.
    """
    environment = environment or name
    row = gymnasium.registry.get(name) or _further(name)
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


def _further(name: str) -> EnvSpec | None:
    """The specification of an id of OGBench or of gymnasium-robotics, which register theirs when they are imported.

    Raises InputError for one of OGBench without the package.
    """
    if "-singletask-" in name:
        with quietly():
            library()
        return gymnasium.registry.get(name)
    with contextlib.suppress(ImportError), adapters.quietly(), quietly():
        importlib.import_module("gymnasium_robotics")
    return gymnasium.registry.get(name)


def library() -> Any:
    """The package ogbench, which registers its environments.  Raises InputError where it is missing."""
    try:
        return importlib.import_module("ogbench")
    except ImportError as error:
        raise InputError(
            f"OGBench's tasks need the package ogbench: {error}", "pip install 'swgctl[ogbench]'"
        ) from None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Send to stderr what is printed on stdout within the block, also from C, and ignore warnings.

    With SWGCTL_DEBUG=1 these are shown.  Within another such block this one costs and does nothing.
    """
    global _quiet
    if _quiet:
        yield
        return
    with contextlib.ExitStack() as stack:
        _quiet = True
        stack.callback(_loud)
        if os.environ.get("SWGCTL_DEBUG") != "1":
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        with contextlib.suppress(OSError):  # it is closed, or there are no descriptors left
            kept = os.dup(1)
            stack.callback(os.close, kept)
            _flush()
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stack.callback(_flush)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(contextlib.redirect_stderr(sys.stderr))  # put back if a module replaces it
        yield


_quiet = False


def _loud() -> None:
    global _quiet
    _quiet = False


def _flush() -> None:
    """Write out what Python's own and C's stdout hold back, wherever that goes now."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # it is None or closed, or its reader is gone
        sys.__stdout__.flush()  # type: ignore[union-attr]
    LIBC.fflush(None)
