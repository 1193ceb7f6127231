"""A Slurm of one node, whose daemons run for as long as a test needs them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SchedulerParameters=batch_sched_delay=1,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here; None where one can."""
    if os.geteuid():
        return "Slurm's daemons want root"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"there is no {absent[0]} (apt-get install slurm-wlm munge)" if absent else None


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """Start the daemons; yields the path of slurm.conf, for SLURM_CONF."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # a short path: munge's socket lies in it
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=socket.gethostname().partition(".")[0], ports=_ports()))
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    env = os.environ | {"SLURM_CONF": str(conf)}
    try:
        for command in (
            ["munged", "--force", f"--socket={folder}/munge", f"--key-file={key}", *munge],
            ["slurmctld", "-c"],
            ["slurmd"],
        ):
            subprocess.run(command, env=env, check=True, capture_output=True)
        wait_for(lambda: "idle" in _output(["sinfo", "-h"], env))
        yield conf
    finally:
        subprocess.run(["scancel", "--user=root"], env=env, capture_output=True)
        pids = [folder / name for name in ("slurmd.pid", "slurmctld.pid", "munge.pid")]
        for pid in pids:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGTERM)
        wait_for(lambda: not any(pid.exists() for pid in pids))
        shutil.rmtree(folder)


def states(conf: Path) -> list[str]:
    """Jobs that wait or run, "ID STATE" each."""
    return _output(["squeue", "-h", "-r", "-o", "%i %T"], os.environ | {"SLURM_CONF": str(conf)}).splitlines()


def wait_for(condition, seconds: float = 300):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def _output(command: list[str], env: dict) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def _ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]
