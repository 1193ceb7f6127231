"""The policy's proposals: seeds, candidates and scales side by side are what they are alone; and the best is kept."""

import contextlib
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.policies import policy_of, propose

from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.models import Critic, Denoiser, reset
from swgctl.policies.diffusion import DiffusionPolicy
from swgctl.policies.loading import weigher
from swgctl.randomness import generator
from swgctl.weights import expectile, hard_expectile

SEEDS, E, O, A, K = [0, 3, 7], 4, 3, 2, 5  # noqa: E741 - the shapes' names

FREE = torch.tensor([[-torch.inf, torch.inf]])  # a weight's channel without bounds


def make(seeds, critic=False, weigh=lambda a: expectile(a, 0.7)) -> DiffusionPolicy:
    """Random networks, whose members depend on their seed alone."""
    denoiser = Denoiser(len(seeds), O, A + 1, K, width=16)
    networks = [denoiser]
    if critic:
        networks.append(Critic(len(seeds), O, A, [16]))
    for network in networks:
        reset(network, [generator(s, type(network).__name__, 0) for s in seeds])
        network.requires_grad_(False)
    denoiser.weight_out.bias += 0.3
    ranking = networks[1] if critic else None
    return policy_of(seeds, A, denoiser, FREE.expand(len(seeds), 2), Schedule.vp(K), ranking, weigh)


def observations(members=3, rows=E):
    return torch.randn(members, rows, O, generator=generator(0, "observations", 0))


class Noise:
    """Draws of the walk, `table` (S, candidates, K, A + 1), of which some members and candidates may be taken."""

    def __init__(self, candidates: int):
        self.table = torch.randn(3, candidates, K, A + 1, generator=generator(0, "noise", 0))

    def __call__(self, members=slice(None), columns=slice(None)):
        draws = iter(range(K))
        return lambda shape: self.table[members][:, columns, next(draws)].view(shape)


# -- together and alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 3.0])
@pytest.mark.parametrize("candidates", [1, 3])
def test_a_member_proposes_what_it_does_alone(rho, candidates):
    noise, x = Noise(E * candidates), observations()
    together, share = propose(make(SEEDS, critic=True), x, rho, candidates, noise())
    for s, seed in enumerate(SEEDS):
        one = slice(s, s + 1)
        alone, own = propose(make([seed], critic=True), x[one], rho, candidates, noise(one))
        torch.testing.assert_close(alone[0], together[s], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own[0], share[s])


def test_the_sampler_gives_each_member_its_own():
    noise, x = Noise(E), observations()
    options = {"guidance": self_weighted(3.0)}
    together = sample(make(SEEDS).sampler.denoiser.bind(x), Schedule.vp(K), (3, E, A + 1), generator=noise(), **options)
    for s, seed in enumerate(SEEDS):
        one = slice(s, s + 1)
        bound = make([seed]).sampler.denoiser.bind(x[one])
        alone = sample(bound, Schedule.vp(K), (1, E, A + 1), generator=noise(one), **options)
        torch.testing.assert_close(alone[0], together[s], rtol=1e-4, atol=1e-5)


def test_rows_of_many_scales_and_counts_are_what_they_are_alone():
    """Row e has its own rho and M; its candidates' noise lies side by side."""
    policy, x = make(SEEDS, critic=True), observations()
    rho, counts = torch.tensor([0.5, 2.0, 8.0, 1.0]), torch.tensor([1, 4, 2, 3])
    noise, ends = Noise(10), [0, 1, 5, 7, 10]
    together, share = propose(policy, x, rho, counts, noise())
    for e in range(E):
        mine = noise(columns=slice(ends[e], ends[e + 1]))
        alone, own = propose(policy, x[:, e : e + 1], rho[e].item(), int(counts[e]), mine)
        torch.testing.assert_close(alone[:, 0], together[:, e], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own[:, 0], share[:, e])


def test_a_row_without_guidance_has_no_clamped_steps_beside_one_with():
    policy, x = make([0]), observations(1, 2)
    policy.sampler.denoiser.weight_out.bias.fill_(300.0)  # every w_hat is far below zero
    alone = propose(policy, x[:, :1], 0.0, 1, generator(0, "a", 0))[1]
    beside = propose(policy, x, torch.tensor([0.0, 1.0]), 1, generator(0, "a", 0))[1]
    assert alone[0, 0] == 0
    assert beside.tolist() == [[0, 1]]


# -- which candidate is kept -------------------------------------------------------------------------------------------


def candidates_of(policy, x, rho, count, noise):
    """Each of the `count` candidates of each row as if it were a row of its own, (S, E, M, A)."""
    every = propose(policy, x.repeat_interleave(count, 1), rho, 1, noise())[0]
    return every.unflatten(1, (E, count))


