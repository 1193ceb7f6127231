"""trajectories: from a data file to a diffusion model of its windows."""

import signal

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import published, swgctl
from support.interrupts import Signalled

pytest_plugins = "support.synthetic"
pytestmark = pytest.mark.training

STEP = "swgctl.learners.trajectories:TrajectoryLearner.step"


def tensors(artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path / "denoiser.safetensors")


def windows_of(ends: np.ndarray, timeouts: np.ndarray, length: int) -> list[np.ndarray]:
    """The rows of every window that runs over no end and does not end by the clock."""
    rows = [np.arange(i, i + length) for i in range(len(ends) - length + 1)]
    return [row for row in rows if not ends[row[:-1]].any() and not timeouts[row[-1]]]


# -- artifacts ---------------------------------------------------------------------------------------------------------


def test_an_artifact_holds_the_model_and_the_statistics_of_its_windows(made):
    artifact = made("trajectories")
    saved = tensors(artifact)
    assert {name.partition(".")[0] for name in saved} == {"ema", "raw", "mean", "std"}
    assert all(value.shape[0] == made.members for name, value in saved.items() if "." in name)
    with h5py.File(made.data) as file:
        data = {name: np.asarray(file[name][()], np.float64) for name in file}
    ended, cut = data["terminals"] > 0, (data["timeouts"] > 0) & (data["terminals"] == 0)
    windows = windows_of(ended | (data["timeouts"] > 0), cut, 8)
    rows = np.concatenate(windows)
    channels = np.column_stack(
        [
            data["observations"],
            np.arctanh(data["actions"].clip(-0.999, 0.999)),
            data["rewards"],
            data["terminals"],
        ]
    )[rows]
    np.testing.assert_allclose(saved["mean"], channels.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(saved["std"], channels.std(0), rtol=1e-5)
    facts = artifact.meta["metrics"]["data"]
    assert (facts["windows"], facts["rows"], facts["observation_dim"], facts["action_dim"]) == (len(windows), 400, 3, 1)
    # a row with both flags is terminal
    starts = np.append(0, np.flatnonzero(ended | (data["timeouts"] > 0))[:-1] + 1)
    returns = np.add.reduceat(data["rewards"], starts)
    assert facts["episodes"] == len(returns)
    for name, value in (("least", returns.min()), ("mean", returns.mean()), ("best", returns.max())):
        assert facts[f"return_{name}"] == pytest.approx(value, rel=1e-5)


def test_a_member_is_the_model_of_its_seed_alone(made):
    together, alone = tensors(made("trajectories")), tensors(made("trajectories", str(made.alone)))
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        member = together[name] if name in ("mean", "std") else together[name][made.alone : made.alone + 1]
        torch.testing.assert_close(value, member, rtol=1e-3, atol=1e-4, msg=name)


def test_a_key_has_what_shapes_the_windows_and_the_task(made):
    artifact = made("trajectories")
    assert {"length", "stride", "features", "groups", "ema", "task", "environment", "horizon"} <= {*artifact.params}
    same = made.ask("trajectories", *made.task, "--seeds", "0-2", "--store", made.folder / "store", "--json").json
    assert (same["status"], same["key"]) == ("cached", artifact.key)


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 5, 12])
def test_a_killed_training_ends_in_the_same_bytes(call, made, start, undisturbed, tmp_path):
    command = ("trajectories", *made.task, "--steps", 12, "--recipe", made.recipe, "--json")
    whole = undisturbed(*command)
    often = {"SWGCTL_CHECKPOINT_EVERY": "0"}
    assert start(*command, env=often, setup=Signalled(STEP, call)).answer().code == -signal.SIGKILL
    assert published(tmp_path / "store") == []
    again = start(*command, env=often).answer().json
    assert (again["digest"], again["status"]) == (whole, "built" if call == 1 else "resumed")
    assert len(swgctl("verify").lines) == 1


def test_a_stopped_training_resumes(made, start, undisturbed):
    command = ("trajectories", *made.task, "--steps", 12, "--recipe", made.recipe, "--json")
    whole = undisturbed(*command)
    answer = start(*command, setup=Signalled(STEP, 9, signal.SIGTERM)).answer()
    answer.refused(75, "stopped by SIGTERM")
    again = start(*command).answer()
    assert "going on from step 9 of 12" in again.err
    assert (again.json["digest"], again.json["status"]) == (whole, "resumed")


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_windows_longer_than_every_episode_are_refused_with_the_longest_that_fits(made, tmp_path):
    """Of 100 rows, of which the last ends by the clock."""
    answer = made.ask("trajectories", *made.task, "--set", "trajectories.length=101")
    answer.refused(3, "no window of 101 rows fits", "has 100")
    assert answer.helps == ["--set trajectories.length=100"]
    assert published(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trajectories.length=2", "trajectories.blocks=3"), "halves a window of 2 rows 2 times"),
        (("trajectories.length=1",), "trajectories.length"),
        (("trajectories.groups=3",), "must divide trajectories.features = 16"),
        (("trajectories.levels=4",), "unknown key 'trajectories.levels'"),
        (("synth.levels=8",), "trajectories has no setting synth.levels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words, says, made, tmp_path):
    answer = made.ask("trajectories", *made.task, *(part for word in words for part in ("--set", word)))
    assert answer.code == 2
    assert says in answer.error
    assert published(tmp_path / "store") == []
