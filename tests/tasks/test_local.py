"""Behaviour policies against hand computations, and local roll-outs against the physics they came from."""

import hashlib
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.tasks import behaviour, environments, local
from swgctl.tasks.behaviour import BehaviourPolicy, RandomPolicy, counter, lock_step

SMALL = local.LocalTask("HalfCheetah-v4", (("random", 200), ("weak", 200)), length=60, streams=2, seed=1)
STRENGTHS = ("weak", "medium", "better")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped(name):
    return local.load(local.of("demo"), name)


@pytest.fixture(scope="module")
def states():
    """States (256, 17) that the cheetah might be in."""
    return np.random.default_rng(0).normal(size=(256, 17)).astype(np.float32)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).normal(size=(256, 6))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(path, lines said) of the demo's data, built once."""
    said = []
    return local.build("demo", tmp_path_factory.mktemp("demo"), said.append)[0], said


# ---- policies


@pytest.mark.parametrize("name", STRENGTHS)
def test_actions_are_those_of_the_same_network_in_torch(name, states, noise):
    policy = shipped(name)
    w = {key: torch.tensor(value) for key, value in policy.tensors.items()}
    x = torch.tensor(states).double()
    for i in range(2):
        x = torch.nn.functional.linear(x, w[f"hidden.{i}.kernel"].T, w[f"hidden.{i}.bias"]).relu()
    mean, log_std = (x @ w[f"{head}.kernel"] + w[f"{head}.bias"] for head in ("mean", "log_std"))
    normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
    expected = torch.tanh(normal.icdf(torch.special.ndtr(torch.tensor(noise))))
    actions = policy.act(states, noise)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, expected.numpy(), rtol=0, atol=1e-7)


def test_the_log_std_is_bounded_on_both_sides():
    head = {"kernel": np.zeros((1, 2))}
    tensors = {"mean.kernel": head["kernel"], "mean.bias": np.array([0.3, 0.3])}
    tensors |= {"log_std.kernel": head["kernel"], "log_std.bias": np.array([-50.0, 50.0])}
    actions = BehaviourPolicy(tensors, {}).act(np.zeros((1, 1)), np.array([[1.0, -0.1]]))
    np.testing.assert_allclose(actions, np.tanh([[0.3 + np.exp(-20), 0.3 - 0.1 * np.exp(2)]]), atol=1e-7)


def test_another_order_of_summation_gives_the_same_bits(states, noise):
    """As from other BLAS kernels: a shuffled hidden layer is the same function, added up differently."""
    policy, order = shipped("better"), np.random.default_rng(2).permutation(256)
    shuffled = dict(policy.tensors)
    shuffled["hidden.0.kernel"] = shuffled["hidden.0.kernel"][:, order]
    shuffled["hidden.0.bias"] = shuffled["hidden.0.bias"][order]
    shuffled["hidden.1.kernel"] = shuffled["hidden.1.kernel"][order]
    expected = policy.act(states, noise)
    np.testing.assert_array_equal(BehaviourPolicy(shuffled, {}).act(states, noise), expected)
    one_by_one = [policy.act(s[None], n[None])[0] for s, n in zip(states, noise, strict=True)]
    np.testing.assert_array_equal(one_by_one, expected)

    def in_float32(tensors):
        w = {key: value.astype(np.float32) for key, value in tensors.items()}
        x = np.maximum(states @ w["hidden.0.kernel"] + w["hidden.0.bias"], 0)
        return x @ w["hidden.1.kernel"]

    assert not np.array_equal(in_float32(policy.tensors), in_float32(shuffled))  # what float64 spares us


def test_a_policy_survives_its_file(tmp_path, states, noise):
    path = tmp_path / "policy.safetensors"
    shipped("weak").save(path)
    assert sha256(path) == sha256(local.policy_file(local.of("demo"), "weak"))
    assert path.stat().st_size < 500_000
    again = BehaviourPolicy.load(path).act(states, noise)
    np.testing.assert_array_equal(again, shipped("weak").act(states, noise))


def test_a_file_that_is_no_policy_is_refused(tmp_path):
    path = tmp_path / "policy.safetensors"
    with pytest.raises(InputError, match="no such behaviour policy"):
        BehaviourPolicy.load(path)
    path.write_bytes(local.policy_file(local.of("demo"), "weak").read_bytes()[:1000])
    with pytest.raises(CorruptError, match="not a behaviour policy"):
        BehaviourPolicy.load(path)
    behaviour.save_file({"mean.bias": np.zeros(6)}, path)
    with pytest.raises(CorruptError, match="not a behaviour policy"):
        BehaviourPolicy.load(path)


def test_training_without_sbx_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sbx", None)
    with pytest.raises(InputError, match="needs sbx-rl") as caught:
        behaviour.main(["HalfCheetah-v4", "--steps", "10", "--out", str(tmp_path)])
    assert caught.value.help == "pip install 'swgctl[behaviour]'"


def test_the_old_version_of_an_environment_is_made_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert environments.make("HalfCheetah-v4").spec.id == "HalfCheetah-v4"


