"""Engines: what runs the processes of a sweep.  They know commands and exit codes; what exists, the store says."""

import contextlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from swgctl.console import quoted
from swgctl.errors import InputError, UsageError, closest, nearest

ENGINES = ("local", "ray")
SCOPE = "sweep"  # SWGCTL_SCOPE of every child: a sweep makes nothing the latest artifact of a shell
MOST = 4_096  # slots of a machine, threads of a process
POLL = 0.05  # seconds between two looks at the children


class Engine(Protocol):
    """Runs commands side by side.

    slots  most commands at a time; None: as many as are submitted, and the engine queues them
    """

    slots: int | None

    def submit(self, name: str, arguments: list[str], log: Path) -> None:
        """Start `swgctl ARGUMENTS`, whose output goes to `log`."""

    def ended(self) -> list[tuple[str, int]]:
        """(name, exit code) of the commands that have ended since the last call; waits POLL seconds for one.

        Below 0: killed by that signal.
        """

    def cancel(self) -> None:
        """Send SIGTERM to every command that runs: it writes a checkpoint and exits with 75.  Returns at once."""

    def close(self) -> None:
        """Kill what still runs, and free what the engine holds."""


@dataclass(frozen=True)
class Machine:
    """What this machine has for a sweep: cores that this process may use, and ids of CUDA cards."""

    cores: int
    cards: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> "Machine":
        return cls(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, _cards())

    def divide(
        self, slots: int | None, gpu: float | None, cpu: int | None, device: str
    ) -> tuple[int, list[str | None]]:
        """The threads of each command, and for each slot the card that it sees; None leaves that as it is.

        slots  None: one for each share of a card, else for each `cpu` cores (1)
        gpu    part of a card that a command takes; None: one card, where there are any
        cpu    threads; None: $OMP_NUM_THREADS, else the cores that a slot comes to
        Raises UsageError, InputError.
        """
        wanted = gpu is not None and gpu > 0
        if wanted and (device == "cpu" or not self.cards):
            why = "--device cpu uses none" if device == "cpu" else "there is none that PyTorch sees"
            raise InputError(f"--gpu {gpu:g} asks for a GPU, and {why}", "swgctl sweep TASK   # without --gpu")
        cards = [] if device == "cpu" or gpu == 0 else list(self.cards)
        places = [card for card in cards for _ in range(int(1 / (gpu or 1) + 1e-9))]
        if wanted and slots and slots > len(places):
            raise UsageError(
                f"--slots {slots} of --gpu {gpu:g} need {-(-slots * len(cards) // len(places))} GPUs; "
                f"there is {len(cards)}",
                f"swgctl sweep TASK --gpu {gpu:g} --slots {len(places)}",
            )
        number = slots or len(places) or max(1, self.cores // (cpu or 1))
        threads = cpu or _environment_threads() or max(1, self.cores // number)
        seen: list[str | None]
        if places:
            seen = [places[slot % len(places)] for slot in range(number)]
        else:  # cards that are not to be used are hidden
            seen = ["" if self.cards else None] * number
        return threads, seen


def check_share(slots: int | None, gpu: float | None, cpu: int | None, device: str) -> None:
    """Refuse what no machine can give.  Raises UsageError."""
    for option, value in (("--slots", slots), ("--cpu", cpu)):
        if value is not None and not 1 <= value <= MOST:
            raise UsageError(f"{option} {value} must be a number from 1 to {MOST:,}", f"swgctl sweep TASK {option} 1")
    if gpu is not None and not 0 <= gpu <= 1:
        raise UsageError(f"--gpu {gpu:g} is a part of one card, 0 to 1", "swgctl sweep TASK --gpu 0.25")
    if device not in ("auto", "cpu", "cuda"):
        card = device.removeprefix("cuda:")
        raise UsageError(
            f"--device {device}: a sweep gives each slot its card",
            f"CUDA_VISIBLE_DEVICES={card if card.isdecimal() else 0} swgctl sweep TASK",
        )


def _environment_threads() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(text) if text.isdecimal() and int(text) else None


def _cards() -> tuple[str, ...]:
    """Ids for CUDA_VISIBLE_DEVICES, one a card, found without an import of PyTorch; none where it has no CUDA."""
    with contextlib.suppress(PackageNotFoundError):
        if version("torch").endswith("+cpu"):
            return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        ids = [one.strip() for one in visible.split(",")]
        end = next((i for i, one in enumerate(ids) if one in ("", "-1")), len(ids))  # CUDA stops there, too
        return tuple(ids[:end])
    if program := shutil.which("nvidia-smi"):
        listed = subprocess.run([program, "-L"], capture_output=True, text=True).stdout
        count = sum(line.startswith("GPU ") for line in listed.splitlines())
    else:
        count = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return tuple(map(str, range(count)))


def environment(threads: int, card: str | None) -> dict[str, str]:
    """The environment of a child.  `tasks.fleet` starts no more workers than OMP_NUM_THREADS has threads."""
    changed = {"OMP_NUM_THREADS": str(threads), "SWGCTL_SCOPE": SCOPE}
    return dict(os.environ) | changed | ({} if card is None else {"CUDA_VISIBLE_DEVICES": card})


def check_engine(name: str, address: str | None) -> None:
    """Refuse an unknown engine, and an address for one that has none.  Raises UsageError."""
    if name not in ENGINES:
        raise UsageError(
            f"unknown engine '{name}'{nearest(name, ENGINES)}",
            f"swgctl sweep TASK --engine {closest(name, ENGINES) or ENGINES[0]}",
        )
    if address and name != "ray":
        raise UsageError(
            f"--address {address}: the engine {name} has no cluster",
            f"swgctl sweep TASK --engine ray --address {quoted(address)}",
        )


# -- local -------------------------------------------------------------------------------------------------------------


class Local:
    """Slots on this machine; a child is forked from a server that has PyTorch imported, and sees one card at most."""

    def __init__(self, threads: int, cards: list[str | None]):
        self.slots: int | None = len(cards)
        self._threads, self._free = threads, list(cards)
        self._running: dict[str, tuple[ForkServerProcess, str | None]] = {}
        self._context = multiprocessing.get_context("forkserver")

    def submit(self, name: str, arguments: list[str], log: Path) -> None:
        card = self._free.pop(0)
        given = environment(self._threads, card)
        _serve(given["OMP_NUM_THREADS"])
        process = self._context.Process(target=_child, args=(arguments, given, str(log)))
        process.start()
        self._running[name] = process, card

    def ended(self) -> list[tuple[str, int]]:
        connection.wait([process.sentinel for process, _ in self._running.values()], POLL)
        if not self._running:
            time.sleep(POLL)
        codes = {name: process.exitcode for name, (process, _) in self._running.items()}
        ended = [(name, code) for name, code in codes.items() if code is not None]
        for name, _ in ended:
            process, card = self._running.pop(name)
            process.close()
            self._free.append(card)
        return ended

    def cancel(self) -> None:
        self._signal(signal.SIGTERM)

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        for process, _ in self._running.values():
            process.join()
        self._running.clear()

    def _signal(self, number: int) -> None:
        for process, _ in self._running.values():
            if process.pid and process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


def _serve(threads: str) -> None:
    """Start the server of children, unless it runs, with their number of threads."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([f"{__package__}.preload"])
    before = dict(os.environ)
    with _ignored(signal.SIGINT):  # it inherits that, and so survives a Ctrl-C while it starts
        os.environ["OMP_NUM_THREADS"] = threads
        try:
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _ignored(number: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, handler)


def _child(arguments: list[str], given: dict[str, str], log: str) -> None:
    """`swgctl ARGUMENTS` in a forked process: out of the terminal's reach, and stopped when the driver is gone."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(given)
    for descriptor, path, how in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY), (2, log, os.O_WRONLY)):
        try:
            opened = os.open(path, how | os.O_CREAT | os.O_APPEND, 0o666)
        except FileNotFoundError:  # the driver was killed meanwhile, and its folder is gone
            sys.exit(130)
        os.dup2(opened, descriptor)
        os.close(opened)
    threading.Thread(target=_stop_without_driver, daemon=True).start()
    if torch := sys.modules.get("torch"):
        threads = int(given["OMP_NUM_THREADS"])
        if torch.get_num_threads() != threads:  # the server is another's, with another number
            torch.set_num_threads(threads)
    sys.argv = ["swgctl", *arguments]
    runpy.run_module("swgctl", run_name="__main__")


def _stop_without_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver
    driver.join()
    os.kill(os.getpid(), signal.SIGTERM)
