"""Copies of one environment, stepped side by side: in this process, or in several where that is faster.

Each copy has its own seed and shares nothing with the others, so an episode is the same to the last bit whichever
process plays it.
"""

import contextlib
import gc
import json
import math
import mmap
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe

import gymnasium
import numpy as np

from swgctl import runtime
from swgctl.console import say
from swgctl.errors import SwgError, UsageError
from swgctl.tasks import environments, limits, modules
from swgctl.tasks.registered import quietly
from swgctl.tasks.spaces import box

Shape = tuple[int, int, tuple[str, ...]]  # A, O and the names of the measures

WAKE = 15e-6  # seconds that each worker adds to a step: a message to it and one back
START = 1.0  # seconds until workers have imported a simulator and can begin
GRACE = 2.0  # seconds that workers have to exit before they are killed

# The program of a worker: a new interpreter, since a fork is not safe once PyTorch or CUDA have started threads.
# Where it cannot even start, as for want of memory, it says so in a line.
WORKER = """
import sys
sys.path[:] = sys.argv[3:]
try:
    from swgctl.tasks import fleet
except Exception as error:
    sys.exit(f"a process that steps environments cannot start: {type(error).__name__}: {error}")
fleet.work(*map(int, sys.argv[1:3]))
"""
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


@contextlib.contextmanager
def launch(
    environment: str, seeds: list[int], steps: int, measures: tuple[str, ...] = ()
) -> Iterator["Copies | Workers"]:
    """A copy for each seed, reset with it, to play one episode of at most `steps` steps.

    measures  names of numbers in a step's info that are kept as well

    The number of processes is $SWGCTL_WORKERS, else that of `fastest` within `limits.cores`.
    Raises UsageError where that setting is malformed, and what `environments.make` raises; SwgError where an
    environment fails or a process dies, now and in every step.
    """
    with environments.named(environment), contextlib.closing(environments.make(environment)) as world:
        shape = (math.prod(box(world.action_space).shape), math.prod(box(world.observation_space).shape), measures)
        most = min(_workers_setting() or limits.cores(), len(seeds))
        chosen = _workers_setting() or most == 1
        processes = most if chosen else fastest(len(seeds), steps, step_seconds(world), most)
    copies: Copies | Workers | None = None
    if processes > 1:
        try:
            copies = Workers(environment, seeds, shape, processes)
        except _Unmade as error:  # such as one that was registered by a script or a notebook
            say(f"stepping {environment} in one process, since another cannot make it: {error}")
    copies = copies or Copies(environment, seeds, np.zeros(len(seeds), _row(*shape)))
    with contextlib.closing(copies), quietly():  # once, and not for each step
        yield copies


def capacity(environment: str) -> int:
    """The number of copies, at least 1, that a quarter of the available memory holds, so that several evaluations fit.

    Raises what `environments.make` raises.
    """
    gc.collect()  # simulators refer to themselves: those of the evaluation before may still be here
    size = max(copy_bytes(environment), 1)  # first, since it gives back what this process has freed
    return max(1, int(min(limits.memory() / 4 / size, 1 << 31)))


def copy_bytes(environment: str, copies: int = 4) -> float:
    """Bytes of memory that one more copy holds after its reset: the mean over `copies` after a first one."""
    with contextlib.ExitStack() as stack:
        for i in range(copies + 1):
            world = stack.enter_context(contextlib.closing(environments.make(environment)))
            with environments.named(environment):
                world.reset(seed=i)
            if i == 0:  # with it came the simulator itself
                before = limits.held()
        return (limits.held() - before) / copies


