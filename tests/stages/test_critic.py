"""critic: what its losses take and need, what enters its key, and how candidates of the next states are checked."""

from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from support.records import Bare

from swgctl.config import AUGMENT, CRITIC, AugmentSettings, CriticSettings
from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.files import load_tensors, sha256
from swgctl.stages import augment, critic
from swgctl.tasks import Task

ROWS = 400  # of the data
SEEDS = [0, 4]
TINY = CriticSettings(loss="isq", steps=5, hidden=[8], batch=16, precision="fp32")


@pytest.fixture
def task(pendulum) -> Task:
    return Task("pendulum", "Pendulum-v1", f"file:{pendulum()}", "none", "default", references=None, horizon=200)


@pytest.fixture
def candidates(task, tmp_path):
    """candidates(z, rows, **changes of the artifact) -> an artifact of candidates of all next states, or as changed."""

    def make(z=None, rows=None, params=None, **changes):
        path = tmp_path / "candidates.hdf5"
        with h5py.File(path, "w") as file:
            file["rows"] = np.arange(ROWS) if rows is None else rows
            file["z"] = drawn() if z is None else z
        meta = {
            "source": {"sha256": sha256(tmp_path / "pendulum.hdf5")},
            "task": task.to_json(),
            "inputs": {"behaviour": {"key": "b" * 64}},
        }
        artifact = Bare(
            id="c" * 16,
            task=task.name,
            digest="digest",
            seeds=SEEDS,
            params={"of": "next", "rows": 0} | (params or {}),
            meta=meta | changes.pop("meta", {}),
            file=lambda name: tmp_path / name,
        )
        return Bare(**vars(artifact) | changes)

    return make


def drawn(channels: int = 1) -> np.ndarray:
    """z (S, N, M, C), its actions partly outside [-1, 1]."""
    return np.random.default_rng(0).normal(size=(2, ROWS, 3, channels)).astype(np.float32)


def key(task: Task, settings: CriticSettings, **inputs) -> str:
    return critic.prepare(task, settings, SEEDS, inputs).key


def built(task: Task, given, folder) -> dict[str, torch.Tensor]:
    job = critic.prepare(task, TINY, SEEDS, {"candidates": given})
    for name in ("artifact", "work"):
        (folder / name).mkdir(parents=True)
    critic.build(job, folder / "artifact", folder / "work")
    return load_tensors(folder / "artifact/critic.safetensors")


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_coefficient_enters_the_key_with_the_loss_that_reads_it(task, candidates):
    for loss, read, ignored in (("cql", "cql_alpha", "q_beta"), ("isq", "q_beta", "cql_alpha")):
        settings, inputs = TINY.model_copy(update={"loss": loss}), {"candidates": candidates()} if loss == "isq" else {}
        plain = key(task, settings, **inputs)
        assert key(task, settings.model_copy(update={read: 3.0}), **inputs) != plain
        assert key(task, settings.model_copy(update={ignored: 3.0}), **inputs) == plain
    expectile = TINY.model_copy(update={"loss": "expectile"})
    assert "q_beta" not in expectile.keyed()
    changed = expectile.model_copy(update={"q_beta": 3.0, "cql_alpha": 3.0})
    assert changed.keyed() == expectile.keyed()


def test_candidates_enter_the_key(task, candidates):
    one, other = candidates(), candidates(digest="another")
    assert key(task, TINY, candidates=one) == key(task, TINY, candidates=candidates())
    assert key(task, TINY, candidates=one) != key(task, TINY, candidates=other)


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message", "help"),
    [
        ({"task": "walker"}, "of the task walker, not pendulum", "swgctl behaviour"),
        ({"meta": {"source": {"sha256": "5" * 64}}}, "sha256 is 555555555555, not", "--seeds 0,4"),
        ({"seeds": [0]}, "of the seeds 0, not 0,4", "--seeds 0 --loss isq --candidates cccccccccccccccc"),
        ({"params": {"of": "states"}}, "has those of all states", "--from bbbbbbbbbbbbbbbb --of next"),
        ({"params": {"rows": 50}}, "has those of 50 next states", "--set candidates.rows=0"),
    ],
)
def test_candidates_of_something_else_are_refused(task, candidates, changes, message, help):
    with pytest.raises(InputError, match=message) as caught:
        critic.prepare(task, TINY, SEEDS, {"candidates": candidates(**changes)})
    assert help in caught.value.help


