"""Artifacts on disk: key, publish, find, verify.

    swg-store/objects/<stage>/<task>/<key>/   finished artifacts, each made to appear by one rename
              work/<key>/                     checkpoints of unfinished runs
              tmp/  locks/  current/          directories being written; locks; each shell's latest artifacts

An artifact that exists is whole.  Locks save double work; correctness does not depend on them.
"""

import contextlib
import errno
import itertools
import json
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from swgctl import signals
from swgctl.console import quoted, say_once, shown
from swgctl.errors import CorruptError, InputError, NewerError, SwgError, said_by
from swgctl.files import CHECKPOINT, SCHEMA, is_component, reopen, sha256, sync, unreadable, write_text
from swgctl.seeds import ranges
from swgctl.store import schema, shells
from swgctl.store.disk import check_root, directories, disk_full, make_folder
from swgctl.store.locks import busy, lock
from swgctl.store.processes import here, scope
from swgctl.store.schema import KEY_LENGTH, record_checksum, remedy

NAMED = 8  # most artifacts that a message names
REPLACED = ".replaced"  # ends the name of an artifact that --force has moved away
DEEPEST = 100  # artifacts in a line of parents
LONGEST_INPUT = 16_000_000  # characters of standard input: REFs of far more artifacts than a store is made for
# What a reader of numbers raises for a file that is whole, and of another form than its artifact's
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError)


@dataclass(frozen=True)
class Artifact:
    """One directory, written by one run of one stage.

    descent  digests of the artifacts on the way down to this one, where it was reached as a `parent`
    """

    path: Path
    descent: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def meta(self) -> dict:
        """The record.  Raises InputError, CorruptError, NewerError: `schema.read`."""
        return schema.read(self.path)

    @property
    def stage(self) -> str:
        return self.meta["stage"]

    @property
    def task(self) -> str:
        return self.meta["task"]["name"]

    @property
    def key(self) -> str:
        return self.meta["key"]

    @property
    def id(self) -> str:
        return self.key[:KEY_LENGTH]

    @property
    def digest(self) -> str:
        return self.meta["digest"]

    @property
    def params(self) -> dict:
        return self.meta["params"]

    @property
    def seeds(self) -> list[int]:
        return self.meta["seeds"]

    @property
    def store(self) -> "Store":
        if len(self.path.parents) < 4:
            raise InputError(f"{self.path} is not in a store", "swgctl ls   # names artifacts of a store")
        return Store(self.path.parents[3])

    def file(self, name: str) -> Path:
        """The path of a file, its bytes compared with the record.  Raises CorruptError."""
        self.check(name)
        return self.path / name

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """The path of a file, its bytes compared with the record, to be read within the block.

        Raises CorruptError, also where the block cannot make sense of it: whoever can sign a record can sign any file.
        """
        path = self.file(name)
        try:
            yield path
        except UNREADABLE as error:
            if signals.interrupted():  # which a library has made another error
                raise
            raise CorruptError(f"{path} does not fit its record: {shown(said_by(error))}", self._again()) from None

    def check(self, name: str) -> None:
        """Compare a file with the record.  Raises CorruptError, InputError where it may not be read."""
        if name not in self.meta["files"]:
            raise CorruptError(f"{self.path / schema.FILE} is damaged: it has no file {shown(name)}", self._again())
        path, recorded = self.path / name, self.meta["files"][name]["sha256"]
        try:
            actual = sha256(path)
        except PermissionError:
            raise unreadable(path) from None
        except OSError as error:
            raise CorruptError(f"{path} cannot be read: {error.strerror}", self._again()) from None
        if actual != recorded:
            raise CorruptError(f"{path} is damaged: sha256 {actual[:12]}, recorded {recorded[:12]}", self._again())

    def check_all(self) -> None:
        """Compare every file with the record.  Raises CorruptError, InputError."""
        for name in self.meta["files"]:
            self.check(name)

    def _again(self) -> str:
        return f"{remedy(self.path)}   # then run swgctl {self.stage} again"

    def parent(self, role: str) -> "Artifact":
        """The artifact of an input role, from this store, else from its recorded path, which is said.

        Raises InputError if it is gone, CorruptError if it was made from what it is an input of, or has another stage.
        """
        record, store = self.meta["inputs"][role], self.store
        name, descent = f"{record['stage']} {record['key'][:KEY_LENGTH]}", (*self.descent, self.digest)
        if record["digest"] in descent or len(descent) > DEEPEST:
            circle = "in a circle" if record["digest"] in descent else f"from more than {DEEPEST} others in a line"
            raise CorruptError(f"{self.path} was made {circle}: its {role} is {name}", remedy(self.path))
        for path in (store.place(record["stage"], record["task"], record["key"]), Path(record["path"])):
            if not os.path.isdir(path):
                continue
            if (artifact := Artifact(path, descent)).digest == record["digest"]:
                if artifact.stage != record["stage"]:
                    raise CorruptError(
                        f"{self.path} was not made from {name}: {path} has that digest", remedy(self.path)
                    )
                if not path.is_relative_to(store.root):
                    say_once(f"{name} is not in {store.root}, and is read where it was made: {path}")
                return artifact
        raise InputError(
            f"{self.path} was made from {name} of digest {record['digest'][:KEY_LENGTH]}, which is not in {store.root}",
            f"copy that artifact into {quoted(store.root / 'objects')}, or build it again",
        )

    def ancestors(self) -> dict[str, "Artifact"]:
        """This artifact and everything that it was made from: the nearest of each stage by the stage's name, others of
        that stage by their path of roles, such as `diffuse/augment/critic`.

        If another critic ranks an evaluation's candidates, that one is `critic`, and the critic from which its policy
        descends has its path.  Raises InputError where an artifact is gone.
        """
        lineage: dict[str, Artifact] = {}
        queue: list[tuple[tuple[str, ...], Artifact]] = [((), self)]
        for roles, artifact in queue:  # grows in the loop: breadth first, so that the nearest come first
            if artifact.digest not in (ancestor.digest for ancestor in lineage.values()):
                lineage.setdefault(artifact.stage, artifact)
                if lineage[artifact.stage] is not artifact:
                    lineage["/".join(roles)] = artifact
                queue += [((*roles, role), artifact.parent(role)) for role in artifact.meta["inputs"]]
        return lineage


