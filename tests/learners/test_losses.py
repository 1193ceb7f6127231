"""Losses of V against the statistic that each must find, of Q against a calculation by hand."""

import math

import pytest
import torch

from swgctl.learners.losses import LINEX_CLIP, expectile_loss, linex_loss, q_loss, quantile_loss
from swgctl.training.optimisers import average_

Q = torch.tensor([-1.0, -0.2, 0.1, 0.4, 0.5, 1.3, 2.0], dtype=torch.float64)


def bisect(f, low=-10.0, high=10.0) -> float:
    """Where a falling function crosses zero."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return low


def minimiser(loss, q: torch.Tensor, parameter: float) -> float:
    """The v at which the loss's gradient, by autograd, changes sign."""

    def descent(v):
        v = torch.tensor(v, dtype=q.dtype, requires_grad=True)
        loss(q, v.expand_as(q), parameter)[0].backward()
        return -v.grad.item()

    return bisect(descent)


def gradient(loss, u: torch.Tensor, parameter: float) -> torch.Tensor:
    """d loss / d u of each element, for u = q - v."""
    u = u.clone().requires_grad_()
    loss(u, torch.zeros_like(u), parameter)[0].backward()
    return u.grad * len(u)


# -- V -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
def test_the_expectile_balances_squares(tau):
    """v is where tau E[(Q - v)+] = (1 - tau) E[(v - Q)+]."""
    expected = bisect(lambda v: (tau * (Q - v).clamp(min=0) - (1 - tau) * (v - Q).clamp(min=0)).sum().item())
    assert minimiser(expectile_loss, Q, tau) == pytest.approx(expected, abs=1e-6)


def test_the_half_expectile_is_the_mean_and_one_of_two_points_is_a_weighted_mean():
    assert minimiser(expectile_loss, Q, 0.5) == pytest.approx(Q.mean().item(), abs=1e-6)
    two = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert minimiser(expectile_loss, two, 0.7) == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(("tau", "expected"), [(0.1, -1.0), (0.5, 0.4), (0.7, 0.5), (0.9, 2.0)])
def test_the_quantile_is_the_samples_quantile(tau, expected):
    """Of seven points, the one with at most 7 tau below it and at most 7 (1 - tau) above."""
    assert minimiser(quantile_loss, Q, tau) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_the_linex_value_is_a_log_mean_exp(alpha):
    """E[e^{alpha (Q - v)}] = 1, so v = log E[e^{alpha Q}] / alpha, as long as alpha (Q - v) < log 6."""
    expected = torch.logsumexp(alpha * Q, 0).sub(math.log(len(Q))).div(alpha).item()
    assert (alpha * (Q - expected)).max() < LINEX_CLIP
    assert minimiser(linex_loss, Q, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_the_linex_gradient_is_the_official_codes(alpha):
    """alpha (min(e^x, 6) - 1) at x = alpha u."""
    x = torch.tensor([-50.0, -1.0, 0.0, 0.5, 1.79, LINEX_CLIP + 1e-9, 1.8, 5.0, 1000.0], dtype=torch.float64)
    expected = alpha * (x.exp().clamp(max=6) - 1)
    torch.testing.assert_close(gradient(linex_loss, x / alpha, alpha), expected, rtol=1e-7, atol=1e-12)


def test_the_linex_loss_is_its_formula_then_its_tangent():
    """e^x - x below log 6, there 6 - log 6, and a line of slope 5 from there on."""
    for x, expected in [(-2.0, math.exp(-2) + 2), (1.0, math.e - 1), (LINEX_CLIP + 3, 6 - LINEX_CLIP + 3 * 5)]:
        u = torch.tensor([x], dtype=torch.float64)
        assert linex_loss(u, torch.zeros_like(u), 1.0)[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "parameter", "expected"),
    [
        (expectile_loss, 0.7, [-2 * 0.3 * 2.0, -2 * 0.3 * 0.5, 2 * 0.7 * 0.5, 2 * 0.7 * 3.0]),
        (quantile_loss, 0.7, [-0.3, -0.3, 0.7, 0.7]),
    ],
)
def test_gradients_by_hand(loss, parameter, expected):
    u = torch.tensor([-2.0, -0.5, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(gradient(loss, u, parameter), torch.tensor(expected).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("loss", "parameter"), [(expectile_loss, 0.8), (quantile_loss, 0.8), (linex_loss, 0.5)])
def test_each_member_has_its_own_loss(loss, parameter):
    q, v = torch.stack([Q, 2 * Q]), torch.stack([Q.flip(0), Q])
    together, info = loss(q, v, parameter)
    for s in range(2):
        assert together[s].item() == pytest.approx(loss(q[s], v[s], parameter)[0].item())
        assert info["v"][s].item() == pytest.approx(v[s].mean().item())


# -- Q -----------------------------------------------------------------------------------------------------------------


def test_q_loss_by_hand():
    """Targets are 1 + 0.9 * 2 = 2.8 and, at a terminal, 3: errors (0.8, 1) and (1.8, -1) of the twins."""
    q = torch.tensor([[2.0, 2.0], [1.0, 4.0]])
    rewards, terminals, next_v = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1e6])
    loss, info = q_loss(q, rewards, terminals, next_v, 0.9)
    assert loss.item() == pytest.approx((0.64 + 1) / 2 + (3.24 + 1) / 2)
    assert info["q"].item() == pytest.approx(2.25)


def test_q_loss_is_a_value_a_member():
    g = torch.Generator().manual_seed(0)
    q, rewards, next_v = (torch.randn(*shape, generator=g) for shape in ((3, 2, 5), (3, 5), (3, 5)))
    terminals = (torch.rand(3, 5, generator=g) < 0.5).float()
    loss, _ = q_loss(q, rewards, terminals, next_v, 0.99)
    for s in range(3):
        errors = [
            (rewards[s, b] + 0.99 * (1 - terminals[s, b]) * next_v[s, b] - q[s, twin, b]).item() ** 2
            for twin in range(2)
            for b in range(5)
        ]
        assert loss[s].item() == pytest.approx(sum(errors) / 5, rel=1e-5)


# -- the target --------------------------------------------------------------------------------------------------------


def test_the_target_moves_towards_the_online_network_by_the_rate():
    """0.995 * 1 + 0.005 * 3 = 1.01, and the online network stays."""
    target, online = [torch.tensor([1.0, -1.0])], [torch.tensor([3.0, -1.0])]
    average_(target, online, 0.005)
    torch.testing.assert_close(target[0], torch.tensor([1.01, -1.0]))
    assert online[0].tolist() == [3.0, -1.0]


def test_n_updates_leave_the_nth_power_of_what_one_leaves():
    target, online = [torch.zeros(1, dtype=torch.float64)], [torch.ones(1, dtype=torch.float64)]
    for _ in range(100):
        average_(target, online, 0.05)
    assert target[0].item() == pytest.approx(1 - 0.95**100, rel=1e-12)


def test_rate_one_copies():
    target = [torch.zeros(2)]
    average_(target, [torch.tensor([4.0, 5.0])], 1.0)
    assert target[0].tolist() == [4.0, 5.0]
