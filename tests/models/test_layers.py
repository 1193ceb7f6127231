"""Layers with a seed axis against PyTorch's own, one member at a time, and the statistics of their first values."""

import math

import pytest
import torch
import torch.nn.functional as F

from swgctl.models.layers import LayerNorm, Linear, reset
from swgctl.randomness import generator


def generators(n, name="layers"):
    return [generator(s, name, 0) for s in range(n)]


@pytest.mark.parametrize("members", [(3,), (3, 2)])
def test_linear_is_one_plain_product_a_member(members):
    layer = Linear(members, 5, 4)
    layer.reset(0, *generators(1))
    layer.bias.data.normal_(generator=generators(1)[0])
    layer.weight.data.normal_(generator=generators(1)[0])
    x = torch.randn(*members, 7, 5, generator=generators(1)[0])
    y = layer(x)
    for index in torch.cartesian_prod(*(torch.arange(m) for m in members)).view(-1, len(members)).tolist():
        i = tuple(index)
        torch.testing.assert_close(y[i], F.linear(x[i], layer.weight[i].T, layer.bias[i][0]))


def test_xavier_is_uniform_up_to_its_bound():
    """U(-b, b) with b = sqrt(6 / (in + out)) has the variance b^2 / 3 (Glorot & Bengio, 2010)."""
    layer = Linear((2,), 300, 100)
    reset(torch.nn.ModuleList([layer]), generators(2))
    bound = math.sqrt(6 / 400)
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=4 * bound / math.sqrt(3 * 60_000))
    assert (layer.bias == 0).all()


def test_lecun_is_a_truncated_normal_of_variance_one_over_inputs():
    """Cut at two deviations of the normal before, so that Flax divides by 0.8796, what the cut leaves of one."""
    layer = Linear((2,), 400, 100, init="lecun")
    reset(torch.nn.ModuleList([layer]), generators(2))
    std = math.sqrt(1 / 400)
    assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
    assert layer.weight.abs().max().item() == pytest.approx(2 * std / 0.87962566103423978, rel=1e-2)
    kurtosis = (layer.weight / layer.weight.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(2.37, abs=0.05), "a normal has 3, a uniform 1.8, one cut at two deviations 2.37"


def test_members_are_initialised_alone_and_differ():
    three, one = Linear((3,), 6, 5), Linear((1,), 6, 5)
    reset(torch.nn.ModuleList([three]), generators(3))
    reset(torch.nn.ModuleList([one]), generators(3)[2:])
    assert torch.equal(three.weight[2], one.weight[0])
    assert not torch.equal(three.weight[0], three.weight[1])


def test_layer_norm_is_pytorchs_with_flaxs_epsilon_and_each_members_scale():
    layer = LayerNorm((2,), 8)
    layer.weight.data.normal_(generator=generators(1)[0])
    layer.bias.data.normal_(generator=generators(2)[1])
    x = 1e-3 * torch.randn(2, 5, 8, generator=generators(1)[0])  # small, so that epsilon is seen
    y = layer(x)
    for s in range(2):
        centred = x[s] - x[s].mean(-1, keepdim=True)
        expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight[s] + layer.bias[s]
        torch.testing.assert_close(y[s], expected, rtol=1e-5, atol=1e-5)
        other = F.layer_norm(x[s], (8,), layer.weight[s][0], layer.bias[s][0], eps=1e-5)
        assert (y[s] - other).abs().max() > 0.1
