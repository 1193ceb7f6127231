"""synth: synthetic data sets, what is measured of them, and the chain of SWG that learns from one."""

import json
import math
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import published, swgctl

from swgctl.errors import InputError
from swgctl.files import sha256
from swgctl.stages.synth import check_agent
from swgctl.store import Artifact

pytest_plugins = "support.synthetic"
pytestmark = pytest.mark.training

SETS = ("unguided", "shift", "posterior", "rolled")
WINDOWS, LENGTH = 12, 8
UNITS = {
    "observations": "environment",
    "actions": "1",
    "rewards": "environment",
    "next_observations": "environment",
    "terminals": "bool",
    "timeouts": "bool",
    "infos/next_observation_valid": "bool",
    "infos/seed": "1",
}


def arrays(artifact, member: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a set; of a member, in windows (W, L - 1, ...)."""
    with h5py.File(artifact.path / "data.hdf5") as file:
        data = {name: file[name][()] for name in UNITS if name in file}
    if member is None:
        return data
    owned = data["infos/seed"] == artifact.seeds[member]
    return {name: array[owned].reshape(WINDOWS, LENGTH - 1, *array.shape[1:]) for name, array in data.items()}


def digest_of(path) -> str:
    return sha256(path / "data.hdf5")


# -- layout ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_d4rls_flat_layout(name, made):
    """Every window of L rows gives L - 1, whose next observations are all known; members follow one another."""
    artifact = made(name)
    rows = made.members * WINDOWS * (LENGTH - 1)
    with h5py.File(artifact.path / "data.hdf5") as file:
        assert {array: file[array].attrs["units"] for array in UNITS} == UNITS
        assert all(len(file[array]) == rows for array in UNITS)
        returns = file.attrs["returns"]
    data = arrays(artifact)
    assert (data["infos/seed"] == np.repeat(artifact.seeds, rows // made.members)).all()
    assert data["infos/next_observation_valid"].all()
    assert {data[array].dtype for array in ("observations", "actions", "rewards")} == {np.dtype(np.float32)}
    assert np.abs(data["actions"]).max() <= 1
    windows, following = (data[array].reshape(-1, LENGTH - 1, 3) for array in ("observations", "next_observations"))
    np.testing.assert_array_equal(windows[:, 1:], following[:, :-1])
    last = data["timeouts"].reshape(-1, LENGTH - 1)
    assert not last[:, :-1].any()
    np.testing.assert_array_equal(last[:, -1], ~data["terminals"].reshape(-1, LENGTH - 1)[:, -1])
    with h5py.File(made.data) as file:
        ends = np.flatnonzero(file["terminals"][()] | file["timeouts"][()])
        each = np.add.reduceat(file["rewards"][()].astype(np.float64), np.append(0, ends[:-1] + 1))
    np.testing.assert_allclose(returns, [each.min(), each.mean(), each.max()], rtol=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_a_member_draws_what_its_seed_draws_alone(name, made):
    artifact, alone = made(name), made(name, str(made.alone))
    mine, ours = arrays(alone, 0), arrays(artifact, made.alone)
    for array in ("observations", "next_observations", "rewards", "actions"):
        scale = max(1.0, float(np.abs(ours[array]).max()))
        np.testing.assert_allclose(mine[array], ours[array], atol=5e-3 * scale, err_msg=array)
    other = arrays(artifact, 0)
    assert not np.allclose(other["observations"], ours["observations"], atol=0.1)


def test_an_agent_of_one_seed_guides_every_member(made):
    one = Artifact(
        made.ask("synth", "--from", made("trajectories").path, "--agent", made("td3bc", str(made.alone)).path).path
    )
    assert one.seeds == made("trajectories").seeds
    ours, theirs = arrays(one, made.alone), arrays(made("shift"), made.alone)
    np.testing.assert_allclose(ours["actions"], theirs["actions"], atol=5e-3)
    assert not np.allclose(arrays(one, 0)["actions"], arrays(made("shift"), 0)["actions"], atol=5e-3)


@pytest.mark.parametrize("width", ["observation_dim", "action_dim"])
def test_an_agent_of_other_widths_is_refused(width, made):
    agent, model = made("td3bc"), made("trajectories")
    meta = json.loads(json.dumps(agent.meta))
    meta["metrics"]["data"][width] += 1
    other = SimpleNamespace(id=agent.id, seeds=agent.seeds, meta=meta)
    with pytest.raises(InputError, match=r"has the widths \[.*\], the model .* \[3, 1\]") as caught:
        check_agent(other, model)
    assert caught.value.help == f"swgctl agent --from {model.id}"
    check_agent(agent, model)


# -- guidance ----------------------------------------------------------------------------------------------------------


def test_at_lambda_0_an_agent_changes_no_byte_of_the_data(made):
    unguided = made("unguided")
    measured = Artifact(
        made.ask(
            *("synth", "--from", made("trajectories").path, "--agent", made("td3bc").path, "--lambda", 0),
        ).path
    )
    assert digest_of(measured.path) == digest_of(unguided.path)
    assert measured.key != unguided.key
    assert {"likelihood", "on_policy"} == measured.meta["metrics"].keys() - unguided.meta["metrics"].keys()
    for member in range(made.members):
        assert not np.allclose(arrays(made("shift"), member)["actions"], arrays(unguided, member)["actions"], atol=1e-3)


def test_trajectories_that_are_not_finite_are_refused(made):
    model, noise = made("trajectories").path, ("--set", "synth.churn_noise=1e38")
    answer = made.ask("synth", "--from", model, "--lambda", 0, *noise)
    answer.refused(1, "the trajectories are not finite")


def test_the_seed_is_of_the_noise_and_of_the_states_that_roll_outs_start_from(made):
    for name in ("unguided", "rolled"):
        role, agent = ("trajectories", ()) if name == "unguided" else ("dynamics", ("--agent", made("iql").path))
        scale = ("--lambda", 0) if name == "unguided" else ()
        other = Artifact(made.ask("synth", "--from", made(role).path, *agent, *scale, "--set", "synth.seed=1").path)
        first, second = (arrays(one)["observations"].reshape(-1, LENGTH - 1, 3)[:, 0] for one in (made(name), other))
        assert not (first == second).all(-1).any()


# -- measures ----------------------------------------------------------------------------------------------------------


def layer(saved: dict, number: int, x: np.ndarray, member: int) -> np.ndarray:
    weight, bias = (saved[f"actor.net.layers.{number}.{what}"][member].double().numpy() for what in ("weight", "bias"))
    return x @ weight + bias


def gaussian(agent: Artifact, member: int, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of an agent's policy, from its file."""
    saved = load_file(agent.path / "agent.safetensors")
    mean, std = (saved[f"actor.{name}"][member].double().numpy() for name in ("mean", "std"))
    hidden = np.maximum(layer(saved, 0, (observations - mean) / std, member), 0)
    sd = np.exp(saved["actor.log_std"][member].double().numpy()) if "actor.log_std" in saved else np.ones(1)
    return np.tanh(layer(saved, 1, hidden, member)), sd


@pytest.mark.parametrize(("name", "agent"), [("shift", "td3bc"), ("posterior", "iql"), ("rolled", "iql")])
def test_likelihoods_are_those_of_the_rows_under_the_agents_policy(name, agent, made):
    artifact, metrics = made(name), made(name).meta["metrics"]
    for member in range(made.members):
        data = arrays(artifact, member)
        mean, sd = gaussian(made(agent), member, data["observations"].astype(np.float64))
        log_p = -(((data["actions"] - mean) / sd) ** 2) / 2 - np.log(sd) - math.log(2 * math.pi) / 2
        assert metrics["likelihood"][member] == pytest.approx(log_p.sum(-1).mean(), rel=1e-4, abs=1e-5)
        own = np.clip(mean + sd * np.random.default_rng(0).normal(size=(4000, *mean.shape)), -1, 1)
        log_p = -(((own - mean) / sd) ** 2) / 2 - np.log(sd) - math.log(2 * math.pi) / 2
        assert metrics["on_policy"][member] == pytest.approx(log_p.sum(-1).mean(), abs=0.02)


def test_guidance_makes_actions_likelier(made):
    measured = made.ask(
        *("synth", "--from", made("trajectories").path, "--agent", made("iql").path, "--lambda", 0, "--json")
    ).json["metrics"]["likelihood"]
    guided = made("posterior").meta["metrics"]["likelihood"]
    assert all(more > less for more, less in zip(guided, measured, strict=True))


@pytest.mark.parametrize("name", ["unguided", "rolled"])
def test_errors_are_those_of_the_pendulums_equation(name, made):
    """theta'' = 3 g / (2 l) sin theta + 3 u / (m l^2), g = 10, m = l = 1, u = 2 a, steps of 0.05 s, speed within 8."""
    artifact = made(name)
    with h5py.File(made.data) as file:
        rows = file["observations"][()]
    for member in range(made.members):
        data = {key: value.astype(np.float64) for key, value in arrays(artifact, member).items()}
        states, reached = data["observations"], data["next_observations"]
        theta, speed, torque = np.arctan2(states[..., 1], states[..., 0]), states[..., 2], 2 * data["actions"][..., 0]
        faster = (speed + (15 * np.sin(theta) + 3 * torque) * 0.05).clip(-8, 8)
        angle = theta + faster * 0.05
        error = reached - np.stack([np.cos(angle), np.sin(angle), faster], -1)
        reward = data["rewards"] + theta**2 + 0.1 * speed**2 + 0.001 * torque**2
        dynamics = {key: value[member] for key, value in artifact.meta["metrics"]["dynamics"].items()}
        assert dynamics["one_step_raw"] == pytest.approx((error**2).mean(), rel=1e-4)
        assert dynamics["reward"] == pytest.approx((reward**2).mean(), rel=1e-4)
        assert len(dynamics["horizon"]) == LENGTH - 1
        assert dynamics["horizon_raw"][0] == pytest.approx((error[:, 0] ** 2).mean(), rel=1e-4)
        if name == "rolled":  # its channels are scaled by all rows of the data
            expected = ((error / rows.std(0)) ** 2).mean()
            assert dynamics["one_step"] == pytest.approx(expected, rel=1e-3)
        assert dynamics["clipped"] == 0


# -- keys --------------------------------------------------------------------------------------------------------------

WALK = {"levels", "rule", "churn", "churn_min", "churn_max", "churn_noise"}
GUIDING = {"guidance", "ramp", "unit", "denoised"}
ALWAYS = {"trajectories", "seed", "precision"}


def test_a_key_has_what_is_read_and_no_other(made):
    assert made("unguided").params.keys() == ALWAYS | WALK | {"scale"}
    assert made("shift").params.keys() == ALWAYS | WALK | GUIDING | {"scale"}
    assert made("rolled").params.keys() == ALWAYS | {"length"}
    for name in ("shift", "rolled"):
        assert {*made(name).meta["inputs"]} == {"agent", "dynamics" if name == "rolled" else "trajectories"}
    assert {*made("unguided").meta["inputs"]} == {"trajectories"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rolled", ("--lambda", 1)),
        ("rolled", ("--guidance", "shift")),
        ("rolled", ("--set", "synth.levels=8")),
        ("shift", ("--set", "synth.length=8")),
    ],
)
def test_settings_that_are_not_read_are_refused(name, words, made, tmp_path):
    inputs = [word for one in made(name).meta["inputs"].items() for word in ("--from", f"{one[0]}={one[1]['path']}")]
    answer = made.ask("synth", *inputs, *words)
    assert answer.code == 2
    assert "reads no setting" in answer.error
    assert published(tmp_path / "store") == []


