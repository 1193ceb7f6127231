"""The learners of the training loop: alone and together, cut and resumed, right."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.learners import (
    CPU,
    CRITIC,
    DIFFUSE,
    GUIDE,
    behaviour_learner,
    critic_learner,
    diffuse_learner,
    guide_learner,
    transitions,
)
from support.policies import policy_of, propose
from support.training import chain, check_members, check_resume, fit

from swgctl.config import CriticSettings, DiffuseSettings, ToySettings
from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.learners import CriticLearner, DiffuseLearner, ToyLearner
from swgctl.randomness import generator
from swgctl.tasks.transitions import read

SEEDS = [0, 3, 7]
FALLING = DIFFUSE.model_copy(update={"decay": "cosine", "steps": 25})


def falling_learner(seeds, device=CPU):
    return diffuse_learner(seeds, device, FALLING)


GUIDES = {
    "mse": {},
    "emse": {},
    "cep": {},
    "ddice": {"noises": 3},
    "aepo": {},
    "secant": {"method": "aepo", "expansion": "posterior_mean", "posterior": 3, "curvature": "secant"},
}
MAKE = {
    "critic": critic_learner,
    "diffuse": diffuse_learner,
    "falling": falling_learner,
    "behaviour": behaviour_learner,
    **{
        name: functools.partial(guide_learner, settings=GUIDE.model_copy(update={"method": name} | changes))
        for name, changes in GUIDES.items()
    },
}


# -- seeds are an axis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKE)
def test_a_member_learns_as_it_does_alone(name, tmp_path):
    check_members(MAKE[name], name, SEEDS, tmp_path)


@pytest.mark.parametrize("name", MAKE)
def test_members_differ(name, tmp_path):
    learner = MAKE[name](SEEDS)
    rows = fit(learner, name, tmp_path, SEEDS, 2)
    for values in (value for key, value in rows[-1].items() if key.endswith("loss")):
        assert len(set(values)) == len(SEEDS)


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 13])
@pytest.mark.parametrize("name", MAKE)
def test_cut_and_resumed_is_bit_for_bit_one_run(name, at, tmp_path):
    check_resume(MAKE[name], name, SEEDS, tmp_path, at)


# -- one step by hand --------------------------------------------------------------------------------------------------


def after_each_step(learner, check):
    step = learner.step

    def watched(drawn):
        info = step(drawn)
        check()
        return info

    learner.step = watched


@pytest.mark.parametrize(
    ("name", "settings", "leads", "follows"),
    [
        ("diffuse", DIFFUSE.model_copy(update={"ema": 0.25}), "parameters", "averages"),
        ("critic", CRITIC.model_copy(update={"target_rate": 0.25}), "q", "q_target"),
    ],
)
def test_averages_and_targets_trail_by_their_rate(name, settings, leads, follows, tmp_path):
    """theta' = (1 - 0.25) theta' + 0.25 theta, after each step."""
    learner = MAKE[name]([0], settings=settings)
    expected = [p.detach().clone() for p in getattr(learner, leads)]

    def check():
        for e, p, follower in zip(expected, getattr(learner, leads), getattr(learner, follows), strict=True):
            e.lerp_(p.detach(), 0.25)
            torch.testing.assert_close(follower, e)

    after_each_step(learner, check)
    fit(learner, name, tmp_path, [0], 5)


def test_the_policys_rate_rises_and_falls_to_nothing(tmp_path):
    """Adam with a constant rate moves each parameter about as far at every step; with this one hardly, at both ends."""
    learner, moved = falling_learner([0]), []
    before = [p.detach().clone() for p in learner.parameters]

    def check():
        moved.append(max((p - b).abs().max().item() for p, b in zip(learner.parameters, before, strict=True)))
        before[:] = [p.detach().clone() for p in learner.parameters]

    after_each_step(learner, check)
    fit(learner, "diffuse", tmp_path, [0], FALLING.steps)
    assert moved[0] == 0
    assert max(moved) > 0.5 * FALLING.lr
    assert moved[-1] < 0.02 * FALLING.lr


def test_the_denoising_loss_is_equation_9():
    """The mean over the batch of the sum over the channels of (eps^ - eps)^2, here with eps^ = 0."""
    learner = diffuse_learner(SEEDS)
    for p in learner.denoiser.parameters():
        p.data.zero_()
    eps = torch.randn(3, 32, 3, generator=generator(0, "eps", 0))
    k = torch.randint(5, (3, 32), generator=generator(0, "k", 0))
    info = learner.step({"rows": torch.zeros(3, 32, dtype=torch.long), "k": k, "eps": eps})
    torch.testing.assert_close(info["loss"], eps.square().sum(-1).mean(-1))
    torch.testing.assert_close(info["weight_loss"], eps[..., -1].square().mean(-1))
    torch.testing.assert_close(info["action_loss"], eps[..., :-1].square().sum(-1).mean(-1))


def test_the_denoiser_sees_alpha_z0_plus_sigma_eps():
    """Its entry is spied on, for each row's own step, action and weight."""
    learner = diffuse_learner(SEEDS)
    seen = []
    forward = learner.denoiser.forward
    learner.denoiser.forward = lambda *inputs: (seen.append(inputs), forward(*inputs))[1]
    rows, k = (torch.randint(n, (3, 32), generator=generator(0, "i", n)) for n in (200, 5))
    eps = torch.randn(3, 32, 3, generator=generator(0, "eps", 0))
    learner.step({"rows": rows, "k": k, "eps": eps})
    z, _, observations, _ = seen[0]
    weights = torch.stack([learner.weights[s, rows[s]] for s in range(3)]).unsqueeze(-1)
    z0 = torch.cat([learner.actions[rows], weights], -1)
    torch.testing.assert_close(z, Schedule.vp(5).noisy(z0, eps, k))
    assert torch.equal(observations, learner.observations[rows])


