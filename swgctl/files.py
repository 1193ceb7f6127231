"""Bytes on disk: one JSON text for a value, one checksum, one way to replace a file, one kind of tensor file."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from swgctl.errors import CorruptError

SCHEMA = 1  # of everything that is written; a reader refuses a greater one


def canonical(value) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


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

    durable  the new one is on the disk by then; without it, a crash of the machine may lose it.
    """
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


def load_tensors(path: Path, device: str = "cpu") -> dict:
    """The tensors of a safetensors file.  Raises CorruptError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        raise CorruptError(f"{path} is not a whole safetensors file: {error}", "swgctl verify") from None
