"""The artifacts of a remote store: their records, checked before a name in them is a path or a byte is fetched."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from swgctl.console import quoted, shown
from swgctl.errors import CorruptError, InputError, SwgError
from swgctl.files import is_component, parse
from swgctl.store import schema
from swgctl.store.artifacts import NAMED
from swgctl.store.filesystems import Remote
from swgctl.store.schema import FILE, KEY_LENGTH, MOST

KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


@dataclass(frozen=True)
class Entry:
    """An artifact: its place in a store, the bytes of its record, and the record."""

    at: PurePosixPath
    raw: bytes
    meta: dict

    @property
    def id(self) -> str:
        return self.at.name

    def __str__(self) -> str:
        return f"{self.meta['stage']} {self.id}"


def place(stage: str, task: str, key: str) -> PurePosixPath:
    """Where a store has an artifact, below its root."""
    return PurePosixPath("objects", stage, task, key[:KEY_LENGTH])


def read(raw: bytes, where: str, help: str, at: PurePosixPath | None = None) -> Entry:
    """The artifact of a record, which must be that of its place `at`, if one is given.

    Raises CorruptError for a record that is damaged, lies elsewhere than it says, or names a file outside its folder;
    NewerError for one of a later schema.
    """
    try:
        if len(raw) > MOST:
            raise ValueError(f"longer than {MOST:,} bytes")
        meta = parse(raw)
    except ValueError as error:
        raise CorruptError(f"{where} cannot be read: {error}", help) from None
    schema.check_version(meta, where, help)
    if wrong := schema.problem(meta) or _contradiction(meta):
        raise CorruptError(f"{where} is refused: {wrong}", help)
    its = place(meta["stage"], meta["task"]["name"], meta["key"])
    if at not in (None, its):
        raise CorruptError(f"{where} is refused: it is the record of {its}", help)
    return Entry(its, raw, meta)


def _contradiction(meta: dict) -> str | None:
    """What in a record does not follow from the rest of it; None where all does."""
    try:
        if meta.get("sha256") not in (None, schema.record_checksum(meta)):  # one of an early version has none
            return "it is not what was written"
        if meta["key"] != schema.key_of(meta):
            return "its key is not that of its contents"
    except (ValueError, RecursionError):
        return "it has a number that JSON has not, or is too deep"
    if meta["digest"] != schema.digest_of(meta["files"]):
        return "its digest is not that of its files"
    return f"it lists {FILE} itself" if FILE in meta["files"] else None


def look(remote: Remote, at: PurePosixPath) -> Entry | None:
    """The artifact at a place; None where its record is not there.  Raises CorruptError, NewerError."""
    raw = remote.read(f"{at}/{FILE}")
    return None if raw is None else _entry(remote, at, raw)


def _entry(remote: Remote, at: PurePosixPath, raw: bytes) -> Entry:
    return read(raw, f"{remote.name}: {at / FILE}", f"swgctl ls {quoted(remote.name)}", at)


def places(remote: Remote, stage: str | None = None, task: str | None = None) -> list[PurePosixPath]:
    """The folders of a remote store's artifacts, whole or not.  Raises InputError where there is no store."""
    stages = remote.folders("objects")
    if not stages and "objects" not in remote.sizes(""):
        raise InputError(f"{remote.name} is not a store: it has no objects/", f"swgctl push REF {quoted(remote.name)}")
    return [
        place(one, name, key)
        for one in stages
        if is_component(one) and stage in (None, one)
        for name in remote.folders(f"objects/{one}")
        if is_component(name) and task in (None, name)
        for key in remote.folders(f"objects/{one}/{name}")
        if KEY.fullmatch(key)
    ]


def listed(remote: Remote, stage: str | None = None, task: str | None = None) -> tuple[list[Entry], list[SwgError]]:
    """The artifacts of a remote store, oldest first, and the errors of those whose record is damaged."""
    ats = places(remote, stage, task)
    entries, damaged = [], []
    for at, raw in zip(ats, remote.read_all([f"{at}/{FILE}" for at in ats]), strict=True):
        if raw is not None:  # else it is on its way
            try:
                entries.append(_entry(remote, at, raw))
            except SwgError as error:
                damaged.append(error)
    return sorted(entries, key=lambda entry: (entry.meta["made"]["at"], entry.id)), damaged


def match(remote: Remote, id: str) -> Entry:
    """The artifact of a key's first characters.  Raises InputError unless there is exactly one, CorruptError."""
    ats = [at for at in places(remote) if id and at.name.startswith(id[:KEY_LENGTH])]
    raws = remote.read_all([f"{at}/{FILE}" for at in ats])
    matches = {at: raw for at, raw in zip(ats, raws, strict=True) if raw is not None}
    ls = f"swgctl ls {quoted(remote.name)}"
    if len(matches) > 1:
        names = ", ".join(sorted(at.name for at in matches)[:NAMED]) + (", ..." if len(matches) > NAMED else "")
        message = f"'{shown(id)}' fits {len(matches)} artifacts of {remote.name}: {names}"
        raise InputError(message, f"{ls}   # and give more characters of the key")
    for at, raw in matches.items():
        if (entry := _entry(remote, at, raw)).meta["key"].startswith(id):
            return entry
    raise InputError(f"no artifact '{shown(id)}' in {remote.name}", ls)