# -- SWG on a synthetic set --------------------------------------------------------------------------------------------


def test_a_critic_learns_each_member_from_its_own_rows(made):
    """As from the set of that seed alone, which differs by rounding."""
    together, alone = (
        load_file(made("critic", seeds).path / "critic.safetensors") for seeds in ("0-2", str(made.alone))
    )
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name][made.alone : made.alone + 1], rtol=5e-3, atol=5e-3, msg=name)
    assert made("critic").meta["inputs"].keys() == {"synth"}
    assert made("critic").seeds == made("shift").seeds


def test_weights_are_of_all_rows_and_statistics_of_each_members_own(made):
    artifact = made("augment")
    with h5py.File(artifact.path / "data.hdf5") as file:
        weights, advantages, owners = (file[name][()] for name in ("weights", "advantages", "infos/seed"))
    rows = made.members * WINDOWS * (LENGTH - 1)
    assert weights.shape == (made.members, rows)
    assert (weights > 0).all()
    np.testing.assert_array_equal(owners, arrays(made("shift"))["infos/seed"])
    own = [row[owners == seed].astype(np.float64) for row, seed in zip(weights, artifact.seeds, strict=True)]
    metrics = artifact.meta["metrics"]
    assert metrics["mean"] == pytest.approx(np.mean([w.mean() for w in own]), rel=1e-6)
    assert metrics["ess"] == pytest.approx(np.mean([w.sum() ** 2 / (w**2).sum() / len(w) for w in own]), rel=1e-6)
    assert (metrics["min"], metrics["max"]) == pytest.approx((np.min(own), np.max(own)))
    own = [row[owners == seed].astype(np.float64) for row, seed in zip(advantages, artifact.seeds, strict=True)]
    assert metrics["advantage_mean"] == pytest.approx(np.mean(own), rel=1e-5, abs=1e-6)


