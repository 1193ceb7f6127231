"""Weights against their formulas, at their limits, and where float32 ends."""

import math

import numpy as np
import pytest
import torch

from swgctl.config import LOSS, AugmentSettings, CriticSettings
from swgctl.learners.losses import VALUE_LOSSES
from swgctl.stages.augment import statistics
from swgctl.weights import W_MAX, dice, expectile, exponential, hard_expectile, linex, quantile, select, weigh

OPTIONS = {"tau": 0.7, "alpha": 1.0, "scale": 1.0, "beta": 3.0, "w_max": W_MAX}
A = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.7], dtype=torch.float64)


def close(a, expected, tolerance=1e-7):
    torch.testing.assert_close(a, torch.tensor(expected, dtype=a.dtype), rtol=tolerance, atol=0)


# -- formulas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("tau", [0.7, 0.9])
def test_expectile_is_equation_15(tau, scale):
    g = [1 / (1 + math.exp(-scale * a)) for a in A.tolist()]
    close(expectile(A, tau, scale), [x * tau + (1 - x) * (1 - tau) for x in g])


def test_scale_three_is_the_advantage_times_three():
    torch.testing.assert_close(expectile(A, 0.7, scale=3.0), expectile(3 * A, 0.7))


def test_the_smooth_expectile_approaches_the_hard_one():
    """Away from A = 0, where sigmoid has its step; at 0 the smooth one lies half way."""
    away = A[A != 0]
    torch.testing.assert_close(expectile(away, 0.7, 1000.0), hard_expectile(away, 0.7), rtol=1e-6, atol=0)
    assert expectile(torch.zeros(()), 0.7).item() == pytest.approx(0.5)


def test_hard_expectile_has_two_values_and_zero_belongs_to_the_good():
    close(hard_expectile(A, 0.9), [0.1, 0.1, 0.9, 0.9, 0.9])


def test_exponential_is_exp_beta_a_up_to_its_clip():
    close(exponential(A, 3.0), [math.exp(3 * a) if a < 1.5 else 80.0 for a in A.tolist()])
    close(exponential(A, 3.0, w_max=2.0), [min(math.exp(3 * a), 2.0) for a in A.tolist()])


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_linex_is_equation_16(alpha):
    expected = [alpha * abs(math.exp(alpha * a) - 1) / abs(a) if a else alpha**2 for a in A.tolist()]
    close(linex(A, alpha), [min(w, 80.0) for w in expected])


def test_quantile_is_the_hard_expectile_over_the_distance_up_to_its_clip():
    close(quantile(A, 0.7), [0.3 / 2, 0.3 / 0.5, 80.0, 0.7 / 0.3, 0.7 / 1.7])


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_dice_is_a_line_above_zero_and_an_exponential_below(alpha):
    u = [a / alpha for a in A.tolist()]
    close(dice(A, alpha), [x / 2 + 1 if x >= 0 else math.exp(x) for x in u])
    close(dice(A, alpha, w_max=1.2), [min(x / 2 + 1 if x >= 0 else math.exp(x), 1.2) for x in u])


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_linex_is_continuous_at_zero(alpha):
    """alpha (e^{alpha A} - 1) / A = alpha^2 (1 + alpha A / 2 + ...), down to the smallest normal numbers."""
    near = torch.tensor([-1e-3, -1e-7, -1e-37, 0.0, 1e-37, 1e-7, 1e-3])
    torch.testing.assert_close(linex(near, alpha), alpha**2 * (1 + alpha * near / 2), rtol=1e-5, atol=0)


def test_the_logarithm_of_dice_has_a_finite_gradient_everywhere():
    """1 / alpha below, 1 / (2 alpha w) above, 0 where a limit binds."""
    advantage = torch.tensor([-1e4, -2.0, 0.5, 10.0, 1e4], requires_grad=True)
    dice(advantage, 0.5).log().sum().backward()
    close(advantage.grad, [0.0, 2.0, 1 / 1.5, 1 / 11, 0.0], 1e-6)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_logarithm_of_linex_has_its_slope_at_zero(alpha):
    """log(alpha^2 (1 + alpha A / 2 + ...)) rises by alpha / 2."""
    advantage = torch.zeros(1, requires_grad=True)
    linex(advantage, alpha).log().sum().backward()
    close(advantage.grad, [alpha / 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in LOSS if name != "hard_expectile"])  # which has none
def test_the_logarithm_of_a_weight_has_a_finite_gradient_everywhere(name, dtype):
    """Guides differentiate it (`dps`, `aepo`).  Where a clip binds it is 0."""
    far = torch.tensor([-1e4, -100, -1, -1e-30, 0, 1e-30, 1, 30, 100, 1e4], dtype=dtype, requires_grad=True)
    weigh(name, far, **OPTIONS).log().sum().backward()
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSS)
def test_weights_are_positive_and_finite_wherever_float_reaches(name, dtype):
    advantage = torch.tensor([-1e4, -100, -1, -1e-30, 0, 1e-30, 1, 100, 1e4], dtype=dtype)
    w = weigh(name, advantage, **OPTIONS)
    assert w.dtype == dtype
    assert (w > 0).all()
    assert w.isfinite().all()
    assert w.log().isfinite().all(), "guidance takes the logarithm"