def test_candidates_of_another_environment_are_refused(task, candidates):
    other = replace(task, environment="Walker2d-v4")
    with pytest.raises(InputError, match="are of Walker2d-v4, not Pendulum-v1"):
        key(task, TINY, candidates=candidates(meta={"task": other.to_json()}))


@pytest.mark.parametrize("loss", ["expectile", "cql", "dice"])
def test_other_losses_refuse_candidates(task, candidates, loss):
    with pytest.raises(UsageError, match=f"the loss {loss} learns from no candidates"):
        key(task, TINY.model_copy(update={"loss": loss}), candidates=candidates())


def test_a_critic_learns_from_the_actions_of_candidates_within_their_bounds(task, candidates, tmp_path):
    """Of z = [action, weight] the weight is no matter, and actions are clipped to [-1, 1]."""
    joint = drawn(2)
    plain = built(task, candidates(joint[..., :1]), tmp_path / "plain")
    assert all(value.isfinite().all() for value in plain.values())
    for name, z in (("joint", joint), ("clipped", joint[..., :1].clip(-1, 1))):
        same = built(task, candidates(z), tmp_path / name)
        assert all(torch.equal(value, plain[key]) for key, value in same.items())
    other = built(task, candidates(-joint), tmp_path / "other")
    assert not all(torch.equal(value, plain[key]) for key, value in other.items())


@pytest.mark.parametrize("rows", [np.arange(ROWS)[::-1], np.arange(ROWS - 1)])
def test_candidates_whose_rows_are_not_the_datas_are_refused(task, candidates, rows, tmp_path):
    with pytest.raises(CorruptError, match="its rows are not the data's 400"):
        built(task, candidates(rows=rows), tmp_path / "made")


# -- weights that follow -----------------------------------------------------------------------------------------------


def parent(loss: str, task: Task, path) -> SimpleNamespace:
    meta = {"source": {"sha256": sha256(path)}, "origin": {"critic.loss": "--loss", "critic.q_beta": "--set"}}
    meta |= {"inputs": {}, "task": task.to_json()}
    params = {"loss": loss, "tau": 0.7, "alpha": 0.5}
    return SimpleNamespace(stage="critic", id="a" * 16, digest="d", seeds=SEEDS, meta=meta, params=params)


@pytest.mark.parametrize(
    ("loss", "weight"), [("cql", "expectile"), ("isq", "exponential"), ("isq", "hard_expectile"), ("dice", "dice")]
)
def test_weights_follow_the_losses_whose_v_they_need(task, tmp_path, loss, weight):
    settings = AugmentSettings(weight=weight, w_max=100.0)
    job = augment.prepare(task, settings, SEEDS, {"critic": parent(loss, task, tmp_path / "pendulum.hdf5")})
    assert job.stage is AUGMENT
    assert job.params["alpha"] == 0.5
    assert ("w_max" in job.params) == (weight in ("exponential", "dice"))


@pytest.mark.parametrize(("loss", "weight"), [("cql", "linex"), ("dice", "expectile"), ("isq", "dice")])
def test_other_pairs_are_refused_with_the_loss_that_fits(task, tmp_path, loss, weight):
    with pytest.raises(InputError, match=f"needs V trained with the {weight} loss; .* has the {loss} loss") as caught:
        augment.prepare(
            task, AugmentSettings(weight=weight), SEEDS, {"critic": parent(loss, task, tmp_path / "pendulum.hdf5")}
        )
    assert caught.value.help.endswith(f"--loss {weight}")


def test_the_stage_of_critics_is_as_old_as_it_was():
    """New losses enter keys by their name; a new revision would orphan every critic."""
    assert CRITIC.revision == 1
