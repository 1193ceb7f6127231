"""The engine `ray`: commands as tasks of Ray Core, on a cluster whose machines share the store's folder."""

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from swgctl.errors import InputError, UsageError
from swgctl.files import write_text
from swgctl.sweeps.engines import POLL, SCOPE

NONCE = "nonce"  # file beside the logs, by which a machine shows that it sees the same store
LOST, STOPPED = -signal.SIGKILL, 75  # exit codes of a task whose machine died, and of one that was cancelled
UNSEEN = "unseen"
PATIENCE = 5.0  # seconds for an address to answer


class Ray:
    """Tasks of Ray that run `swgctl ARGUMENTS` as processes.  Ray queues them; the sweep, not Ray, tries again."""

    def __init__(
        self,
        folder: Path,
        address: str | None = None,
        slots: int | None = None,
        gpu: float | None = None,
        cpu: int | None = None,
        device: str = "auto",
    ):
        """Join the cluster at an address, or start one here.

        folder  where the logs go; every machine must see it
        Raises UsageError where Ray is not installed, InputError where the address does not answer or --gpu finds none.
        """
        try:
            import ray
        except ImportError:
            raise UsageError("the engine ray needs Ray, which is not installed", "pip install 'swgctl[ray]'") from None
        self._ray: Any = ray
        self._context = contextlib.ExitStack()
        self.slots = slots
        self._folder, self._nonce = folder, secrets.token_hex(16)
        self._tasks: dict[Any, str] = {}
        write_text(folder / NONCE, self._nonce, durable=False)
        self._joined = _join(ray, address)
        # Ray prints what befalls a cluster on stdout, which is for paths.
        nowhere = self._context.enter_context(open(os.devnull, "w"))  # noqa: SIM115 - closed by the context
        self._context.enter_context(contextlib.redirect_stdout(nowhere))
        cards = ray.cluster_resources().get("GPU", 0) if device != "cpu" else 0
        if gpu and not cards:
            self.close()
            raise InputError(
                f"--gpu {gpu:g} asks for a GPU, and the cluster has none",
                "leave out --gpu",
            )
        self._threads = cpu or 1
        self._gpu = (1.0 if gpu is None else gpu) if cards else 0.0
        self._task = self._ray.remote(num_cpus=self._threads, num_gpus=self._gpu, max_retries=0)(_work)

    def submit(self, name: str, arguments: list[str], log: Path) -> None:
        ours = {key: value for key, value in os.environ.items() if key.startswith("SWGCTL_")}
        given = ours | {"OMP_NUM_THREADS": str(self._threads), "SWGCTL_SCOPE": SCOPE}
        if not self._gpu:
            given["CUDA_VISIBLE_DEVICES"] = ""
        self._tasks[self._task.remote(arguments, given, str(log), self._nonce)] = name

    def ended(self) -> list[tuple[str, int]]:
        if not self._tasks:
            time.sleep(POLL)
            return []
        done, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=POLL, fetch_local=False)
        return [(self._tasks.pop(task), self._code(task)) for task in done]

    def _code(self, task: Any) -> int:
        """The exit code of a task that has ended.  Raises InputError where its machine does not see the store."""
        errors = self._ray.exceptions
        try:
            code, machine = self._ray.get(task)
        except errors.TaskCancelledError:
            return STOPPED
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError):
            return LOST
        if code == UNSEEN:
            raise InputError(
                f"the machine {machine} of the cluster does not see {self._folder.parents[1]}",
                "swgctl sweep TASK --engine ray --store DIR   # a folder that all machines share, at the same path",
            )
        return code

    def cancel(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task, force=False)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # of a cluster that may be gone
            for task in self._tasks:
                self._ray.cancel(task, force=True)
        if self._joined:
            self._ray.shutdown()
        self._context.close()


def _join(ray: Any, address: str | None) -> bool:
    """Connect to a cluster; False where this process is connected already.  Raises InputError."""
    if ray.is_initialized():
        return False
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:  # Ray itself waits long, and may abort the process
        try:
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(
                f"no Ray cluster answers at {address}: {error}", "ray start --head   # on that machine"
            ) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would be sent to Ray's authors
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning; `submit` hides the cards
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    here: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at {address}: {error}", "swgctl sweep TASK --engine ray   # starts one"
        ) from None
    finally:
        for number, handler in handlers.items():  # Ray sets its own for SIGTERM
            signal.signal(number, handler)
    return True


def _work(arguments: list[str], given: dict[str, str], log: str, nonce: str) -> tuple[int | str, str]:
    """The body of a task: (exit code of `swgctl ARGUMENTS`, or UNSEEN; this machine's name).

    What cancels the task, or ends its worker, sends SIGTERM to the command.
    """
    try:
        seen = Path(log).with_name(NONCE).read_text() == nonce
    except OSError:
        seen = False
    if not seen:
        return UNSEEN, socket.gethostname()
    prctl = ctypes.CDLL(None).prctl
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "swgctl", *arguments],
            env=dict(os.environ) | given,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: prctl(1, signal.SIGTERM),  # PR_SET_PDEATHSIG: a worker that is killed says nothing
        )
    try:
        while process.poll() is None:  # short waits: a cancellation is raised between two of them
            time.sleep(POLL)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode, socket.gethostname()
