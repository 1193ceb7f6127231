"""Guidance by energies of a Gaussian's and of discrete distributions: samples and gradients against closed forms.

Data N(0, S2 I) has a posterior N(mu~, v I) of z_0 at every step, so that exact and approximate energies of linear and
quadratic log-weights are closed forms.  Walks are DDPM's on 15 steps of vp.
"""

import math

import pytest
import torch

from swgctl.diffusion import Exact, Schedule, energy_guided, posterior_guided, rescaled, sample, self_weighted
from swgctl.diffusion.exact import ring
from swgctl.learners.energies import analytic

VP = Schedule.vp(15)
S2 = 0.25
SLOPE = torch.tensor([1.0, 0.5], dtype=torch.float64)
TOP = 0.8  # where Q = -|a - TOP|^2 is greatest


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(z, k):
    """The exact denoiser of N(0, S2 I)."""
    alpha, sigma = VP.at(k)
    return sigma * z / (alpha**2 * S2 + sigma**2)


def posterior(z, k):
    """Mean (..., D) and variance of a coordinate of z_0 given z_k."""
    alpha, sigma = VP.at(k)
    v = 1 / (1 / S2 + alpha**2 / sigma**2)
    return v * alpha / sigma**2 * z, v


def drawn(guidance):
    """20,000 guided samples of two coordinates, (20000, 2)."""
    options = {"guidance": guidance, "generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    return sample(gaussian, VP, (20_000, 2), **options)


# -- a linear Q: every energy is right ---------------------------------------------------------------------------------


def linear(beta):
    """Equation 25 for log w = beta c.a, expanded at a_bar = 0."""

    def energy(z, k):
        mean, v = posterior(z, k)
        return analytic(torch.zeros(len(z)).double(), beta * SLOPE.expand_as(mean), mean, v)

    return energy


@pytest.mark.parametrize(("beta", "mean"), [(1.0, [0.252, 0.127]), (3.0, [0.751, 0.377])])
def test_a_linear_q_shifts_a_gaussian_by_its_variance_times_the_slope(beta, mean):
    """N(beta S2 c, S2 I), whose deviation the unguided walk of 15 steps makes 0.515 as well."""
    z = drawn(energy_guided(1.0, linear(beta)))
    assert z.mean(0).tolist() == pytest.approx((beta * S2 * SLOPE).tolist(), abs=0.012)
    assert z.mean(0).tolist() == pytest.approx(mean, abs=0.012)
    torch.testing.assert_close(z.std(0), drawn(None).std(0), rtol=1e-9, atol=0)
    assert z.std(0).tolist() == pytest.approx([0.515, 0.515], abs=0.01)


def test_dps_draws_the_same_samples_of_a_linear_q():
    dps = posterior_guided(1.0, lambda a: 3.0 * a @ SLOPE)
    torch.testing.assert_close(drawn(dps), drawn(energy_guided(1.0, linear(3.0))), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rho", "mean"), [(1.0, 0.132), (3.0, 0.451)])
def test_rescaling_halves_the_shift(rho, mean):
    """Equation 45 does not keep the distribution: of the shifts 0.25 and 0.75 of the first coordinate, about half."""
    z = drawn(rescaled(energy_guided(rho, linear(1.0))))
    assert z[:, 0].mean().item() == pytest.approx(mean, abs=0.012)


# -- a quadratic Q -----------------------------------------------------------------------------------------------------


def quadratic(a, beta):
    """log w = beta Q, Q = -|a - TOP|^2, (...), and its gradient (..., D)."""
    return -beta * (a - TOP).square().sum(-1), -2 * beta * (a - TOP)


def exact(beta):
    def energy(z, k):
        mean, v = posterior(z, k)
        return quadratic(mean, beta)[0] / (1 + 2 * beta * v)

    return energy


def expanded(beta, *, secant):
    """Equation 25 at a_bar = mu~; with the curvature along the gradient by a finite difference, or without it."""

    def energy(z, k):
        mean, v = posterior(z, k)
        log_w, c = quadratic(mean, beta)
        h, s = torch.zeros(()).double(), math.sqrt(v)
        if secant:
            u = (c / c.norm(dim=-1, keepdim=True)).detach()
            further = quadratic(mean.detach() + s * u, beta)[1]
            h = (-(u * (further - c.detach())).sum(-1) / s).clamp(min=0)
        return analytic(log_w, c, torch.zeros_like(mean), v, h)

    return energy


def mean_log_weight(beta):
    def energy(z, k):
        mean, v = posterior(z, k)
        return quadratic(mean, beta)[0] - beta * mean.shape[-1] * v

    return energy


QUADRATIC = {
    "exact": lambda beta: energy_guided(1.0, exact(beta)),
    "secant": lambda beta: energy_guided(1.0, expanded(beta, secant=True)),
    "first order": lambda beta: energy_guided(1.0, expanded(beta, secant=False)),
    "mse": lambda beta: energy_guided(1.0, mean_log_weight(beta)),
    "dps": lambda beta: posterior_guided(1.0, lambda a: quadratic(a, beta)[0]),
}


@pytest.mark.parametrize(
    ("energy", "means"),
    [
        ("exact", [0.268, 0.481, 0.572]),
        ("secant", [0.268, 0.481, 0.572]),
        ("first order", [0.248, 0.181, -1.18]),
        ("mse", [0.324, 0.651, 0.763]),
        ("dps", [0.324, 0.651, 0.763]),
    ],
)
def test_a_quadratic_q_tells_the_energies_apart(energy, means):
    """At beta = 1, 3, 5 the weighted Gaussian's mean is TOP 2 beta S2 / (1 + 2 beta S2) = 0.267, 0.480, 0.571."""
    targets = [TOP * 2 * beta * S2 / (1 + 2 * beta * S2) for beta in (1, 3, 5)]
    sampled = [drawn(QUADRATIC[energy](beta)).mean().item() for beta in (1.0, 3.0, 5.0)]
    assert sampled == pytest.approx(means, abs=0.015)
    if energy in ("exact", "secant"):
        assert sampled == pytest.approx(targets, abs=0.015)


def test_the_first_order_term_drives_away_where_the_curvature_is_large():
    """The sign of its gradient reverses where 2 beta v > 1: at beta = 10 the mean lies at -353."""
    assert drawn(QUADRATIC["first order"](10.0)).mean().item() < -100
    assert drawn(QUADRATIC["secant"](10.0)).mean().item() == pytest.approx(0.667, abs=0.015)


@pytest.mark.parametrize("k", range(15))
def test_the_secant_makes_the_gradient_of_a_quadratic_exact(k):
    z = normal(50, 2)
    a, b = (QUADRATIC[name](5.0)(gaussian, z, k, *VP.at(k)) for name in ("exact", "secant"))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# -- discrete distributions --------------------------------------------------------------------------------------------


def around(points, k):
    """z_k (200, D) of the points."""
    alpha, sigma = VP.at(k)
    return alpha * points.repeat(200 // len(points), 1) + sigma * normal(200, points.shape[1], seed=k)


@pytest.mark.parametrize("k", range(15))
def test_the_energy_of_the_exact_weight_is_self_weighted_guidance(k):
    """log E[w | z_k], differentiated over all channels, is the log w_hat that the joint denoiser predicts."""
    distribution = Exact(ring(beta=2.0), VP)
    z, w = around(distribution.points, k), distribution.points[:, -1]
    by_energy = energy_guided(1.0, lambda z, k: (distribution.posterior(z, k) @ w).log())
    a, b = (guide(distribution, z, k, *VP.at(k)) for guide in (by_energy, self_weighted(1.0)))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a, distribution.tilted()(z, k), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", range(15))
def test_the_log_of_the_mean_weight_is_at_least_the_mean_of_its_log(k):
    """Jensen: what a regression on log w learns lies below the exact energy."""
    distribution = Exact(ring(beta=5.0), VP)
    p, w = distribution.posterior(around(distribution.points, k), k), distribution.points[:, -1]
    gap = (p @ w).log() - p @ w.log()
    assert gap.min() > -1e-12
    assert k < 3 or gap.max() > 0.1


@pytest.mark.parametrize("k", range(15))
def test_three_energies_of_a_linear_q_have_one_gradient_which_is_not_the_exact_one(k):
    """Equation 25, E[log w | z_k] and log w(mu~), on any mixture; equation 25's last term is constant in z."""
    points = ring(beta=0.0)[:, :2]
    distribution, log_w = Exact(points, VP), lambda a: 4.0 * a @ SLOPE
    z = around(points, k)

    def mean_of(z, k):
        return distribution.posterior(z, k) @ points

    def first_order(z, k):
        mean, anchor = mean_of(z, k), points[3]
        return analytic(log_w(anchor), (4.0 * SLOPE).expand_as(mean), mean - anchor, 0.3)

    guides = {
        "aepo": energy_guided(1.0, first_order),
        "mse": energy_guided(1.0, lambda z, k: distribution.posterior(z, k) @ log_w(points)),
        "dps": posterior_guided(1.0, log_w),
        "exact": energy_guided(1.0, lambda z, k: (distribution.posterior(z, k) @ log_w(points).exp()).log()),
    }
    noise = {name: guide(distribution, z, k, *VP.at(k)) for name, guide in guides.items()}
    torch.testing.assert_close(noise["aepo"], noise["mse"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise["aepo"], noise["dps"], rtol=1e-9, atol=1e-9)
    assert k < 3 or (noise["exact"] - noise["dps"]).abs().max() > 0.05


def test_the_second_order_term_of_a_relu_critic_has_no_gradient():
    """Expanded at mu~ with a variance that is far too large, equation 25 still gives DPS's gradient."""
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).double()
    points, k = ring(beta=0.0)[:, :2], 6
    distribution, z = Exact(points, VP), around(points, k)

    def log_w(a):
        return 5.0 * critic(a).squeeze(-1)

    def energy(z, k):
        mean = distribution.posterior(z, k) @ points
        value = log_w(mean)
        (c,) = torch.autograd.grad(value.sum(), mean, create_graph=True)
        assert c.abs().max() > 0.1
        return analytic(value, c, torch.zeros_like(mean), 100.0)

    a, b = (
        guide(distribution, z, k, *VP.at(k)) for guide in (energy_guided(1.0, energy), posterior_guided(1.0, log_w))
    )
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert (a - distribution(z, k)).abs().max() > 0.1, "the guidance must be seen"