class Copies:
    """N copies, which this process steps one after another.

    actions       (N, A) in [-1, 1]: input of the next step
    observations  (N, O) float32, rewards (N,) float64, ended (N,) bool: output of the last step, or of the reset
    measured      {name: (N,) float64}: the largest value so far in a step's info; 0 where it has none
    An episode that has ended is stepped no further, and its last output stays.
    """

    processes = 1

    def __init__(self, environment: str, seeds: list[int], rows: np.ndarray):
        """`rows` (N,) of dtype `_row` hold the arrays.  Raises SwgError where a copy cannot be made or reset."""
        self.environment, self._running = environment, list(range(len(seeds)))
        self.actions, self.observations, self.rewards, self.ended, self.measured = _columns(rows)
        with environments.named(environment):
            self._worlds = [environments.make(environment) for _ in seeds]
            self._space = box(self._worlds[0].action_space)  # kept, since some environments make it at each call
            for i, seed in enumerate(seeds):
                self.observations[i], _ = self._worlds[i].reset(seed=seed)

    def step(self) -> None:
        """Step every copy whose episode goes on.  Raises SwgError where an environment fails."""
        actions = environments.rescale(self.actions, self._space.low, self._space.high)
        with environments.named(self.environment):
            for i in self._running:
                self.observations[i], self.rewards[i], terminated, truncated, info = self._worlds[i].step(actions[i])
                for name, values in self.measured.items():
                    values[i] = max(values[i], float(info.get(name, 0)))
                self.ended[i] = terminated or truncated
        self._running = [i for i in self._running if not self.ended[i]]

    def close(self) -> None:
        for world in self._worlds:
            with contextlib.suppress(Exception):  # its episodes are over
                world.close()


class Workers:
    """`Copies` in W processes, the w-th of which has every W-th copy from w on, since neighbours tend to end together.

    The processes share the arrays; a step is one message to each and one back.  A worker exits when its connection
    closes, so that none outlives this process, however that ends.
    """

    def __init__(self, environment: str, seeds: list[int], shape: "Shape", processes: int):
        """Start the workers.  Raises SwgError where that fails, _Unmade where one cannot make the environment."""
        self.processes = processes
        self._workers: list[_Worker] = []
        row = _row(*shape)
        with _starting():
            memory = os.memfd_create("swgctl")
        try:
            with _starting():
                os.ftruncate(memory, len(seeds) * row.itemsize)
                rows = np.ndarray(len(seeds), row, mmap.mmap(memory, 0))
            self.actions, self.observations, self.rewards, self.ended, self.measured = _columns(rows)
            for first in range(processes):
                self._workers.append(_Worker(memory, environment))
                task = [environment, modules.allowed(), seeds, shape, first, processes]
                self._workers[-1].send(json.dumps(task).encode())
            failures = [worker.answer() for worker in self._workers]
            for failure in filter(None, failures):
                raise _Unmade(*failure)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)

    def step(self) -> None:
        """Step every copy whose episode goes on.  Raises SwgError where an environment fails or a worker has died."""
        for worker in self._workers:
            worker.send()
        for worker in self._workers:
            if failure := worker.answer():
                raise SwgError(*failure)

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        until = time.monotonic() + GRACE
        for worker in self._workers:
            worker.exit_code(until)


class _Unmade(SwgError):
    """A worker cannot make the environment."""


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Turn what the system refuses, such as one more descriptor or process, into SwgError within the block."""
    try:
        yield
    except OSError as error:
        raise SwgError(f"no process to step environments in: {error.strerror or error}", "SWGCTL_WORKERS=1") from None


class _Worker:
    """A process that runs `work`, and this end of the connection to it."""

    def __init__(self, memory: int, environment: str):
        self.environment = environment
        with _starting():
            self.connection, theirs = Pipe()
        # A terminal and most schedulers signal all processes of a job.  This one alone responds: workers are born with
        # those signals blocked.  What an environment prints goes to stderr, as stdout belongs to paths.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        try:
            with _starting():
                self.process = subprocess.Popen(
                    [sys.executable, "-c", WORKER, str(theirs.fileno()), str(memory), *sys.path],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    pass_fds=(theirs.fileno(), memory),
                    env=os.environ | ONE_THREAD,
                )
        except BaseException:
            self.connection.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def send(self, message: bytes = b"") -> None:
        with self._alive():
            self.connection.send_bytes(message)

    def answer(self) -> list[str] | None:
        """None, or the message and the help of an error in the worker."""
        with self._alive():
            return json.loads(self.connection.recv_bytes() or b"null")

    def exit_code(self, until: float) -> int:
        """The worker's exit code, after killing it if it runs past `until` (`time.monotonic`)."""
        try:
            return self.process.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            code = self.exit_code(time.monotonic() + GRACE)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise SwgError(
                f"a process that steps {self.environment} {how}",
                "fewer episodes or SWGCTL_WORKERS=1, which take less memory",
            ) from None


