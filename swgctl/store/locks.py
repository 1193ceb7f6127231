"""The lock of a key, which saves double work: correctness does not depend on it."""

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from swgctl.console import quoted, say
from swgctl.errors import BusyError, InputError
from swgctl.store.disk import disk_full, make_folder

PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # the owner's name would overwrite what a planted link names


@contextlib.contextmanager
def lock(root: Path, key: str, wait: bool) -> Iterator[None]:
    """Hold the lock of a key; its file names the owner.  Raises BusyError where another has it and `wait` is false,
    InputError where a link is in its place.
    """
    path = _path(root, key)
    with disk_full(root):
        make_folder(path.parent, root)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | PLAIN, 0o666)
        except PermissionError:  # another user's file: to be read is enough for a lock
            file = os.open(path, os.O_RDONLY | PLAIN)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InputError(f"{path} is a symbolic link, and is left alone", f"rm {quoted(path)}") from None
            raise
    try:
        announced = False
        for polls in itertools.count():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # empty for a moment, after locking and before its name is written
                owner = os.pread(file, 1000, 0).decode(errors="replace").strip()
                building = f"{owner or 'another process'} is building {key}"
                if not wait:
                    raise BusyError(building, "leave out --no-wait") from None
                if not announced and (owner or polls > 10):
                    say(f"waiting: {building}")
                    announced = True
                time.sleep(0.1)
            except OSError:  # a file system without locks: both build, the first to publish wins
                break
        with contextlib.suppress(OSError):  # a full disk has room for the lock, if not for its owner's name
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(file)  # which also releases the lock


def busy(root: Path, key: str) -> bool:
    """True if a process holds the lock of a key."""
    try:
        with open(_path(root, key)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _path(root: Path, key: str) -> Path:
    return root / "locks" / f"{key}.lock"
