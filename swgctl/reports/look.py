"""The commands that look at a store: tables on stderr, and on stdout the directories, or objects with --json."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from swgctl import console
from swgctl.console import printable, quoted, say
from swgctl.errors import CorruptError, InputError, SwgError, nearest
from swgctl.files import line, read_header
from swgctl.seeds import ranges
from swgctl.store import Artifact, Store, disk, leftovers, schema

LONGEST = 64  # characters of a list that a table shows in full: a digest's


def ls(store: Store, stage: str | None, task: str | None, as_json: bool) -> None:
    """List the artifacts of a store, or those of a stage or a task; a damaged one is raised after all others."""
    if stage:
        from swgctl.config import stage_named  # imported here since pydantic would double the time of `ls`

        stage_named(stage)
    lines, rows, damaged = [], [], None
    for artifact in store.artifacts(stage, task):
        try:
            _ = artifact.meta
        except SwgError as error:  # raised once the others are shown
            if os.path.isdir(artifact.path):  # else another process has just removed it
                damaged = damaged or error
                if not as_json:
                    rows.append([artifact.path.name, *artifact.path.parts[-3:-1], "", "", "damaged", ""])
            continue
        if as_json:
            lines.append(line(brief(artifact)))
        else:
            lines.append(str(artifact.path))
            rows.append(row(artifact))
    if rows:
        console.table(str(store.root), ["id", "stage", "task", "seeds", "size", "made", "from"], rows)
    elif not lines:
        which = "".join(f" of {kind} '{name}'" for kind, name in (("stage", stage), ("task", task)) if name)
        say(f"{store.root} has no artifacts{which}{nearest(task, store.tasks()) if task else ''}")
    if damaged:
        raise damaged
    if lines and (as_json or not sys.stdout.isatty()):  # a terminal has the table
        print("\n".join(lines))


def row(artifact: Artifact) -> list[str]:
    meta = artifact.meta
    parents = " ".join(parent["key"][:16] for parent in meta["inputs"].values())
    size = _bytes(sum(file["bytes"] for file in meta["files"].values()))
    return [artifact.id, artifact.stage, artifact.task, ranges(artifact.seeds), size, meta["made"]["at"], parents]


def brief(artifact: Artifact) -> dict:
    """The fields of an artifact's record that --json prints."""
    meta = artifact.meta
    keys = ("stage", "key", "digest", "params", "seeds", "inputs", "source", "metrics", "wall_s", "made")
    plain = {"params": dict(meta["params"]), "metrics": dict(meta["metrics"])}  # a dict alone is quickly written
    return {"task": artifact.task, "path": str(artifact.path), **{k: meta[k] for k in keys}, **plain}


def show(artifact: Artifact, as_json: bool, table: Callable[[Artifact], bool]) -> None:
    """Print an artifact's record: parameters, metrics and the shapes of its tensors.

    table  prints the table with which the artifact's stage ends; returns False where the stage has none
    """
    shapes = {name: _shapes(artifact, name) for name in artifact.meta["files"]}
    if as_json:
        print(json.dumps(brief(artifact) | {"shapes": {k: v for k, v in shapes.items() if v}}))
        return
    meta = artifact.meta
    say(f"{artifact.stage} {artifact.id} of {artifact.task}, seeds {ranges(artifact.seeds)}")
    say(f"  key {meta['key']}\n  digest {meta['digest']}")
    say(f"  made {meta['made']['at']} on {meta['made']['device']} in {meta['wall_s']:.1f} s")
    if source := meta["source"]:
        say(f"  data {source['path']}, sha256 {source['sha256'][:16]}{_remark(source)}")
    for role, parent in meta["inputs"].items():
        say(f"  from {role} {parent['key'][:16]}")
    _section("parameters", {k: f"{v}" + _origin(meta, k) for k, v in meta["params"].items()})
    if not table(artifact):
        _section("metrics", meta["metrics"])
    for name, tensors in shapes.items():
        size = _bytes(meta["files"][name]["bytes"])
        _section(f"{name}, {size}", tensors)
    print(artifact.path)


def diff(a: Artifact, b: Artifact, as_json: bool) -> None:
    """Print every field in which two artifacts differ, by dotted name."""
    left, right = (
        _flat({"stage": x.stage, "task": x.task, "seeds": x.seeds, "params": x.params, "digest": x.digest})
        | _flat(
            {
                "inputs": {r: i["digest"][:16] for r, i in x.meta["inputs"].items()},
                "metrics": x.meta["metrics"],
            }
        )
        for x in (a, b)
    )
    different = {k: [left.get(k), right.get(k)] for k in left | right if left.get(k) != right.get(k)}
    if as_json:
        print(json.dumps({"a": str(a.path), "b": str(b.path), "different": different}))
        return
    rows = [[name, *map(_cell, values)] for name, values in different.items()]
    if rows:
        console.table("", ["", a.id, b.id], rows)
    else:
        say("no difference")
    print(a.path)
    print(b.path)


