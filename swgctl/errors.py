"""Errors with their exit codes: one line says what is wrong and where, another helps."""

from collections.abc import Iterable

LONGEST = 100  # characters of a name that are compared with others


class SwgError(Exception):
    """A failure (exit 1).  `message` says what and where; `help` is a line to paste or an instruction, or several."""

    code = 1

    def __init__(self, message: str, help: str | list[str] | None = None):
        super().__init__(message)
        self.help = help

    @property
    def helps(self) -> list[str]:
        """The lines of `help`."""
        return [self.help] if isinstance(self.help, str) else self.help or []


class UsageError(SwgError):
    """The command line, a recipe or a setting is wrong."""

    code = 2


class InputError(SwgError):
    """An input is missing, unsuitable or ambiguous."""

    code = 3


class CorruptError(SwgError):
    """Bytes on disk are not what was written, or were written by a newer version."""

    code = 4


class NewerError(CorruptError):
    """Written by a newer version: intact, and not to be overwritten."""


class BusyError(SwgError):
    """Another process is building this, and the caller asked not to wait."""

    code = 5


class CompileError(SwgError):
    """torch.compile fails on this machine."""


class Interrupted(SwgError):
    """Stopped by a signal, after a checkpoint: the same command resumes.  SIGINT exits 130, the others 75."""

    code = 75


def said_by(error: BaseException) -> str:
    """What an error says, "ValueError: not today"; its type alone where it says nothing, or its `__str__` fails."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def closest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that was probably meant; None where none is similar."""
    import difflib

    return next(iter(difflib.get_close_matches(name[:LONGEST], list(names), n=1, cutoff=0.5)), None)


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the closest of `names`, or an empty string."""
    match = closest(name, names)
    return f" (did you mean '{match}'?)" if match else ""