# ---- the loop


def test_episodes_end_by_fall_or_by_clock_and_the_next_one_starts():
    data = lock_step("Hopper-v4", RandomPolicy(), 3, 200, 15, "hopper")
    ends = data["terminals"] | data["timeouts"]
    assert data["terminals"].sum() > 5
    assert data["timeouts"].sum() > 5
    assert not (data["terminals"] & data["timeouts"]).any()
    height, angle = data["next_observations"][..., 0], data["next_observations"][..., 1]
    np.testing.assert_array_equal(data["terminals"], (height <= 0.7) | (np.abs(angle) >= 0.2))
    for i in range(3):
        edges = np.flatnonzero(ends[i])
        lengths = np.diff(edges, prepend=-1)
        assert lengths.max() == 15
        clock = lengths == 15
        clock[-1] = True  # the stream stops there
        np.testing.assert_array_equal(data["timeouts"][i, edges], clock & ~data["terminals"][i, edges])
        inside = ~ends[i, :-1]
        before, after = data["next_observations"][i, :-1], data["observations"][i, 1:]
        np.testing.assert_array_equal(before[inside], after[inside])
        assert ends[i, -1]
        np.testing.assert_allclose(after[~inside], [[1.25, *[0.0] * 10]] * (len(edges) - 1), atol=5.1e-3)
        assert len(np.unique(after[~inside], axis=0)) == len(edges) - 1  # each starts elsewhere


def test_a_stream_does_not_depend_on_its_neighbours():
    few = lock_step("HalfCheetah-v4", shipped("medium"), 2, 50, 20, "x")
    many = lock_step("HalfCheetah-v4", shipped("medium"), 5, 50, 20, "x")
    for key, value in few.items():
        np.testing.assert_array_equal(many[key][:2], value)
    assert not np.array_equal(many["actions"][0], many["actions"][1])


# ---- files


def test_two_roll_outs_are_equal_to_the_byte_and_the_seed_matters(tmp_path):
    one, two = (local.roll_out(SMALL, tmp_path / name) for name in "ab")
    other = local.roll_out(replace(SMALL, seed=2), tmp_path / "c")
    assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b", "c"]
    with h5py.File(one) as a, h5py.File(other) as c:
        assert not (a["actions"][:] == c["actions"][:]).any()


def test_the_file_says_what_it_holds(tmp_path):
    with h5py.File(local.roll_out(SMALL, tmp_path / "small.hdf5")) as file:
        assert {key: (file[key].shape, file[key].dtype.name) for key in local.FIELDS} == {
            "observations": ((400, 17), "float32"),
            "actions": ((400, 6), "float32"),
            "rewards": ((400,), "float32"),
            "next_observations": ((400, 17), "float32"),
            "terminals": ((400,), "bool"),
            "timeouts": ((400,), "bool"),
            "infos/behaviour_policy": ((400,), "int8"),
        }
        assert all(file[key].attrs["long_name"] and file[key].attrs["units"] for key in local.FIELDS)
        assert file.attrs["env"] == "HalfCheetah-v4"
        assert file.attrs["seed"] == 1
        assert file.attrs["schema"] == local.SCHEMA
        assert json.loads(file.attrs["policies"])["weak"] == shipped("weak").about
        who = file["infos/behaviour_policy"]
        assert list(who.attrs["names"]) == ["random", "weak"]
        np.testing.assert_array_equal(who[:], np.repeat([0, 1], 200))
        # Streams of 100 rows, episodes of 60 by the clock: the second of a stream is cut at 40.
        np.testing.assert_array_equal(np.flatnonzero(file["timeouts"]) % 100, [59, 99] * 4)


def test_actions_follow_from_the_file_and_the_seed(tmp_path):
    with h5py.File(local.roll_out(SMALL, tmp_path / "small.hdf5")) as file:
        rows = slice(300, 400)  # the second stream of the second policy
        noise = np.random.Generator(np.random.Philox(counter(1, "weak", 1))).standard_normal((100, 6))
        expected = shipped("weak").act(file["observations"][rows], noise)
        np.testing.assert_array_equal(file["actions"][rows], expected)


def test_every_row_is_a_step_of_the_simulator(demo):
    """Put a fresh cheetah where the file says it was, act, and see it get where the file says it got."""
    world = environments.make("HalfCheetah-v4").unwrapped
    world.reset(seed=0)
    with h5py.File(demo[0]) as file:
        rows = np.sort(np.random.default_rng(3).choice(60_000, 1000, replace=False))
        s, a, r, s2 = (file[key][rows] for key in ("observations", "actions", "rewards", "next_observations"))
    reached, paid = np.empty_like(s2), np.empty_like(r)
    for i in range(len(rows)):
        world.set_state(np.concatenate([[0.0], s[i, :8]]), s[i, 8:].astype(np.float64))
        reached[i], paid[i], *_ = world.step(a[i].astype(np.float64))
    # The file's states are rounded to float32, and where a foot strikes the ground the step amplifies that.
    off = np.abs(reached - s2).max(axis=1)
    assert np.mean(off < 1e-5) > 0.95
    assert off.max() < 1e-2
    np.testing.assert_allclose(paid, r, rtol=0, atol=1e-4)