def test_a_plain_denoiser_is_a_joint_one_whose_weight_is_the_last_action(tmp_path):
    """Without a head for the weight, that is an output like the others; the draws are equal."""
    data, settings = transitions(), DIFFUSE.model_copy(update={"weight_block": 0})
    plain = behaviour_learner(SEEDS)
    observations, actions, last = plain.observations, plain.actions[:, :1], plain.actions[:, 1].expand(3, -1)
    joint = DiffuseLearner(observations, actions, last, settings, SEEDS, CPU, "behaviour")
    assert len(data) == len(last[0])
    plain_rows, joint_rows = (fit(x, "behaviour", tmp_path / n, SEEDS, 4) for x, n in ((plain, "p"), (joint, "j")))
    for key, value in plain.state().items():
        assert torch.equal(joint.state()[key], value), key
    assert plain_rows[-1].keys() == {"step", "loss", "train_s"}
    assert plain_rows[-1]["loss"] == joint_rows[-1]["loss"]


def test_unit_weights_have_mean_one_for_each_member():
    raw, unit = (
        diffuse_learner(SEEDS, settings=DIFFUSE.model_copy(update={"weight_scale": x})) for x in ("raw", "unit")
    )
    torch.testing.assert_close(unit.weights.mean(1), torch.ones(3))
    torch.testing.assert_close(unit.weights, raw.weights / raw.weights.mean(1, keepdim=True))


def test_the_critic_never_draws_a_row_whose_next_state_is_unknown():
    data = transitions()
    known = np.arange(len(data)) % 3 == 0
    learner = CriticLearner(replace(data, known_next=known), CRITIC, "none", [0], CPU)
    drawn = learner.draw(lambda stream: [generator(0, stream, 0)])["rows"][:, 0]
    assert set(drawn.flatten().tolist()) == set(np.flatnonzero(known))
    picks = torch.randint(int(known.sum()), drawn.shape, generator=generator(0, "batch", 0))
    assert torch.equal(learner.rows[drawn, :3], torch.from_numpy(data.observations[known])[picks])


def test_the_critic_learns_from_the_memory_that_was_read_into(pendulum):
    data = read(pendulum())
    learner = CriticLearner(data, CRITIC, "none", [0], CPU)
    assert learner.rows.data_ptr() == data.observations.ctypes.data


def test_the_critic_sees_transformed_rewards():
    plain, shifted = (CriticLearner(transitions(), CRITIC, rule, [0], CPU).rows[:, 5] for rule in ("none", "minus_one"))
    torch.testing.assert_close(shifted, plain - 1)


# -- they learn --------------------------------------------------------------------------------------------------------


