"""What a sweep shows while it runs: one live table on a terminal, one line a change elsewhere; all on stderr."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from swgctl.console import say
from swgctl.store import Store
from swgctl.sweeps.nodes import DONE, Item, progress_of

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESH = 0.5  # seconds
SHOWN = 20  # most rows of what runs


class Board:
    """The states of a sweep's nodes as people see them; a context within which the live table stands."""

    def __init__(self, items: Sequence[Item], store: Store):
        self._items, self._store = items, store
        self._live: Live | None = None
        self._refreshed = 0.0
        self._began: dict[Item, float] = {}

    def __enter__(self) -> "Board":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def changed(self, item: Item) -> None:
        """Tell of a new state."""
        if item.state == "running":
            self._began[item] = time.monotonic()
        if self._live and item.state != "failed":
            return
        took = f" in {time.monotonic() - self._began.pop(item):.1f} s" if item.state == "built" else ""
        why = f": {item.why}" if item.why and item.state != "built" else ""
        done = sum(one.state in DONE for one in self._items)
        say(f"{item.name}: {item.state}{took}{why}; {done} of {len(self._items)} done")

    def refresh(self) -> None:
        """Draw the live table again, at most twice a second."""
        if self._live and time.monotonic() - self._refreshed > REFRESH:
            self._refreshed = time.monotonic()
            self._live.update(self._table(), refresh=True)

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        counts = Counter(item.state for item in self._items)
        counts["waiting"] += counts.pop("ready", 0) + counts.pop("elsewhere", 0)
        order = ("waiting", "running", "cached", "built", "failed", "skipped", "unfinished")
        running = [item for item in self._items if item.state == "running"]
        table = Table.grid(padding=(0, 2))
        table.title = Text(", ".join(f"{counts[state]} {state}" for state in order if counts[state]))
        for item in running[:SHOWN]:
            spent = _clock(time.monotonic() - self._began[item])
            progress = progress_of(item, self._store)
            steps, left = (f"{progress[0]:,}/{progress[1]:,}", f"{_clock(progress[2])} left") if progress else ("", "")
            table.add_row(*map(Text, (item.name, steps, left, spent)))
        if len(running) > SHOWN:
            table.add_row(Text(f"and {len(running) - SHOWN} more"))
        return table


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
