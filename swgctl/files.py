"""Bytes on disk: one JSON text for a value, one checksum, one way to replace a file, one kind of tensor file."""

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swgctl.errors import CorruptError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SCHEMA = 1  # version of every record and tensor file; a reader refuses a greater one


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: bytes) -> Any:
    """json.loads in half the time, for the thousands of records that `ls` reads."""
    from pydantic_core import from_json

    try:
        return from_json(text)
    except ValueError:  # damaged, or with a path outside UTF-8, which only Python's own parser reads
        return json.loads(text)


def line(value: Any) -> str:
    """One line of ASCII JSON: json.dumps in a third of the time, for the same records."""
    from pydantic_core import to_json

    with contextlib.suppress(ValueError):  # a path outside UTF-8
        if (text := to_json(value)).isascii():
            return text.decode()
    return json.dumps(value, separators=(",", ":"))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Replace a file by one rename of what `write` leaves at a temporary path: readers see the old file or the new one.

    A symbolic link stays, and its target is replaced.  A pipe or a device is written into.
    durable  flush the new file to the disk before the rename; without it, a crash of the machine may lose it
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        import tempfile  # imported here since few calls need it

        with tempfile.TemporaryDirectory() as directory:
            write(draft := Path(directory) / path.name)
            path.write_bytes(draft.read_bytes())
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write(temporary)
        if durable:
            sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text), durable)


def read_header(path: Path) -> dict:
    """The header of a whole safetensors file: names, shapes, dtypes, metadata.  Raises CorruptError."""
    try:
        with open(path, "rb") as file:
            size, length = path.stat().st_size, int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < size else {}
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            if 8 + length + max(ends, default=-1) != size:
                raise ValueError("cut off")
            return header
    except (OSError, ValueError, KeyError, TypeError) as error:
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
    """Write a safetensors file with one metadata entry, `swg`: several would be written in random order."""
    from safetensors.torch import save_file

    meta = {"schema": SCHEMA, "stage": stage, "task": task.name, "seeds": seeds, **about}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"swg": canonical(meta)})


def read_tensors(path: Path) -> tuple[dict, dict]:
    """The tensors and the metadata of a file that another process may replace meanwhile.

    safetensors' own reader opens the path twice: its header may be the old file's and its tensors the new one's.
    Raises OSError, SafetensorError, ValueError, KeyError.
    """
    from safetensors.torch import load

    raw = path.read_bytes()
    tensors = load(raw)  # first: it checks the header
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return tensors, json.loads(header["__metadata__"]["swg"])


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