def test_a_policy_learns_each_member_from_its_own_rows(made):
    together, alone = (
        load_file(made("diffuse", seeds).path / "policy.safetensors") for seeds in ("0-2", str(made.alone))
    )
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name][made.alone : made.alone + 1], rtol=5e-2, atol=5e-3, msg=name)
    own = arrays(made("shift"))["infos/seed"] == made.alone
    with h5py.File(made("augment").path / "data.hdf5") as file:
        weights = file["weights"][made.alone, own]
    torch.testing.assert_close(together["weight_range"][made.alone], torch.tensor([weights.min(), weights.max()]))


def test_the_chain_is_evaluated_on_the_task_of_the_real_data(made):
    evaluation = made("eval")
    assert evaluation.task == made("trajectories").task
    assert {*evaluation.ancestors()} == {
        *("eval", "diffuse", "augment", "critic", "synth", "trajectories", "agent"),
    }
    (cell,) = json.loads((evaluation.path / "summary.json").read_text())["cells"]
    assert cell["seeds"] == made.members


@pytest.mark.parametrize(
    ("words", "stage"), [(("guide", "mse"), "guide"), (("candidates",), "candidates")], ids=["guide", "candidates"]
)
def test_what_takes_all_rows_for_every_seed_refuses_a_policy_of_synthetic_rows(words, stage, made, tmp_path):
    answer = made.ask(*words, "--from", made("diffuse").path)
    answer.refused(3, f"{stage} takes all rows for every seed", "synthetic rows")
    assert published(tmp_path / "store") == []


def test_a_policy_of_synthetic_rows_is_not_diagnosed(made):
    answer = swgctl("plot", "guidance", made("diffuse").path)
    answer.refused(3, "a diagnosis takes all rows for every seed", "synthetic rows")


def test_everything_that_was_built_verifies(made):
    for name in (*SETS, "augment"):
        made(name)
    lines = swgctl("verify", "--store", made.folder / "store").lines
    assert len(lines) == len(made.built)
