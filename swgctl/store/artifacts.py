"""Artifacts on disk: key, publish, find, verify, collect.

    swg-store/objects/<stage>/<task>/<key>/   finished artifacts, each made to appear by one rename
              work/<key>/                     checkpoints of unfinished runs
              tmp/  locks/  current/          directories being written; locks; each shell's latest artifacts

An artifact that exists is whole.  Locks save double work; correctness does not depend on them.
"""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType

from swgctl import signals
from swgctl.console import say
from swgctl.errors import BusyError, CorruptError, InputError, NewerError, SwgError
from swgctl.files import SCHEMA, canonical, parse, reopen, sha256, sync, write_text
from swgctl.store.disk import children, directories, disk_full, untouched
from swgctl.store.processes import dead, here, ours, scope

RECORDS = {"metrics.jsonl", "log.txt", "artifact.json"}  # hold times, so the digest leaves them out
RECORD: dict[str, type | tuple[type, ...]] = {  # fields of every artifact.json and their types
    **dict.fromkeys(("stage", "key", "digest"), str),
    **dict.fromkeys(("task", "params", "inputs", "metrics", "files", "made"), dict),
    "seeds": list,
    "revision": int,
    "wall_s": (int, float),
    "source": (dict, NoneType),
}
KEY_LENGTH = 16
NAMED = 8  # most artifacts that a message names


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


