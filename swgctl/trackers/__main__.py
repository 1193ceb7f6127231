"""python -m swgctl.trackers STORE KEY TARGET... [--follow]: the reader that `child.start` starts."""

import contextlib
import os
import sys
from pathlib import Path

from swgctl import signals
from swgctl.console import say
from swgctl.errors import BusyError, Interrupted, SwgError
from swgctl.store import Store
from swgctl.trackers.follow import send
from swgctl.trackers.subject import find
from swgctl.trackers.targets import named

NICE = 10


def main(store: str, key: str, *words: str) -> None:
    with contextlib.suppress(OSError):
        os.nice(NICE)
    follow = "--follow" in words
    try:
        with signals.handled():
            send([find(Store(Path(store)), key)], named(word for word in words if word != "--follow"), follow)
    except (BusyError, Interrupted):  # another reader has it; or the run was stopped, which the stage says itself
        pass
    except SwgError as error:
        say(f"warning: log: {error}; what is built is not affected")
    except Exception as error:  # a library's, of a name or a file that it cannot take
        say(f"warning: log: {type(error).__name__}: {error}; what is built is not affected")
    sys.stderr.flush()
    os._exit(0)  # a library's own last words may wait for a server


main(*sys.argv[1:])
