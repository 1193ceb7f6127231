"""Names that identify a process in a store that several machines may share."""

import os
import re
import socket
from pathlib import Path

from swgctl.console import shown
from swgctl.errors import UsageError

MOST = 100  # characters of a scope


def scope(process: int | None = None) -> str:
    """Name of this shell: $SWGCTL_SCOPE, else the parent process's number and start time."""
    if name := os.environ.get("SWGCTL_SCOPE"):
        if not re.fullmatch(rf"[\w-][\w.-]{{0,{MOST - 1}}}", name):
            raise UsageError(
                f"SWGCTL_SCOPE '{shown(name)}' must be at most {MOST} letters, digits, '-', '_' and '.'",
                "SWGCTL_SCOPE=mine",
            )
        return f"scope-{name}"
    shell = process or os.getppid()
    return f"shell-{here(shell)}-{_start_time(shell)}"


def here(process: int | None = None) -> str:
    """Name of a process (this one) and its machine."""
    return f"{socket.gethostname()}-{process or os.getpid()}"


def _start_time(process: int) -> str:
    try:
        # field 22; field 2 may contain spaces and ends with the last ')'
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


def ours(name: str, more: int) -> bool:
    """True if a name, made of `here` and `more` further words, is from this machine, whose name may contain dashes."""
    return name.rsplit("-", more + 1)[0] == socket.gethostname()


def dead(name: str, more: int) -> bool:
    """True if the process of such a name has ended; False for another machine's."""
    _, number, *_ = [*name.rsplit("-", more + 1), ""]
    if not ours(name, more) or not re.fullmatch("[0-9]{1,9}", number):
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it runs under another user
        pass
    return False