class Store:
    """A directory of artifacts."""

    def __init__(self, root: Path):
        self.root = Path(root).absolute()

    @classmethod
    def locate(cls, option: str | None = None) -> "Store":
        """--store, else $SWGCTL_STORE, else the nearest swg-store/ upwards, else ./swg-store.

        Raises UsageError for a store that cannot be, InputError for one that may not be read.
        """
        store = cls(Path(option)) if option else cls._default()
        check_root(store.root)
        return store

    @classmethod
    def _default(cls) -> "Store":
        if root := os.environ.get("SWGCTL_STORE"):
            return cls(Path(root))
        here = Path.cwd()
        for directory in (here, *here.parents):
            if os.path.isdir(directory / "swg-store"):
                return cls(directory / "swg-store")
        return cls(here / "swg-store")

    @property
    def option(self) -> str:
        """The --store option that a pasted command needs for this store; empty where it is the default."""
        return "" if self.root == Store._default().root else f" --store {quoted(self.root)}"

    # -- finding ---------------------------------------------------------------------------------------------------

    def artifacts(self, stage: str | None = None, task: str | None = None) -> Iterator[Artifact]:
        """Finished artifacts, oldest first; of one stage or one task where named."""
        for path in self.directories(stage, task):
            yield Artifact(path)

    def directories(self, stage: str | None = None, task: str | None = None) -> list[Path]:
        """Directories of the artifacts, oldest first."""
        aged = []
        for entry in self._entries(stage, task):
            try:
                aged.append((entry.stat().st_mtime_ns, entry.path))
            except FileNotFoundError:  # another process has just removed it
                continue
        return [Path(path) for _, path in sorted(aged)]

    def tasks(self) -> set[str]:
        """The names of the tasks that it has artifacts of."""
        return {task.name for stage in directories(self.root / "objects") for task in directories(stage.path)}

    def _entries(self, stage: str | None = None, task: str | None = None) -> Iterator[os.DirEntry]:
        for stage_entry in directories(self.root / "objects"):
            if not stage or stage_entry.name == stage:
                for task_entry in directories(stage_entry.path):
                    if not task or task_entry.name == task:
                        yield from directories(task_entry.path)

    def place(self, stage: str, task: str, key: str) -> Path:
        """Directory of a finished artifact, below the root.  Raises CorruptError for a name that is no folder's."""
        for name in (stage, task, key[:KEY_LENGTH]):
            if not is_component(name):
                raise CorruptError(f"'{shown(name)}' is not a name that a folder of a store can have", "swgctl task ls")
        return self.root / "objects" / stage / task / key[:KEY_LENGTH]

    def find(self, stage: str, task: str, key: str) -> Artifact | None:
        """The artifact of a key, its files present at their recorded sizes; None if it does not exist.

        Raises CorruptError, InputError where it may not be read.
        """
        path = self.place(stage, task, key)
        if not os.path.isdir(path):
            return None
        artifact = Artifact(path)
        if (artifact.stage, artifact.key) != (stage, key):
            raise CorruptError(f"{path} holds {artifact.stage} {artifact.id} of another key", remedy(path))
        for name, record in artifact.meta["files"].items():
            try:
                size = os.stat(path / name).st_size if os.path.isfile(path / name) else None
            except PermissionError:
                raise unreadable(path / name) from None
            if size != record["bytes"]:
                raise CorruptError(f"{path / name} is missing or was cut off", remedy(path))
        return artifact

    def resolve(self, ref: str) -> Artifact:
        """The artifact of a REF: a directory, a key's first characters, or `-` to read either from standard input."""
        if ref == "-":
            ref, *more = _standard_input()
            if more:
                raise InputError(f"standard input named {1 + len(more)} artifacts instead of one", "head -n 1")
        if not ref:
            raise InputError("an empty REF names no artifact", f"swgctl ls{self.option}")
        try:
            directory = stat.S_ISDIR(os.stat(ref).st_mode)
        except PermissionError:
            raise unreadable(Path(ref).absolute()) from None
        except (OSError, ValueError):  # no path at all: too long, or with a null character
            directory = False
        if directory:
            artifact = Artifact(Path(ref).absolute())
            _ = artifact.meta
            return artifact
        matches = [entry for entry in self._entries() if entry.name.startswith(ref)] or [
            entry
            for entry in self._entries()
            if entry.name == ref[:KEY_LENGTH] and Artifact(Path(entry.path)).key.startswith(ref)
        ]
        if len(matches) == 1:
            artifact = Artifact(Path(matches[0].path))
            _ = artifact.meta
            return artifact
        if matches:
            names = ", ".join(sorted(entry.name for entry in matches)[:NAMED])
            more_names = ", ..." if len(matches) > NAMED else ""
            raise InputError(
                f"'{shown(ref)}' fits {len(matches)} artifacts: {names}{more_names}",
                f"swgctl ls{self.option}   # and give more characters of the key",
            )
        raise InputError(f"no artifact '{shown(ref)}' in {self.root}", f"swgctl ls{self.option}")

    def resolve_all(self, refs: Iterable[str]) -> list[Artifact]:
        """The artifacts of several REFs, each once; `-` reads one from every line of standard input."""
        lists = (_standard_input() if ref == "-" else [ref] for ref in refs)
        distinct = dict.fromkeys(itertools.chain.from_iterable(lists))
        return list(dict.fromkeys(map(self.resolve, distinct)))

    # -- this shell's latest artifacts ---------------------------------------------------------------------------------

    def current(self, *stages: str) -> Artifact | None:
        """The latest artifact of these stages in this shell (SWGCTL_SCOPE, else the parent process)."""
        path = shells.latest(self.root, *stages)
        return Artifact(path) if path else None

    def only(self, command: str, *stages: str, task: str | None = None) -> tuple[Artifact, str] | None:
        """The artifact of these stages that this shell made last, else the only one, and which of the two it is.

        None where there is none.  Raises InputError where there are several: `help` has `command` with the id of each,
        the newest first, at most NAMED.
        """
        last = self.current(*stages)
        if last and task in (None, last.task):
            return last, "which this shell made last"
        every = [artifact for artifact in self.artifacts(task=task) if artifact.path.parts[-3] in stages]
        if len(every) < 2:
            return (every[0], "the only one that fits") if every else None
        of_task = f" of {task}" if task else ""
        raise InputError(
            f"{len(every)} {' or '.join(stages)} artifacts{of_task} fit, and this shell made none of them",
            [
                f"swgctl {command}{one.id}{self.option}   # {one.stage} of {one.task}, seeds {ranges(one.seeds)}, "
                f"made {one.meta['made']['at']}"
                for one in every[: -NAMED - 1 : -1]
            ],
        )

    def remember(self, artifact: Artifact) -> None:
        """Note the artifact for `current`."""
        shells.note(self.root, artifact.stage, artifact.path)

    # -- building --------------------------------------------------------------------------------------------------

    def work(self, key: str, force: bool = False) -> Path:
        """Directory of an unfinished run's checkpoint; a forced run has its own, so that it can be resumed as well."""
        return self.root / "work" / (key[:KEY_LENGTH] + ("-force" if force else ""))

    def build(
        self,
        record: dict,
        make: Callable[[Path, Path], dict],
        *,
        force: bool = False,
        wait: bool = True,
    ) -> tuple[Artifact, str]:
        """Find or make the artifact of `record`; returns it and its status: "cached", "built" or "resumed".

        record  stage, task, key, params, seeds, inputs and any further fields of artifact.json
        make    (directory, work) -> the other fields of artifact.json, including `metrics`; writes the artifact's files
                into `directory` and checkpoints into `work`
        Raises BusyError when another process builds the same key and `wait` is false.
        """
        stage, task, key = record["stage"], record["task"]["name"], record["key"]
        scope()  # raises for a bad name before the work, not after it
        if not force and (artifact := self.find(stage, task, key)):
            return artifact, "cached"
        with lock(self.root, key[:KEY_LENGTH], wait), disk_full(self.root):
            if not force and (artifact := self.find(stage, task, key)):
                return artifact, "cached"
            work = self.work(key, force)
            resumed = (work / CHECKPOINT).exists()
            directory = self.root / "tmp" / f"{here()}-{key[:KEY_LENGTH]}-{secrets.token_hex(4)}"
            make_folder(directory, self.root)
            try:
                started = time.monotonic()
                rest = make(directory, work)
                wall = round(time.monotonic() - started, 3)
                with signals.deferred():
                    artifact = self._publish(directory, {**record, **rest, "wall_s": wall}, force)
            except Exception as error:
                # Without locks, another process may have finished first and removed the work directory that both used.
                if force or isinstance(error, SwgError) or not (artifact := self.find(stage, task, key)):
                    raise
                return artifact, "cached"
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
        return artifact, "resumed" if resumed else "built"

    def _publish(self, directory: Path, record: dict, force: bool) -> Artifact:
        files = {}
        for path in sorted(directory.iterdir()):
            sync(path)
            reopen(path)
            files[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
        digest = schema.digest_of(files)
        meta = {"schema": SCHEMA, **record, "digest": digest, "files": files}
        meta["sha256"] = record_checksum(meta)
        text = json.dumps(meta, indent=1, sort_keys=True, allow_nan=False) + "\n"
        if len(text) > schema.MOST:
            raise SwgError(f"the record would have {len(text):,} bytes, of at most {schema.MOST:,}", "fewer seeds")
        write_text(directory / schema.FILE, text)
        target = self.place(record["stage"], record["task"]["name"], record["key"])
        make_folder(target.parent, self.root)
        replaced = directory.with_name(directory.name + REPLACED)
        if force and target.is_dir() and not self._holds(target, digest):
            os.rename(target, replaced)
        try:
            os.rename(directory, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process published first: its result stays
                if replaced.is_dir():
                    os.rename(replaced, target)
                raise
        shutil.rmtree(replaced, ignore_errors=True)
        return Artifact(target)

    @staticmethod
    def _holds(directory: Path, digest: str) -> bool:
        """True if a whole artifact of that digest is in the directory, whose readers then need not be disturbed."""
        try:
            artifact = Artifact(directory)
            artifact.check_all()
        except NewerError:
            raise
        except CorruptError:
            return False
        return artifact.digest == digest

    def busy(self, key: str) -> bool:
        """True if a process builds the artifact of a key."""
        return busy(self.root, key[:KEY_LENGTH])


def _standard_input() -> list[str]:
    """The REFs on standard input, one a line.  Raises InputError where there is none, or no end of them."""
    text = sys.stdin.read(LONGEST_INPUT + 1)
    if len(text) > LONGEST_INPUT:
        raise InputError(f"standard input has more than {LONGEST_INPUT:,} characters", "swgctl ls")
    if refs := [_ref(line.strip()) for line in text.split("\n") if line.strip()]:
        return refs
    raise InputError("standard input named no artifact", "swgctl ls")


def _ref(line: str) -> str:
    """The REF of a line: itself, or the path in an object that `--json` printed."""
    if not line.startswith("{"):
        return line
    try:
        return str(json.loads(line)["path"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return line
