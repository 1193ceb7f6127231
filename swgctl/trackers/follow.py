"""Send what is new of artifacts to trackers, once or until they are finished."""

import contextlib
import hashlib
import importlib
import io
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from swgctl.console import say
from swgctl.errors import BusyError, CorruptError, Interrupted, SwgError
from swgctl.store.locks import lock
from swgctl.trackers.ending import Ending, endings
from swgctl.trackers.subject import Run, Subject, finished
from swgctl.trackers.targets import Target

EVERY = 1.0  # seconds between two looks at a run
KINDS = {  # kind of a target -> the class of its tracker
    "tensorboard": "swgctl.trackers.tensorboard:TensorBoard",
    "trackio": "swgctl.trackers.hosted:Trackio",
    "wandb": "swgctl.trackers.hosted:Wandb",
}


class Handle(Protocol):
    """A run in a tracker.  Whatever it raises is a warning to its reader, and an end to this tracker's stream."""

    last: int  # the greatest step sent so far; -1 where there is none

    def log(self, step: int, values: dict[str, float], clock: float) -> None: ...

    def end(self, step: int, ending: Ending, clock: float) -> None: ...

    def close(self) -> None: ...


class Tracker(Protocol):
    def open(self, run: Run) -> Handle: ...


def send(subjects: Iterable[Subject], targets: Iterable[Target], follow: bool = False, every: float = EVERY) -> None:
    """Send the rows that each tracker does not have yet, and the ending of what is finished.

    follow  go on until every artifact is finished
    Raises InputError where a tracker's package is missing, BusyError where another process sends the same, SwgError at
    the end where one could not be reached, which stops none of the others, Interrupted where an artifact is not being
    built any more.
    """
    for target in targets:
        target.check()
    stopped: list[Subject] = []
    with _quiet(), contextlib.ExitStack() as stack:
        waiting = {subject.work: subject for subject in subjects}
        streams = {work: [Stream(one, target, stack) for target in targets] for work, one in waiting.items()}
        while waiting:
            for work, subject in list(waiting.items()):
                building = subject.artifact is None and subject.store.busy(subject.key)
                now = subject if building else finished(subject) or subject
                for stream in streams[work]:
                    stream.send(now)
                given_up = all(stream.error for stream in streams[work])
                for stream in streams[work] if follow and not given_up else []:
                    stream.warn()
                if now.artifact or given_up or not (follow and building):
                    waiting.pop(work)
                    stopped += [] if now.artifact or not follow else [now]
            if waiting:
                time.sleep(every)
    for stream in (stream for group in streams.values() for stream in group):
        if stream.error:
            raise stream.error
    if stopped:
        raise Interrupted(
            f"{stopped[0]} is not being built any more, and is not finished",
            f"swgctl log {stopped[0].id} --to {next(iter(targets))} --follow   # once it is",
        )


class Stream:
    """One artifact's way to one tracker: a run for each seed, opened at the first row.

    error  why nothing more is sent; None while all is well
    """

    def __init__(self, subject: Subject, target: Target, stack: contextlib.ExitStack):
        self.target = target
        self.error: SwgError | None = None
        self._warned = False
        self._handles: list[Handle] = []
        stack.enter_context(_alone(subject, target))
        stack.callback(self._close)

    def send(self, subject: Subject) -> None:
        """Send what is new.  An error of the tracker's ends the stream.  Raises CorruptError, Interrupted."""
        rows = subject.rows()
        if self.error or not (rows or subject.artifact):
            return
        with self._trying():
            self._send(subject, rows)

    def warn(self) -> None:
        """Say the error, once."""
        if self.error and not self._warned:
            self._warned = True
            say(f"warning: log: {self.error}")

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except (CorruptError, Interrupted):
            raise
        except SwgError as error:
            self.error = self.error or error
        except Exception as error:  # a dead network, a full disk: whatever a library of others may raise
            what = " ".join(f"{type(error).__name__}: {error}".split())
            help = f"swgctl log REF --to {self.target}   # again: what is there is not sent twice"
            self.error = self.error or SwgError(f"{self.target}: {what}", help)

    def _send(self, subject: Subject, rows: list[dict]) -> None:
        if not self._handles:
            tracker: Tracker = _tracker(self.target)
            for run in subject.runs():
                self._handles.append(tracker.open(run))
        clock = subject.clock(rows) if rows else []
        for s, handle in enumerate(self._handles):
            for i, row in enumerate(rows):
                if row["step"] > handle.last:
                    handle.log(row["step"], _values(subject, rows, i, s), clock[i])
                    handle.last = row["step"]
        if subject.artifact:
            last = rows[-1]["step"] if rows else 0
            if any(handle.last <= last for handle in self._handles):
                for handle, ending in zip(self._handles, endings(subject.artifact), strict=True):
                    if handle.last <= last:
                        handle.end(last + 1, ending, clock[-1] if clock else time.time())
                        handle.last = last + 1

    def _close(self) -> None:
        for handle in self._handles:
            with self._trying():
                handle.close()


def _tracker(target: Target) -> Any:
    module, _, name = KINDS[target.kind].partition(":")
    return getattr(importlib.import_module(module), name)(target.where)


def _values(subject: Subject, rows: list[dict], i: int, s: int) -> dict[str, float]:
    """The numbers of row i for seed s, and the steps per second since the row before."""
    row, before = rows[i], rows[i - 1] if i else {"step": 0, "train_s": 0.0}
    seconds = row["train_s"] - before["train_s"]
    values = {name: value[s] for name, value in row.items() if isinstance(value, list)}
    values["train_s"] = row["train_s"]
    values |= {"steps_per_s": (row["step"] - before["step"]) / seconds} if seconds > 0 else {}
    return {f"{subject.stage}/{name}": value for name, value in values.items()}


@contextlib.contextmanager
def _alone(subject: Subject, target: Target) -> Iterator[None]:
    """Let one process at a time send an artifact to a tracker, as far as the store can be written to."""
    key = f"log-{subject.id}-{hashlib.sha256(os.fsencode(str(target))).hexdigest()[:8]}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(subject.store.root, key, wait=False))
        except BusyError:
            raise BusyError(
                f"another process sends {subject.stage} {subject.id} to {target}", "swgctl log again, when it has"
            ) from None
        except (OSError, SwgError):  # another's store
            pass
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what trackers print from stdout, which belongs to paths, and say each warning of theirs in one line."""
    said: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in said:
            said.add(text)
            say(f"warning: log: {text}")

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.showwarning = show
        yield