def test_the_demo_has_four_strengths(demo):
    with h5py.File(demo[0]) as file:
        returns = file["rewards"][:].astype(np.float64).reshape(4, 15, 1000).sum(axis=2).mean(axis=1)
        about = json.loads(file.attrs["policies"])
        np.testing.assert_array_equal(np.flatnonzero(file["timeouts"]), np.arange(999, 60_000, 1000))
        assert not file["terminals"][:].any()
    assert (np.diff(returns) > 500).all()
    assert -400 < returns[0] < -150
    # 15 episodes here, 20 there, with standard deviations of up to 300: three sigma of the difference.
    np.testing.assert_allclose(returns[1:], [about[name]["return_mean"] for name in STRENGTHS], atol=300)
    assert returns[-1] < 3000


def test_the_demo_is_the_recorded_one(demo):
    recorded, installed = json.loads(local.RECORDED.read_text()), local.versions(local.of("demo"))
    if other := local.other_versions(recorded["versions"], installed):
        pytest.skip(f"recorded with {other}, here {installed}")
    assert sha256(demo[0]) == recorded["sha256"]["demo"]
    assert len(demo[1]) == 1  # nothing to remark


def test_a_built_file_is_taken_as_it_is(demo):
    path, before = demo[0], demo[0].stat().st_mtime_ns
    assert local.build("demo", path.parent, pytest.fail) == (path, sha256(path))
    assert path.stat().st_mtime_ns == before


def test_a_file_that_changed_since_it_was_built_is_refused(demo, tmp_path):
    path = tmp_path / demo[0].name
    shutil.copy(demo[0], path)
    local.build("demo", tmp_path, pytest.fail)
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(CorruptError, match="sha256 is"):
        local.build("demo", tmp_path, pytest.fail)


def test_the_file_name_depends_on_the_recipe():
    hashes = {local.recipe_hash(replace(SMALL, **change)) for change in ({}, {"seed": 3}, {"length": 70})}
    assert len(hashes) == 3


def test_an_unknown_task_comes_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'demo'"):
        local.build("dmo", tmp_path, print)


def test_other_bytes_are_remarked_on():
    theirs = {"mujoco": "3.10.0", "numpy": "2.4.6"}
    assert local.compare("aa", "aa", theirs, {}) is None
    assert local.compare(None, "aa", theirs, theirs) is None
    same = local.compare("aa", "bb", theirs, theirs)
    assert same.startswith("the file's sha256 is bb, but aa was recorded with the same versions")
    other = local.compare("aa", "bb", theirs, {"mujoco": "3.11.0", "numpy": "2.4.6"})
    assert other.endswith("the recorded one belongs to other versions (mujoco 3.10.0, here 3.11.0)")


def test_ogbenchs_version_is_asked_where_its_oracle_acts(monkeypatch):
    monkeypatch.setattr(local, "version", lambda name: "1.1.0" if name == "ogbench" else "0")
    recorded = json.loads(local.RECORDED.read_text())["versions"]
    cube, demo = (local.versions(local.of(name)) for name in ("local-cube-single-play", "demo"))
    assert local.other_versions(recorded, cube)["ogbench"] == "1.2.2" != cube["ogbench"]
    assert "ogbench" not in local.other_versions(recorded, demo)


CHILD = """
import os, sys, time
from pathlib import Path
from swgctl.tasks import local

def stop(*_):
    print("here", flush=True)
    time.sleep(60)

class Fields(dict):
    def __getitem__(self, key):
        return stop() if key == "rewards" else super().__getitem__(key)

if sys.argv[2] == "while writing":
    local.FIELDS = Fields(local.FIELDS)
if sys.argv[2] == "before the rename":
    os.replace = stop
task = local.LocalTask("HalfCheetah-v4", (("random", 200), ("weak", 200)), length=60, streams=2, seed=1)
local.roll_out(task, Path(sys.argv[1]))
"""


def child(path, when):
    return subprocess.Popen([sys.executable, "-c", CHILD, path, when], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("when", ["while writing", "before the rename"])
def test_a_killed_roll_out_leaves_no_file_under_the_name(tmp_path, when):
    path = tmp_path / "small.hdf5"
    with child(path, when) as process:
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert process.returncode == -9
    assert not path.exists()
    assert local.roll_out(SMALL, path).read_bytes() == local.roll_out(SMALL, tmp_path / "other").read_bytes()


def test_two_at_once_both_succeed(tmp_path):
    path = tmp_path / "small.hdf5"
    with child(path, "never") as one, child(path, "never") as two:
        assert (one.wait(), two.wait()) == (0, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["small.hdf5"]
    assert path.read_bytes() == local.roll_out(SMALL, tmp_path / "other").read_bytes()
