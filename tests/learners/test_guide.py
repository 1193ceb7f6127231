"""The learner of energies: its targets, AEPO's in closed form, and guidance by what it learns."""

import math

import pytest
import torch
from support.gaussians import VP, Mixture
from support.learners import CPU, GUIDE, guide_learner, log_weight
from support.training import fit

from swgctl.config import GuideSettings
from swgctl.diffusion import energy_guided, sample
from swgctl.learners import GuideLearner
from swgctl.learners.expansion import Expansion
from swgctl.randomness import generator

SEEDS = [0, 3]


def learner(method, **changes):
    return guide_learner(SEEDS, settings=GUIDE.model_copy(update={"method": method, **changes}))


def drawn(guide, step=0):
    """The input of a step."""
    draws = guide.draw(lambda stream: [generator(seed, stream, 0) for seed in SEEDS])
    return {name: value[step] for name, value in draws.items()}


# -- inputs and targets of the losses ----------------------------------------------------------------------------------


def test_a_regression_has_the_log_weight_of_each_row_as_its_target():
    guide = learner("mse")
    states = guide.observations.expand(2, -1, -1)
    torch.testing.assert_close(guide.targets.squeeze(-1), log_weight(states, guide.z0[:, :, 0, :2]))


@pytest.mark.parametrize("method", ["emse", "ddice"])
def test_weights_are_divided_by_their_mean_over_the_data(method):
    guide, plain = learner(method), learner("mse")
    w = plain.targets.exp()
    torch.testing.assert_close(guide.targets, w / w.mean(1, keepdim=True))


def test_the_in_sample_weights_end_at_100():
    tall = GuideLearner(
        torch.zeros(4, 1),
        torch.zeros(1, 4, 1),
        lambda s, _: torch.tensor([[0.0, math.log(100), math.log(1000), -200.0]]),
        GUIDE.model_copy(update={"method": "ddice"}),
        [0],
        CPU,
        action_dim=1,
        schedule=VP,
    )
    torch.testing.assert_close(tall.targets.flatten(), torch.tensor([1, 100, 100, 0]) / (201 / 4))


def test_candidates_of_a_state_share_its_step_and_have_their_own_noise():
    guide, seen = learner("cep"), []
    forward = guide.energy.forward
    guide.energy.forward = lambda *inputs: (seen.append(inputs), forward(*inputs))[1]
    one = drawn(guide)
    guide.step(one)
    z, k, observations = (value.unflatten(1, (8, 4)) for value in seen[0])
    alpha, sigma = guide.schedule.alpha[k].unsqueeze(-1), guide.schedule.sigma[k].unsqueeze(-1)
    for s in range(2):
        torch.testing.assert_close((z - sigma * one["eps"])[s], alpha[s] * guide.z0[s, one["rows"][s]])
        assert torch.equal(k[s], one["k"][s].unsqueeze(-1).expand(-1, 4))
        assert torch.equal(observations[s], guide.observations[one["rows"][s]].unsqueeze(1).expand(-1, 4, -1))


def test_a_row_of_ddice_may_have_several_noises_at_one_step():
    guide = learner("ddice", noises=3)
    one = drawn(guide)
    assert one["eps"].shape == (2, 32, 3, 3)
    assert one["k"].shape == (2, 32)
    assert guide.step(one)["loss"].shape == (2,)


@pytest.mark.parametrize(("method", "lack"), [("cep", "candidates"), ("aepo", "denoiser")])
def test_a_method_without_its_input_is_refused(method, lack):
    settings = GUIDE.model_copy(update={"method": method})
    with pytest.raises(ValueError, match=lack):
        GuideLearner(torch.zeros(4, 1), torch.zeros(1, 4, 1), log_weight, settings, [0], CPU, action_dim=1, schedule=VP)


def test_an_artifact_keeps_the_average_the_last_parameters_and_aepos_variances():
    guide = learner("aepo", posterior=2)
    tensors = guide.tensors()
    names = [*guide.energy.state_dict()]
    assert [*tensors] == [f"ema.{n}" for n in names] + [f"raw.{n}" for n in names] + ["posterior", "variance"]
    assert tensors["posterior"].shape == (2, 3, 5)
    largest = guide.z0[0, :, 0, :2].var(0, correction=0).mean()
    torch.testing.assert_close(tensors["variance"], tensors["posterior"][:, 1].clamp(min=0).minimum(largest))
    assert "posterior" not in learner("mse").tensors()


