"""Which process wrote something in a store that several machines may share: names that say so."""

import os
import socket
from pathlib import Path

from swgctl.errors import UsageError


def scope(process: int | None = None) -> str:
    """Which shell this is: $SWGCTL_SCOPE, else the parent process's number and start time."""
    if name := os.environ.get("SWGCTL_SCOPE"):
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
            raise UsageError(f"SWGCTL_SCOPE '{name}' must be letters, digits, '-', '_' and '.'", "SWGCTL_SCOPE=mine")
        return f"scope-{name}"
    shell = process or os.getppid()
    return f"shell-{here(shell)}-{_start_time(shell)}"


def here(process: int | None = None) -> str:
    """A process (this one) on this machine, as it enters names: several machines may share a store."""
    return f"{socket.gethostname()}-{process or os.getpid()}"


def _start_time(process: int) -> str:
    try:
        # the 22nd field; the second one may hold spaces but ends with the last ')'
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


def ours(name: str, more: int) -> bool:
    """Whether a name of `here` and so many words more is of this machine: machines' names may hold dashes, too."""
    return name.rsplit("-", more + 1)[0] == socket.gethostname()


def dead(name: str, more: int) -> bool:
    """Whether the process of such a name has ended; False for another machine's."""
    _, number, *_ = [*name.rsplit("-", more + 1), ""]
    if not ours(name, more) or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs, as somebody else
        pass
    return False