@pytest.mark.training
@pytest.mark.parametrize("tau", [pytest.param(0.5, marks=pytest.mark.slow), 0.9])
def test_the_critic_finds_the_values_of_a_chain(tau, tmp_path):
    """V(s) = tau Q(s, right) + (1 - tau) Q(s, stay), the tau-expectile of two equally frequent values.

    With Q(s, stay) = gamma V(s) and Q(s, right) = gamma V(s + 1), at the end 1:
    V(s) = tau Q(s, right) / (1 - (1 - tau) gamma).
    """
    length, gamma = 4, 0.9
    v = np.zeros(length)
    right = np.ones(length)
    for s in reversed(range(length)):
        if s < length - 1:
            right[s] = gamma * v[s + 1]
        v[s] = tau * right[s] / (1 - (1 - tau) * gamma)
    q = np.stack([right, gamma * v], 1)
    assert v[-1] == pytest.approx(tau / (0.1 + 0.9 * tau))

    settings = CriticSettings(tau=tau, gamma=gamma, lr=1e-3, batch=256, hidden=[32, 32], target_rate=0.05)
    data, seeds = chain(length), [0, 1]
    learner = CriticLearner(data, settings, "none", seeds, CPU)
    fit(learner, "critic", tmp_path, seeds, 1500)
    s, a = (torch.from_numpy(x).expand(2, -1, -1) for x in (data.observations, data.actions))
    with torch.no_grad():
        found_q, found_v = learner.critic.value(s, a)
    for member in range(2):
        np.testing.assert_allclose(found_q[member].view(length, 2), q, rtol=0.05)
        np.testing.assert_allclose(found_v[member].view(length, 2)[:, 0], v, rtol=0.05)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """Two members, trained where actions are -0.5 +- 0.1 at s = -1, and at s = +1 one of 0.1 +- 0.1 and 0.7 +- 0.1.

    Weights are 0.8 above 0.4 and 0.2 below.
    """
    n = 4000
    noise = torch.randn(2 * n, generator=generator(0, "mixture", 0))
    centre = torch.cat([torch.full((n,), -0.5), torch.tensor([0.1, 0.7]).repeat(n // 2)])
    actions = (centre + 0.1 * noise).unsqueeze(-1)
    observations = torch.cat([-torch.ones(n, 1), torch.ones(n, 1)])
    weights = torch.where(actions > 0.4, 0.8, 0.2).T.expand(2, -1)
    settings = DiffuseSettings(width=64, blocks=2, dropout=0, lr=1e-3, batch=256, ema=0.01)
    learner = DiffuseLearner(observations, actions, weights, settings, [0, 1], CPU)
    fit(learner, "diffuse", tmp_path_factory.mktemp("mixture"), [0, 1], 1200)
    return learner


def draw(learner, state: float, guidance=None):
    denoise = learner.average.bind(torch.full((2, 1, 1), state), torch.zeros(4000, dtype=torch.long))
    return sample(denoise, learner.schedule, (2, 4000, 2), guidance=guidance, generator=generator(0, "draw", 0))


def test_the_denoiser_finds_the_mode_of_a_state(mixture):
    """-0.5 +- 0.1, of weight 0.2."""
    actions, weights = draw(mixture, -1.0).unbind(-1)
    for s in range(2):
        assert actions[s].mean().item() == pytest.approx(-0.5, abs=0.03)
        assert actions[s].std().item() == pytest.approx(0.1, abs=0.04)
        assert weights[s].mean().item() == pytest.approx(0.2, abs=0.03)


def test_the_denoiser_finds_both_modes_of_another_state(mixture):
    """Mean 0.4; the deviation of two modes +- 0.3 with spread 0.1 is sqrt(0.3^2 + 0.1^2)."""
    actions, weights = draw(mixture, 1.0).unbind(-1)
    for s in range(2):
        assert actions[s].mean().item() == pytest.approx(0.4, abs=0.04)
        assert actions[s].std().item() == pytest.approx(math.sqrt(0.1), abs=0.04)
        assert (actions[s] > 0.4).float().mean().item() == pytest.approx(0.5, abs=0.06)
        assert weights[s].mean().item() == pytest.approx(0.5, abs=0.05)


def test_guidance_by_what_was_learnt_weighs_the_modes(mixture):
    """rho = 1: 0.8 to 0.2, from one to one."""
    actions = draw(mixture, 1.0, self_weighted(1.0))[..., 0]
    for s in range(2):
        assert (actions[s] > 0.4).float().mean().item() == pytest.approx(0.8, abs=0.07)


def test_strong_guidance_goes_to_the_better_mode(mixture):
    """rho = 15 tilts one to one by 0.8 / 0.2 to the 15th: next to no action is left in the worse mode.

    Guidance pushes z_w up as well.  Were the predicted weight not bounded, it would run to 1e4, where the denoiser has
    never been, and the actions would go astray.
    """
    seen = torch.tensor([[0.2, 0.8]] * 2)
    policy = policy_of([0, 1], 1, mixture.average, seen, mixture.schedule)
    actions, _ = propose(policy, torch.ones(2, 2000, 1), 15.0, 1, generator(0, "draw", 0))
    for s in range(2):
        assert (actions[s] > 0.4).float().mean().item() > 0.95


# -- the toys ----------------------------------------------------------------------------------------------------------


def toy_draws(draws: str) -> dict:
    settings = ToySettings(K=100, batch=4096, width=8, layers=1, draws=draws)
    learner = ToyLearner(torch.zeros(10, 2), torch.zeros(10), settings, [0], CPU)
    return learner.draw(lambda stream: [generator(0, stream, 0)])


def test_uniform_draws_are_uniform_and_focused_ones_dwell_on_small_noise_and_small_beta():
    """P(k < 13) = 1/2 + 13/200 where half of k is k // 8; P(beta < 20 x) = (x + x^(1/2)) / 2 where half is a square."""
    uniform, focused = toy_draws("uniform"), toy_draws("focused")
    for drawn, share in ((uniform, 0.13), (focused, 0.565)):
        assert (drawn["k"] < 13).double().mean().item() == pytest.approx(share, abs=0.005)
        assert (drawn["k"].min(), drawn["k"].max()) == (0, 99)
    for x in (0.01, 0.2, 0.8):
        assert (uniform["beta"] < 20 * x).double().mean().item() == pytest.approx(x, abs=0.005)
        expected = (x + x**0.5) / 2
        assert (focused["beta"] < 20 * x).double().mean().item() == pytest.approx(expected, abs=0.005)
