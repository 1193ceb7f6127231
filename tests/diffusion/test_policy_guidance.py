"""Guidance by a policy: its gradient against autograd, its samples against the distribution that they must follow.

Where a channel's std is small, a = tanh(std u) is linear in u, and a policy N(tanh(std), (std s)^2) of the action is
N(1, s^2) of u.
"""

import math

import pytest
import torch
from torch import Tensor

from swgctl.diffusion import Channels, edm, policy_posterior, policy_shift
from swgctl.diffusion.edm import Walk
from swgctl.diffusion.policy_guidance import gradient, ramp

SMALL = 1e-4
STATES = 3


def normal(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of N(0, I)."""
    return edm.denoised(lambda x, c_noise: torch.zeros_like(x), x, sigma)


def gaussian(mean: float, sd: float):
    """A policy N(mean, sd^2) of each action, in every state."""

    def act(observations: Tensor) -> tuple[Tensor, Tensor]:
        return observations.new_full((*observations.shape[:-1], 1), mean), observations.new_tensor(sd)

    return act


def linear(actions: int, std: float = SMALL) -> Channels:
    return Channels(STATES, actions, torch.zeros(STATES + actions + 2), torch.full((STATES + actions + 2,), std))


def at_one(s: float = 1.0, std: float = SMALL):
    """N(1, s^2) in u, for channels of `linear`."""
    return gaussian(math.tanh(std), s * std * (1 - math.tanh(std) ** 2))


def learnt(observations: Tensor) -> tuple[Tensor, Tensor]:
    """A policy of two actions that depend on the state, with an sd for each."""
    total = observations.sum(-1, keepdim=True)
    return torch.cat([torch.tanh(total), torch.sin(total)], -1), observations.new_tensor([0.3, 0.7])


def uneven() -> Channels:
    g = torch.Generator().manual_seed(1)
    return Channels(STATES, 2, torch.randn(7, generator=g), 0.5 + torch.rand(7, generator=g))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


SIGMA = torch.tensor(0.7, dtype=torch.float64)

# -- the gradient ------------------------------------------------------------------------------------------------------


def test_the_gradient_by_hand():
    """std 2, mean -1, u = .5: a = 0, and 2 (1 - 0) (.5 - 0) / 1 = 1."""
    channels = Channels(1, 1, torch.tensor([0.0, -1, 0, 0]), torch.tensor([1.0, 2, 1, 1]))
    x = torch.tensor([[[7.0, 0.5, 0, 0]]])
    assert gradient(gaussian(0.5, 1.0), channels, x).item() == pytest.approx(1, abs=1e-6)


def test_the_gradient_is_autograds():
    channels, x = uneven(), randn(2, 3, 4, 7)
    u = x[..., channels.actions].clone().requires_grad_()
    a = torch.tanh(channels.std[channels.actions] * u + channels.mean[channels.actions])
    torch.distributions.Normal(*learnt(channels.observations(x))).log_prob(a).sum().backward()
    torch.testing.assert_close(gradient(learnt, channels, x), u.grad, rtol=1e-6, atol=1e-6)


# -- the shift ---------------------------------------------------------------------------------------------------------


def test_the_ramp_falls_and_ends_at_zero():
    factors = ramp(256, 0.3)
    assert factors[0].item() == pytest.approx(1.00368, abs=1e-5)
    assert factors[128].item() == pytest.approx(0.79998, abs=1e-5)
    assert factors[255].item() == 0
    assert factors.sum().item() == pytest.approx(177.388, abs=1e-3)
    torch.testing.assert_close(ramp(4, 0.0), torch.tensor([1, 0.75, 0.5, 0], dtype=torch.float64))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("denoised", [False, True])
def test_a_shift_adds_the_scaled_gradient_to_the_actions_alone(unit, denoised):
    channels, x = uneven(), randn(2, 3, 4, 7)
    shift = policy_shift(learnt, channels, 1.0, unit=unit, denoised=denoised)
    g = gradient(learnt, channels, normal(x, SIGMA) if denoised else x)
    if unit:
        g = g / g.square().sum((-2, -1), keepdim=True).sqrt()
    moved = shift(normal, x, SIGMA, 0.4)
    torch.testing.assert_close(moved[..., channels.actions], x[..., channels.actions] + 0.4 * g)
    kept = [0, 1, 2, 5, 6]
    assert torch.equal(moved[..., kept], x[..., kept])


def test_a_gradient_of_zero_moves_nothing():
    """The policy's mean is each window's own action: 0 / 0 must not become NaN."""
    channels = linear(1, std=1.0)
    x = torch.zeros(2, 3, 4, len(channels))
    shift = policy_shift(gaussian(0.0, 1.0), channels, 1.0)
    assert torch.equal(shift(normal, x, torch.tensor(1.0), 1.0), x)


def test_a_window_is_shifted_as_it_is_alone():
    """The norm is of one window's actions, whatever lies beside it."""
    channels, x = uneven(), randn(2, 3, 4, 7)
    shift = policy_shift(learnt, channels, 1.0)
    together = shift(normal, x, SIGMA, 0.4)
    torch.testing.assert_close(together[1:, 2:], shift(normal, x[1:, 2:], SIGMA, 0.4))


@pytest.mark.parametrize("guidance", ["shift", "posterior"])
def test_lambda_zero_is_unguided_to_the_bit(guidance):
    channels, walk, shape = uneven(), Walk(8), (2, 3, 4, 7)
    plain = edm.sample(normal, shape, walk, noise())
    if guidance == "shift":
        guided = edm.sample(normal, shape, walk, noise(), policy_shift(learnt, channels, 0.0))
    else:
        guided = edm.sample(policy_posterior(normal, learnt, channels, 0.0), shape, walk, noise())
    assert torch.equal(guided, plain)


@pytest.mark.parametrize("guidance", ["shift", "posterior"])
def test_states_rewards_and_flags_of_independent_channels_are_not_guided(guidance):
    channels, walk, shape = uneven(), Walk(8), (2, 3, 4, 7)
    plain = edm.sample(normal, shape, walk, noise())
    if guidance == "shift":
        guided = edm.sample(normal, shape, walk, noise(), policy_shift(learnt, channels, 1.0))
    else:
        guided = edm.sample(policy_posterior(normal, learnt, channels, 1.0), shape, walk, noise())
    kept = [0, 1, 2, 5, 6]
    assert torch.equal(guided[..., kept], plain[..., kept])
    assert (guided - plain)[..., channels.actions].abs().min() > 1e-4


# lambda, rows, actions -> mean and sd of the actions
SHIFTED = [(0.25, 16, 6, 0.44, 0.63), (0.5, 16, 6, 0.83, 0.23), (1.0, 16, 6, 1.00, 0.001), (0.25, 4, 4, 0.945, None)]


@pytest.mark.parametrize(("scale", "length", "actions", "mean", "sd"), SHIFTED)
def test_shifted_normals_go_to_the_policys_mean(scale, length, actions, mean, sd):
    """Independent normals and a unit Gaussian at 1: lambda is a budget of displacement, which 16 numbers share as 96
    do, and not the exponent of equation 13, by which lambda = 1 has mean .5 and sd .71.
    """
    channels, walk = linear(actions), Walk(256, rule="published")
    shift = policy_shift(at_one(), channels, scale)
    x = edm.sample(normal, (1, 200, length, len(channels)), walk, noise(), shift)[..., channels.actions]
    assert x.mean().item() == pytest.approx(mean, abs=0.02)
    if sd is not None:
        assert x.std().item() == pytest.approx(sd, abs=0.02)


# -- the posterior -----------------------------------------------------------------------------------------------------


def moments(guided, walk: Walk, channels: Channels) -> tuple[float, float]:
    """Mean and sd of a sample's action, exactly: the walk is affine in its noise, of whose draws one at a time is 1."""
    count = walk.levels + 2  # the start and the steps; and without any noise
    draws = iter(torch.eye(count - 1, count, dtype=torch.float64))
    shape = (count, 1, len(channels))
    x = edm.sample(guided, shape, walk, lambda shape: next(draws).view(-1, 1, 1).expand(shape))
    u = x[:, 0, channels.actions].squeeze(-1)
    return u[-1].item(), (u[:-1] - u[-1]).norm().item()


@pytest.mark.parametrize(("scale", "variance"), [(1.0, 1.0), (3.0, 1.0), (1.0, 0.25)])
def test_the_posterior_of_gaussians_is_equation_13s(scale, variance):
    """N(0, 1) times N(1, s^2)^lambda has mean r / (1 + r) and variance 1 / (1 + r), with r = lambda / s^2."""
    channels = linear(1)
    guided = policy_posterior(normal, at_one(math.sqrt(variance)), channels, scale)
    mean, sd = moments(guided, Walk(64, churn=0.0), channels)
    r = scale / variance
    assert mean == pytest.approx(r / (1 + r), abs=0.015)
    assert sd == pytest.approx((1 + r) ** -0.5, abs=0.015)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_samples_have_the_density_of_equation_13_on_a_grid(scale):
    """PGD's Figure 3: p(u) q(u)^lambda, normalised on a grid, for N(0, 1) and a policy N(1, 1/2)."""
    grid = torch.linspace(-4, 4, 65, dtype=torch.float64)
    centres = (grid[1:] + grid[:-1]) / 2
    density = (-centres.square() / 2 - scale * (centres - 1).square()).exp()
    channels, count = linear(1), 20_000
    guided = policy_posterior(normal, at_one(math.sqrt(0.5)), channels, scale)
    x = edm.sample(guided, (count, 1, len(channels)), Walk(64, churn=0.0), noise())[:, 0, STATES]
    share = torch.histc(x.double(), bins=64, min=-4, max=4) / count
    assert (share - density / density.sum()).abs().sum().item() / 2 < 0.03


def test_the_posterior_in_the_policys_own_units():
    """By hand: u_m = (arctanh m - mean) / std, s_u = s / (std (1 - m^2)); m is taken at the predicted state."""
    channels, x = uneven(), randn(2, 3, 4, 7)
    x0, where, scale = normal(x, SIGMA), channels.actions, 2.0
    m, s = learnt(channels.observations(x0))
    m = m.clamp(-0.999, 0.999)
    u_m = (m.arctanh() - channels.mean[where]) / channels.std[where]
    s_u = s / (channels.std[where] * (1 - m.square()))
    v = SIGMA**2 / (1 + SIGMA**2)
    expected = x0[..., where] + v / (v + s_u.square() / scale) * (u_m - x0[..., where])
    guided = policy_posterior(normal, learnt, channels, scale)(x, SIGMA)
    torch.testing.assert_close(guided[..., where], expected)
    assert torch.equal(guided[..., :STATES], x0[..., :STATES])
    each = policy_posterior(normal, learnt, channels, scale)(x, SIGMA.expand(2, 3))
    torch.testing.assert_close(each, guided)


def test_a_policy_at_the_bound_of_its_actions_guides_to_point_999():
    channels = linear(1, std=1.0)
    x = torch.zeros(1, 2, 3, len(channels))
    guided = policy_posterior(normal, gaussian(1.0, 0.001), channels, 1e6)(x, torch.tensor(80.0))
    torch.testing.assert_close(guided[..., STATES], torch.full((1, 2, 3), math.atanh(0.999)), rtol=0, atol=1e-2)
