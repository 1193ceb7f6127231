"""Disk access of a store: directories, ages, full disks, and what may not be read."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from swgctl.console import quoted, say_once, shown
from swgctl.errors import SwgError, UsageError
from swgctl.files import NOWHERE, unreadable

DAY = 86400.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
ELSEWHERE = "--store DIR   # or SWGCTL_STORE=DIR"


def directories(path: Path | str) -> list[os.DirEntry]:
    """The subdirectories of a directory; none if it does not exist.  What cannot be looked at is said once."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if _is_directory(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        say_once(f"{shown(path)} is left out: {error.strerror}")
        return []


def _is_directory(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # such as a circle of symbolic links
        say_once(f"{shown(entry.path)} is left out: {error.strerror}")
        return False


def check_root(root: Path, help: str = ELSEWHERE) -> None:
    """Raise UsageError, with this help, for a store that cannot be, InputError for one that may not be read."""
    try:
        with os.scandir(root):
            pass
    except FileNotFoundError:  # it would be made
        pass
    except PermissionError:
        raise unreadable(root) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown(root)} cannot be a store: {why}", help) from None


def make_folder(path: Path, root: Path) -> None:
    """Make a folder of a store.  Raises UsageError where none can be, as below a file or in /proc; OSError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in NOWHERE:
            raise UsageError(f"{shown(root)} cannot be a store: {error.strerror}", ELSEWHERE) from error
        raise


def children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def remove(path: Path) -> None:
    """Remove a folder and all in it, or a file; of a link the link alone.  Raises OSError."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def untouched(path: Path) -> bool:
    """True if a file or directory has not changed for a day."""
    with contextlib.suppress(OSError):
        newest = max((p.stat().st_mtime for p in [path, *path.rglob("*")]), default=0.0)
        return time.time() - newest > DAY
    return False


@contextlib.contextmanager
def disk_full(root: Path) -> Iterator[None]:
    """Turn a full, a read-only or an impossible disk, whatever a library raises for it, into one SwgError."""
    try:
        yield
    except SwgError:
        raise
    except Exception as error:  # safetensors and h5py raise types of their own
        text = str(error)
        number = getattr(error, "errno", None)
        if number in FULL or any(s in text for s in ("No space left", "File too large", "quota exceeded")):
            raise SwgError(
                f"no space left on the disk of {root}; nothing was published", f"swgctl gc --store {quoted(root)}"
            ) from error
        if isinstance(error, OSError) and number in REFUSED:
            raise SwgError(f"cannot write to {root}: {error.strerror}", ELSEWHERE) from error
        raise
