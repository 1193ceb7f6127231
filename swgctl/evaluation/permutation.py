"""The exact permutation test of the difference of two means."""

from collections.abc import Sequence

import numpy as np

MOST = 24  # values of both samples together whose splits are counted: 12 against 12 have 2,704,156
TIE = 1e-9  # differences this close are equal, as a share of the values' range


def p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p of the difference of the means of two samples, such as the scores of two agents' seeds.

    The share of all splits of the pooled values into samples of these sizes whose difference of means is, in absolute
    value, at least the one observed (Fisher, The Design of Experiments, 1935, section 21).  With n against n values it
    is at least 2 / C(2 n, n): 0.1 for 3, 0.0286 for 4.  None for more than MOST values, and for an empty sample.
    """
    pooled, n, m = np.array([*a, *b], float), len(a), len(b)
    if not (n and m) or n + m > MOST:
        return None
    pooled = pooled - pooled.mean()  # so that the means of a split differ by its sum times a constant
    sums = np.abs(subset_sums(pooled, n))
    return float((sums >= abs(pooled[:n].sum()) - n * TIE * np.ptp(pooled)).mean())


def subset_sums(values: np.ndarray, size: int) -> np.ndarray:
    """The sum of every subset of so many of the values (N,): (C(N, size),)."""
    by_size = [np.zeros(1), *(np.empty(0) for _ in range(size))]
    for value in values:
        for k in range(size, 0, -1):
            by_size[k] = np.concatenate([by_size[k], by_size[k - 1] + value])
    return by_size[size]