def test_the_candidate_of_greatest_weight_by_the_critic_is_kept():
    policy, x, noise = make(SEEDS, critic=True), observations(), Noise(E * 6)
    kept = propose(policy, x, 2.0, 6, noise())[0]
    every = candidates_of(policy, x, 2.0, 6, noise)
    q, v = policy.ranking.critic.value(x.repeat_interleave(6, 1), every.flatten(1, 2))
    best = expectile(q - v, 0.7).unflatten(1, (E, 6)).argmax(-1)
    assert len(best.unique()) > 2
    for s in range(3):
        for e in range(E):
            torch.testing.assert_close(kept[s, e], every[s, e, best[s, e]], rtol=1e-4, atol=1e-5)


def test_among_equal_hard_weights_the_greatest_advantage_is_kept():
    """The hard weight has two values: on its own, argmax would take the first candidate of the better half."""
    policy, x, noise = make(SEEDS, True, lambda a: hard_expectile(a, 0.7)), observations(), Noise(E * 6)
    kept = propose(policy, x, 0.0, 6, noise())[0]
    every = candidates_of(policy, x, 0.0, 6, noise)
    q, _ = policy.ranking.critic.value(x.repeat_interleave(6, 1), every.flatten(1, 2))
    best = q.unflatten(1, (E, 6)).argmax(-1)
    expected = every.gather(2, best[..., None, None].expand(-1, -1, 1, A)).squeeze(2)
    torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)


def test_a_weight_that_falls_with_the_advantage_keeps_the_worst():
    """What is ranked by is the weight, and not the advantage behind it."""
    policy, x, noise = make(SEEDS, True, lambda a: torch.exp(-a)), observations(), Noise(E * 6)
    kept = propose(policy, x, 0.0, 6, noise())[0]
    every = candidates_of(policy, x, 0.0, 6, noise)
    q, _ = policy.ranking.critic.value(x.repeat_interleave(6, 1), every.flatten(1, 2))
    worst = q.unflatten(1, (E, 6)).argmin(-1)
    expected = every.gather(2, worst[..., None, None].expand(-1, -1, 1, A)).squeeze(2)
    torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)


class Echo:
    """A denoiser whose sample is its starting noise, as good as: eps points to z_0 = z_K all along."""

    channels = 2

    def tables(self):
        return []

    def bind(self, observations, row, tables):
        start = []

        def denoise(z, k):
            start.append(z)
            return (z - SCHEDULE.alpha[k].item() * start[0]) / SCHEDULE.sigma[k].item()

        return denoise


SCHEDULE = Schedule.vp(K)