# -- AEPO's targets ----------------------------------------------------------------------------------------------------

S = 0.2  # standard deviation of the actions: mu~ is hardly ever clipped
SLOPE = torch.tensor([1.0, 0.5])


class Gaussian:
    """The exact denoiser of N(0, S^2 I)."""

    def __call__(self, z, k, observations):
        alpha, sigma = VP.alpha.float()[k].unsqueeze(-1), VP.sigma.float()[k].unsqueeze(-1)
        return sigma * z / (alpha**2 * S**2 + sigma**2)

    def bind(self, observations):
        return lambda z, k: self(z, torch.full(z.shape[:-1], k), None)


def expansion(log_w, **changes):
    """The expansion of log w on 20,000 actions, for two members that share them."""
    actions = S * torch.randn(20_000, 2, generator=generator(0, "actions", 0))
    settings = GuideSettings(method="aepo", **{"posterior": 3} | changes)
    sources = [generator(seed, "moments", 0) for seed in SEEDS]
    schedule = VP.to(CPU, torch.float32)
    shared = actions.expand(2, -1, -1)
    return Expansion(settings, torch.zeros(20_000, 1), shared, 2, log_w, schedule, Gaussian(), sources)


def noisy(target):
    """rows, k, z, and mu~ in closed form."""
    rows, k = (torch.randint(n, (2, 500), generator=generator(0, "i", n)) for n in (20_000, 15))
    noise = torch.randn(2, 500, 2, generator=generator(0, "noise", 0))
    z = target.schedule.noisy(target.actions[target.members, rows], noise, k)
    alpha, sigma = target.schedule.alpha[k].unsqueeze(-1), target.schedule.sigma[k].unsqueeze(-1)
    return rows, k, z, alpha * S**2 / (alpha**2 * S**2 + sigma**2) * z


def test_the_table_of_variances_is_the_gaussians():
    true = S**2 * VP.sigma**2 / (VP.alpha**2 * S**2 + VP.sigma**2)
    table = expansion(lambda _, a: a @ SLOPE)
    for member in table.variance.double():
        torch.testing.assert_close(member, true, rtol=0.03, atol=0)
    assert (table.statistics["reversed"] == 0).all()
    torch.testing.assert_close(table.data_variance.item(), S**2, rtol=0.03, atol=0)


@pytest.mark.parametrize("expand", ["data", "posterior_mean"])
def test_a_linear_log_weight_has_its_exact_energy_as_its_target(expand):
    """beta c.mu~ + beta^2 s^2 |c|^2 / 2, whichever action the row has."""
    target = expansion(lambda _, a: 3 * a @ SLOPE, expansion=expand)
    rows, k, z, mean = noisy(target)
    expected = 3 * mean @ SLOPE + 9 * target.variance[target.members, k] * SLOPE.square().sum() / 2
    torch.testing.assert_close(target(rows, k, z), expected, rtol=1e-4, atol=1e-4)


def quadratic(beta):
    return lambda _, a: -beta * (a - 0.8).square().sum(-1)


