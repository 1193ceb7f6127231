"""The modules of `module:Id`: importing one runs its code, so a person must have named it, in this process.

A record, a data file or a server that names a module is not enough (SECURITY.md).
"""

import importlib
import re
import sys

from swgctl.console import quoted
from swgctl.errors import InputError, SwgError, UsageError, said_by
from swgctl.tasks import registry

# Packages that swgctl depends on, whose modules register environments and do nothing else.
SHIPPED = ("gymnasium", "gymnasium_robotics")
LONGEST = 200  # characters of an environment's id
NAME_IT = "--env ENV_ID   # the environment that the data is from"  # helps where it is missing or another
_ID = re.compile(r"(?:[\w-]+/)?[\w.-]*\w[\w.-]*", re.ASCII)  # gymnasium's own, without a module
_MINARI = re.compile(r"[\w/.-]+")

_allowed: set[str] = set()


def split(environment: str) -> tuple[str, str]:
    """The module, or an empty string, and the id of `Name-v4`, `module:Name-v4` or `minari:<id>`.

    Raises UsageError for anything else.
    """
    module, colon, name = environment.partition(":")
    if not colon:
        module, name = "", environment
    known = _MINARI if module == "minari" else _ID
    named = not colon or all(part.isidentifier() for part in module.split("."))
    if len(environment) > LONGEST or not named or not known.fullmatch(name):
        raise UsageError(
            f"'{environment[:LONGEST]}' is not an environment's id, such as Pendulum-v1, or package.module:Id-v0",
            "swgctl critic FILE --env Pendulum-v1",
        )
    return module, name


def allow(environment: str) -> None:
    """Let the module of `module:Id` be imported by this process.  Raises UsageError for a malformed id.

    For what a person typed, or wrote in a program; never for what was read.
    """
    module, _ = split(environment)
    if module not in ("", "minari"):
        _allowed.add(module)


def allowed() -> list[str]:
    """The modules that were named in this process."""
    return sorted(_allowed)


def load(environment: str) -> None:
    """Import the module of `module:Id`, which runs its code and should register the id.

    Raises InputError, exit 3, for a module that nobody named in this process, UsageError where the import fails.
    """
    module, _ = split(environment)
    if module not in _allowed | _of_tasks() and module.partition(".")[0] not in SHIPPED:
        raise InputError(
            f"environment {environment}: the module {module}, whose code this would run, was named by a record and "
            "not by you",
            f"add --env {quoted(environment)} to the command, if you trust that module",
        )
    try:
        importlib.import_module(module)
    except (SwgError, KeyboardInterrupt):  # a signal came
        raise
    except BaseException as error:  # SystemExit as well, and a class of the module's own
        # Of an ImportError the message alone names the module that is missing.
        what = str(error) if isinstance(error, ImportError) else f"{module}: {said_by(error)}"
        missing = isinstance(error, ModuleNotFoundError) and module.startswith(error.name or ".")
        whole = module.partition(".")[0]
        help = f"put PYTHONPATH=FOLDER, which has {whole}, before the command, or install its package"
        help = help if missing else f"{_python()} -c 'import {module}'"
        raise UsageError(f"environment {environment}: {what}", help) from None


def _of_tasks() -> set[str]:
    """The modules of registered tasks: those of plugins, which a person installed."""
    environments = (task.environment for task, _ in registry.table().values())
    return {environment.partition(":")[0] for environment in environments if ":" in environment}


def _python() -> str:
    return quoted(sys.executable or "python")
