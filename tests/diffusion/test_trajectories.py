"""Channels: statistics of weighted rows, and the way in and out again."""

import math

import pytest
import torch

from swgctl.diffusion import Channels
from swgctl.diffusion.trajectories import LIMIT

O, A = 3, 2  # noqa: E741 - the shapes' names


def rows(n: int = 50) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    observations = 5 + 3 * torch.randn(n, O, generator=g)
    actions = 2 * torch.rand(n, A, generator=g) - 1
    return observations, actions, torch.randn(n, generator=g), torch.rand(n, generator=g) < 0.1


def test_channels_lie_in_order_and_are_z_scored():
    observations, actions, rewards, terminals = rows()
    channels = Channels.of(observations, actions, rewards, terminals)
    assert len(channels) == O + A + 2
    assert channels.actions == slice(O, O + A)
    raw = [observations, actions.clamp(-0.999, 0.999).arctanh(), rewards.unsqueeze(1), terminals.unsqueeze(1).float()]
    raw = torch.cat(raw, 1).double()
    torch.testing.assert_close(channels.mean.double(), raw.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(channels.std.double(), raw.std(0, correction=0), rtol=1e-6, atol=1e-6)
    x = channels.inside(observations, actions, rewards, terminals)
    torch.testing.assert_close(x.mean(0), torch.zeros(O + A + 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(O + A + 2), rtol=0, atol=1e-5)


def test_counted_rows_are_repeated_rows():
    """Counts (2, 0, 3, ...) have the statistics of the rows repeated as often; a row that counts 0 times has none."""
    data, counts = rows(), torch.arange(50) * 7 % 4
    counted = Channels.of(*data, counts)
    repeated = Channels.of(*(column.repeat_interleave(counts, 0) for column in data))
    torch.testing.assert_close(counted.mean, repeated.mean)
    torch.testing.assert_close(counted.std, repeated.std)


def test_means_of_many_rows_are_summed_in_double_precision():
    """A million rows of 1000 and one of 1001: in fp32 the sums lose the difference."""
    n = 1_000_001
    observations = torch.full((n, 1), 1000.0)
    observations[0] = 1001.0
    channels = Channels.of(observations, torch.zeros(n, 1), torch.zeros(n), torch.zeros(n))
    assert channels.std[0].item() == pytest.approx(math.sqrt(1 / n), rel=1e-3)


def test_the_way_out_is_the_way_in_backwards():
    observations, actions, rewards, terminals = rows(24)
    channels = Channels.of(observations, actions, rewards, terminals)
    windows = [column.unflatten(0, (2, 3, 4)) for column in (observations, actions * LIMIT, rewards, terminals)]
    x = channels.inside(*windows)
    assert x.shape == (2, 3, 4, O + A + 2)
    back = channels.outside(x)
    for before, after in zip(windows[:3], back[:3], strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert torch.equal(back[3], windows[3])
    torch.testing.assert_close(channels.observations(x), windows[0], rtol=1e-5, atol=1e-6)


def test_an_action_at_its_bound_comes_back_as_point_999():
    channels = Channels(1, 1, torch.zeros(4), torch.ones(4))
    x = channels.inside(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1), torch.zeros(1))
    assert x[0, 1].item() == pytest.approx(3.80020, abs=1e-3)  # the arctanh of .999, steep in fp32
    assert channels.outside(x)[1].item() == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567])
def test_a_constant_channel_has_sd_one_and_comes_back_exactly(value):
    observations, actions, rewards, _ = rows()
    observations[:, 1] = value
    channels = Channels.of(observations, actions, rewards, torch.zeros(50, dtype=torch.bool), torch.arange(50))
    assert channels.std[1] == 1
    assert channels.std[-1] == 1
    x = channels.inside(observations, actions, rewards, torch.zeros(50, dtype=torch.bool))
    assert x[:, 1].eq(0).all()
    assert torch.equal(channels.outside(x)[0][:, 1], observations[:, 1])


def test_a_flag_above_a_half_is_terminal():
    channels = Channels(1, 1, torch.tensor([0, 0, 0, 0.01]), torch.tensor([1, 1, 1, 0.1]))
    flags = (torch.tensor([0.0, 0.4, 0.6, 1.0]) - 0.01) / 0.1
    x = torch.cat([torch.zeros(4, 3), flags.unsqueeze(1)], 1)
    assert channels.outside(x)[3].tolist() == [False, False, True, True]


def test_other_actions_leave_every_other_channel():
    channels, x = Channels(O, A, torch.zeros(7), torch.ones(7)), torch.arange(14.0).view(2, 7)
    changed = channels.with_actions(x, -torch.ones(2, A))
    assert changed[:, O : O + A].eq(-1).all()
    kept = [0, 1, 2, 5, 6]
    assert torch.equal(changed[:, kept], x[:, kept])
