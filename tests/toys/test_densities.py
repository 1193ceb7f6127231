"""The six densities: where their points lie, what their labels are, and exact reweighting."""

import math

import numpy as np
import pytest
import torch

from swgctl.toys import DENSITIES, EnergyWeights
from swgctl.toys.densities import CENTRES

N = 40_000


def draw(name, n=N, seed=0):
    return DENSITIES[name].draw(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DENSITIES)
def test_a_generator_decides_the_points(name):
    for first, again in zip(draw(name, 100), draw(name, 100), strict=True):
        assert torch.equal(first, again)
    assert not torch.equal(draw(name, 100)[0], draw(name, 100, seed=1)[0])


@pytest.mark.parametrize("name", DENSITIES)
def test_points_and_labels_lie_where_the_paper_draws_them(name):
    points, labels = draw(name)
    assert points.shape == (N, 2)
    assert labels.shape == (N,)
    assert points.dtype == labels.dtype == torch.float64
    assert points.abs().max() < 5
    assert labels.min() >= 0
    assert labels.max() <= (2.5 if name == "swissroll" else 1)


@pytest.mark.parametrize(
    ("name", "agree"),
    [("8gaussians", 0.99), ("rings", 0.999), ("moons", 0.99), ("checkerboard", 1), ("swissroll", 1), ("2spirals", 0)],
)
def test_the_label_of_a_point_is_what_it_was_drawn_with(name, agree):
    points, labels = draw(name)
    found = DENSITIES[name].label(points)
    if name == "2spirals":  # hidden by jitter and noise: up to 0.07 and four times 0.03
        assert (found - labels).abs().max() < 0.19
        assert (found - labels).abs().mean() < 0.05
    else:
        assert torch.isclose(found, labels).double().mean() >= agree


def test_gaussians_are_eight_and_equally_likely():
    points, labels = draw("8gaussians")
    mode = (labels * 7).round().long()
    counts = torch.bincount(mode, minlength=8) / N
    assert (counts - 1 / 8).abs().max() < 4 * math.sqrt(7 / 64 / N)
    means = torch.stack([points[mode == i].mean(0) for i in range(8)])
    spread = torch.stack([points[mode == i].std(0) for i in range(8)])
    torch.testing.assert_close(means, CENTRES, atol=0.025, rtol=0)
    torch.testing.assert_close(spread, torch.full((8, 2), 0.5 / 1.414, dtype=torch.float64), atol=0.015, rtol=0)
    torch.testing.assert_close(CENTRES.norm(dim=1), torch.full((8,), 4 / 1.414, dtype=torch.float64))


def test_rings_have_their_radii():
    points, labels = draw("rings")
    for radius, label in ((3, 2 / 3), (2.25, 1 / 3), (1.5, 1), (0.75, 0)):
        ring = points[torch.isclose(labels, torch.tensor(label, dtype=torch.float64))].norm(dim=1)
        assert len(ring) / N == pytest.approx(1 / 4, abs=0.01)
        # of a point at r with noise s in the plane: the mean is r + s^2 / (2 r)
        assert ring.mean().item() == pytest.approx(radius + 0.08**2 / (2 * radius), abs=0.005)
        assert ring.std().item() == pytest.approx(0.08, abs=0.003)


def test_the_board_has_eight_squares_and_half_of_them_count():
    points, labels = draw("checkerboard")
    column, row = (points[:, 0] / 2).floor(), (points[:, 1] / 2).floor()
    assert ((column + row) % 2 == 0).all()
    assert len({(c, r) for c, r in zip(column.tolist(), row.tolist(), strict=True)}) == 8
    assert labels.mean().item() == pytest.approx(0.5, abs=0.01)


# -- the target: each density's own way against importance sampling of its draws ---------------------------------------

STATISTICS = (lambda a: a[:, 0], lambda a: a[:, 1], lambda a: a.norm(dim=1), lambda a: (a[:, 0] > 0.3).double())


