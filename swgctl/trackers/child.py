"""The process that a stage starts to log what it builds: a reader beside it, which can neither slow nor fail it."""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Iterable

from swgctl.console import say
from swgctl.store import Store
from swgctl.trackers.targets import Target

PATIENCE = 10.0  # seconds that the end of this process waits for its readers

_readers: list[subprocess.Popen] = []


def start(store: Store, key: str, to: Iterable[Target], follow: bool = True) -> None:
    """Log the artifact of a key from a process of its own, until it is finished if `follow`.

    Trackers whose package is missing are left out, in one line each.  A signal to this process's group spares the
    reader, which ends by itself once the key is not being built any more.
    """
    ready = []
    for target in to:
        if target.installed():
            ready.append(str(target))
        else:
            say(f"warning: log: nothing goes to {target}, whose package is missing: {target.install}")
    if not ready:
        return
    command = [sys.executable, "-m", "swgctl.trackers", str(store.root), key, *ready, *(["--follow"] if follow else [])]
    try:
        reader = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
    except OSError as error:
        say(f"warning: log: no process to log from: {error.strerror}")
        return
    if not _readers:
        atexit.register(_wait)
    _readers.append(reader)


def _wait() -> None:
    """Wait for the readers, PATIENCE seconds for all of them; those that need longer go on by themselves."""
    end = time.monotonic() + PATIENCE
    late = []
    for reader in _readers:
        try:
            reader.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            late.append(str(reader.pid))
    if late:
        say(f"log: still sending, in process {', '.join(late)}")
