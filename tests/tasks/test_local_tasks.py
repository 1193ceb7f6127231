"""Tasks from end to end: short chains of the four stages on data that nobody made for the tests."""

import json
import os
from pathlib import Path

import h5py
import pytest
from support.harness import real, swgctl

from swgctl import tasks
from swgctl.tasks import local, registry

SHORT = """\
critic: {steps: 60, hidden: [16], batch: 32}
diffuse: {steps: 40, width: 16, batch: 32, K: 3}
eval: {rho: [0, 5], resample: [1, 2], temperature: 1, episodes: 1}
"""
LOCAL = [name for name in tasks.names() if tasks.get(name).source.startswith("local:")]


@pytest.fixture(scope="module")
def rolled_out(tmp_path_factory):
    """rolled_out(name): the file of a local task, made once."""
    folder = tmp_path_factory.mktemp("local")
    said = []

    def build(name: str) -> tuple[Path, list[str]]:
        said.clear()
        return local.build(name, folder, said.append)[0], list(said)

    return build


@pytest.fixture
def chain(tmp_path, monkeypatch, rolled_out):
    """chain(*task): `swgctl run` of it, shortened; the evaluation's object."""

    def run(*task):
        if task[0] in LOCAL:
            file, _ = rolled_out(task[0])
            (tmp_path / "cache" / "local").mkdir(parents=True)
            os.link(file, tmp_path / "cache" / "local" / file.name)
        recipe = tmp_path / "short.yaml"
        recipe.write_text(SHORT)
        return swgctl("run", *task, "--recipe", recipe, "--json").json

    return run


def check(result: dict, scores: bool) -> None:
    cells = result["metrics"]["cells"]
    assert [(cell["rho"], cell["candidates"]) for cell in cells] == [(0, 1), (5, 1), (0, 2), (5, 2)]
    assert all((cell["score_mean"] is not None) is scores for cell in cells)
    assert all(isinstance(cell["return_mean"], float) for cell in cells)


@pytest.mark.slow
def test_a_local_task_from_nothing_to_a_score(chain):
    check(chain("local-maze2d-umaze"), scores=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["local-halfcheetah-medium-expert", "local-hopper-medium-replay", "local-walker2d-medium", "local-maze2d-large"],
)
def test_the_other_families_of_local_tasks(name, chain):
    check(chain(name), scores=True)


def test_pendulum_as_somebody_else_recorded_it(chain):
    check(chain(real("pendulum-medium-sac-rllib"), "--env", "Pendulum-v1"), scores=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_every_local_task_is_the_recorded_one(name, rolled_out):
    """To record them: SWGCTL_UPDATE_CHECKSUMS=1 python -m pytest -m slow tests/tasks/test_local_tasks.py"""
    path, said = rolled_out(name)
    digest = (path.parent / f"{path.name}.sha256").read_text().split()[0]
    recorded, installed = json.loads(local.RECORDED.read_text()), local.versions(local.of(name))
    if os.environ.get("SWGCTL_UPDATE_CHECKSUMS") == "1":
        same = {} if local.other_versions(recorded["versions"], installed) else recorded["sha256"]
        recorded = {
            "versions": recorded["versions"] | installed,
            "sha256": dict(sorted((same | {name: digest}).items())),
        }
        local.RECORDED.write_text(json.dumps(recorded, indent=2) + "\n")
    if other := local.other_versions(recorded["versions"], installed):
        pytest.skip(f"recorded with {other}, here {installed}")
    assert recorded["sha256"][name] == digest
    assert not any("sha256" in line for line in said)  # nothing to remark
    facts = registry.facts(tasks.get(name))
    with h5py.File(path) as file:
        assert len(file["rewards"]) == facts.rows
        assert (file["observations"].shape[1], file["actions"].shape[1]) == facts.dimensions


def test_a_mixture_is_of_policies_that_are_here():
    for name in LOCAL:
        rollout = registry.facts(tasks.get(name)).rollout
        assert sum(rollout["policies"].values()) == registry.facts(tasks.get(name)).rows
        assert all(rows % rollout["streams"] == 0 for rows in rollout["policies"].values())
        for policy in rollout["policies"]:
            if policy not in (local.RANDOM, local.WAYPOINTS, local.ORACLE):
                file = local.policy_file(local.of(name), policy)
                assert file.stat().st_size < 500_000
                about = local.load(local.of(name), policy).about
                assert about["environment"] == tasks.get(name).environment.removeprefix("swgctl/")
                assert {"algorithm", "library", "seed", "steps", "return_mean"} <= about.keys()
