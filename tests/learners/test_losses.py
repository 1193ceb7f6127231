"""Losses of V against the statistic that each must find, of Q against a calculation by hand."""

import math

import pytest
import torch

from swgctl.learners.losses import (
    LINEX_CLIP,
    conservative_penalty,
    dice_loss,
    expectile_loss,
    in_support_loss,
    in_support_value,
    linex_loss,
    q_loss,
    quantile_loss,
)
from swgctl.training.optimisers import average_
from swgctl.weights import dice

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


def slope(u: float) -> float:
    """f'(u) of D-DICE: the weight of an action."""
    return u / 2 + 1 if u >= 0 else math.exp(u)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 2.0])
def test_the_dice_value_gives_the_weights_mean_one(alpha):
    """E f'((Q - v) / alpha) = 1."""
    expected = bisect(lambda v: sum(slope((q - v) / alpha) for q in Q.tolist()) - len(Q))
    assert minimiser(dice_loss, Q, alpha) == pytest.approx(expected, abs=1e-9)
    assert dice(Q - expected, alpha, w_max=1e6).mean().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_cold_dice_value_weighs_the_best_actions_alone(share):
    """A share p of actions at Q = 1 and the rest far below: u / 2 + 1 = 1 / p there, so v = 1 - 2 alpha (1 / p - 1)."""
    q = torch.tensor([1.0] * int(8 * share) + [0.0] * int(8 - 8 * share), dtype=torch.float64)
    assert minimiser(dice_loss, q, 0.01) == pytest.approx(1 - 0.02 * (1 / share - 1), abs=1e-9)


def test_the_dice_loss_is_its_formula():
    """u^2 / 4 + u at u >= 0, e^u - 1 below, and v / alpha; u = -1, 0, 3 for alpha = 2 and v = 1."""
    q = torch.tensor([-1.0, 1.0, 7.0], dtype=torch.float64)
    expected = (math.exp(-1) - 1 + 0 + 9 / 4 + 3) / 3 + 0.5
    assert dice_loss(q, torch.ones(3).double(), 2.0)[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dice_gradient_is_the_weight_however_far_q_lies(dtype):
    u = torch.tensor([-1e4, -2.0, -1e-3, 0.0, 1.0, 40.0, 1e4], dtype=dtype)
    expected = torch.tensor([2 * slope(x / 0.5) for x in u.tolist()], dtype=dtype)
    torch.testing.assert_close(gradient(dice_loss, u, 0.5), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("loss", "parameter"), [(expectile_loss, 0.8), (quantile_loss, 0.8), (linex_loss, 0.5), (dice_loss, 0.5)]
)
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


# -- in-support values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_the_in_support_value_is_a_softmax_mean(beta):
    total = sum(math.exp(beta * q) for q in Q.tolist())
    expected = sum(math.exp(beta * q) * q for q in Q.tolist()) / total
    assert in_support_value(Q, beta).item() == pytest.approx(expected, rel=1e-12)


def test_the_in_support_value_goes_from_the_mean_to_the_maximum():
    """Its slope in beta is the variance of Q under the softmax; at beta = 0, that of the candidates."""
    assert in_support_value(Q, 0.0).item() == pytest.approx(Q.mean().item(), rel=1e-12)
    assert in_support_value(Q, 1e3).item() == pytest.approx(Q.max().item(), rel=1e-12)
    step = 1e-5
    slope_at_zero = (in_support_value(Q, step) - in_support_value(Q, -step)).item() / (2 * step)
    assert slope_at_zero == pytest.approx(Q.var(correction=0).item(), rel=1e-6)
    values = [in_support_value(Q, beta).item() for beta in (0.0, 0.5, 1.0, 5.0, 50.0)]
    assert values == sorted(values)


def test_the_in_support_loss_ignores_what_follows_a_terminal():
    """Errors 1 and -2; the third row ends an episode."""
    value, v = torch.tensor([2.0, 1.0, 9.0]), torch.tensor([1.0, 3.0, 0.0])
    loss, info = in_support_loss(value, v, torch.tensor([0.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((1 + 4) / 3)
    assert info["v"].item() == pytest.approx(4 / 3)


# -- the conservative penalty ------------------------------------------------------------------------------------------


def draws_of_q() -> tuple[torch.Tensor, torch.Tensor]:
    """Q at 4 uniform actions and at the data's, of 3 members, 2 twins, 5 states."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 5, 4, generator=g).double(), torch.randn(3, 2, 5, generator=g).double()


def test_the_conservative_penalty_by_hand():
    uniform, q = draws_of_q()
    penalty, _ = conservative_penalty(uniform, q)
    for s in range(3):
        rows = [
            math.log(sum(math.exp(x) for x in uniform[s, twin, b].tolist()) / 4) - q[s, twin, b].item()
            for twin in range(2)
            for b in range(5)
        ]
        assert penalty[s].item() == pytest.approx(sum(rows) / 5, rel=1e-12)


def test_the_penalty_lowers_what_was_drawn_and_raises_the_data():
    """Its gradient is a softmax over a state's draws, and -1 at the data's action: a shift of Q costs nothing."""
    uniform, q = (x.requires_grad_() for x in draws_of_q())
    (5 * conservative_penalty(uniform, q)[0].sum()).backward()
    torch.testing.assert_close(uniform.grad, uniform.detach().softmax(-1))
    torch.testing.assert_close(q.grad, -torch.ones_like(q))
    shifted = conservative_penalty(uniform.detach() + 7, q.detach() + 7)[0]
    torch.testing.assert_close(shifted, conservative_penalty(uniform, q)[0].detach())


def test_equal_values_cost_nothing():
    assert conservative_penalty(torch.full((2, 5, 4), 3.0), torch.full((2, 5), 3.0))[0].item() == pytest.approx(0)


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
