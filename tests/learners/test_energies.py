"""Losses of the intermediate energy: their values by hand, and what minimises them, against closed forms."""

import itertools
import math

import pytest
import torch
from support.gaussians import EIGHT, VP
from support.learners import CPU
from support.training import fit

from swgctl.config import GuideSettings
from swgctl.learners import GuideLearner
from swgctl.learners.energies import contrastive, exponential_regression, in_sample, regression

DRAWS = 200_000


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_in_sample_loss_is_equation_13_times_the_members_factor():
    f, ratio = normal(3, 50), normal(3, 50, seed=1).exp()
    loss, _ = in_sample(f, ratio)
    expected = (ratio * (-f).exp() + f).mean(-1) * (-(-f).amax(-1).clamp(min=-1)).exp()
    torch.testing.assert_close(loss, expected)
    for s in range(3):
        torch.testing.assert_close(in_sample(f[s], ratio[s])[0], loss[s])


@pytest.mark.parametrize("low", [-1e3, -200.0, -81.0])
def test_the_in_sample_loss_stays_finite_and_pushes_a_very_low_energy_up_no_further(low):
    f = torch.tensor([low, 0.5, 3.0], requires_grad=True)
    loss, _ = in_sample(f, torch.ones(3))
    (gradient,) = torch.autograd.grad(loss, f)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient[0] < 0


def test_exponents_are_clipped_at_4_5():
    f = torch.tensor([5.0, 4.0, -101.0], requires_grad=True)
    loss, _ = exponential_regression(f, torch.tensor([1e6, 1e6, 2.0]))
    top = math.exp(4.5)
    assert loss.item() == pytest.approx((0 + (math.exp(4) - top) ** 2 + 4) / 3, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, f)
    assert gradient.tolist() == pytest.approx([0, 2 / 3 * (math.exp(4) - top) * math.exp(4), 0])


@pytest.mark.parametrize("normalise", ["self", "none"])
def test_the_contrast_is_a_cross_entropy_over_the_candidates(normalise):
    f, log_w = normal(2, 5, 4), normal(2, 5, 4, seed=1)
    loss, _ = contrastive(f, log_w, normalise, 0.7)
    for s in range(2):
        rows = []
        for b in range(5):
            w = log_w[s, b].exp()
            p = w / w.sum() if normalise == "self" else w / (4 * 0.7)
            rows.append(-(p * (f[s, b].exp() / f[s, b].exp().sum()).log()).sum())
        torch.testing.assert_close(loss[s], torch.stack(rows).mean())


def test_a_constant_changes_no_contrast():
    f, log_w = normal(2, 5, 4), normal(2, 5, 4, seed=1)
    shift = normal(2, 5, 1, seed=2)
    for normalise in ("self", "none"):
        torch.testing.assert_close(*(contrastive(x, log_w, normalise)[0] for x in (f, f + shift)))


# -- optima, without training ------------------------------------------------------------------------------------------


def residual(loss, energy, k, group=1) -> tuple[float, float]:
    """Gradient of a loss at an energy f(z_k, k) along eight sines of z, the greatest: (its size, in standard errors).

    loss(f, w) for f and w of shape (rows, group); the gradient of a minimum is 0 along every function of z.
    """
    generator = torch.Generator().manual_seed(k)
    shape = (DRAWS // group, group)
    z0, w = EIGHT.draw(shape, generator)
    alpha, sigma = VP.at(k)
    z = alpha * z0 + sigma * torch.randn(z0.shape, generator=generator, dtype=z0.dtype)
    frequencies = 3 * torch.randn(2, 8, generator=generator, dtype=z0.dtype)
    f = energy(z, k).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(f, w), f)
    along = len(z) * (gradient.unsqueeze(-1) * (z @ frequencies).sin()).sum(1)
    mean, error = along.mean(0), along.std(0) / math.sqrt(len(z))
    return mean.abs().max().item(), (mean / error).abs().max().item()


MEAN = EIGHT.weights.mean()
LOSSES = {
    "ddice": lambda f, w: in_sample(f.flatten(), (w / MEAN).flatten())[0],
    "emse": lambda f, w: exponential_regression(f.flatten(), (w / MEAN).flatten())[0],
    "mse": lambda f, w: regression(f.flatten(), w.log().flatten())[0],
    "cep none": lambda f, w: contrastive(f, w.log(), "none", MEAN)[0],
    "cep self": lambda f, w: contrastive(f, w.log(), "self")[0],
}


