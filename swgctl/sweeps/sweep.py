"""sweep: build the artifacts of many runs, what they share once and first, on an engine.

What exists is read from the store, before the first command and after each one: the same sweep again goes on where it
stopped, on any engine, and several at once, on one machine or on many that share the store, divide the work.
"""

import heapq
import json
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from swgctl import signals
from swgctl.console import say, table
from swgctl.errors import Interrupted, SwgError
from swgctl.store import KEY_LENGTH, Store
from swgctl.store.disk import disk_full, make_folder
from swgctl.store.locks import busy
from swgctl.store.processes import here
from swgctl.sweeps.board import Board
from swgctl.sweeps.cluster import Ray
from swgctl.sweeps.engines import Engine, Local, Machine, check_engine, check_share
from swgctl.sweeps.nodes import DONE, ENDED, Item, command, items_of, last_words, look, skip, survey
from swgctl.sweeps.plan import Run

BUSY = 5  # exit code of a command whose artifact another process builds
RETRIED = (75, 130, 255)  # stopped after a checkpoint; 255: its exit code is lost
WORST = (1, 4, 3, 2)  # exit codes of a sweep by its failures, the first that applies
LOOK_AGAIN = 1.0  # seconds between two looks at what another process builds


def sweep(
    runs: Sequence[Run],
    store: Store,
    *,
    engine: str = "local",
    slots: int | None = None,
    gpu: float | None = None,
    cpu: int | None = None,
    address: str | None = None,
    retries: int = 3,
    device: str = "auto",
    mode: str = "auto",
    dry_run: bool = False,
    as_json: bool = False,
) -> None:
    """Build what is missing of some runs; print the path of each run's artifact, or a JSON object a node.

    engine   "local": `slots` processes on this machine; "ray": a cluster, that at `address`, else one on this machine
    gpu, cpu part of a card and number of threads of each command (`Machine.divide`)
    retries  further tries of a command that was stopped or killed
    Raises UsageError and InputError before anything is built; Interrupted after a signal, once every command has
    stopped; SwgError with the code of the worst failure; with 75 where something is unfinished.
    """
    check_engine(engine, address)
    check_share(slots, gpu, cpu, device)
    local = Machine.here().divide(slots, gpu, cpu, device) if engine == "local" else None
    items, ends = items_of(runs)
    survey(items, store)
    if dry_run:
        show(items, len(runs), as_json)
        return
    started, driver = time.monotonic(), Driver(items, store, retries, device, mode)

    def start(folder: Path) -> Engine:
        return Local(*local) if local else Ray(folder, address, slots, gpu, cpu, device)

    try:
        driver.drive(start)
    finally:
        for item in items if as_json else ends:
            if as_json or item.artifact:
                print(json.dumps(item.row()) if as_json else item.artifact and item.artifact.path, flush=True)
        if counts := _counts(items):
            say(f"{counts} of {len(items)} node(s) in {time.monotonic() - started:.1f} s")
    conclude(items)


def show(items: Sequence[Item], runs: int, as_json: bool) -> None:
    """Print what a sweep would do: a JSON object a node, or a table of the numbers of each stage."""
    if as_json:
        for item in items:
            print(json.dumps(item.row()))
        return
    states = ("cached", "ready", "waiting", "failed", "skipped")
    counts = Counter((item.node.stage.name, item.state) for item in items)
    names = list(dict.fromkeys(item.node.stage.name for item in items))
    rows = [[name, *(str(counts[name, state] or "") for state in states)] for name in names]
    table(f"{runs} run(s), {len(items)} node(s)", ["stage", *states], rows)
    for item in items:
        if item.state == "failed":
            say(f"{item.name}: {item.why}")
    built = sum(item.state in ("ready", "waiting") for item in items)
    say(f"{len(items) - built} node(s) need nothing, {built} to build")


