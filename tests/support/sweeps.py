"""Sweeps in tests: commands that run in this process, and drivers whose children the tests' own server forks."""

from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

from support.harness import swgctl


def with_our_server() -> None:
    """For `start(setup=...)`: a driver whose children come from the server that it came from, with all imports done."""
    forkserver._forkserver.ensure_running = lambda: None
    forkserver.ensure_running = lambda: None


class Inline:
    """An engine that runs one command after another in this process.

    play  (arguments, how often the stage was asked for before) -> exit code instead of running it, None to run it
    """

    slots = 2

    def __init__(self, play: Callable[[list[str], int], int | None] = lambda arguments, before: None):
        self.play, self.asked, self._queue = play, [], []
        self.most = 0

    def __call__(self, threads: int, cards: list) -> "Inline":
        """In the place of `Local`."""
        return self

    @property
    def stages(self) -> list[str]:
        return [arguments[0] for arguments in self.asked]

    def submit(self, name: str, arguments: list[str], log: Path) -> None:
        before = self.stages.count(arguments[0])
        self.asked.append(arguments)
        self._queue.append((name, arguments, before, log))
        self.most = max(self.most, len(self._queue))

    def ended(self) -> list[tuple[str, int]]:
        name, arguments, before, log = self._queue.pop(0)
        code = self.play(arguments, before)
        if code is None:
            answer = swgctl(*arguments)
            log.write_text(answer.err)
            code = answer.code
        return [(name, code)]

    def cancel(self) -> None:
        raise AssertionError("nothing was to be cancelled")

    def close(self) -> None:
        assert not self._queue
