"""Sweeps on a real Slurm of one node: apt-get install slurm-wlm munge."""

import json
import subprocess
from pathlib import Path

import pytest
from support import slurm
from support.harness import published, shell, swgctl

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurm.missing()), reason=str(slurm.missing()))]


@pytest.fixture(scope="module")
def cluster():
    with slurm.running() as conf:
        yield conf


@pytest.fixture
def submit(cluster, tmp_path, monkeypatch):
    """submit(*more): submit a sweep of the pendulum's data."""
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    monkeypatch.chdir(tmp_path)  # where Slurm writes what its jobs print

    def submit(*more) -> None:
        (tmp_path / "sweep.sh").write_text(swgctl("plan", *more, "--format", "slurm").out)
        answer = shell("bash sweep.sh")
        assert answer.lines[-1].startswith("submitted")

    return submit


def digests(store: Path) -> dict[str, list[str]]:
    """Digests of the artifacts of a store, by stage."""
    of: dict[str, list[str]] = {}
    for path in published(store):
        of.setdefault(path.parts[-3], []).append(json.loads((path / "artifact.json").read_text())["digest"])
    return {stage: sorted(values) for stage, values in of.items()}


def said(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("slurm-*.out"))


def test_a_sweep_is_built_level_by_level(submit, cluster, pendulum, tiny, tmp_path, monkeypatch):
    words = [pendulum(), "--env", "Pendulum-v1", "--recipe", tiny]
    submit(*words, "--grid", "eval.method=swg,dps")
    slurm.wait_for(lambda: not slurm.states(cluster))
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "alone"))
    for method in ("swg", "dps"):
        assert swgctl("run", *words, "--method", method).code == 0
    assert digests(tmp_path / "store") == digests(tmp_path / "alone"), said(tmp_path)


def test_a_job_that_is_stopped_goes_on_from_its_checkpoint(submit, cluster, pendulum, tiny, tmp_path, monkeypatch):
    """With SIGTERM as Slurm sends it before the time is over; the level after it waits."""
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", "0.1")
    store = tmp_path / "store"
    words = [pendulum(), "--env", "Pendulum-v1", "--recipe", tiny, "--set", "critic.steps=3000"]
    submit(*words, "--until", "augment")
    slurm.wait_for(lambda: list(store.glob("work/*/checkpoint.safetensors")))
    (job,) = [line.split()[0] for line in slurm.states(cluster) if line.endswith("RUNNING")]
    subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)
    slurm.wait_for(lambda: not slurm.states(cluster))
    assert "stopped by SIGTERM" in said(tmp_path)
    assert "going on from step" in said(tmp_path)
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "alone"))
    assert swgctl("run", *words, "--until", "augment").code == 0
    assert digests(store) == digests(tmp_path / "alone"), said(tmp_path)


def test_what_a_failed_job_leaves_undone_is_cancelled(submit, cluster, pendulum, tiny, tmp_path):
    data = pendulum()
    (tmp_path / "sweep").mkdir()
    plan = [data, "--env", "Pendulum-v1", "--recipe", tiny, "--until", "augment"]
    text = swgctl("plan", *plan, "--format", "slurm").out
    data.unlink()
    (tmp_path / "sweep.sh").write_text(text)
    assert shell("bash sweep.sh").code == 0
    slurm.wait_for(lambda: not slurm.states(cluster))
    assert published(tmp_path / "store") == []
    assert len(list(tmp_path.glob("slurm-*.out"))) == 1
    assert "error: " in said(tmp_path)
