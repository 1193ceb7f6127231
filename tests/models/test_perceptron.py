"""Perceptrons on a processor: autograd's values and gradients."""

import pytest
import torch
from torch.autograd import gradcheck

from swgctl.models import batched, perceptron, reset
from swgctl.models.critic import MLP, Critic
from swgctl.models.perceptron import Perceptrons

ROWS = 64


def net(members=(3, 2), outputs=None, hidden=(32, 16), seed=0) -> tuple[MLP, torch.Tensor]:
    """A network with biases that are not 0, and its input."""
    source = torch.Generator().manual_seed(seed)
    mlp = MLP(members, 5, list(hidden), outputs)
    for parameter in mlp.parameters():
        parameter.data.normal_(0, 0.3, generator=source)
    return mlp, torch.randn(*members, ROWS, 5, generator=source)


def plain(mlp: MLP, x: torch.Tensor) -> torch.Tensor:
    """Layer by layer, under autograd."""
    *hidden, last = mlp.layers
    for layer in hidden:
        x = torch.relu(torch.matmul(x, layer.weight) + layer.bias)
    x = torch.matmul(x, last.weight) + last.bias
    return x.squeeze(-1) if mlp.scalar else x


def learnt(forward, mlp: MLP, x: torch.Tensor) -> list[torch.Tensor]:
    """Values, and gradients of a loss in the parameters and in x."""
    x = x.clone().requires_grad_()
    values = forward(mlp, x)
    return [values.detach(), *torch.autograd.grad(values.sin().sum(), [x, *mlp.parameters()])]


@pytest.mark.parametrize("outputs", [None, 4])
@pytest.mark.parametrize("members", [(1,), (3,), (3, 2)])
def test_it_computes_what_autograd_computes(members, outputs):
    mlp, x = net(members, outputs)
    mlp, x = mlp.double(), x.double()
    for one, other in zip(learnt(MLP.forward, mlp, x), learnt(plain, mlp, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_frozen_parameters_cost_no_product(monkeypatch):
    mlp, x = net()
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(mlp(x).sum(), x)
    products = []
    monkeypatch.setattr(perceptron, "bmm", lambda a, b: products.append(b.shape) or batched.bmm(a, b))
    (gradient,) = torch.autograd.grad(mlp.requires_grad_(False)(x).sum(), x)
    assert torch.equal(gradient, wanted)
    assert len(products) == len(mlp.layers)


def test_rounded_factors_change_it_by_their_rounding():
    mlp, x = net(hidden=(64, 64))
    exact = learnt(plain, mlp, x)
    with batched.rounded("cpu"):
        rounded = learnt(MLP.forward, mlp, x)
    for one, other in zip(rounded, exact, strict=True):
        assert one.dtype == torch.float32
        assert 1e-6 < ((one - other).norm() / other.norm()).item() < 5e-2


def test_its_gradients_are_the_differences_of_its_values():
    mlp, x = net((2,), hidden=(4, 3))
    parameters = [p.detach().double().requires_grad_() for layer in mlp.layers for p in (layer.weight, layer.bias)]
    assert gradcheck(Perceptrons.apply, (x[:, :6].double().requires_grad_(), *parameters))


def test_a_network_is_the_same_beside_others_and_alone():
    mlp, x = net((3,))
    together = learnt(MLP.forward, mlp, x)
    for member in range(3):
        alone = MLP((1,), 5, [32, 16])
        for one, all_of_them in zip(alone.parameters(), mlp.parameters(), strict=True):
            one.data.copy_(all_of_them[member : member + 1])
        for mine, ours in zip(learnt(MLP.forward, alone, x[member : member + 1]), together, strict=True):
            torch.testing.assert_close(mine, ours[member : member + 1], rtol=1e-5, atol=1e-6)


def test_twins_share_their_input():
    """The gradient of an expanded input is the twins' sum."""
    both = Critic(2, 3, 2, [16])
    reset(both, [torch.Generator().manual_seed(s) for s in range(2)])
    observations, actions = torch.randn(2, ROWS, 3), torch.randn(2, ROWS, 2, requires_grad=True)
    twins = both.twins(observations, actions)
    (together,) = torch.autograd.grad(both.q(twins).sum(), actions)
    first, second = (torch.autograd.grad(both.q(twins)[:, i].sum(), actions)[0] for i in range(2))
    torch.testing.assert_close(together, first + second)


def test_without_autograd_and_in_inference_mode():
    mlp, x = net()
    expected = mlp(x).detach()
    with torch.no_grad():
        assert torch.equal(mlp(x), expected)
    with torch.inference_mode():
        assert torch.equal(mlp(x), expected)