def work(connection: int, memory: int) -> None:
    """The main loop of a worker, which ends when the parent closes the connection."""
    runtime.prepare()
    with Connection(connection) as parent, contextlib.suppress(EOFError, ConnectionError):
        environment, named, seeds, shape, first, processes = json.loads(parent.recv_bytes())
        for module in named:
            modules.allow(f"{module}:any")
        rows = np.ndarray(len(seeds), _row(*shape), mmap.mmap(memory, 0))[first::processes]
        try:
            # Whatever an environment prints when it is made, the parent's has printed already.
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                copies = Copies(environment, seeds[first::processes], rows)
            with contextlib.closing(copies):
                while True:
                    parent.send_bytes(b"")
                    parent.recv_bytes()
                    copies.step()
        except KeyboardInterrupt:  # of the environment's own making: the terminal's is blocked here
            failure = [f"environment {environment} failed: KeyboardInterrupt", environments.WHERE]
            parent.send_bytes(json.dumps(failure).encode())
        except SwgError as error:
            if os.environ.get("SWGCTL_DEBUG") == "1":
                traceback.print_exc()
            parent.send_bytes(json.dumps([str(error), error.help]).encode())


def _row(actions: int, observations: int, measures: Sequence[str] = ()) -> np.dtype:
    """The record of one copy: action, observation, reward, whether its episode has ended, and its measures."""
    fields: list[tuple] = [("action", "f4", (actions,)), ("observation", "f4", (observations,))]
    fields += [("reward", "f8"), ("ended", "?"), *((f"measure {name}", "f8") for name in measures)]
    return np.dtype(fields, align=True)


def _columns(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The arrays of `Copies`, as views of its rows."""
    names = rows.dtype.names or ()
    measured = {name.removeprefix("measure "): rows[name] for name in names[4:]}
    return rows["action"], rows["observation"], rows["reward"], rows["ended"], measured


# -- the number of processes -------------------------------------------------------------------------------------------


def fastest(copies: int, steps: int, seconds: float, most: int) -> int:
    """The number of processes, up to `most`, in which `steps` steps of all copies take the least time.

    seconds  that one step of one copy takes.  In W processes a step of all takes copies seconds / W + W WAKE.
    """

    def total(processes: int) -> float:
        if processes == 1:
            return steps * copies * seconds
        return START + steps * (copies * seconds / processes + processes * WAKE)

    return min(range(1, most + 1), key=total)


def _workers_setting() -> int | None:
    text = os.environ.get("SWGCTL_WORKERS")
    if text and not (text.isdecimal() and int(text)):
        cores = limits.cores()
        raise UsageError(f"SWGCTL_WORKERS must be a number of processes, not '{text}'", f"SWGCTL_WORKERS={cores}")
    return int(text) if text else None


def step_seconds(world: gymnasium.Env) -> float:
    """Seconds of one step: the median of the first ten of an episode, with actions in the middle of their bounds."""
    world.reset(seed=0)
    space = box(world.action_space)
    durations: list[float] = []
    while len(durations) < 10:
        before = time.perf_counter()
        _, _, terminated, truncated, _ = world.step((space.low + space.high) / 2)
        durations.append(time.perf_counter() - before)
        if terminated or truncated:
            break
    return statistics.median(durations)