def test_extremes_have_their_limits():
    far = torch.tensor([-1e4, 1e4])
    close(expectile(far, 0.9), [0.1, 0.9])
    close(hard_expectile(far, 0.9), [0.1, 0.9])
    close(exponential(far), [torch.finfo(torch.float32).tiny, 80.0])
    close(quantile(far, 0.9), [0.1e-4, 0.9e-4])
    close(linex(far), [1e-4, 80.0])
    close(dice(far), [torch.finfo(torch.float32).tiny, 80.0])


@pytest.mark.parametrize("name", ["expectile", "hard_expectile", "exponential", "linex", "dice"])
def test_a_greater_advantage_never_has_a_smaller_weight(name):
    w = weigh(name, torch.linspace(-20, 20, 1001, dtype=torch.float64), **OPTIONS)
    assert (w.diff() >= 0).all()


# -- by name -----------------------------------------------------------------------------------------------------------


def test_names_are_the_functions():
    o = OPTIONS | {"tau": 0.9, "alpha": 2.0, "scale": 3.0, "beta": 0.5, "w_max": 1.5}
    expected = {
        "expectile": expectile(A, 0.9, 3.0),
        "hard_expectile": hard_expectile(A, 0.9),
        "exponential": exponential(A, 0.5, 1.5),
        "linex": linex(A, 2.0, 1.5),
        "quantile": quantile(A, 0.9, 1.5),
        "dice": dice(A, 2.0, 1.5),
    }
    assert expected.keys() == LOSS.keys()
    for name, value in expected.items():
        assert torch.equal(weigh(name, A, **o), value)


def test_settings_know_the_same_names():
    assert set(AugmentSettings.model_fields["weight"].annotation.__args__) == set(LOSS)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown weight 'chi', know expectile, hard_expectile"):
        weigh("chi", A, **OPTIONS)


# -- selection ---------------------------------------------------------------------------------------------------------


def test_select_takes_the_greatest_weight_whatever_the_advantage():
    w = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]])
    assert select(w, torch.tensor([[9.0, 0.0, 1.0], [0.0, 9.0, 1.0]])).tolist() == [1, 0]


def test_equal_weights_are_told_apart_by_their_advantage():
    """In float32 sigmoid(A) is 1 for 17, 18 and 19 alike."""
    advantage = torch.tensor([17.0, 19.0, 18.0, -1.0])
    w = expectile(advantage, 0.7)
    assert w[0] == w[1] == w[2]
    assert select(w, advantage) == 1
    assert select(hard_expectile(advantage, 0.7), advantage) == 1


def test_a_tie_of_both_takes_the_first():
    assert select(torch.ones(4), torch.zeros(4)) == 0


def test_a_better_advantage_does_not_beat_a_better_weight():
    assert select(torch.tensor([0.5, 0.5, 0.6]), torch.tensor([9.0, 8.0, -5.0])) == 2


def test_select_by_the_smooth_expectile_is_the_greatest_advantage():
    """w is monotone in A, so that the paper's argmax w and the official code's argmax Q are one."""
    advantage = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(select(expectile(advantage, 0.7), advantage), advantage.argmax(-1))


def test_candidates_of_weight_minus_infinity_never_win():
    w = torch.tensor([[0.2, 0.1, -torch.inf], [0.3, -torch.inf, -torch.inf]])
    assert select(w, torch.tensor([[-9.0, 0.0, -torch.inf], [-9.0, -torch.inf, -torch.inf]])).tolist() == [0, 0]


# -- statistics of a weighted data set ---------------------------------------------------------------------------------


def test_equal_weights_use_all_rows_and_one_large_weight_one_of_them():
    """ess = (sum w)^2 / (N sum w^2)."""
    equal, single = np.full((1, 8), 0.3, np.float32), np.zeros((1, 8), np.float32)
    single[0, 3] = 5.0
    zeros = np.zeros((1, 8), np.float32)
    assert statistics(equal, zeros)["ess"] == pytest.approx(1.0)
    assert statistics(single, zeros)["ess"] == pytest.approx(1 / 8)
    both = np.concatenate([equal, single])
    assert statistics(both, np.zeros_like(both))["ess"] == pytest.approx((1 + 1 / 8) / 2)


def test_statistics_are_the_members_statistics_averaged():
    w = np.array([[1, 2, 3, 4], [10, 20, 30, 40]], np.float32)
    a = np.array([[-1, 1, -1, 1], [3, 3, 5, 5]], np.float32)
    found = statistics(w, a)
    assert (found["mean"], found["min"], found["max"]) == (13.75, 1, 40)
    assert found["quantiles"]["0.5"] == (2.5 + 25) / 2
    assert (found["advantage_mean"], found["advantage_std"]) == (2.0, 1.0)


def test_each_loss_serves_a_weight_and_each_weight_has_a_loss():
    losses = set(CriticSettings.model_fields["loss"].annotation.__args__)
    assert {loss for several in LOSS.values() for loss in several} == losses
    assert losses == {*VALUE_LOSSES, "isq"}
