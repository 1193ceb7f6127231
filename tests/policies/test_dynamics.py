"""Roll-outs of a policy in an ensemble: a linear model's closed form, the policy's noise, the elites, members."""

import math

import pytest
import torch

from swgctl.models.ensemble import Ensemble
from swgctl.policies.dynamics import roll
from swgctl.randomness import generator

S, M, O, A = 2, 3, 2, 1  # noqa: E741 - the shapes' names
CHANGE = torch.tensor([[-0.1, 0.3, 0.5], [-0.2, -0.1, 0.1]])  # s' - s = [s, a] CHANGE^T
REWARD = torch.tensor([[1.0, 0.0, -0.5]])
SILENT = -60.0  # the least log-variance: a deviation of 1e-13


def linear(seeds: int = S, log_var: float = SILENT) -> Ensemble:
    """Networks of one layer, all the same: (s, a) -> mean [s, a] (CHANGE, REWARD)^T and this log-variance."""
    net = Ensemble(seeds, M, O, A, []).requires_grad_(False)
    net.low.fill_(-60)
    net.high.fill_(60)
    (layer,) = net.layers
    layer.weight[..., : O + 1] = torch.cat([CHANGE, REWARD]).T
    layer.bias[..., O + 1 :] = log_var
    return net


def policy(sd: float):
    """mean = (s_1 - s_2) / 4, whatever is in front of the last axis."""
    return lambda s: ((s[..., :1] - s[..., 1:]) / 4, torch.tensor(sd))


def generators(seeds=range(S), stream: str = "rolls") -> list[torch.Generator]:
    return [generator(seed, stream, 0) for seed in seeds]


def starts(rows: int, seeds: int = S) -> torch.Tensor:
    return torch.randn(seeds, rows, O, generator=generator(0, "starts", 0))


EVERY = torch.arange(M).expand(S, -1)


def test_a_roll_out_of_a_linear_model_is_the_power_of_its_matrix():
    """s_l = (I + B + C K)^l s_0 with CHANGE = [B, C] and the policy a = K s."""
    gain = torch.tensor([[0.25, -0.25]])
    closed = torch.eye(O) + CHANGE[:, :O] + CHANGE[:, O:] @ gain
    first = starts(4)
    observations, actions, rewards, terminals = roll(linear(), EVERY, policy(0.0), first, 5, generators())
    assert observations.shape == (S, 4, 5, O)
    assert actions.shape == (S, 4, 5, A)
    assert rewards.shape == terminals.shape == (S, 4, 5)
    assert terminals.dtype == torch.bool
    assert not terminals.any()
    for step in range(5):
        state = first @ torch.linalg.matrix_power(closed, step).T
        torch.testing.assert_close(observations[:, :, step], state, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(actions[:, :, step], state @ gain.T, rtol=1e-4, atol=1e-5)
        reward = state @ (REWARD[:, :O] + REWARD[:, O:] @ gain).T
        torch.testing.assert_close(rewards[:, :, step : step + 1], reward, rtol=1e-4, atol=1e-5)


def test_actions_are_drawn_from_the_policy_and_clipped():
    first = torch.zeros(S, 20_000, O)
    _, actions, *_ = roll(linear(), EVERY, policy(0.3), first, 1, generators())
    # 20,000 draws: the mean's deviation is 0.002, the sd's 0.0015; 3.3 sd from 0 a thousandth is clipped
    assert actions.mean((1, 2, 3)).abs().max() < 0.012
    assert (actions.std((1, 2, 3)) - 0.3).abs().max() < 0.01
    _, actions, *_ = roll(linear(), EVERY, policy(1.0), first, 1, generators())
    assert actions.abs().max() == 1
    # P(|a| > 1) of a unit normal
    assert (actions.abs() == 1).float().mean().item() == pytest.approx(0.3173, abs=0.012)


def test_the_next_state_and_the_reward_are_drawn_from_the_models_gaussian():
    """The noise of every dimension, in every row, is of its own."""
    sd = 0.2
    first = torch.zeros(S, 20_000, O)
    net = linear(log_var=2 * math.log(sd))
    observations, actions, rewards, _ = roll(net, EVERY, policy(0.0), first, 3, generators())
    x = torch.cat([observations, actions], -1)
    change = observations[:, :, 1:] - observations[:, :, :-1] - x[:, :, :-1] @ CHANGE.T
    noise = torch.cat([change, (rewards - (x @ REWARD.T).squeeze(-1))[:, :, :-1, None]], -1)
    columns = noise.flatten(2)  # (S, B, (L - 1) (O + 1))
    for member in columns:
        covariance = torch.cov(member.T) / sd**2
        torch.testing.assert_close(covariance, torch.eye(len(covariance)), rtol=0, atol=0.05)


def test_each_row_and_step_picks_an_elite_and_no_other_network():
    """Network m changes the state by m + 1."""
    net, elites = linear(), torch.tensor([[2, 0], [1, 2]])
    (layer,) = net.layers
    layer.weight.zero_()
    layer.bias[..., : O + 1] = torch.arange(1.0, M + 1).view(1, M, 1, 1)
    observations, _, rewards, _ = roll(net, elites, policy(0.0), torch.zeros(S, 2000, O), 3, generators())
    changes = observations.diff(dim=2)
    torch.testing.assert_close(changes, rewards[:, :, :-1, None].expand_as(changes))
    for s, (one, other) in enumerate(elites.tolist()):
        picked = rewards[s].round().long() - 1
        assert picked.unique().tolist() == sorted([one, other])
        assert (picked == one).float().mean().item() == pytest.approx(0.5, abs=0.04)
        # the picks of two steps are independent: both are `one` in a quarter of the rows
        assert (picked[:, :2] == one).all(1).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_a_member_rolls_as_it_does_alone():
    net, first = linear(log_var=-2.0), starts(6)
    together = roll(net, EVERY, policy(0.3), first, 4, generators())
    for s in range(S):
        alone = roll(linear(1, -2.0), EVERY[:1], policy(0.3), first[s : s + 1], 4, generators([s]))
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[s], rtol=1e-4, atol=1e-5)
    again = roll(net, EVERY, policy(0.3), first, 4, generators())
    assert all(torch.equal(one, other) for one, other in zip(together, again, strict=True))
