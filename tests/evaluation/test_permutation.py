"""The permutation test against splits counted by hand and by brute force."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from swgctl.evaluation.permutation import MOST, p_value, subset_sums


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 12])
def test_separate_samples_have_the_least_p(n):
    """Only the observed split and its mirror image are as far apart: 2 / C(2 n, n), of four seeds 2 / 70."""
    assert p_value([20.0 + i for i in range(n)], [float(i) for i in range(n)]) == pytest.approx(2 / comb(2 * n, n))
    assert p_value([1.0, 2.0, 3.0, 4.0], [11.0, 12.0, 13.0, 14.0]) == pytest.approx(0.0285714, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([0.0, 3.0], [1.0, 2.0], 1.0),  # no difference
        ([5.0, 5.0], [5.0, 5.0, 5.0], 1.0),
        ([0.0, 1.0], [2.0, 3.0], 2 / 6),
        ([0.0, 2.0], [1.0, 3.0], 4 / 6),  # sums 1, 2, 3, 3, 4, 5 of the six splits
        ([0.0], [1.0, 2.0, 3.0], 2 / 4),
        ([9.0], [0.0, 0.0, 0.0], 1 / 4),  # no mirror image where the sizes differ
        ([0.1, 0.2], [0.3, 0.4], 2 / 6),  # 0.1 + 0.2 is not 0.3
    ],
)
def test_splits_by_hand(a, b, p):
    assert p_value(a, b) == pytest.approx(p)
    assert p_value(b, a) == pytest.approx(p)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 4), (2, 5), (6, 3)])
def test_all_splits_in_exact_arithmetic(n, m):
    """Of integers, with ties."""
    values = [int(v) for v in np.random.default_rng(n).integers(0, 9, n + m)]

    def difference(split: tuple[int, ...]) -> Fraction:
        inside = sum(values[i] for i in split)
        return abs(Fraction(inside, n) - Fraction(sum(values) - inside, m))

    far = [difference(split) >= difference(tuple(range(n))) for split in itertools.combinations(range(n + m), n)]
    assert p_value(values[:n], values[n:]) == pytest.approx(sum(far) / len(far))


def test_units_and_origin_do_not_count():
    a, b = np.random.default_rng(0).normal(size=(2, 5))
    assert p_value(1e-3 * a + 1e3, 1e-3 * b + 1e3) == p_value(-7.0 * a, -7.0 * b) == p_value(a, b)


def test_under_the_hypothesis_p_is_at_most_alpha_with_that_probability():
    """Each split of given values is equally likely then; with no ties and equal sizes the bound is reached."""
    values = np.random.default_rng(1).normal(size=8)
    p_values = []
    for split in itertools.combinations(range(8), 4):
        inside = np.isin(np.arange(8), split)
        p_values.append(p_value(values[inside], values[~inside]))
    for alpha in sorted(set(p_values)):
        assert np.mean([p <= alpha for p in p_values]) == pytest.approx(alpha)


def test_subset_sums_are_those_of_all_subsets():
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    expected = sorted(sum(pair) for pair in itertools.combinations(values, 2))
    assert sorted(subset_sums(values, 2)) == expected


def test_without_seeds_or_with_too_many_there_is_none():
    assert p_value([], [1.0]) is None
    assert p_value([0.0] * MOST, [1.0]) is None