def record_checksum(meta: dict) -> str:
    """sha256 of an artifact.json without the field that holds it."""
    rest = {name: value for name, value in meta.items() if name != "sha256"}
    return hashlib.sha256(canonical(rest).encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """One directory, written by one run of one stage."""

    path: Path

    @cached_property
    def meta(self) -> dict:
        file = self.path / "artifact.json"
        try:
            meta = parse(file.read_bytes())
        except FileNotFoundError:
            if "objects" in self.path.parts:
                raise CorruptError(f"{self.path} has lost its artifact.json", f"rm -r {self.path}") from None
            raise InputError(f"{self.path} is not an artifact: it has no artifact.json", "swgctl ls") from None
        except (ValueError, OSError) as error:
            raise CorruptError(f"{file} cannot be read: {error}", f"rm -r {self.path}") from None
        if not isinstance(meta, dict) or not isinstance(meta.get("schema"), int):
            raise CorruptError(f"{file} is not an artifact's record", f"rm -r {self.path}")
        if meta["schema"] > SCHEMA:
            raise NewerError(
                f"{self.path} was written by a newer swgctl (schema {meta['schema']}; this one reads up to {SCHEMA})",
                "pip install --upgrade swgctl",
            )
        if missing := RECORD.keys() - meta.keys():
            raise CorruptError(f"{file} is damaged: it has no {', '.join(sorted(missing))}", f"rm -r {self.path}")
        if wrong := [name for name, kind in RECORD.items() if not isinstance(meta[name], kind)]:
            raise CorruptError(f"{file} is damaged: wrong type of {', '.join(wrong)}", f"rm -r {self.path}")
        return meta

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

    def check(self, name: str) -> None:
        path, recorded = self.path / name, self.meta["files"][name]["sha256"]
        try:
            actual = sha256(path)
        except OSError as error:
            raise CorruptError(f"{path} cannot be read: {error.strerror}", self._again()) from None
        if actual != recorded:
            raise CorruptError(f"{path} is damaged: sha256 {actual[:12]}, recorded {recorded[:12]}", self._again())

    def check_all(self) -> None:
        """Compare every file with the record.  Raises CorruptError."""
        for name in self.meta["files"]:
            self.check(name)

    def _again(self) -> str:
        return f"rm -r {self.path}   # then run swgctl {self.stage} again"

    def parent(self, role: str) -> "Artifact":
        """The artifact of an input role, from this store or its recorded path.  Raises InputError if it is gone."""
        record, store = self.meta["inputs"][role], self.store
        for path in (store.place(record["stage"], record["task"], record["key"]), Path(record["path"])):
            if path.is_dir() and Artifact(path).digest == record["digest"]:
                return Artifact(path)
        raise InputError(
            f"{self.path} was made from {record['stage']} {record['key'][:KEY_LENGTH]} of digest "
            f"{record['digest'][:KEY_LENGTH]}, which is not in {store.root}",
            f"copy that artifact into {store.root / 'objects'}, or build it again",
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
        """--store, else $SWGCTL_STORE, else the nearest swg-store/ upwards, else ./swg-store."""
        if root := option or os.environ.get("SWGCTL_STORE"):
            return cls(Path(root))
        here = Path.cwd()
        for directory in (here, *here.parents):
            if (directory / "swg-store").is_dir():
                return cls(directory / "swg-store")
        return cls(here / "swg-store")

    @property
    def option(self) -> str:
        """The --store option that a pasted command needs for this store; empty where it is the default."""
        return "" if self.root == Store.locate().root else f" --store {shlex.quote(str(self.root))}"

    # -- finding ---------------------------------------------------------------------------------------------------

    def artifacts(self, stage: str | None = None, task: str | None = None) -> Iterator[Artifact]:
        """Finished artifacts, oldest first; of one stage or one task where named."""
        for path in self.directories(stage, task):
            yield Artifact(path)

    def directories(self, stage: str | None = None, task: str | None = None) -> list[Path]:
        """Directories of the artifacts, oldest first."""
        aged = []
        for entry in self._entries(stage, task):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                aged.append((entry.stat().st_mtime_ns, entry.path))
        return [Path(path) for _, path in sorted(aged)]

    def _entries(self, stage: str | None = None, task: str | None = None) -> Iterator[os.DirEntry]:
        for stage_entry in directories(self.root / "objects"):
            if not stage or stage_entry.name == stage:
                for task_entry in directories(stage_entry.path):
                    if not task or task_entry.name == task:
                        yield from directories(task_entry.path)

    def place(self, stage: str, task: str, key: str) -> Path:
        """Directory of a finished artifact."""
        return self.root / "objects" / stage / task / key[:KEY_LENGTH]

    def find(self, stage: str, task: str, key: str) -> Artifact | None:
        """The artifact of a key, its files present at their recorded sizes; None if it does not exist."""
        path = self.place(stage, task, key)
        if not path.is_dir():
            return None
        artifact = Artifact(path)
        for name, record in artifact.meta["files"].items():
            if not (path / name).is_file() or (path / name).stat().st_size != record["bytes"]:
                raise CorruptError(f"{path / name} is missing or was cut off", f"rm -r {path}")
        return artifact

    def resolve(self, ref: str) -> Artifact:
        """The artifact of a REF: a directory, a key's first characters, or `-` to read either from standard input."""
        if ref == "-":
            ref, *more = _standard_input()
            if more:
                raise InputError(f"standard input named {1 + len(more)} artifacts instead of one", "head -n 1")
        if not ref:
            raise InputError("an empty REF names no artifact", f"swgctl ls{self.option}")
        if Path(ref).is_dir():
            artifact = Artifact(Path(ref).absolute())
            _ = artifact.meta
            return artifact
        matches = [entry for entry in self._entries() if entry.name.startswith(ref)] or [
            entry
            for entry in self._entries()
            if entry.name == ref[:KEY_LENGTH] and Artifact(Path(entry.path)).key.startswith(ref)
        ]
        if len(matches) == 1:
            return Artifact(Path(matches[0].path))
        if matches:
            names = ", ".join(sorted(entry.name for entry in matches)[:NAMED])
            more_names = ", ..." if len(matches) > NAMED else ""
            raise InputError(
                f"'{ref}' fits {len(matches)} artifacts: {names}{more_names}",
                f"swgctl ls{self.option}   # and give more characters of the key",
            )
        raise InputError(f"no artifact '{ref}' in {self.root}", f"swgctl ls{self.option}")

    def resolve_all(self, refs: Iterable[str]) -> list[Artifact]:
        """The artifacts of several REFs; `-` reads one from every line of standard input."""
        lists = (_standard_input() if ref == "-" else [ref] for ref in refs)
        return [self.resolve(ref) for ref in itertools.chain.from_iterable(lists)]

    # -- this shell's latest artifacts ---------------------------------------------------------------------------------

    def current(self, *stages: str) -> Artifact | None:
        """The latest artifact of these stages in this shell (SWGCTL_SCOPE, else the parent process)."""
        # `bash -c 'a && b'` replaces itself by b, which so becomes the process that was a's parent.
        for name in dict.fromkeys((scope(), scope(os.getpid()))):
            notes = [note for stage in stages if (note := self.root / "current" / name / stage).is_file()]
            if not notes:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                path = Path(max(notes, key=lambda note: note.stat().st_mtime_ns).read_text().strip())
                return Artifact(path) if path.is_dir() else None
        return None

    def remember(self, artifact: Artifact) -> None:
        """Note the artifact for `current`.  A read-only store still serves the artifacts that it holds."""
        try:
            write_text(self.root / "current" / scope() / artifact.stage, f"{artifact.path}\n")
        except OSError as error:
            say(f"not remembered for this shell: {error.strerror}")

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
        with self._lock(key, wait), disk_full(self.root):
            if not force and (artifact := self.find(stage, task, key)):
                return artifact, "cached"
            work = self.work(key, force)
            resumed = (work / "checkpoint.safetensors").exists()
            directory = self.root / "tmp" / f"{here()}-{key[:KEY_LENGTH]}-{secrets.token_hex(4)}"
            directory.mkdir(parents=True)
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
        outputs = {name: file["sha256"] for name, file in files.items() if name not in RECORDS}
        digest = hashlib.sha256(canonical(outputs).encode()).hexdigest()
        meta = {"schema": SCHEMA, **record, "digest": digest, "files": files}
        meta["sha256"] = record_checksum(meta)
        write_text(directory / "artifact.json", json.dumps(meta, indent=1, sort_keys=True, allow_nan=False) + "\n")
        target = self.place(record["stage"], record["task"]["name"], record["key"])
        target.parent.mkdir(parents=True, exist_ok=True)
        replaced = directory.with_name(f"{directory.name}.replaced")
        if force and target.is_dir() and not self._holds(target, digest):
            os.rename(target, replaced)
        try:
            os.rename(directory, target)
        except OSError as error:
            if replaced.is_dir():
                os.rename(replaced, target)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process published first: its result stays
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

    @contextlib.contextmanager
    def _lock(self, key: str, wait: bool) -> Iterator[None]:
        path = self.root / "locks" / f"{key[:KEY_LENGTH]}.lock"
        with disk_full(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")  # noqa: SIM115 - closed below, which also releases the lock
        with file:
            announced = False
            for polls in itertools.count():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    file.seek(0)
                    owner = file.read().strip()  # empty for a moment, after locking and before writing its name
                    building = f"{owner or 'another process'} is building {key[:KEY_LENGTH]}"
                    if not wait:
                        raise BusyError(building, "leave out --no-wait") from None
                    if not announced and (owner or polls > 10):
                        say(f"waiting: {building}")
                        announced = True
                    time.sleep(0.1)
                except OSError:  # a file system without locks: both build, the first to publish wins
                    break
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
            yield

    # -- keeping ---------------------------------------------------------------------------------------------------

    def garbage(self) -> list[Path]:
        """Disposable directories: of dead writers, of finished or day-old runs, of ended shells."""
        finished = {entry.name for entry in self._entries()}
        drafts = [p for p in children(self.root / "tmp") if dead(p.name, 2) or (untouched(p) and not ours(p.name, 2))]
        work = [p for p in children(self.root / "work") if p.name in finished or untouched(p)]
        shells = [p for p in children(self.root / "current") if p.name.startswith("shell-") and dead(p.name[6:], 1)]
        return drafts + [p for p in work if not self._busy(p.name[:KEY_LENGTH])] + shells

    def _busy(self, key: str) -> bool:
        """True if a process holds the lock of a key."""
        try:
            with open(self.root / "locks" / f"{key}.lock") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _standard_input() -> list[str]:
    """The REFs on standard input, one a line.  Raises InputError where there is none."""
    if refs := [line.strip() for line in sys.stdin.read().split("\n") if line.strip()]:
        return refs
    raise InputError("standard input named no artifact", "swgctl ls")
