"""Messages, progress and tables for people, all on stderr: stdout belongs to the paths of artifacts.

What is printed may hold names that came from outside.  `printable` keeps them from steering a terminal.
"""

import contextlib
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

LINE_EVERY = 60.0  # seconds between plain progress lines where stderr is not a terminal
FIRST_LINE = 4.0
NAME, LINE = 200, 4_000  # most characters of a name and of a line that are shown

# A password up to the @ that ends it, also where its / and @ are not written %2F and %40; a port stays.
_PASSWORD = re.compile(r"(://[^/@:]*):(?![0-9]+(?:/|$))(?:[^/]*@|.*?@)")

_log: list[Path] = []
_said: set[str] = set()


def printable(text: str, most: int = LINE) -> str:
    """Text without its power over a terminal: control, bidi and lone surrogate characters escaped, cut at `most`."""
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def without_password(url: str) -> str:
    """A URL of a remote store as it is printed, its user left in place; other text as it is."""
    return _PASSWORD.sub(r"\1@", url)


def shown(name: object) -> str:
    """A name from outside as a message holds it."""
    return printable(without_password(str(name)), NAME)


def quoted(word: object) -> str:
    """A word as a shell takes it in a line that is pasted; one with control characters in bash's and zsh's $'...'."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    raw = text.encode(errors="surrogateescape").decode("latin-1")
    return "$'" + "".join(c if " " <= c <= "~" and c not in "\\'" else f"\\x{ord(c):02x}" for c in raw) + "'"


def say(text: str) -> None:
    """Print a message, and append it to the log of the block that is `logged_to` one."""
    lines = "\n".join(printable(line) for line in text.split("\n"))
    print(lines, file=sys.stderr, flush=True)
    for path in _log:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {lines}\n")


def say_once(text: str) -> None:
    """Print a message unless this process has printed it before."""
    if text not in _said:
        _said.add(text)
        say(text)


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append every message to a file as well, within the block."""
    path.touch()
    _log.append(path)
    try:
        yield
    finally:
        _log.remove(path)


class Progress:
    """One bar on a terminal; elsewhere one plain line a minute, the first within five seconds."""

    def __init__(self, name: str, total: int | None, unit: str, bar=None):
        self.name, self.total, self.unit, self._bar = name, total, unit, bar
        self._next = time.monotonic() + FIRST_LINE
        self._first: tuple[int, float] | None = None  # a resumed run starts in the middle, and a compiled one late
        self._task = bar.add_task(name, total=total, note="") if bar else None

    def update(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)
        if self._bar:
            self._bar.update(self._task, completed=done, note=note)
        elif now >= self._next:
            self._next = now + LINE_EVERY
            before, since = self._first
            rate = (done - before) / (now - since) if now > since else 0.0
            of = f"/{self.total:,}" if self.total else ""
            pace = f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s" if rate else ""
            left = f", {_clock((self.total - done) / rate)} left" if self.total and rate else ""
            say(f"{self.name}: {done:,}{of} {self.unit}{pace}{left}{', ' + note if note else ''}")


@contextlib.contextmanager
def progress(name: str, total: int | None, unit: str = "steps") -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield Progress(name, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Progress(name, total, unit, bar)


@contextlib.contextmanager
def downloads(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield `update(bytes done, total bytes or None)`, which shows a download's progress from its first call on."""
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []

        def update(done: int, total: int | None) -> None:
            if not bars:
                bars.append(stack.enter_context(progress(name, total, "bytes")))
            bars[0].update(done)

        yield update


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stderr, as wide as its content whatever the terminal.  A column's name may have several lines.

    It looks like Rich's, which takes half a millisecond a row; `ls` may have thousands.
    """
    heads = [[shown(part) for part in column.split("\n")] for column in columns]
    rows = [[text if len(text) <= NAME and text.isprintable() else shown(text) for text in row] for row in rows]
    height = max(map(len, heads))
    head_rows = list(zip(*([""] * (height - len(head)) + head for head in heads), strict=True))
    widths = [max(map(len, column)) for column in zip(*head_rows, *rows, strict=True)]
    pads = [str.ljust, *[str.rjust] * (len(widths) - 1)]

    def line(start: str, between: str, end: str, cells: Sequence[str], fill: str = " ") -> str:
        padded = (pad(text, width, fill) for pad, text, width in zip(pads, cells, widths, strict=True))
        return f"{start}{fill}{f'{fill}{between}{fill}'.join(padded)}{fill}{end}"

    blank = [""] * len(widths)
    say(title)
    print(
        line("┏", "┳", "┓", blank, "━"),
        *(line("┃", "┃", "┃", head) for head in head_rows),
        line("┡", "╇", "┩", blank, "━"),
        *(line("│", "│", "│", row) for row in rows),
        line("└", "┴", "┘", blank, "─"),
        sep="\n",
        file=sys.stderr,
        flush=True,
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
