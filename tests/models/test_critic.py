"""Twin Q and V against a plain network of each member."""

import pytest
import torch
import torch.nn.functional as F

from swgctl.models import Critic, reset
from swgctl.randomness import generator

S, B, O, A = 3, 5, 4, 2  # noqa: E741 - the shapes' names


@pytest.fixture(scope="module")
def critic():
    net = Critic(S, O, A, [16, 8]).requires_grad_(False)
    reset(net, [generator(s, "critic", 0) for s in range(S)])
    for i, p in enumerate(net.parameters()):
        p += 0.1 * torch.randn(p.shape, generator=generator(i, "offset", 0))
    return net


@pytest.fixture(scope="module")
def batch():
    g = generator(0, "batch", 0)
    return torch.randn(S, B, O, generator=g), torch.randn(S, B, A, generator=g)


def plain(mlp, index, x):
    """ReLU between the layers, none after the last."""
    for layer in mlp.layers:
        y = F.linear(x, layer.weight[index].T, layer.bias[index][0])
        x = F.relu(y)
    return y.squeeze(-1)


def test_q_is_two_plain_networks_of_state_and_action_a_member(critic, batch):
    q = critic.q(critic.twins(*batch))
    x = torch.cat(batch, -1)
    for s in range(S):
        for twin in range(2):
            torch.testing.assert_close(q[s, twin], plain(critic.q, (s, twin), x[s]), rtol=1e-5, atol=1e-6)


def test_value_is_the_smaller_target_twin_and_v(critic, batch):
    q, v = critic.value(*batch)
    x = torch.cat(batch, -1)
    for s in range(S):
        smaller = torch.minimum(*(plain(critic.q_target, (s, twin), x[s]) for twin in range(2)))
        torch.testing.assert_close(q[s], smaller, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(v[s], plain(critic.v, (s,), batch[0][s]), rtol=1e-5, atol=1e-6)


def test_twins_start_apart():
    net = Critic(1, O, A, [16])
    reset(net, [generator(0, "critic", 0)])
    first = net.q.layers[0].weight
    assert (first[0, 0] - first[0, 1]).abs().max() > 0.1


def test_the_first_twin_alone_has_the_same_value_and_gradient_and_leaves_the_parameters(critic, batch):
    observations, actions = batch[0], batch[1].clone().requires_grad_()
    net = Critic(S, O, A, [16, 8])
    net.load_state_dict(critic.state_dict())
    q = net.first(observations, actions)
    (gradient,) = torch.autograd.grad(q.sum(), actions, retain_graph=True)
    both = net.q(net.twins(observations, actions))[:, 0]
    torch.testing.assert_close(q, both, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(both.sum(), actions)[0], rtol=1e-5, atol=1e-6)
    q.sum().backward()
    assert all(p.grad is None for p in net.parameters())
