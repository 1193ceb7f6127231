"""Disk access of a store: directories, ages, and full disks."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from swgctl.errors import InputError, SwgError

DAY = 86400.0


def directories(path: Path | str) -> list[os.DirEntry]:
    """The subdirectories of a directory; none if it does not exist."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", f"ls -ld {path}") from None


def children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def untouched(path: Path) -> bool:
    """True if a file or directory has not changed for a day."""
    with contextlib.suppress(OSError):
        newest = max((p.stat().st_mtime for p in [path, *path.rglob("*")]), default=0.0)
        return time.time() - newest > DAY
    return False


@contextlib.contextmanager
def disk_full(root: Path) -> Iterator[None]:
    """Turn a full or read-only disk, whatever a library raises for it, into one SwgError."""
    try:
        yield
    except SwgError:
        raise
    except Exception as error:  # safetensors and h5py raise types of their own
        text = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or any(s in text for s in ("No space left", "File too large", "quota exceeded")):
            raise SwgError(f"no space left on the disk of {root}; nothing was published", "swgctl gc") from error
        refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
        if isinstance(error, OSError) and error.errno in refused:
            raise SwgError(
                f"cannot write to {root}: {error.strerror}", "--store DIR   # or SWGCTL_STORE=DIR"
            ) from error
        raise
