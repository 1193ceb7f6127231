"""Distances between samples, against closed forms."""

import math

import pytest
import torch

from swgctl.toys.distances import Cloud, directions, energy_distance, sliced_wasserstein


def cloud(points, count=256):
    return Cloud(points, directions(torch.Generator().manual_seed(0), count))


def normal(n, seed):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_shift_has_its_mean_projection():
    """E|cos| of a uniform angle is 2 / pi."""
    x = normal(500, 0)
    far = sliced_wasserstein(cloud(x, 20_000), cloud(x + torch.tensor([3.0, 0.0]), 20_000))
    assert far == pytest.approx(3 * 2 / math.pi, rel=0.01)
    assert sliced_wasserstein(cloud(x), cloud(x[torch.randperm(500)])) == pytest.approx(0, abs=1e-12)


@pytest.mark.training  # of 50,000 points
def test_a_scaling_has_the_mean_of_the_half_normal():
    x = normal(20_000, 1)
    assert sliced_wasserstein(cloud(x), cloud(2 * x)) == pytest.approx(math.sqrt(2 / math.pi), rel=0.02)


def test_the_energy_distance_of_two_points_is_twice_theirs():
    x = torch.zeros(2, 2)
    assert energy_distance(cloud(x), cloud(x + torch.tensor([3.0, 4.0]))) == pytest.approx(10)


def test_the_energy_distance_of_equal_laws_is_two_of_their_mean_distance_over_n():
    """Of the normal law of the plane that is sqrt(pi)."""
    found = [energy_distance(cloud(normal(400, i)), cloud(normal(400, 1000 + i))) for i in range(40)]
    expected = 2 * math.sqrt(math.pi) / 400
    assert sum(found) / 40 == pytest.approx(expected, abs=3 * torch.tensor(found).std().item() / math.sqrt(40))
    assert min(found) > 0
    assert energy_distance(cloud(normal(400, 0)), cloud(normal(400, 0))) == pytest.approx(0, abs=1e-9)
