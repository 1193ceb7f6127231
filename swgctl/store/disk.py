"""Directories of a store as they are on the disk, and a disk that is full."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from swgctl.errors import InputError, SwgError

DAY = 86400.0


def directories(path: Path | str) -> list[os.DirEntry]:
    """The directories in one; none where it is not there."""
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
    """Untouched for a day."""
    with contextlib.suppress(OSError):
        newest = max((p.stat().st_mtime for p in [path, *path.rglob("*")]), default=0.0)
        return time.time() - newest > DAY
    return False


@contextlib.contextmanager
def disk_full(root: Path) -> Iterator[None]:
    """Whatever a library calls it, a full disk is one clear line."""
    try:
        yield
    except SwgError:
        raise
    except Exception as error:  # safetensors and h5py have their own kinds
        text = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or any(s in text for s in ("No space left", "File too large", "quota exceeded")):
            raise SwgError(f"no space left on the disk of {root}; nothing was published", "swgctl gc") from error
        if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise SwgError(f"cannot write to {root}: {error.strerror}", "--store DIR, or SWGCTL_STORE") from error
        raise
