"""Swgctl in this process or in one of its own, and generated data: what the tests share beside their fixtures."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

CHAIN = ("critic", "augment", "diffuse", "eval")  # what `swgctl run` builds


@dataclass(frozen=True)
class Answer:
    """What a command answered: its exit code, and its two streams apart."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of a command that succeeded."""
        assert self.code == 0, self.err
        return self.out.splitlines()

    @property
    def path(self) -> Path:
        """The one existing path that stdout must be, to the byte."""
        assert len(self.lines) == 1, self.out
        path = Path(self.lines[0])
        assert self.out == f"{path}\n"
        assert path.is_absolute()
        assert path.exists()
        return path

    @property
    def json(self) -> dict:
        """The one object that stdout must be."""
        assert len(self.lines) == 1, self.out
        return json.loads(self.out)

    @property
    def helps(self) -> list[str]:
        """What the `help:` lines say."""
        return [line.removeprefix("help: ") for line in self.err.splitlines() if line.startswith("help: ")]

    @property
    def error(self) -> str:
        """The one error line of a refusal: nothing on stdout, a line that helps, no traceback."""
        assert self.out == ""
        assert "Traceback" not in self.err
        assert self.helps, self.err
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        return errors[0]

    def refused(self, code: int, *words: str) -> None:
        """Asserts the refusal, its exit code, and that its one line names all `words`."""
        assert self.code == code, self.err
        for word in words:
            assert word in self.error


def swgctl(*args, stdin: str | None = None) -> Answer:
    """A command in this process."""
    from swgctl.cli import app_of

    texts = [str(a) for a in args]
    result = CliRunner().invoke(app_of(texts), texts, input=stdin, prog_name="swgctl")
    return Answer(result.exit_code, result.stdout, result.stderr)


def shell(script: str, program: str = "sh", timeout: float = 120, **env: str) -> Answer:
    """Shell lines in a real shell, where `swgctl` is the one that was installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [program, "-c", script], env=os.environ | {"PATH": path} | env, capture_output=True, text=True, timeout=timeout
    )
    return Answer(done.returncode, done.stdout, done.stderr)


# -- processes ---------------------------------------------------------------------------------------------------------
# Importing PyTorch takes seconds.  A server that has done it forks a real process for each command.


class Process:
    """A command in a process of its own, which can be killed."""

    def __init__(self, context, folder: Path, args: tuple, env: dict, setup):
        self.out, self.err = folder / "out", folder / "err"
        env = {key: value for key, value in os.environ.items() if key.startswith("SWGCTL_")} | env
        texts = [str(a) for a in args]
        self._process = context.Process(target=_child, args=(texts, env, str(self.out), str(self.err), setup))
        self._process.start()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.is_alive()

    def said(self) -> str:
        """What it has written to stderr so far."""
        return self.err.read_text() if self.err.exists() else ""

    def wait_for(self, condition) -> None:
        """Until it holds, or the process has ended."""
        end = time.monotonic() + 60
        while not condition() and self.running():
            assert time.monotonic() < end, self.said()
            time.sleep(0.005)

    def answer(self) -> Answer:
        self._process.join(120)
        assert self._process.exitcode is not None, self.said()
        return Answer(self._process.exitcode, self.out.read_text(), self.said())


def _child(args: list[str], env: dict, out: str, err: str, setup) -> None:
    from swgctl.cli import main

    for name in [name for name in os.environ if name.startswith("SWGCTL_")]:
        del os.environ[name]
    os.environ.update(env)
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if setup:
        setup()
    sys.argv = ["swgctl", *args]
    main()


def keep_capabilities(*numbers: int) -> None:
    """Leave this process no rights beside those of its user but these, which a root's has all."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    data[0] = data[1] = sum(1 << number for number in numbers)  # effective, permitted
    ctypes.CDLL(None, use_errno=True).capset(header, data)


def workers_of(pid: int) -> list[int]:
    """The processes that step environments for another one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while it is read
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"fleet.work" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


# -- data and stores ---------------------------------------------------------------------------------------------------


def write_pendulum(path: Path, seed: int = 0, **changes) -> Path:
    """A file in D4RL's layout that could be Pendulum's: 400 rows; `changes` replace arrays, None leaves one out."""
    random, rows = np.random.default_rng(seed), 400
    angle, speed = random.uniform(-np.pi, np.pi, rows), random.normal(size=rows)
    arrays = {
        "observations": np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32),
        "actions": random.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "rewards": (-(angle**2) - 0.1 * speed**2).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 100 == 99,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in (arrays | changes).items():
            if array is not None:
                file[name] = array
    return path


def real(name: str) -> Path:
    """A file that others recorded, from $SWGCTL_TEST_DATA, else shared/data beside the checkout; skips without it."""
    path = Path(os.environ.get("SWGCTL_TEST_DATA") or Path(__file__).parents[3] / "shared/data") / f"{name}.hdf5"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    return path


@dataclass(frozen=True)
class Chain:
    """Four artifacts, made once by `swgctl run`, and what they were made from."""

    store: Path
    data: Path
    recipe: Path

    def critic(self, *more) -> Answer:
        return swgctl("critic", self.data, "--env", "Pendulum-v1", "--recipe", self.recipe, *more)

    def run(self, *more) -> Answer:
        return swgctl("run", self.data, "--env", "Pendulum-v1", "--recipe", self.recipe, *more)

    def made(self, stage: str) -> Path:
        """The artifact of a stage."""
        (path,) = self.store.glob(f"objects/{stage}/pendulum/*")
        return path


def flip(path: Path, position: int = -1) -> None:
    """Changes one byte of a file, leaving its size and time."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def published(store: Path) -> list[Path]:
    """Every directory where a reader would look for an artifact, whole or not."""
    return sorted(store.glob("objects/*/*/*"))


def lineage(node: dict) -> set:
    """(task, seed) of an artifact and of all that it was made from."""
    found = {(node["task"], seed) for seed in node["seeds"]}
    return found.union(*(lineage(parent) for parent in node["inputs"].values()))
