"""The lock of a key, which saves double work: correctness does not depend on it."""

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import stat
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
            file = open_plain(path, os.O_RDWR | os.O_CREAT)
        except PermissionError:  # of another user's file, for a lock it is enough to be read
            if not path.exists():
                raise
            file = open_plain(path, os.O_RDONLY)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENXIO):
                what = "a symbolic link" if error.errno == errno.ELOOP else "not a file"
                remove = "rm -r" if path.is_dir() else "rm"
                raise InputError(f"{path} is {what}, and is left alone", f"{remove} {quoted(path)}") from None
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
        file = open_plain(_path(root, key), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def open_plain(path: Path, flags: int) -> int:
    """The descriptor of a lock's file.  Raises OSError, also for a link, a pipe or a device, which might never open."""
    file = os.open(path, flags | PLAIN, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def _path(root: Path, key: str) -> Path:
    return root / "locks" / f"{key}.lock"
