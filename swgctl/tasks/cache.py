"""The cache folder of downloaded and rolled-out data: one writer at a time, and a checksum beside each file."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from swgctl.errors import CorruptError, SwgError
from swgctl.files import sha256, write_text

Say = Callable[[str], None]


def cache_folder() -> Path:
    """$SWGCTL_CACHE, else swgctl/ in $XDG_CACHE_HOME, else in ~/.cache."""
    if folder := os.environ.get("SWGCTL_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swgctl"


def cached(target: Path, say: Say, make: Callable[[], None]) -> str:
    """The sha256 of `target`; where it is missing, `make` writes it first, in one process at a time.

    Raises CorruptError as `pinned` does, SwgError where the file system refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with locked(target, say):
                if not target.exists():  # the process that held the lock may have made it
                    make()
        return pinned(target)
    except OSError as error:
        raise SwgError(
            f"{target} cannot be cached: {error.strerror or error}",
            "make room, or set SWGCTL_CACHE to a folder on another disk; the same command goes on",
        ) from None


@contextlib.contextmanager
def locked(target: Path, say: Say) -> Iterator[None]:
    """Exclude other processes.  The lock file stays: were it removed, two could each lock a file of that name."""
    with open(target.with_name(target.name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that fetches {target.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pin_of(target: Path) -> Path:
    """The file that holds the checksum of `target`, as `sha256sum --check` reads it."""
    return target.with_name(target.name + ".sha256")


def pin(target: Path) -> str | None:
    """The checksum kept beside a file; None where it is missing or empty."""
    try:
        return pin_of(target).read_text(errors="replace").partition(" ")[0].strip() or None
    except FileNotFoundError:
        return None


def pinned(target: Path) -> str:
    """The file's sha256, compared with the one kept beside it, which its first use writes.

    Raises CorruptError where they differ.
    """
    kept, digest = pin_of(target), sha256(target)
    if not kept.exists():
        write_text(kept, f"{digest}  {target.name}\n", durable=False)
        return digest
    if digest != (expected := pin(target)):
        raise CorruptError(
            f"{target}: its sha256 is {digest}, but {kept.name} says {expected or 'nothing'}",
            f"rm '{target}'   # to get it again; or, to take the file as it is, rm '{kept}'",
        )
    return digest
