"""How signals stop the work: Interrupted is raised at once, or within `deferred` where the work calls `check`."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from swgctl.errors import Interrupted, SwgError

AGAIN = "run the same command again"

_received: list[int] = []
_deferring = False


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP (unless ignored, as under nohup) into Interrupted, within the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    numbers = [n for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    except Exception as error:  # a library may have replaced Interrupted, as PyTorch's conversions do
        if _received and not isinstance(error, SwgError):
            raise _error(_received[0]) from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received.clear()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let the first signal only set the flag that `check` reads, within the block; a second one acts at once.

    At the end a flag that is set stays set inside an outer `handled`; without one, Interrupted is raised then.
    """
    global _deferring
    with contextlib.ExitStack() as stack:
        alone = signal.getsignal(signal.SIGTERM) is not _note
        if alone:
            stack.enter_context(handled())
        _deferring = True
        try:
            yield
        finally:
            _deferring = False
        if alone:
            check()


def interrupted() -> bool:
    return bool(_received)


def check(help: str = AGAIN) -> None:
    """Raise Interrupted (exit 75; 130 after SIGINT) once a signal has come; `help` says what the same command does."""
    if _received:
        raise _error(_received[0], help)


def _note(number: int, _frame) -> None:
    _received.append(number)
    if not _deferring or len(_received) > 1:
        raise _error(number)


def _error(number: int, help: str = AGAIN) -> Interrupted:
    error = Interrupted(f"stopped by {signal.Signals(number).name}", help)
    error.code = 130 if number == signal.SIGINT else 75
    return error
