"""dynamics: from a data file to an artifact that rolls out."""

import pytest
import torch

from swgctl.files import load_tensors
from swgctl.policies.dynamics import load_dynamics, roll
from swgctl.randomness import generator
from swgctl.stages import run_stage

SMALL = ("dynamics.members=3", "dynamics.elites=2", "dynamics.hidden=[8]", "dynamics.steps=60", "dynamics.batch=32")


def build(path, *assignments, seeds="0,4"):
    options = {"environment": "Pendulum-v1", "seeds": seeds, "assignments": (*SMALL, *assignments)}
    return run_stage("dynamics", str(path), device="cpu", **options)


@pytest.mark.training
def test_an_ensemble_of_a_file(pendulum):
    result = build(pendulum())
    metrics = result.artifact.meta["metrics"]
    parameters = 3 * ((4 + 1) * 8 + (8 + 1) * 8) + 2 * 4
    known = {"observation_dim": 3, "action_dim": 1, "rows": 400, "episodes": 4, "parameters": parameters}
    assert metrics["data"].items() >= known.items()
    assert metrics["steps"] == 60
    assert len(metrics["holdout_mse"]) == 2
    assert all(0 < error < float("inf") for error in metrics["holdout_mse"])

    tensors = load_tensors(result.artifact.file("dynamics.safetensors"))
    assert all(tensor.shape[0] == 2 for tensor in tensors.values())
    assert tensors["elites"].shape == (2, 2)
    ensemble, elites = load_dynamics(result.artifact, "cpu")
    first = torch.randn(2, 5, 3, generator=generator(0, "first", 0))
    windows = roll(
        ensemble,
        elites,
        lambda s: (s[..., :1].tanh(), torch.tensor(0.1)),
        first,
        4,
        [generator(s, "roll", 0) for s in (0, 4)],
    )
    assert [tuple(values.shape) for values in windows] == [(2, 5, 4, 3), (2, 5, 4, 1), (2, 5, 4), (2, 5, 4)]
    assert all(values.isfinite().all() for values in windows)
    assert torch.equal(windows[0][:, :, 0], first)


@pytest.mark.training
def test_one_key_is_one_ensemble_and_a_setting_is_part_of_it(pendulum):
    first = build(pendulum())
    assert build(pendulum()).status == "cached"
    other = build(pendulum(), "dynamics.elites=1")
    assert other.artifact.meta["key"] != first.artifact.meta["key"]
    assert load_dynamics(other.artifact, "cpu")[1].shape == (2, 1)


@pytest.mark.training
def test_a_seed_among_others_is_the_seed_alone(pendulum):
    together, alone = build(pendulum()), build(pendulum(), seeds="4")
    both, one = (load_tensors(result.artifact.file("dynamics.safetensors")) for result in (together, alone))
    for name, value in one.items():
        torch.testing.assert_close(value[0], both[name][1], rtol=1e-3, atol=1e-4)
