"""Actors against a plain network of each member, and their Gaussians."""

import math

import pytest
import torch
import torch.nn.functional as F

from swgctl.models import Actor, Critic, reset
from swgctl.models.critic import MLP
from swgctl.randomness import generator

S, B, L, O, A = 3, 5, 4, 6, 2  # noqa: E741 - the shapes' names
HIDDEN = [16, 8]


def actor_of(members=S, gaussian=False) -> Actor:
    actor = Actor(members, O, A, HIDDEN, gaussian).requires_grad_(False)
    reset(actor, [generator(s, "actor", 0) for s in range(members)])
    return actor


def observations(*shape) -> torch.Tensor:
    return torch.randn(*shape, O, generator=generator(0, "observations", 0))


def statistics() -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(0, "statistics", 0)
    return torch.randn(S, O, generator=g), 0.5 + torch.rand(S, O, generator=g)


def test_an_actor_is_a_plain_network_of_z_scored_observations_a_member():
    actor, x, (mean, std) = actor_of(), observations(S, B), statistics()
    actor.standardise(mean, std)
    result = actor(x)
    for s in range(S):
        h = (x[s] - mean[s]) / (std[s] + 1e-3)
        for i, layer in enumerate(actor.net.layers):
            h = F.linear(F.relu(h) if i else h, layer.weight[s].T, layer.bias[s, 0])
        torch.testing.assert_close(result[s], torch.tanh(h), rtol=1e-5, atol=1e-6)


def test_statistics_of_all_members_may_be_one():
    actor, (mean, std) = actor_of(), statistics()
    actor.standardise(mean[0], std[0])
    assert torch.equal(actor.mean, mean[:1].expand(S, -1))
    assert torch.equal(actor.std, (std[:1] + 1e-3).expand(S, -1))


def test_observations_stay_as_they_are_until_statistics_are_set():
    x = observations(S, B)
    assert torch.equal(actor_of().z_scored(x), x)


def test_middle_axes_are_rows():
    actor, x = actor_of(gaussian=True), observations(S, B, L)
    mean, sd = actor.act(x)
    assert mean.shape == (S, B, L, A)
    torch.testing.assert_close(mean, actor(x.flatten(1, 2)).view(S, B, L, A))
    torch.testing.assert_close(actor(x[:, 0, 0]), mean[:, 0, 0])
    assert sd.shape == (S, 1, 1, A)


def test_a_member_acts_as_it_does_alone():
    x = observations(S, B)
    together = actor_of()(x)
    for s in range(S):
        alone = Actor(1, O, A, HIDDEN, gaussian=False)
        reset(alone, [generator(s, "actor", 0)])
        torch.testing.assert_close(alone(x[s : s + 1])[0], together[s], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gaussian", [False, True])
def test_one_member_acts_for_any_number(gaussian):
    actor, x = actor_of(1, gaussian), observations(S, B, L)
    mean, sd = actor.act(x)
    for s in range(S):
        own, own_sd = actor.act(x[s : s + 1])
        torch.testing.assert_close(mean[s], own[0])
        assert torch.equal(sd.expand(S, B, L, A)[s], own_sd.expand(1, B, L, A)[0])


def test_several_members_act_for_as_many():
    with pytest.raises(ValueError, match="observations of 6 members, for actors of 3"):
        actor_of()(observations(6, B))


def test_the_standard_deviation_is_one_or_learnt_and_clipped():
    """exp of log_std in [-20, 2]."""
    x = observations(1, B)
    mean, sd = actor_of(1).act(x)
    assert mean.abs().max() <= 1
    assert torch.equal(sd.expand_as(mean), torch.ones(1, B, A))
    actor = actor_of(1, gaussian=True)
    assert torch.equal(actor.act(x)[1].expand_as(mean), torch.ones(1, B, A))
    actor.log_std.copy_(torch.tensor([[5.0, -30.0]]))
    torch.testing.assert_close(actor.act(x)[1], torch.tensor([[[math.exp(2), math.exp(-20)]]]))


def test_weights_have_variance_one_over_inputs_within_two_standard_deviations():
    """As Flax's lecun_normal; the critic's own are uniform."""
    actor = Actor(1, 400, A, [400], gaussian=False)
    reset(actor, [generator(0, "actor", 0)])
    weight = actor.net.layers[0].weight
    assert weight.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert weight.abs().max().item() <= 2 * 400**-0.5 / 0.87962566103423978 + 1e-6
    critic = Critic(1, 300, 100, [400])
    reset(critic, [generator(0, "critic", 0)])
    assert critic.q.layers[0].weight.abs().max().item() == pytest.approx((6 / 800) ** 0.5, rel=1e-3)


def test_a_perceptron_of_one_output_drops_its_axis_unless_told():
    x = torch.ones(S, B, 4)
    assert MLP((S,), 4, [8])(x).shape == (S, B)
    assert MLP((S,), 4, [8], 1)(x).shape == (S, B, 1)
    assert MLP((S,), 4, [8], 3)(x).shape == (S, B, 3)