def tree(artifact: Artifact, as_json: bool) -> None:
    """Print the lineage of an artifact, itself first; what an artifact descends from, once."""
    if as_json:
        print(json.dumps(_lineage(artifact)))
        return
    printed: list[str] = []
    missing: list[InputError] = []

    def walk(node: Artifact, depth: int) -> None:
        again = str(node.path) in printed
        above = "   (above)" if again else ""
        say(f"{'   ' * depth}{node.stage} {node.id}   {node.task}, seeds {ranges(node.seeds)}{above}")
        if again:
            return
        printed.append(str(node.path))
        for role, record in node.meta["inputs"].items():
            try:
                parent = node.parent(role)
            except InputError as error:
                missing.append(error)
                say(f"{'   ' * (depth + 1)}{record['stage']} {record['key'][:16]}   missing")
                continue
            walk(parent, depth + 1)
        source = node.meta["source"]
        if source and (missing or not _inherited(source, node)):  # `_inherited` needs the whole lineage
            say(f"{'   ' * (depth + 1)}data {source['path']}   sha256 {source['sha256'][:16]}{_remark(source)}")

    walk(artifact, 0)
    if missing:
        raise missing[0]
    print("\n".join(printed))


def _lineage(artifact: Artifact) -> dict:
    inputs = {role: _lineage(artifact.parent(role)) for role in artifact.meta["inputs"]}
    return brief(artifact) | {"inputs": inputs}


def verify(store: Store, refs: list[str]) -> None:
    """Check every byte of the artifacts, of all or those named.  Raises CorruptError, at the end, for a damaged one."""
    import swgctl.config  # noqa: F401  so that their stages judge the records, too

    whole, damaged = [], []
    for artifact in store.resolve_all(refs) if refs else store.artifacts():
        try:
            _check_record(artifact)
            artifact.check_all()
        except (CorruptError, InputError) as error:
            damaged.append(error)
            say(f"damaged: {error}")
        else:
            say(f"whole: {artifact.stage} {artifact.id}")
            whole.append(artifact.path)
    if damaged:
        first = next((error for error in damaged if isinstance(error, CorruptError)), damaged[0])
        raise type(first)(f"{len(damaged)} artifact(s) are damaged, the first: {first}", first.help)
    if not whole:
        say(f"{store.root} has no artifacts")
    for path in whole:
        print(path)


def _check_record(artifact: Artifact) -> None:
    """Check that a record's key follows from its contents; its checksum is compared at every read.  Raises
    CorruptError."""
    if schema.key_of(artifact.meta) != artifact.key:
        raise CorruptError(
            f"{artifact.path / schema.FILE} is damaged: its key is not that of its contents",
            schema.remedy(artifact.path),
        )


def gc(store: Store, dry_run: bool) -> None:
    """Remove the leftovers of unfinished and replaced builds, or only name them."""
    for path in [] if dry_run else leftovers.restore(store):
        say(f"put back, since --force was killed before the new one was there: {printable(str(path))}")
    disposable = leftovers.garbage(store)
    for path in disposable:
        say(printable(str(path)))  # on one line, whatever its name
        if not dry_run:
            with contextlib.suppress(OSError):  # another gc may be at it as well
                disk.remove(path)
    if stay := [] if dry_run else [path for path in disposable if path.exists()]:
        raise SwgError(
            f"{len(stay)} leftover(s) cannot be removed, the first: {stay[0]}", f"ls -ld {quoted(stay[0].parent)}"
        )
    verb = "would remove" if dry_run else "removed"
    say(f"{verb} {len(disposable)} leftover(s) of {store.root}; finished artifacts stay")


def _shapes(artifact: Artifact, name: str) -> dict[str, str]:
    path = artifact.path / name
    if path.suffix == ".safetensors":
        header = read_header(path)
        return {k: f"{v['dtype']} {tuple(v['shape'])}" for k, v in header.items() if k != "__metadata__"}
    if path.suffix == ".hdf5":
        import h5py

        shapes: dict[str, str] = {}

        def visit(key: str, item: Any) -> None:
            if hasattr(item, "shape"):  # a dataset, not a group
                shapes[key] = f"{item.dtype} {item.shape}"

        with artifact.reading(name) as path, h5py.File(path) as file:
            file.visititems(visit)
        return shapes
    return {}


def _inherited(source: dict, artifact: Artifact) -> bool:
    """Whether the data file of an artifact is one of a synthetic set that it descends from."""
    files = (file for one in artifact.ancestors().values() for file in one.meta["files"].values())
    return any(file["sha256"] == source["sha256"] for file in files)


def _origin(meta: dict, name: str) -> str:
    origin = meta["origin"].get(f"{meta['stage']}.{name}")
    return f"   ({origin})" if origin else ""


def _remark(source: dict) -> str:
    from swgctl.tasks import published  # imported here since `ls` needs no tasks

    return published.remark(source)


def _section(title: str, values: dict) -> None:
    say(title)
    leaves = _flat(values)
    width = max([28, *map(len, leaves)])
    for name, value in leaves.items():
        say(f"  {name:{width}} {value:.6g}" if isinstance(value, float) else f"  {name:{width}} {value}")


def _cell(value: Any) -> str:
    """A value as a table shows it: of many numbers, their mean and how many they are."""
    text = "" if value is None else str(value)
    if len(text) <= LONGEST or not isinstance(value, list):
        return text
    numbers = list(_numbers(value))
    return f"{sum(numbers) / len(numbers):.6g}, the mean of {len(numbers)}" if numbers else text


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in nested lists."""
    if isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists of dicts, by dotted name."""
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
