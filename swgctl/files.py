"""Bytes on disk: one JSON text for a value, one checksum, one way to replace a file, one kind of tensor file."""

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from swgctl.errors import CorruptError

SCHEMA = 1  # of everything that is written; a reader refuses a greater one


def canonical(value) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(text: bytes):
    """json.loads in half of its time, for the thousands of records that `ls` reads."""
    from pydantic_core import from_json

    try:
        return from_json(text)
    except ValueError:  # damaged, or a path that is no UTF-8, which only Python's own reads
        return json.loads(text)


def line(value) -> str:
    """One line of JSON, ASCII: json.dumps in a third of its time, for as many."""
    from pydantic_core import to_json

    with contextlib.suppress(ValueError):  # a path that is no UTF-8
        if (text := to_json(value)).isascii():
            return text.decode()
    return json.dumps(value, separators=(",", ":"))


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """`write` makes a temporary neighbour, which is renamed: readers see the old file or the new one.

    A symbolic link stays, and what it points to is replaced.  A pipe or a device is written into.
    durable  the new one is on the disk by then; without it, a crash of the machine may lose it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        import tempfile  # here, since few need it

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
    """A file that was just written must open as what it is.  Raises CorruptError, OSError."""
    if path.suffix == ".safetensors":
        read_header(path)
    elif path.suffix == ".hdf5":
        import h5py

        with h5py.File(path):
            pass


def save_tensors(path: Path, tensors: dict, stage: str, task, seeds: list[int], **about) -> None:
    """A safetensors file with one metadata entry, `swg`: several would be written in random order."""
    from safetensors.torch import save_file

    meta = {"schema": SCHEMA, "stage": stage, "task": task.name, "seeds": seeds, **about}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"swg": canonical(meta)})


def read_tensors(path: Path) -> tuple[dict, dict]:
    """The tensors and the metadata of one file that another process may replace meanwhile.

    safetensors' own reader opens the path twice, so its header may be of the old file and its tensors of the new.
    Raises OSError, SafetensorError, ValueError, KeyError.
    """
    from safetensors.torch import load

    raw = path.read_bytes()
    tensors = load(raw)  # first: it checks the header
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return tensors, json.loads(header["__metadata__"]["swg"])


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator:
    """An h5py.File to write, which does not exist yet.  Raises OSError, once it is closed, where a write failed."""
    import h5py

    with _Sink(path, "x+") as sink:
        with h5py.File(sink, "w") as file:
            yield file
        if sink.error:
            raise sink.error


class _Sink(io.FileIO):
    """A file that keeps its first error to itself: where a disk fills up, HDF5 cannot close its file, and crashes."""

    error: BaseException | None = None

    def write(self, data) -> None:
        left = memoryview(data)
        with self._keeping():
            while left and not self.error:
                left = left[super().write(left) :]

    def truncate(self, size: int | None = None) -> None:
        with self._keeping():
            super().truncate(size)

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # a signal may come here, too
            self.error = self.error or error


def load_tensors(path: Path, device: str = "cpu") -> dict:
    """The tensors of a safetensors file.  Raises CorruptError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} is not a whole safetensors file: {error}", "swgctl verify") from None
