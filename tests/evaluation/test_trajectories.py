"""Measures of synthetic windows: likelihoods in closed form, errors of windows that the simulator itself has made."""

import contextlib
import math

import numpy as np
import pytest
import torch

from swgctl.diffusion import Channels
from swgctl.evaluation.trajectories import clipped_square, errors, likelihood, measure
from swgctl.tasks.replay import VELOCITY, replayer

WINDOWS, LENGTH = 4, 6
SCALE = {"Pendulum-v1": np.array([0.7, 0.7, 3.0]), "Hopper-v4": np.linspace(0.5, 2, 11)}


def agent(sd):
    """A Gaussian around half of the first dimensions of an observation."""
    return lambda observations: (observations[..., : len(sd)] / 2, sd)


@pytest.mark.parametrize("sd", [0.1, 0.3, 1.0])
def test_the_agents_own_actions_have_the_likelihood_of_draws_that_are_clipped(sd):
    """Means from -1 to 1 and beyond them; ten thousand draws, within five standard errors."""
    sd = torch.full((6,), sd)
    observations = torch.randn(2, 2000, 5, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 2000, 5, 6, generator=torch.Generator().manual_seed(1))
    actions = (observations[..., :6] / 2 + sd * noise).clamp(-1, 1)
    drawn, line = likelihood(agent(sd), observations, actions)
    spread = ((actions - observations[..., :6] / 2) / sd).square().sum(-1).std() / 2
    torch.testing.assert_close(drawn.double(), line, rtol=0, atol=5 * spread.item() / 100)


def test_far_from_the_bounds_it_is_the_negative_entropy_and_the_likelihood_a_sum_over_dimensions():
    sd, observations = torch.full((6,), 0.1), torch.zeros(2, 3, 4, 6)
    at_mean, line = likelihood(agent(sd), observations, torch.zeros(2, 3, 4, 6))
    torch.testing.assert_close(line, torch.full((2,), 6 * 0.88364656, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(at_mean.double(), line + 3.0, rtol=0, atol=1e-5)  # half a nat a dimension
    two_off, _ = likelihood(agent(sd), observations, torch.full((2, 3, 4, 6), 0.2))
    torch.testing.assert_close(at_mean - two_off, torch.full((2,), 6 * 2.0), rtol=1e-5, atol=0)


def test_at_a_bound_half_of_the_draws_are_the_mean_itself():
    """A mean of 1: E z^2 over the lower half alone, 1/2, but for draws below -1, which are 2 / sd from the mean."""
    assert clipped_square(torch.tensor(-20.0), torch.tensor(0.0)).item() == pytest.approx(0.5, abs=1e-12)
    assert clipped_square(torch.tensor(0.7), torch.tensor(0.7)).item() == pytest.approx(0.49)


def test_deviations_may_differ_by_dimension():
    sd = torch.tensor([0.1, 2.0])
    observations = torch.zeros(1, 3, 4, 2)
    value, line = likelihood(agent(sd), observations, torch.ones(1, 3, 4, 2))
    squares = clipped_square(-1 / sd, 1 / sd)
    exact = [-0.5 / s**2 - math.log(s) - math.log(2 * math.pi) / 2 for s in (0.1, 2.0)]
    torch.testing.assert_close(value.item(), sum(exact), rtol=1e-5, atol=0)
    by_hand = -math.log(0.2) - math.log(2 * math.pi) - squares.sum().item() / 2
    torch.testing.assert_close(line.item(), by_hand, rtol=1e-5, atol=0)


def test_coverage_is_each_channels_deviation_over_the_datas_and_each_members():
    """Of 2 members, 4,000 windows of 5 rows with 3 + 1 + 2 channels, the terminal flag left out."""
    channels = Channels(3, 1, torch.arange(6.0), torch.tensor([2.0, 3, 4, 5, 6, 7]))
    deviations = torch.tensor([[0.5, 1.0, 1.5, 0.2, 0.9, 9.0], [1.0, 0.3, 0.7, 1.1, 2.0, 9.0]])
    x = torch.randn(2, 4000, 5, 6, generator=torch.Generator().manual_seed(0)) * deviations[:, None, None]
    coverage = torch.tensor(measure(x, channels, None, "CartPole-v1")["coverage"])
    torch.testing.assert_close(coverage, deviations[:, :5], rtol=0.03, atol=0)  # six standard errors


@pytest.fixture(params=sorted(SCALE))
def simulated(request):
    """A replay with windows that are its own: observations (W, L, O), actions and rewards; and a scale."""
    with contextlib.closing(replayer(request.param)) as simulator:
        source, scale = np.random.default_rng(0), SCALE[request.param]
        first = source.uniform(-0.1, 0.1, (WINDOWS, len(scale)))
        first[:, 0] += 1  # the pendulum's cosine, the hopper's height
        if request.param == "Pendulum-v1":
            first[:, :2] /= np.linalg.norm(first[:, :2], axis=1, keepdims=True)
        actions = source.uniform(-0.1, 0.1, (WINDOWS, LENGTH, 1 if len(scale) == 3 else 3))
        states, rewards = simulator.roll(first, actions[:, :-1])
        observations = np.concatenate([first[:, None], states], 1)
        yield simulator, observations, actions, np.pad(rewards, ((0, 0), (0, 1))), scale


def test_the_simulators_windows_have_no_error(simulated):
    measured = errors(*simulated)
    assert measured["clipped"] == measured["clipped_windows"] == 0
    for name in ("one_step", "one_step_raw", "reward", "horizon", "horizon_raw"):
        np.testing.assert_allclose(measured[name], 0, atol=1e-12)
    assert len(measured["horizon"]) == LENGTH - 1


def test_an_error_is_squared_and_in_units_of_the_scale_or_raw(simulated):
    """The last observation is two units off: in one of five steps, and after the last of them."""
    simulator, observations, actions, rewards, scale = simulated
    observations[:, -1] += 2 * scale
    measured = errors(simulator, observations, actions, rewards + 0.5, scale)
    raw = 4 * np.square(scale).mean()
    assert measured["one_step"] == pytest.approx(4 / (LENGTH - 1))
    assert measured["one_step_raw"] == pytest.approx(raw / (LENGTH - 1))
    assert measured["reward"] == pytest.approx(0.25)
    np.testing.assert_allclose(measured["horizon"], [0] * (LENGTH - 2) + [4], atol=1e-9)
    np.testing.assert_allclose(measured["horizon_raw"], [0] * (LENGTH - 2) + [raw], atol=1e-9)


@pytest.mark.parametrize("simulated", ["Hopper-v4"], indirect=True)
def test_windows_at_the_clip_are_left_out_and_counted(simulated):
    simulator, observations, actions, rewards, scale = simulated
    observations[1, :, -1] = VELOCITY
    measured = errors(simulator, observations, actions, rewards, scale)
    assert measured["clipped"] == measured["clipped_windows"] == 0.25
    assert measured["one_step"] == pytest.approx(0, abs=1e-12)
    observations[..., -1] = -VELOCITY
    nothing = errors(simulator, observations, actions, rewards, scale)
    assert nothing.pop("clipped") == nothing.pop("clipped_windows") == 1
    assert set(nothing.values()) == {None}
