"""An artifact's record, artifact.json: its fields, its checksum, and the key that follows from it.

Whoever can write into a store can write records, and stores are copied between machines: a record is data to be judged.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from swgctl.console import quoted, say_once, shown
from swgctl.errors import CorruptError, InputError, NewerError
from swgctl.files import COMPONENT, SCHEMA, canonical, parse, read_regular, unreadable

if TYPE_CHECKING:
    from pydantic_core import SchemaValidator, ValidationError

KEY_LENGTH = 16
FILE = "artifact.json"
RECORDS = ("metrics.jsonl", "log.txt", FILE)  # files that hold times
MOST = 4_000_000  # bytes of a record
ZEROS = bytes.maketrans(b"123456789", b"000000000")
TOO_LONG = b"0" * 309  # digits, more than a float can hold

Judge = Callable[[dict], str | None]  # what in a record its stage does not allow
_judges: list[Judge] = []


def make_key(stage: str, revision: int, params: dict, seeds: list[int], inputs: dict, source: str | None) -> str:
    """sha256 of everything that determines an artifact; `inputs` maps a role to its artifact's digest."""
    text = canonical(
        {
            "stage": stage,
            "revision": revision,
            "params": params,
            "seeds": seeds,
            "inputs": inputs,
            "source": source,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(meta: dict) -> str:
    """The key that follows from a record's contents."""
    inputs = {role: parent["digest"] for role, parent in meta["inputs"].items()}
    source = meta["source"] and meta["source"]["sha256"]
    return make_key(meta["stage"], meta["revision"], meta["params"], meta["seeds"], inputs, source)


def digest_of(files: dict[str, dict]) -> str:
    """An artifact's digest: sha256 of the names and checksums of its `files`, but for RECORDS."""
    outputs = {name: file["sha256"] for name, file in files.items() if name not in RECORDS}
    return hashlib.sha256(canonical(outputs).encode()).hexdigest()


def record_checksum(meta: dict) -> str:
    """sha256 of an artifact.json without the field that holds it."""
    rest = {name: value for name, value in meta.items() if name != "sha256"}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()


def judge_by(judge: Judge) -> Judge:
    """Have every record that is read from now on judged: a store does not know what its stages' settings are.

    So `ls`, which imports no stages, reads thousands of records by the schema alone.
    """
    _judges.append(judge)
    return judge


def read(directory: Path) -> dict:
    """The record of an artifact: it has the schema's fields, and its contents are those of its checksum.

    A record of an early version has no checksum: its key must follow from its contents, and it is said once.  A field
    beyond the schema that it lacks raises CorruptError where it is read.
    Raises InputError where there is no record or it may not be read, CorruptError, NewerError.
    """
    file = f"{directory}/{FILE}"
    try:
        text = read_regular(file, MOST)
        if TOO_LONG in text.translate(ZEROS):
            raise ValueError("it has a number of hundreds of digits")
        quick = _quickly(text)
        meta = quick or parse(text)
    except FileNotFoundError:
        if in_store(directory):
            raise CorruptError(f"{directory} has lost its artifact.json", remedy(directory)) from None
        raise InputError(f"{directory} is not an artifact: it has no artifact.json", "swgctl ls") from None
    except PermissionError:
        raise unreadable(Path(file)) from None
    except (ValueError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        raise CorruptError(f"{file} cannot be read: {why}", remedy(directory)) from None
    if not quick:
        check_version(meta, file, remedy(directory))
        if wrong := problem(meta):
            raise CorruptError(f"{file} is damaged: {wrong}", remedy(directory))
    if not _as_written(meta, text):
        raise CorruptError(f"{file} is not what was written", remedy(directory))
    if wrong := next(filter(None, (judge(meta) for judge in _judges)), None):
        raise CorruptError(
            f"{file} is damaged, or of another version: {wrong}",
            f"pip install --upgrade swgctl   # else: {remedy(directory)}",
        )
    if "sha256" not in meta:
        where = f"{directory.parents[3]} has records" if in_store(directory) else f"{directory} has a record"
        say_once(f"{where} without a checksum, of an early version: unsigned")
    parts = {name: _Fields(meta[name], directory, f"{name}.") for name in ("task", "params", "metrics")}
    return {"origin": {}, **meta, **parts}


def check_version(meta: object, where: str, help: str) -> None:
    """Raise CorruptError for what is no record of an artifact, NewerError for one of a later schema."""
    if not isinstance(meta, dict) or type(meta.get("schema")) is not int:
        raise CorruptError(f"{where} is not an artifact's record", help)
    if meta["schema"] > SCHEMA:
        raise NewerError(
            f"{where} was written by a newer swgctl (schema {meta['schema']}; this one reads up to {SCHEMA})",
            "pip install --upgrade swgctl",
        )


def in_store(directory: Path) -> bool:
    """True for a directory where a store has its finished artifacts."""
    return len(directory.parents) > 3 and directory.parents[2].name == "objects"


def remedy(directory: Path) -> str:
    """What to do about a damaged artifact: a store's is removed, so that it can be built again."""
    return f"rm -r {quoted(directory)}" if in_store(directory) else f"ls -l {quoted(directory)}"


def _as_written(meta: dict, text: bytes) -> bool:
    """True if a record has the checksum that it names, or, where it names none, the key of its contents."""
    try:
        if "sha256" not in meta:
            return key_of(meta) == meta["key"]
        # A record's text as it was written, without its spaces, is the canonical one, in a third of the time.
        dense = b"".join(map(bytes.lstrip, text.split(b"\n"))).replace(b'": ', b'":')
        start, _, rest = dense.partition(b'"sha256":"%s",' % meta["sha256"].encode())
        if (
            hashlib.sha256(start + rest).hexdigest() == meta["sha256"]
            and b"NaN" not in text
            and b"Infinity" not in text
        ):
            return True
        return record_checksum(meta) == meta["sha256"]
    except (ValueError, RecursionError):  # NaN, which no record has
        return False


def _quickly(text: bytes) -> dict | None:
    """A record parsed and checked in one go; None where that fails, whatever the reason."""
    from pydantic_core import ValidationError

    try:
        return _schema().validate_json(text)
    except ValidationError:
        return None


def problem(meta: dict) -> str | None:
    """The first field of a record that is not as the schema has it, and why; None where all are."""
    return _problem(_schema(), meta)


def problem_of_unfinished(record: object) -> str | None:
    """The same of the fields that are known before an artifact is built."""
    return _problem(_schema(finished=False), record)


def _problem(fields: "SchemaValidator", record: object) -> str | None:
    from pydantic_core import ValidationError

    try:
        fields.validate_python(record)
    except ValidationError as error:
        return first_of(error)
    return None


def first_of(error: "ValidationError", *prefix: str) -> str:
    """The first field of which a validation complains, and why."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return shown(f"{'.'.join(map(str, (*prefix, *first['loc'])))}: {first['msg']}")


@cache
def _schema(finished: bool = True) -> "SchemaValidator":
    """The fields that every record has, or every one of an unfinished artifact.

    pydantic itself would double the time of `ls`.
    """
    from pydantic_core import SchemaValidator
    from pydantic_core import core_schema as c

    def record(optional: dict[str, Any] | None = None, **fields: Any) -> Any:
        all_fields = {name: c.typed_dict_field(kind, required=True) for name, kind in fields.items()}
        all_fields |= {name: c.typed_dict_field(kind, required=False) for name, kind in (optional or {}).items()}
        return c.typed_dict_schema(all_fields, extra_behavior="allow")

    def named(kind: Any) -> Any:
        return c.dict_schema(name, kind, strict=True)

    name, text = c.str_schema(pattern=f"^{COMPONENT}$", strict=True), c.str_schema(max_length=4096, strict=True)
    checksum = c.str_schema(pattern="^[0-9a-f]{64}$", strict=True)
    count = c.int_schema(ge=0, lt=2**63, strict=True)
    number = c.union_schema([c.int_schema(strict=True), c.float_schema(allow_inf_nan=False, strict=True)])
    path = c.no_info_plain_validator_function(_path)
    anything = c.dict_schema(c.str_schema(), c.any_schema(), strict=True)
    task = record(
        name=name,
        environment=text,
        source=path,
        rewards=text,
        recipe=text,
        references=c.nullable_schema(c.list_schema(number, min_length=2, max_length=2, strict=True)),
        horizon=c.nullable_schema(count),
    )
    before = {  # the fields that are known before the artifact is built
        "stage": name,
        "task": task,
        "key": checksum,
        "params": anything,
        "seeds": c.list_schema(count, min_length=1, strict=True),
        "inputs": named(record(stage=name, task=name, key=checksum, digest=checksum, path=path)),
        "revision": count,
        "source": c.nullable_schema(record({"checksum": name}, path=path, sha256=checksum)),
    }
    after = {
        "schema": c.int_schema(ge=1, le=SCHEMA, strict=True),
        "digest": checksum,
        "metrics": c.no_info_after_validator_function(_metrics, anything),
        "files": named(record(sha256=checksum, bytes=count)),
        "made": record({"card": text}, at=c.no_info_plain_validator_function(_time), device=text),
        "wall_s": number,
    }
    optional = {
        "origin": c.dict_schema(text, text, strict=True),
        "chosen": c.nullable_schema(text),
        "sha256": checksum,
    }
    return SchemaValidator(record(optional, **before, **(after if finished else {})))


def _path(value: Any) -> str:
    """A path, which need not be UTF-8."""
    if isinstance(value, str) and "\0" not in value and len(value) <= 4096:
        return value
    raise ValueError("not a path")


def _metrics(value: dict) -> dict:
    """Metrics, of which some readers walk over these two."""
    if not isinstance(value.get("data", {}), dict):
        raise ValueError("data should be an object")
    cells = value.get("cells", [])
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise ValueError("cells should be a list of objects")
    return value


def _time(value: Any) -> str:
    """A moment in ISO 8601."""
    if isinstance(value, str) and len(value) <= 40 and datetime.fromisoformat(value):
        return value
    raise ValueError("not a time")


class _Fields(dict):
    """A part of a record: a field that it lacks is damage, not a fault of whoever reads it."""

    def __init__(self, values: dict, artifact: Path, prefix: str):
        super().__init__(values)
        self._artifact, self._prefix = artifact, prefix

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if type(value) is dict:
            return _Fields(value, self._artifact, f"{self._prefix}{name}.")
        if type(value) is list and value and type(value[0]) is dict:
            return [_Fields(one, self._artifact, f"{self._prefix}{name}.{i}.") for i, one in enumerate(value)]
        return value

    def __missing__(self, name: str) -> NoReturn:
        where = shown(f"{self._prefix}{name}")
        raise CorruptError(f"{self._artifact / FILE} is damaged: it has no {where}", remedy(self._artifact))
