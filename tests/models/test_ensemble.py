"""The ensemble of one-step models against a plain reading of its layers, and its bounded log-variance."""

import pytest
import torch
import torch.nn.functional as F

from swgctl.models import reset
from swgctl.models.ensemble import Ensemble, soft_clamp
from swgctl.randomness import generator

S, M, B, O, A, HIDDEN = 2, 3, 5, 4, 2, [12, 8]  # noqa: E741 - the shapes' names


def ensemble(seeds=range(S)) -> Ensemble:
    """Every parameter and buffer different from 0."""
    net = Ensemble(len(seeds), M, O, A, HIDDEN).requires_grad_(False)
    reset(net, [generator(s, "ensemble", 0) for s in seeds])
    for member, s in enumerate(seeds):
        for i, value in enumerate((*(layer.bias for layer in net.layers), net.low, net.high, net.mean, net.std)):
            value[member] += 0.1 * torch.rand(value.shape[1:], generator=generator(s, "offset", i))
    return net


def batch(networks: int = M) -> torch.Tensor:
    return torch.randn(S, networks, B, O + A, generator=generator(0, "batch", 0))


def test_each_network_is_a_perceptron_of_the_z_scored_state_and_action():
    net, x = ensemble(), batch()
    mean, log_var = net(x)
    assert mean.shape == log_var.shape == (S, M, B, O + 1)
    for s in range(S):
        for m in range(M):
            h = (x[s, m] - net.mean[s, 0]) / net.std[s, 0]
            for i, layer in enumerate(net.layers):
                h = F.linear(F.silu(h) if i else h, layer.weight[s, m].T, layer.bias[s, m, 0])
            torch.testing.assert_close(mean[s, m], h[:, : O + 1], rtol=1e-4, atol=1e-5)
            bounded = soft_clamp(h[:, O + 1 :], net.low[s, 0], net.high[s, 0])
            torch.testing.assert_close(log_var[s, m], bounded, rtol=1e-4, atol=1e-5)


def test_inputs_without_a_networks_axis_are_those_of_every_network():
    net, x = ensemble(), batch(1)
    for one, each in zip(net(x), net(x.expand(-1, M, -1, -1)), strict=True):
        torch.testing.assert_close(one, each)


def test_a_member_is_an_ensemble_of_its_own():
    x = batch()
    together = ensemble()(x)
    for s in range(S):
        for alone, both in zip(ensemble([s])(x[s : s + 1]), together, strict=True):
            torch.testing.assert_close(alone[0], both[s], rtol=1e-5, atol=1e-5)


def test_the_log_variance_stays_within_its_first_bounds():
    """Here softplus(-10.5) = 2.75e-5 is the lift of the upper bound."""
    low, high = torch.tensor(-10.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    x = torch.linspace(-100, 100, 2001, dtype=torch.float64)
    y = soft_clamp(x, low, high)
    assert y.min() >= -10
    assert y.max() <= 0.5 + 2.76e-5
    assert (y.diff() >= 0).all()
    assert y[-1] == pytest.approx(0.5 + 2.7536e-5, abs=1e-8)
    # softplus(-5) = 0.0067: so far from both bounds the clamp is near the identity
    inside = (x >= -5) & (x <= -4.5)
    torch.testing.assert_close(y[inside], x[inside], rtol=0, atol=0.0068)
    net = Ensemble(1, 1, O, A, HIDDEN)
    assert net.low.unique().tolist() == [-10.0]
    assert net.high.unique().tolist() == [0.5]


def test_the_clamp_has_a_gradient_beyond_its_bounds():
    x = torch.tensor([-14.0, 5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_clamp(x, torch.tensor(-10.0), torch.tensor(0.5)).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([-4.0, -4.5]).sigmoid(), rtol=1e-3, atol=0)


def test_the_first_weights_are_normal_with_half_of_lecuns_deviation():
    """1 / (2 sqrt(inputs)), in the published size on HalfCheetah, whose parameters are counted too."""
    net = Ensemble(1, 7, 17, 6, [200] * 4)
    reset(net, [generator(0, "ensemble", 0)])
    for layer in net.layers:
        inputs = layer.weight.shape[-2]
        assert layer.weight.std().item() == pytest.approx(1 / (2 * inputs**0.5), rel=0.03)
        assert layer.bias.abs().max() == 0
    assert not torch.equal(net.layers[0].weight[0, 0], net.layers[0].weight[0, 1])
    layers = (23 + 1) * 200 + 3 * (200 + 1) * 200 + (200 + 1) * 36
    assert sum(p.numel() for p in net.parameters()) == 7 * layers + 2 * 18