def relative(z, k):
    """log E[w / w_mean | z_k]."""
    return EIGHT.exact(z, k) - MEAN.log()


@pytest.mark.parametrize("k", [2, 6, 10])
@pytest.mark.parametrize(("loss", "group"), [("ddice", 1), ("emse", 1), ("cep none", 4), ("cep none", 16)])
def test_the_exact_energy_minimises_the_exact_losses(loss, group, k):
    assert residual(LOSSES[loss], relative, k, group)[1] < 5


@pytest.mark.parametrize("k", [2, 6, 10])
def test_a_regression_on_log_w_has_another_minimum(k):
    assert residual(LOSSES["mse"], EIGHT.exact, k)[1] > 15
    assert residual(LOSSES["mse"], EIGHT.mean_log, k)[1] < 5


@pytest.mark.parametrize("k", [2, 6, 10])
def test_the_exact_losses_are_not_at_a_minimum_there(k):
    assert residual(LOSSES["ddice"], lambda z, k: EIGHT.mean_log(z, k) - MEAN.log(), k)[1] > 15


def test_self_normalised_contrasts_are_biased_like_the_inverse_of_the_candidates():
    """Sizes of an independent script, whose sines are other draws: 0.083, 0.020 and 0.0046."""
    sizes, errors = zip(*(residual(LOSSES["cep self"], relative, 2, group) for group in (4, 16, 64)), strict=True)
    assert errors[0] > 15
    assert errors[1] > 5
    assert sizes == pytest.approx((0.083, 0.020, 0.0046), rel=0.3)
    for larger, smaller in itertools.pairwise(sizes):
        assert 3 < larger / smaller < 5.5


# -- optima, by training -----------------------------------------------------------------------------------------------


def learnt(method, work) -> GuideLearner:
    """The energy of 200,000 points, of one state; cep's candidates are the points themselves, in groups of 16."""
    generator = torch.Generator().manual_seed(0)
    points, _ = EIGHT.draw((DRAWS,), generator)
    log_w = EIGHT.weights.log().float()
    centres = EIGHT.centres.float()
    settings = GuideSettings(
        method=method,
        normalise="none",
        hidden=[256, 256, 256],
        batch=1024,
        states=64,
        steps=5000,
        lr=3e-3,
        decay="cosine",
    )
    learner = GuideLearner(
        torch.zeros(DRAWS, 1),
        points.float().unsqueeze(0),
        lambda _, a: log_w[torch.cdist(a, centres).argmin(-1)],
        settings,
        [0],
        CPU,
        action_dim=2,
        schedule=VP,
        candidates=(torch.arange(DRAWS // 16), points.float().view(1, -1, 16, 2)),
    )
    fit(learner, "guide", work, [0], settings.steps)
    return learner


def distance(learner, energy) -> float:
    """Relative error of sigma_k grad f under the weighted distribution, over all steps."""
    generator = torch.Generator().manual_seed(1)
    bound = learner.average.bind(torch.zeros(1, 1, 1), torch.zeros(4000, dtype=torch.long))
    errors, sizes = [], []
    for k in range(len(VP)):
        alpha, sigma = VP.at(k)
        mode = torch.multinomial(EIGHT.weights, 4000, True, generator=generator)
        noise = torch.randn(2, 4000, 2, generator=generator, dtype=torch.float64)
        z = (alpha * (EIGHT.centres[mode] + EIGHT.sd * noise[0]) + sigma * noise[1]).requires_grad_()
        (expected,) = torch.autograd.grad(energy(z, k).sum(), z)
        (found,) = torch.autograd.grad(bound(z.float().unsqueeze(0), k).sum(), z)
        errors.append(sigma**2 * (found - expected).square().sum())
        sizes.append(sigma**2 * expected.square().sum())
    return (sum(errors) / sum(sizes)).sqrt().item()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ddice", "cep"])
def test_exact_methods_learn_the_exact_gradient(method, tmp_path):
    assert distance(learnt(method, tmp_path), EIGHT.exact) < 0.25


@pytest.mark.slow
def test_a_regression_on_log_w_learns_its_own_gradient(tmp_path):
    learner = learnt("mse", tmp_path)
    assert distance(learner, EIGHT.exact) > 0.7
    assert distance(learner, EIGHT.mean_log) < 0.35
