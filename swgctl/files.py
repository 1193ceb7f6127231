"""Bytes on disk: one JSON text for a value, one checksum, one way to replace a file, one kind of tensor file.

Files follow the umask: whoever may read a folder's other files may read its tensors.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swgctl.console import quoted
from swgctl.errors import CorruptError, InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHECKPOINT = "checkpoint.safetensors"  # of an unfinished training, in its work folder
SCHEMA = 1  # version of every record and tensor file; a reader refuses a greater one
# errno where a folder cannot be
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
COMPONENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"  # of a path: the names of tasks, stages and an artifact's files


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: bytes) -> Any:
    """json.loads of UTF-8 in half the time, for the thousands of records that `ls` reads.  Raises ValueError."""
    from pydantic_core import from_json

    try:
        return from_json(text)
    except ValueError:  # damaged, or with a path outside UTF-8, which only Python's own parser reads
        try:
            return json.loads(text.decode(errors="surrogatepass"))
        except RecursionError:
            raise ValueError("brackets too deep") from None


def is_component(name: object) -> bool:
    """True for a name that is one component of a path on any machine: letters, digits, ".", "_" and "-"."""
    return isinstance(name, str) and re.fullmatch(COMPONENT, name) is not None


def line(value: Any) -> str:
    """One line of ASCII JSON: json.dumps in a third of the time, for the same records."""
    from pydantic_core import to_json

    with contextlib.suppress(ValueError):  # a path outside UTF-8
        if (text := to_json(value)).isascii():
            return text.decode()
    return json.dumps(value, separators=(",", ":"))


def _open_regular(path: Path | str) -> tuple[int, int]:
    """The descriptor and the size of a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor, state.st_size


def open_regular(path: Path | str) -> io.BufferedReader:
    """A regular file to read.  Raises OSError, also for a directory, a device or a pipe, which might never answer."""
    return open(_open_regular(path)[0], "rb")


def read_regular(path: Path | str, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.  Raises OSError; EFBIG for a longer one."""
    descriptor, size = _open_regular(path)
    try:
        if size > most:
            raise OSError(errno.EFBIG, f"longer than {most:,} bytes", str(path))
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a regular file's bytes, as hexadecimal.  Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True, links: bool = True) -> None:
    """Replace a file by one rename of what `write` leaves at a temporary path: readers see the old file or the new one.

    A symbolic link stays, and its target is replaced.  A pipe or a device is written into.
    durable  flush the new file to the disk before the rename; without it, a crash of the machine may lose it
    links    False where others can write: a link, a pipe or a device is replaced itself
    """
    if links and path.exists() and not path.is_file() and not path.is_dir():
        import tempfile  # imported here since few calls need it

        with tempfile.TemporaryDirectory() as directory:
            write(draft := Path(directory) / path.name)
            path.write_bytes(draft.read_bytes())
        return
    path = Path(os.path.realpath(path)) if links else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write(temporary)
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True, links: bool = True) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text), durable, links)


def read_header(path: Path) -> dict:
    """The header of a whole safetensors file: names, shapes, dtypes, metadata.  Raises CorruptError."""
    try:
        with open_regular(path) as file:
            size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < size else {}
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            if not all(isinstance(one["dtype"], str) and isinstance(one["shape"], list) for one in tensors):
                raise ValueError("its header is damaged")
            if 8 + length + max((one["data_offsets"][1] for one in tensors), default=-1) != size:
                raise ValueError("cut off")
            return header
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"{path} is not a whole safetensors file: {error}", "swgctl verify") from None


def reopen(path: Path) -> None:
    """Check that a file just written opens as its suffix says.  Raises CorruptError, OSError."""
    if path.suffix == ".safetensors":
        read_header(path)
    elif path.suffix == ".hdf5":
        import h5py

        with h5py.File(path):
            pass


def save_tensors(path: Path, tensors: dict, stage: str, task, seeds: list[int], **about) -> None:
    """Write a stage's tensors and what they are."""
    meta = {"schema": SCHEMA, "stage": stage, "task": task.name, "seeds": seeds, **about}
    write_tensors(path, {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, meta)


def write_tensors(path: Path, tensors: dict, meta: dict) -> None:
    """Write a safetensors file with one metadata entry, `swg`: several would be written in random order."""
    from safetensors.torch import save_file

    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata={"swg": canonical(meta)})
    path.chmod(mode)  # safetensors makes files that their owner alone may read


def read_tensors(path: Path) -> tuple[dict, dict]:
    """The tensors and the metadata of a file that another process may replace meanwhile.

    safetensors' own reader opens the path twice: its header may be the old file's and its tensors the new one's.
    Raises OSError, SafetensorError, ValueError.
    """
    from safetensors.torch import load

    with open_regular(path) as file:
        raw = file.read()
    tensors = load(raw)  # first: it checks the header
    try:
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        meta = json.loads(header["__metadata__"]["swg"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its metadata is not swgctl's: {type(error).__name__}") from None
    if not isinstance(meta, dict):
        raise ValueError("its metadata is not swgctl's")
    return tensors, meta


def write_signed(path: Path, tensors: dict, meta: dict) -> None:
    """Write tensors and metadata with their checksum, atomically; `read_signed` reads them."""
    signed = {**meta, "sha256": _checksum(tensors, meta)}
    write_atomically(path, lambda to: write_tensors(to, tensors, signed), links=False)


def read_signed(path: Path) -> tuple[dict, dict]:
    """What `write_signed` has written.  Raises OSError, SafetensorError, ValueError."""
    tensors, meta = read_tensors(path)
    if meta.pop("sha256", None) != _checksum(tensors, meta):
        raise ValueError("its contents do not match their checksum")
    return tensors, meta


def _checksum(tensors: dict, meta: dict) -> str:
    total = hashlib.sha256(canonical(meta).encode())
    for key in sorted(tensors):
        total.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        total.update(tensors[key].numpy().tobytes())
    return total.hexdigest()


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator:
    """A new h5py.File to write.  Raises OSError where the path exists and, on closing, where a write failed."""
    import h5py

    with _Sink(path, "x+") as sink:
        with h5py.File(sink, "w") as file:
            yield file
        if sink.error:
            raise sink.error


class _Sink(io.FileIO):
    """A file that keeps its first error and goes on: HDF5 crashes where it cannot close a file, as on a full disk."""

    error: BaseException | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        left = memoryview(data)
        with self._keeping():
            while left and not self.error:
                left = left[super().write(left) :]
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None, /) -> int:
        with self._keeping():
            super().truncate(size)
        return self.tell() if size is None else size

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # a signal's too
            self.error = self.error or error


def load_tensors(path: Path, device: str = "cpu") -> dict:
    """The tensors of a safetensors file.  Raises CorruptError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} is not a whole safetensors file: {error}", "swgctl verify") from None


def unreadable(path: Path) -> InputError:
    """The error of a file or directory that may not be read, with the command that its owner can give."""
    refusal = os.strerror(errno.EACCES)
    for barrier in (*reversed(path.parents), path):  # the first folder that keeps the rest from being seen
        try:
            state = barrier.stat()
        except OSError:
            break
        need = os.X_OK if barrier != path else os.R_OK | (os.X_OK if barrier.is_dir() else 0)
        if not os.access(barrier, need):
            mine = state.st_uid == os.geteuid()
            command = f"chmod {'u' if mine else 'a'}+rX {quoted(barrier)}{'' if mine else '   # by its owner'}"
            return InputError(f"{path}: {refusal}", command)
    return InputError(f"{path}: {refusal}", f"ls -ld {quoted(path)}")