@pytest.mark.parametrize("curvature", ["paper", "secant"])
def test_a_quadratic_log_weight_expanded_at_the_posterior_mean(curvature):
    """-beta |mu~ - m|^2 + s^2 |c|^2 / (2 (1 + s^2 h)), c = -2 beta (mu~ - m) and h = 2 beta, or 0 as printed.

    The first with h is the exact energy -beta |mu~ - m|^2 / (1 + 2 beta s^2), up to a constant.
    """
    beta = 20.0
    target = expansion(quadratic(beta), expansion="posterior_mean", curvature=curvature)
    rows, k, z, mean = noisy(target)
    s2, square = target.variance[target.members, k], (mean - 0.8).square().sum(-1)
    h = 2 * beta if curvature == "secant" else 0
    expected = -beta * square + s2 * 4 * beta**2 * square / (2 * (1 + s2 * h))
    torch.testing.assert_close(target(rows, k, z), expected, rtol=1e-3, atol=1e-3)
    if curvature == "secant":
        torch.testing.assert_close(expected, -beta * square / (1 + 2 * beta * s2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("curvature", ["paper", "secant"])
def test_the_rows_whose_last_term_points_the_wrong_way_are_counted(curvature):
    """s_k^2 2 beta > 1 at all steps above some, and S^2 2 beta = 1.6; steps are uniform."""
    table = expansion(quadratic(20.0), curvature=curvature)
    share = (table.variance * 40 > 1).float().mean(1)
    assert 0.5 < share.min() < 1
    torch.testing.assert_close(table.statistics["reversed"], share, rtol=0, atol=0.02)
    assert (table.statistics["limited"] <= 8 / 15).all()


def test_the_median_of_the_last_term():
    """s_k^2 beta^2 |c|^2 / 2 of a linear log-weight is that of the middle step."""
    table = expansion(lambda _, a: 3 * a @ SLOPE)
    middle = table.variance.median(1).values * 9 * SLOPE.square().sum() / 2
    torch.testing.assert_close(table.statistics["second_order"], middle)


def test_a_flat_log_weight_has_a_flat_target():
    target = expansion(lambda _, a: 0 * a.sum(-1) + 0.7, curvature="secant")
    rows, k, z, _ = noisy(target)
    torch.testing.assert_close(target(rows, k, z), torch.full((2, 500), 0.7))


def test_a_steep_weight_estimated_by_the_size_of_the_noise_is_limited():
    table = expansion(lambda _, a: a @ SLOPE, posterior=1)
    assert table.variance.max() <= table.data_variance
    assert table.variance.min() >= 0
    outside = (table.posterior[:, 0] < 0) | (table.posterior[:, 0] > table.data_variance)
    torch.testing.assert_close(table.statistics["limited"], outside.float().mean(1))


# -- it learns ---------------------------------------------------------------------------------------------------------

TWO = Mixture(torch.tensor([[-0.5], [0.5]]).double(), 0.15, torch.tensor([0.2, 0.8]).double())


@pytest.mark.training
@pytest.mark.parametrize("method", ["ddice", *(pytest.param(one, marks=pytest.mark.slow) for one in ("emse", "cep"))])
def test_a_learnt_energy_weighs_the_modes(method, tmp_path):
    """Two equal modes, of weights 0.2 and 0.8, by the exact denoiser: of 4,000 samples 0.49 lie in the better one, with
    the exact energy 0.757 (15 steps do not reach 0.8), and with the learnt one about as many.
    """
    points = TWO.draw((4000,), generator(0, "points", 0))[0].float()
    settings = GuideSettings(
        method=method, normalise="none", hidden=[32, 32], batch=512, states=64, lr=3e-3, ema=0.02, steps=600
    )
    guide = GuideLearner(
        torch.zeros(4000, 1),
        points.unsqueeze(0),
        lambda _, a: torch.where(a.squeeze(-1) > 0, 0.8, 0.2).log(),
        settings,
        SEEDS,
        CPU,
        action_dim=1,
        schedule=VP,
        candidates=(torch.arange(500), points.view(1, 500, 8, 1).expand(2, -1, -1, -1)),
    )
    fit(guide, "guide", tmp_path, SEEDS, settings.steps)
    energy = guide.average.bind(torch.zeros(2, 1, 1), torch.zeros(4000, dtype=torch.long))

    def denoise(z, k):
        return TWO.denoise(z.double(), k).float()

    def shares(guidance):
        a = sample(denoise, VP, (2, 4000, 1), guidance=guidance, generator=generator(0, "draw", 0))
        assert a.abs().mean().item() == pytest.approx(0.5, abs=0.05)
        return (a > 0).float().mean((1, 2)).tolist()

    assert shares(None) == pytest.approx([0.49] * 2, abs=0.03)
    assert shares(energy_guided(1.0, lambda z, k: TWO.exact(z.double(), k))) == pytest.approx([0.757] * 2, abs=0.03)
    assert shares(energy_guided(1.0, energy)) == pytest.approx([0.757] * 2, abs=0.12)
