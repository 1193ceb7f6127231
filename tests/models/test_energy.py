"""The energy against a plain reading of its layers, and against itself where it takes a short cut."""

import math

import pytest
import torch
import torch.nn.functional as F

from swgctl.models import Energy, reset
from swgctl.randomness import generator

S, B, O, C, HIDDEN = 2, 9, 4, 3, [24, 16]  # noqa: E741 - the shapes' names


def energy(K=6, seeds=range(S)):
    """Every parameter non-zero."""
    net = Energy(len(seeds), C, O, K, HIDDEN).requires_grad_(False)
    reset(net, [generator(s, "energy", 0) for s in seeds])
    for layer in (net.entry, *net.layers):
        for member, s in enumerate(seeds):
            layer.bias[member].normal_(generator=generator(s, "bias", layer.bias.shape[-1]))
    return net


def batch(K=6):
    g = generator(0, "batch", 0)
    return torch.randn(S, B, C, generator=g), torch.randint(K, (S, B), generator=g), torch.randn(S, B, O, generator=g)


@pytest.mark.parametrize("K", [6, 100])
def test_forward_is_a_perceptron_of_z_the_observation_and_the_steps_embedding(K):
    """Row by row; from 64 steps on their table is read by index."""
    net, (z, k, observations) = energy(K), batch(K)
    found = net(z, k, observations)
    assert found.shape == (S, B)
    for s in range(S):
        p = {name: value[s] for name, value in net.named_parameters()}
        for b in range(B):
            phase = 2 * math.pi * k[s, b].float() * p["fourier.frequency"][0]
            h = torch.cat([phase.cos(), phase.sin()])
            h = F.silu(h @ p["step_in.weight"] + p["step_in.bias"][0]) @ p["step_out.weight"] + p["step_out.bias"][0]
            h = torch.cat([z[s, b], observations[s, b], h]) @ p["entry.weight"] + p["entry.bias"][0]
            for i in range(2):
                h = F.silu(h) @ p[f"layers.{i}.weight"] + p[f"layers.{i}.bias"][0]
            torch.testing.assert_close(found[s, b], h.squeeze(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", range(6))
def test_bound_to_observations_it_is_the_same_function_with_the_same_gradient(k):
    net, (z, _, observations) = energy(), batch()
    row = torch.tensor([0, 0, 0, 4, 4, 5, 6, 8, 8])
    z1, z2 = z.clone().requires_grad_(), z.clone().requires_grad_()
    expected = net(z1, torch.full((S, B), k), observations[:, row])
    bound = net.bind(observations, row)(z2, k)
    torch.testing.assert_close(bound, expected, rtol=1e-5, atol=1e-5)
    (plain,), (short,) = torch.autograd.grad(expected.sum(), z1), torch.autograd.grad(bound.sum(), z2)
    torch.testing.assert_close(short, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.bind(observations)(z, k), net(z, torch.full((S, B), k), observations))


def test_member_s_is_a_network_of_its_own():
    z, k, observations = batch()
    together = energy()(z, k, observations)
    for s in range(S):
        alone = energy(seeds=[s])(z[s : s + 1], k[s : s + 1], observations[s : s + 1])
        torch.testing.assert_close(alone[0], together[s], rtol=1e-5, atol=1e-5)


def test_the_published_size():
    """AEPO's three layers of 256 on HalfCheetah: the step's embedding, and 17 + 6 + 256 inputs."""
    net = Energy(1, 6, 17, 15, [256, 256, 256])
    step = 64 + (128 + 1) * 256 + (256 + 1) * 256
    layers = (23 + 256 + 1) * 256 + 2 * (256 + 1) * 256 + 257
    assert sum(p.numel() for p in net.parameters()) == step + layers
