"""Sweeps as scripts for Slurm: the text, and what it does with a stand-in for Slurm's commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.harness import published

from swgctl.store import Store
from swgctl.sweeps import slurm
from swgctl.sweeps.plan import expand

GOLDEN = Path(__file__).parent / "golden.slurm.sh"

# Runs the array at once, as Slurm would run each of its jobs, and notes how it was asked to.
SBATCH = """\
#!/bin/bash
number=$(($(ls "$LOG" | grep -c '^job') + 1))
echo "$@" > "$LOG/job$number"
cat > "$LOG/script$number"
for word in "$@"; do case "$word" in --array=0-*) last=${word#--array=0-};; esac; done
for task in $(seq 0 "$last"); do
    SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task bash "$LOG/script$number" >> "$LOG/out" 2>&1
    echo "$number $task $?" >> "$LOG/codes"
done
echo "$number;cluster"
"""
SCONTROL = """\
#!/bin/bash
echo "$@" >> "$LOG/requeued"
"""


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """submit(script, *options): the script is run where sbatch and scontrol are stand-ins; returns their notes."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    log.mkdir()
    for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("LOG", str(log))

    def submit(script: str, *options: str) -> Path:
        (tmp_path / "sweep.sh").write_text(script)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", tmp_path / "sweep.sh", *options], env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return log

    return submit


def script(*grid: str, task: str = "demo", **more) -> str:
    store = Store(more.pop("store", Path("/store")))
    return slurm.script(expand([task], ["0-1"], grid, (), None, None, store), store)


def test_the_text_is_the_golden_one():
    text = script("critic.tau=0.7,0.9", "eval.method=swg,dps")
    if os.environ.get("SWGCTL_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert subprocess.run(["bash", "-n", GOLDEN]).returncode == 0


def test_each_level_waits_for_the_one_before(submit):
    """Jobs that do nothing."""
    text = script("critic.tau=0.7,0.9").replace("'swgctl run", "'true swgctl run")
    log = submit(text, "--partition=gpu", "--time=4:00:00")
    asked = [(log / f"job{i}").read_text().split() for i in (1, 2, 3, 4)]
    assert [[word for word in words if "dependency" in word] for words in asked] == [
        [], *([f"--dependency=afterok:{i}"] for i in (1, 2, 3))
    ]  # fmt: skip
    assert all(words[-2:] == ["--partition=gpu", "--time=4:00:00"] for words in asked)
    assert all({"--requeue", "--array=0-1"} <= {*words} for words in asked)
    assert (log / "codes").read_text().splitlines() == [f"{i} {task} 0" for i in (1, 2, 3, 4) for task in (0, 1)]


def test_large_levels_are_several_arrays(submit, monkeypatch):
    monkeypatch.setattr(slurm, "ARRAY", 2)
    log = submit(script("critic.tau=0.6,0.7,0.8").replace("'swgctl run", "'true swgctl run"))
    assert [(log / f"job{i}").read_text().split()[-1] for i in (1, 2, 3, 4)] == [
        "--array=0-1", "--array=0-0", "--dependency=afterok:1:2", "--dependency=afterok:1:2"
    ]  # fmt: skip


@pytest.fixture
def stub(tmp_path):
    """stub(script): the text of a sweep whose commands are all that shell script."""

    def stub(body: str) -> str:
        command = tmp_path / "command"
        command.write_text(f"#!/bin/bash\n{body}\n")
        command.chmod(0o755)
        return script("critic.tau=0.7,0.9").replace("'swgctl run", f"'{command} run")

    return stub


@pytest.mark.parametrize(("restarts", "requeued"), [("0", True), ("2", True), ("3", False)])
def test_a_job_that_was_stopped_goes_back_to_the_queue(restarts, requeued, submit, stub, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    log = submit(stub("exit 75"))
    assert (log / "codes").read_text().splitlines()[:2] == ["1 0 75", "1 1 75"]
    assert (log / "requeued").exists() == requeued
    if requeued:
        assert (log / "requeued").read_text().splitlines()[:2] == ["requeue 1_0", "requeue 1_1"]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_other_exit_codes_are_the_jobs(code, submit, stub):
    log = submit(stub(f"exit {code}"))
    assert {line.split()[-1] for line in (log / "codes").read_text().splitlines()} == {str(code)}
    assert not (log / "requeued").exists()


def test_sigterm_reaches_the_command_and_its_exit_code_comes_back(submit, stub):
    """A command that takes a while to stop after the signal, as one that writes a checkpoint."""
    log = submit(stub("trap 'sleep 0.3; exit 75' TERM\nkill -TERM $PPID\nwhile :; do sleep 0.05; done"))
    assert (log / "codes").read_text().splitlines()[0] == "1 0 75"
    assert (log / "requeued").read_text().splitlines()[0] == "requeue 1_0"


def test_what_is_there_is_not_submitted(chain):
    store = Store(chain.store)
    runs = expand([str(chain.data)], [], ["diffuse.lr=1e-3"], (), str(chain.recipe), "Pendulum-v1", store)
    text = slurm.script(runs, store)
    assert "# 1 diffuse, 1 eval:" in text
    assert "--until critic" not in text
    done = expand([str(chain.data)], [], [], (), str(chain.recipe), "Pendulum-v1", store)
    assert "# nothing to build" in slurm.script(done, store)


@pytest.mark.slow
def test_the_script_builds_what_it_says(submit, tmp_path, pendulum, tiny):
    store = Store(tmp_path / "store")
    runs = expand([str(pendulum())], [], ["eval.method=swg,dps"], (), str(tiny), "Pendulum-v1", store)
    log = submit(slurm.script(runs, store))
    assert {line.split()[-1] for line in (log / "codes").read_text().splitlines()} == {"0"}, (log / "out").read_text()
    stages = sorted(path.parts[-3] for path in published(store.root))
    assert stages == ["augment", "behaviour", "critic", "diffuse", "eval", "eval", "guide"]
    assert sum(": built" in line for line in (log / "out").read_text().splitlines()) == 7