class Driver:
    """Starts what is ready, most shared first, as slots are free, and takes what comes back."""

    def __init__(self, items: Sequence[Item], store: Store, retries: int, device: str, mode: str):
        self.items, self.store, self.retries = items, store, retries
        self._how = device, mode
        self._ready: list[tuple[tuple[int, int], Item]] = []
        self._running: dict[str, Item] = {}
        self._held: list[Item] = []  # ready, but one that runs builds the same or fetches its data
        self._elsewhere: list[Item] = []
        self._looked = 0.0
        self._folder = store.root / "tmp" / f"{here()}-sweep-{secrets.token_hex(4)}"  # gc knows whose it is
        self._board = Board(items, store)

    def drive(self, start: Callable[[Path], Engine]) -> None:
        """Until nothing is left to do.  Raises Interrupted after a signal; a second one kills what runs."""
        for item in self.items:
            if item.state == "ready":
                self._enqueue(item)
            elif item.state in ("failed", "skipped"):
                self._board.changed(item)
        if not self._ready:
            return
        with disk_full(self.store.root):
            make_folder(self._folder, self.store.root)
        engine: Engine | None = None
        try:
            engine = start(self._folder)
            with signals.deferred(), self._board:
                self._loop(engine)
            signals.check()
        finally:
            if engine:
                engine.close()
            if not any(item.log and item.state == "failed" for item in self.items):
                shutil.rmtree(self._folder, ignore_errors=True)

    def _loop(self, engine: Engine) -> None:
        cancelled = False
        while self._running or (not cancelled and (self._ready or self._elsewhere)):
            if signals.interrupted() and not cancelled:
                cancelled = True
                say(f"stopping {len(self._running)} command(s) after a checkpoint of each; once more kills them")
                engine.cancel()
            if not cancelled:
                self._look_elsewhere()
                self._start(engine)
            for name, code in engine.ended():
                self._end(self._running.pop(name), code, cancelled)
            self._board.refresh()
        for item in self.items:
            if item.state not in ENDED:
                item.state, item.why = "unfinished", "stopped" if cancelled else "its input is unfinished"

    # -- starting ------------------------------------------------------------------------------------------------------

    def _enqueue(self, item: Item) -> None:
        item.state = "ready"
        heapq.heappush(self._ready, (item.order, item))

    def _start(self, engine: Engine) -> None:
        while self._ready and (engine.slots is None or len(self._running) < engine.slots):
            _, item = heapq.heappop(self._ready)
            if self._waits_for_running(item):
                self._held.append(item)
                continue
            if item.job and busy(self.store.root, item.job.key[:KEY_LENGTH]):
                item.state, item.why = "elsewhere", "another process builds it"
                self._elsewhere.append(item)
                self._board.changed(item)
                continue
            item.tries += 1
            item.state, item.why = "running", ""
            item.log = self._folder / f"{item.place}-{item.node.stage.name}.log"
            self._running[str(item.place)] = item
            engine.submit(str(item.place), command(item, self.store, *self._how), item.log)
            self._board.changed(item)

    def _waits_for_running(self, item: Item) -> bool:
        """True if what runs builds the same key, which settings that are not read can bring about, or fetches the data
        that this one learns from."""
        if item.job:
            return any(one.job and one.job.key == item.job.key for one in self._running.values())
        fetching = (one.node.task.source for one in self._running.values() if not one.job)
        return item.node.task.source in fetching

    def _look_elsewhere(self) -> None:
        if time.monotonic() - self._looked < LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        waiting, self._elsewhere = self._elsewhere, []
        for item in waiting:
            assert item.job
            if busy(self.store.root, item.job.key[:KEY_LENGTH]):
                self._elsewhere.append(item)
            else:
                self._look(item)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _end(self, item: Item, code: int, cancelled: bool) -> None:
        assert item.log
        if code == 0:
            look(item, self.store, fetch=True)
            if item.state == "cached":
                item.state = "built"
            elif item.state == "ready":
                item.fail(SwgError(f"its command has ended, and {self.store.root} has no artifact of its key"))
        elif code == BUSY and not cancelled:
            look(item, self.store)
            if item.state == "ready" and item.job:
                item.state, item.why = "elsewhere", "another process builds it"
                self._elsewhere.append(item)
        elif code < 0 or code in (*RETRIED, BUSY):
            item.why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"stopped, exit code {code}"
            item.state = "unfinished"
            if not cancelled and item.tries <= self.retries:
                item.why += f"; trying again, {item.tries} of {self.retries}"
                self._enqueue(item)
            elif code < 0 and not cancelled:
                item.state, item.code = "failed", 1
        else:
            words, helps = last_words(item.log)
            item.state, item.code, item.help = "failed", code if code in WORST else 1, helps
            item.why = words or f"exit code {code}"
        if item.state == "failed":
            item.help.append(f"less {item.log}")
        else:
            item.log.unlink(missing_ok=True)
        self._settle(item)
        held, self._held = self._held, []
        for one in held:
            self._look(one)

    def _look(self, item: Item) -> None:
        look(item, self.store)
        if item.state == "ready":
            self._enqueue(item)
        else:
            self._settle(item)

    def _settle(self, item: Item) -> None:
        """Tell of an item's new state, and see to those that wait for it."""
        self._board.changed(item)
        for one in item.after:
            if one.state != "waiting":
                continue
            if item.state in ("failed", "skipped"):
                skip(one, item)
                self._settle(one)
            elif all(parent.state in DONE for parent in one.inputs.values()):
                self._look(one)


# -- the end -----------------------------------------------------------------------------------------------------------


def _counts(items: Sequence[Item]) -> str:
    counts = Counter(item.state for item in items)
    return ", ".join(f"{counts[state]} {state}" for state in ENDED if counts[state])


def conclude(items: Sequence[Item]) -> None:
    """Raise SwgError with the code of the worst failure, Interrupted where something is unfinished."""
    failed = [item for item in items if item.state == "failed"]
    for code in WORST:
        if worst := [item for item in failed if item.code == code]:
            others = f" ({len(failed)} node(s) failed)" if len(failed) > 1 else ""
            error = SwgError(f"{worst[0].name}: {worst[0].why}{others}", worst[0].help or None)
            error.code = code
            raise error
    if left := [item for item in items if item.state not in DONE]:
        raise Interrupted(f"{len(left)} node(s) are unfinished: {left[0].name}", f"{signals.AGAIN} to go on")
