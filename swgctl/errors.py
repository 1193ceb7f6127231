"""What can go wrong, as exit codes: each error is one line that says what and where, and one line that helps."""


class SwgError(Exception):
    """Failed (exit 1).  `message` says what and where; `help` is a line that can be pasted, or an instruction."""

    code = 1

    def __init__(self, message: str, help: str | None = None):
        super().__init__(message)
        self.help = help


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
    """Written by a newer version: nothing is wrong with it, and it must not be overwritten."""


class BusyError(SwgError):
    """Somebody else is building this, and we were told not to wait."""

    code = 5


class CompileError(SwgError):
    """torch.compile cannot do it here."""


class Interrupted(SwgError):
    """Stopped by a signal after a checkpoint: the same command resumes.  SIGINT exits 130, the others 75."""

    code = 75


def closest(name: str, names) -> str | None:
    """The one of `names` that was probably meant."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)), None)


def nearest(name: str, names) -> str:
    """ " (did you mean 'x'?)" for the closest of `names`, or an empty string."""
    match = closest(name, names)
    return f" (did you mean '{match}'?)" if match else ""
