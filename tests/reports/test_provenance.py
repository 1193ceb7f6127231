"""What reports say of data whose checksum is not the published one, and of the environment."""

import csv
import hashlib

import h5py
import numpy as np
import pytest
from support.harness import swgctl

from swgctl.tasks import published

PATH = "maze2d/maze2d-umaze-sparse-v1.hdf5"
pytestmark = pytest.mark.training


@pytest.fixture
def maze(tmp_path, monkeypatch):
    """A file in $SWGCTL_DATA that could be D4RL's of maze2d-umaze-v1; its path."""
    path, random = tmp_path / "data" / PATH, np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = random.normal(size=(400, 4)), random.uniform(-1, 1, (400, 2))
        file["rewards"], file["terminals"] = random.uniform(size=400), np.zeros(400, bool)
        file["timeouts"] = np.arange(400) % 100 == 99
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path / "data"))
    return path


@pytest.fixture
def small(tmp_path):
    """A recipe of two steps of training."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "critic: {steps: 2, hidden: [8], batch: 8}\n"
        "diffuse: {steps: 2, width: 16, batch: 8, K: 2}\n"
        "eval: {rho: [0], resample: [1], temperature: 1, episodes: 1}\n"
    )
    return path


def test_an_overruled_checksum_follows_the_data_into_every_report(maze, small, monkeypatch):
    monkeypatch.setitem(published.table(), PATH, published.Published(1, "0" * 64, "test", False))
    swgctl("critic", "maze2d-umaze-v1", "--recipe", small).refused(3, "that of the published file 0000")
    swgctl("data", "fetch", "maze2d-umaze-v1", "--trust")
    evaluation = swgctl("run", "maze2d-umaze-v1", "--recipe", small).path
    says = "not the published checksum, overruled by --trust"
    assert f"sha256 {hashlib.sha256(maze.read_bytes()).hexdigest()[:16]}, {says}" in swgctl("tree", evaluation).err
    report = swgctl("report")
    assert f"data: {says}" in report.err
    assert "environment: model and steps equal D4RL's, to rounding" in report.err
    group = swgctl("report", "--json").json["groups"][0]
    assert (group["data"], group["fidelity"]) == (["overruled"], "model and steps equal D4RL's, to rounding")
    assert f"data: {says}" in swgctl("report", "--format", "html").out
    rows = {row["row"]: row for row in csv.DictReader(swgctl("report", "--format", "csv").lines)}
    assert (rows["cell"]["data"], rows["cell"]["fidelity"]) == (says, "model and steps equal D4RL's, to rounding")
    assert (rows["quoted"]["data"], rows["quoted"]["fidelity"]) == ("", "")


def test_data_without_a_published_checksum_says_so(maze, small):
    critic = swgctl("critic", "maze2d-umaze-v1", "--recipe", small)
    assert "maze2d-umaze-sparse-v1.hdf5: no published checksum" in critic.err
    assert ", no published checksum" in swgctl("show", critic.path).err
    assert swgctl("show", critic.path, "--json").json["source"]["checksum"] == "pinned"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("pen-human-v1", "a mean return of 3,282 with its own noise and 3,422 without, D4RL's reference is 3,077"),
        ("hammer-expert-v0", "9,979 with its own noise and 16,332 without, D4RL's reference is 12,794"),
        ("kitchen-partial-v0", "but for how boxes touch in today's MuJoCo"),
        ("local-hopper-medium", "with the contacts of MuJoCo 2"),
    ],
)
def test_task_show_names_the_environments_fidelity(task, words):
    assert words in swgctl("task", "show", task, "--json").json["fidelity"]
