"""The engine ray, on clusters of one machine whose nodes can be taken away."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.harness import swgctl

from swgctl.sweeps.cluster import LOST, NONCE, STOPPED, UNSEEN, Ray, _work

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """cluster(**node): a cluster without nodes that work; its head has the address."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'swgctl[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def words(built, cluster) -> list:
    args = [built.data, "--env", "Pendulum-v1", "--recipe", built.recipe, "--engine", "ray"]
    return ["sweep", *args, "--address", cluster.address, "--json"]


def test_a_node_that_dies_in_the_middle_changes_no_byte(cluster, words, start, tmp_path, built):
    more = ["--set", "critic.steps=2000", "--until", "critic"]
    local = swgctl("run", *words[1:6], *more, "--store", tmp_path / "other", "--json").json
    nodes = [cluster.add_node(num_cpus=1)]
    driver = start(*words, *more, env={"SWGCTL_CHECKPOINT_EVERY": "0.2"})
    driver.wait_for(lambda: list((tmp_path / "store" / "work").glob("*/checkpoint.safetensors")))
    cluster.remove_node(nodes[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    answer = driver.answer()
    assert "killed by SIGKILL; trying again, 1 of 3" in answer.err
    assert answer.json["digest"] == local["digest"]
    (log,) = tmp_path.glob("store/objects/critic/*/*/log.txt")
    assert "going on from step" in log.read_text()
    swgctl("gc")  # the draft of a machine that died
    assert list((tmp_path / "store" / "tmp").glob("*")) == []


def test_ctrl_c_stops_the_commands_with_checkpoints(cluster, words, start, tmp_path):
    cluster.add_node(num_cpus=1)
    more = ["--set", "critic.steps=5000", "--until", "critic"]
    driver = start(*words, *more, env={"SWGCTL_CHECKPOINT_EVERY": "0.2"})
    driver.wait_for(lambda: list((tmp_path / "store" / "work").glob("*/checkpoint.safetensors")))
    driver.send(2)
    answer = driver.answer()
    assert answer.code == 130, answer.err
    assert [json.loads(line)["state"] for line in answer.out.splitlines()] == ["unfinished"]
    assert not _commands(tmp_path / "store")


def test_what_is_shared_is_built_once(cluster, words, start, tmp_path):
    cluster.add_node(num_cpus=2)
    more = ["--grid", "diffuse.lr=1e-3,2e-3", "--until", "diffuse"]
    answer = start(*words, *more).answer()
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert Counter((row["stage"], row["state"]) for row in rows) == {
        ("critic", "built"): 1,
        ("augment", "built"): 1,
        ("diffuse", "built"): 2,
    }


def test_at_most_four_share_a_card(cluster, tmp_path, monkeypatch):
    """Cards are labels here: what is counted is how many tasks run at a time, of eight that would fit the cores."""
    cluster.add_node(num_cpus=8, num_gpus=1)
    engine = Ray(tmp_path, cluster.address, gpu=0.25)
    script = "import os, sys, time; open(sys.argv[1], 'w').close(); time.sleep(2); os.remove(sys.argv[1])"
    assert engine._gpu == 0.25
    task = engine._ray.remote(num_cpus=1, num_gpus=engine._gpu)(subprocess.check_call)
    running = tmp_path / "running"
    running.mkdir()
    tasks = [task.remote([sys.executable, "-c", script, str(running / str(i))]) for i in range(8)]
    most = 0
    while engine._ray.wait(tasks, num_returns=8, timeout=0.05)[1]:
        most = max(most, len(list(running.iterdir())))
    engine.close()
    assert 1 < most <= 4


def test_a_machine_without_the_store_says_so(tmp_path):
    """Before it starts anything."""
    given = {"OMP_NUM_THREADS": "1"}
    log = str(tmp_path / "0-critic.log")
    assert _work(["--version"], given, log, "ours") == (UNSEEN, socket.gethostname())
    (tmp_path / NONCE).write_text("another's")
    assert _work(["--version"], given, log, "ours") == (UNSEEN, socket.gethostname())
    assert not os.path.exists(log)
    (tmp_path / NONCE).write_text("ours")
    assert _work(["--version"], given, log, "ours") == (0, socket.gethostname())
    assert (LOST, STOPPED) == (-9, 75)


def _commands(store: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd/2").startswith(f"{store}/tmp/"):
                found.append(process.name)
        except OSError:
            continue
    return found