def test_without_a_critic_the_models_own_weight_ranks():
    policy = policy_of([0], 1, Echo(), FREE, SCHEDULE)
    start = torch.tensor([[0.1, 2.0], [0.2, 5.0], [0.3, 3.0], [-0.1, -1.0], [-0.2, -3.0], [-0.3, -2.0]]).view(1, 6, 2)
    actions, _ = propose(policy, torch.zeros(1, 2, 1), 0.0, 3, lambda shape: start)
    torch.testing.assert_close(actions, torch.tensor([[[0.2], [-0.1]]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("clip", [True, False])
def test_actions_lie_in_the_unit_box_and_weights_where_they_will(clip):
    policy = policy_of([0], 1, Echo(), FREE, SCHEDULE, clip=clip)
    start = torch.tensor([[[7.0, 0.0], [-7.0, 0.0], [0.5, 0.0]]])
    actions, _ = propose(policy, torch.zeros(1, 3, 1), 0.0, 1, lambda shape: start)
    torch.testing.assert_close(actions, torch.tensor([[[1.0], [-1.0], [0.5]]]), rtol=0, atol=1e-5)


def test_the_weights_channel_is_clipped_to_the_datas_range_where_it_ranks():
    """Of 2, 5 and 3 in [0, 4] the first to reach the bound wins: both 4 and 4 tie, the earlier stays."""
    policy = policy_of([0], 1, Echo(), torch.tensor([[0.0, 2.5]]), SCHEDULE)
    start = torch.tensor([[0.1, 2.0], [0.2, 3.0], [0.3, 5.0]]).view(1, 3, 2)
    actions, _ = propose(policy, torch.zeros(1, 1, 1), 0.0, 3, lambda shape: start)
    torch.testing.assert_close(actions, torch.tensor([[[0.2]]]), rtol=0, atol=1e-5)


# -- what is reported --------------------------------------------------------------------------------------------------


def test_clamped_is_the_share_of_a_rows_guidance_steps():
    """w_hat = E[w | z_k] of a constant prediction: below w_min in the 2 of 5 steps k < 2, for every candidate."""

    class Falling:
        channels = 2

        def tables(self):
            return []

        def bind(self, observations, row, tables):
            def denoise(z, k):
                w_hat = -1.0 if k < 2 else 1.0
                eps_w = (z[..., -1:] - SCHEDULE.alpha[k].item() * w_hat) / SCHEDULE.sigma[k].item()
                return torch.cat([torch.zeros_like(z[..., :-1]), eps_w], -1)

            return denoise

    policy = policy_of([0], 1, Falling(), FREE, SCHEDULE)
    counts = torch.tensor([1, 4])
    _, share = propose(policy, torch.zeros(1, 2, 1), 1.0, counts, generator(0, "x", 0))
    torch.testing.assert_close(share, torch.full((1, 2), 0.4))
    assert (propose(policy, torch.zeros(1, 2, 1), 0.0, counts, generator(0, "x", 0))[1] == 0).all()


# -- act ---------------------------------------------------------------------------------------------------------------


def test_act_takes_one_observation_many_or_one_set_a_seed():
    policy, x = make([0]), observations(1)
    full = policy.act(x, rho=2.0, temperature=0.0)
    torch.testing.assert_close(policy.act(x[0], rho=2.0, temperature=0.0), full[0])
    torch.testing.assert_close(policy.act(x[0, 1], rho=2.0, temperature=0.0), full[0, 1], rtol=1e-4, atol=1e-5)
    array = policy.act(x[0].double().numpy(), rho=2.0, temperature=0.0)
    np.testing.assert_allclose(array, full[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        *(({"rho": rho}, "rho") for rho in (-5, math.nan, math.inf)),
        ({"rho": torch.ones(E + 1)}, "rho"),
        *(({"candidates": m}, "candidates") for m in (0, 2.5, torch.ones(E + 1, dtype=torch.long))),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": 0, "candidates": 2}, "temperature"),
    ],
)
def test_act_refuses_what_cannot_be(how, word):
    with pytest.raises(ValueError, match=word):
        make([0]).act(observations(1), **how)


def test_candidates_of_a_plain_model_are_not_ranked_by_an_action():
    """Without a weight's channel and without a critic; with either of them there is a choice."""
    plain = make([0])
    denoiser = Denoiser(1, O, A, K, width=16, weight_block=0).requires_grad_(False)
    plain.sampler = replace(plain.sampler, denoiser=denoiser, bounds=None)
    assert plain.act(observations(1)).shape == (1, E, A)
    assert make([0]).ranks
    assert not plain.ranks
    with pytest.raises(ValueError, match="nothing ranks"):
        plain.act(observations(1), candidates=2)
    plain.ranking = make([0], critic=True).ranking
    assert plain.act(observations(1), candidates=2).shape == (1, E, A)


@pytest.mark.parametrize("shape", [(2, E, O), (E, O + 1), (O - 1,), (), (1, 1, E, O)])
def test_act_refuses_observations_of_another_shape(shape):
    with pytest.raises(ValueError, match="observations must be"):
        make([0]).act(torch.zeros(shape))


@pytest.mark.parametrize("how", [{}, {"rho": 3.0, "candidates": 4}, {"rho": torch.zeros(0)}])
def test_act_on_no_observations_gives_no_actions(how):
    assert make(SEEDS, critic=True).act(torch.zeros(len(SEEDS), 0, O), **how).shape == (len(SEEDS), 0, A)
    assert make([0]).act(torch.zeros(0, O), **how).shape == (0, A)


def test_act_is_the_same_where_the_caller_wants_no_gradients():
    policy = make(SEEDS)
    found = []
    for mode in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        with mode():
            found.append(policy.act(observations() + 0, rho=3.0, candidates=2, generator=generator(0, "x", 0)))
    wanted, *others = found
    assert all(torch.equal(wanted, other) for other in others)


def test_act_of_many_seeds_refuses_observations_without_their_axis():
    with pytest.raises(ValueError, match=rf"observations must be \(3, E, {O}\), not \({E}, {O}\)"):
        make(SEEDS).act(torch.zeros(E, O))


def test_act_repeats_with_a_generator_and_varies_without():
    policy, x = make([0]), observations(1)
    a, b = (policy.act(x, rho=1.0, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(policy.act(x), policy.act(x))


def test_temperature_zero_acts_alike_every_time():
    policy, x = make(SEEDS), observations()
    assert torch.equal(policy.act(x, rho=1.0, temperature=0.0), policy.act(x, rho=1.0, temperature=0.0))


def test_guidance_moves_the_action():
    policy, x = make(SEEDS), observations()
    unguided, guided = (policy.act(x, rho=rho, temperature=0.0) for rho in (0.0, 5.0))
    assert (unguided - guided).abs().max() > 1e-3


# -- the weight of an artifact -----------------------------------------------------------------------------------------


def test_weigher_is_the_weight_that_the_data_was_augmented_with():
    made = SimpleNamespace(params={"weight": "expectile", "tau": 0.9, "alpha": 1.0, "scale": 3.0})
    assert weigher(made.params)(torch.tensor(0.5)).item() == pytest.approx(0.1 + 0.8 / (1 + math.exp(-1.5)))
    made = SimpleNamespace(params={"weight": "linex", "tau": 0.7, "alpha": 2.0})
    assert weigher(made.params)(torch.tensor(1.0)).item() == pytest.approx(2 * (math.exp(2) - 1), rel=1e-6)
    made = SimpleNamespace(params={"weight": "exponential", "tau": 0.7, "alpha": 1.0, "beta": 0.5, "w_max": 9.0})
    assert weigher(made.params)(torch.tensor([1.0, 100.0])).tolist() == pytest.approx([math.exp(0.5), 9.0])
