"""The cache folder of downloaded and rolled-out data: one writer at a time, and a checksum beside each file.

Others may write to the folder: a link or a pipe in the place of a file that is written here is refused, not followed.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from swgctl.console import quoted, shown
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import NOWHERE, sha256, unreadable, write_text

Say = Callable[[str], None]


def cache_folder() -> Path:
    """$SWGCTL_CACHE, else swgctl/ in $XDG_CACHE_HOME, else in ~/.cache."""
    if folder := os.environ.get("SWGCTL_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swgctl"


def cached(target: Path, say: Say, make: Callable[[], None]) -> str:
    """The sha256 of `target`; where it is missing, `make` writes it first, in one process at a time.

    Raises CorruptError as `pinned` does, InputError where something else is in the way or the file may not be read,
    UsageError for a cache that cannot be, SwgError where the file system refuses.
    """
    try:
        make_parent(target)
        if not target.exists():
            with locked(target, say):
                if not target.exists():  # the process that held the lock may have made it
                    refuse_link(target)
                    make()
        return pinned(target)
    except OSError as error:
        raise SwgError(
            f"{target} cannot be cached: {error.strerror or error}",
            "make room, or set SWGCTL_CACHE to a folder on another disk; the same command goes on",
        ) from None


def make_parent(target: Path) -> None:
    """Make the folder of a file of the cache.  Raises UsageError where none can be, as below a file; OSError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in NOWHERE:
            raise UsageError(
                f"{shown(target.parent)} cannot be a cache: {error.strerror}", "SWGCTL_CACHE=DIR"
            ) from None
        raise


@contextlib.contextmanager
def locked(target: Path, say: Say) -> Iterator[None]:
    """Exclude other processes.  The lock file stays: were it removed, two could each lock a file of that name.

    Raises InputError where a link or a pipe is in its place.
    """
    with os.fdopen(open_plain(target.with_name(target.name + ".lock"), os.O_RDWR | os.O_CREAT), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that fetches {target.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def open_plain(path: Path, flags: int, links: bool = False) -> int:
    """A descriptor of a regular file, over a symbolic link only with `links`.

    Raises InputError for anything else in its place, OSError.
    """
    if not links:
        refuse_link(path)
        flags |= os.O_NOFOLLOW
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _in_the_way(path, "not a file")


def read_plain(path: Path, most: int = 1 << 16, links: bool = False) -> str:
    """The first `most` characters of what `open_plain` opens.  Raises InputError, OSError."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY, links), encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except PermissionError:
        raise unreadable(path) from None


def refuse_link(path: Path) -> None:
    """Raise InputError for a symbolic link, which writing would follow."""
    if path.is_symlink():
        raise _in_the_way(path, "a symbolic link")


def _in_the_way(path: Path, what: str) -> InputError:
    return InputError(f"{path} is {what}, and is left alone", f"rm {quoted(path)}   # it may be somebody else's")


def digest(path: Path) -> str:
    """The sha256 of a data file.  Raises InputError where it may not be read."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file", f"ls -l {quoted(path)}")
        return sha256(path)
    except PermissionError:
        raise unreadable(path) from None
    except OSError as error:  # a disk's fault, or what is a file only by name, as in /proc
        raise InputError(f"{path} cannot be read: {error.strerror}", f"ls -l {quoted(path)}") from None


def note_place(path: Path, sha256: str) -> None:
    """Keep where a file of this checksum lies, as a link, which `place_of` follows; a cache that refuses has none."""
    with contextlib.suppress(OSError, RuntimeError):  # of a user without a home
        link = cache_folder() / "files" / sha256
        draft = link.with_name(f"{sha256}.{os.getpid()}")
        if not link.is_symlink() or os.readlink(link) != str(path):
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(path, draft)
            os.replace(draft, link)


def place_of(sha256: str) -> Path | None:
    """Where a file of this checksum was last, if it is still there with the same bytes."""
    try:
        path = Path(os.readlink(cache_folder() / "files" / sha256))
        return path if path.is_file() and digest(path) == sha256 else None
    except (OSError, RuntimeError, InputError):
        return None


def pin_of(target: Path) -> Path:
    """The file that holds the checksum of `target`, as `sha256sum --check` reads it."""
    return target.with_name(target.name + ".sha256")


def pin(target: Path) -> str | None:
    """The checksum kept beside a file; None where it is missing or empty."""
    try:
        return read_plain(pin_of(target)).partition(" ")[0].strip() or None
    except FileNotFoundError:
        return None


def pinned(target: Path) -> str:
    """The file's sha256, compared with the one kept beside it, which its first use writes.

    Raises CorruptError where they differ, InputError where either may not be read.
    """
    kept, actual = pin_of(target), digest(target)
    refuse_link(kept)
    if not kept.exists():
        write_text(kept, f"{actual}  {target.name}\n", durable=False)
        return actual
    if actual != (expected := pin(target)):
        again, as_it_is = (quoted(path) for path in (target, kept))
        raise CorruptError(
            f"{target}: its sha256 is {actual}, but {kept.name} says {expected or 'nothing'}",
            f"rm {again}   # to get it again; or, to take the file as it is, rm {as_it_is}",
        )
    return actual