@pytest.mark.training  # spirals take their time
@pytest.mark.parametrize("name", DENSITIES)
def test_the_target_is_the_density_times_its_weights(name):
    """Means under the target, beside those that a million draws of the density have by their labels and weights."""
    points, labels = draw(name, 1_000_000, 3)
    some, betas = points[:30_000], [3.0, 20.0] if name == "2spirals" else [3.0]
    for beta, weights in zip(betas, DENSITIES[name].weights(some, betas), strict=True):
        found = DENSITIES[name].target(20_000, beta, torch.Generator().manual_seed(2))
        for places, w in ((points, torch.softmax(beta * labels, 0)), (some, weights / weights.sum())):
            for statistic in STATISTICS:
                values = statistic(places)
                mean = (w * values).sum()
                error = (w.square() * (values - mean).square()).sum() + statistic(found).var() / len(found)
                assert (statistic(found).mean() - mean).abs() < 4 * error.sqrt() + 0.004  # 8gaussians' modes touch


def test_the_swiss_rolls_target_at_beta_20_lies_where_next_to_no_draws_are():
    """The mean label, by quadrature over the turn."""
    c, s = 20 / 9, 1 / 5
    t = 1 - 2 * c * s**2
    turn = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 100_001, dtype=torch.float64)
    share = torch.softmax(c / t * turn.square() / 25, 0)
    expected = (share * ((turn / 5 / t).square() + 2 * s**2 / t)).sum() / 9
    found = DENSITIES["swissroll"].target(20_000, 20.0, torch.Generator().manual_seed(0)).square().sum(1) / 9
    assert (found.mean() - expected).abs() < 4 * found.std() / math.sqrt(20_000)
    assert expected > 1.2  # a million draws, reweighted, come to 1.1


def test_what_a_spiral_hides_is_found_again():
    """E[exp(beta label) | a] against the mean over draws near a."""
    points, labels = draw("2spirals", 1_000_000)
    places = points[:20]
    found = DENSITIES["2spirals"].weights(places, [1.0, 10.0])
    for place, weights in zip(places, found.T, strict=True):
        near = labels[(points - place).norm(dim=1) < 0.03]
        for beta, weight in zip((1.0, 10.0), weights, strict=True):
            w = torch.exp(beta * near)
            assert (w.mean() - weight).abs() < 4 * w.std() / math.sqrt(len(near)) + 0.03 * weight


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSITIES)
def test_weights_are_exponential_and_unit_ones_have_mean_one(name):
    _, labels = draw(name)
    raw, unit = (EnergyWeights(labels, 20.0, scale) for scale in ("raw", "unit"))
    most = max(1.0, labels.max().item())
    for beta in (0.0, 0.3, 7.7, 20.0):
        b = torch.full((N,), beta, dtype=torch.float64)
        exact = np.exp(beta * (labels.numpy() - most))
        np.testing.assert_allclose(raw(labels, b), exact, rtol=1e-5)
        np.testing.assert_allclose(unit(labels, b), exact / exact.mean(), rtol=2e-3)
        assert raw.mean(beta) == pytest.approx(exact.mean(), rel=2e-3)
        assert unit.mean(beta) == 1
    assert raw.most == unit.most == most


@pytest.mark.parametrize("beta", [0.0, 5.0, 20.0])
@pytest.mark.parametrize("name", ["8gaussians", "swissroll", "2spirals"])
def test_95_percent_of_the_target_are_no_heavier_than_the_top(name, beta):
    _, labels = draw(name)
    weigh = EnergyWeights(labels, 20.0, "unit")
    target = torch.softmax(beta * labels, 0)
    w = weigh(labels, torch.tensor(beta)).double()
    slack = 1 + beta * (labels.max() - labels.min()).item() / 4096  # a histogram's bin
    assert target[w <= weigh.top(beta) * slack].sum() >= 0.95
    assert target[w < weigh.top(beta) / slack].sum() <= 0.95
