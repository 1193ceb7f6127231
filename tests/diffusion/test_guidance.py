"""Self-weighted guidance as a function: made-up w_hat, the clamp, one rho a row, the split denoiser.

That its gradient is the right one is in test_theory.py.
"""

import copy

import pytest
import torch

from swgctl.diffusion import Exact, Schedule, sample, self_weighted
from swgctl.diffusion.exact import ring
from swgctl.diffusion.guidance import W_MIN
from swgctl.models import Denoiser, reset
from swgctl.randomness import generator

ALPHA, SIGMA = 0.8, 0.6


def numbers(k: int, schedule: Schedule) -> tuple[int, float, float]:
    return k, *schedule.at(k)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Linear:
    """A denoiser whose w_hat = (z_w - SIGMA eps_w) / ALPHA is `offset` + slope . z: any value, and a known gradient."""

    slope = torch.tensor([0.5, -2.0, 0.25], dtype=torch.float64)

    def __init__(self, offset):
        self.offset = torch.as_tensor(offset, dtype=torch.float64)

    def __call__(self, z, k):
        eps_w = (z[..., -1] - ALPHA * (self.offset + z @ self.slope)) / SIGMA
        return torch.cat([torch.sin(z[..., :-1]), eps_w.unsqueeze(-1)], -1)


def steps_of(guide: self_weighted, denoise, z):
    """The guided minus the unguided noise."""
    return guide(denoise, z, 0, ALPHA, SIGMA) - denoise(z, 0)


# -- the clamp ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w_hat", [-3.0, -1e-9, 0.0, W_MIN / 2, W_MIN * (1 - 1e-6)])
def test_below_w_min_there_is_no_step_and_the_row_is_counted(w_hat):
    guide = self_weighted(20.0)
    step = steps_of(guide, Linear(w_hat), torch.zeros(1, 3).double())
    assert (step == 0).all()
    assert guide.clamped.tolist() == [True]
    assert guide.calls == 1


@pytest.mark.parametrize("w_hat", [W_MIN * (1 + 1e-6), 0.5, 1.0, 7.0, 100.0])
def test_from_w_min_up_the_step_is_slope_over_w_hat_without_an_upper_clamp(w_hat):
    guide = self_weighted(20.0)
    step = steps_of(guide, Linear(w_hat), torch.zeros(1, 3).double())
    torch.testing.assert_close(step[0], -20 * SIGMA * Linear.slope / w_hat, rtol=1e-9, atol=0)
    assert guide.clamped.tolist() == [False]


def test_clamped_counts_by_row_and_calls_count_all():
    """Rows lie below w_min in 3, 1 and 0 of three calls; a clamped row does not touch its neighbours."""
    guide = self_weighted(1.0)
    for offsets in ([-1.0, 0.5, 0.5], [0.0, 0.5, 0.5], [W_MIN / 2, -0.5, 0.5]):
        step = steps_of(guide, Linear(offsets), torch.zeros(3, 3).double())
        for row, w_hat in zip(step, offsets, strict=True):
            expected = -SIGMA * Linear.slope / w_hat if w_hat > W_MIN else torch.zeros(3).double()
            torch.testing.assert_close(row, expected)
    assert guide.calls == 3
    assert guide.clamped.tolist() == [3, 1, 0]


def test_steps_are_finite_over_the_whole_range_in_float32():
    offsets = torch.tensor([-1e30, -1.0, -1e-30, 0.0, 1e-38, 9.9e-5, 1.01e-4, 1.0, 1e30])

    def denoise(z, k):
        return torch.cat([z[..., :-1], ((z[..., -1] - ALPHA * (offsets + z.sum(-1))) / SIGMA).unsqueeze(-1)], -1)

    assert steps_of(self_weighted(30.0), denoise, torch.zeros(9, 3)).isfinite().all()


def test_w_min_moves_the_clamp():
    guide = self_weighted(1.0, w_min=0.3)
    step = steps_of(guide, Linear([0.29, 0.31]), torch.zeros(2, 3).double())
    assert guide.clamped.tolist() == [True, False]
    assert (step[0] == 0).all()
    assert (step[1] != 0).all()


def test_w_hat_is_the_posterior_mean_of_the_weight():
    """Equation 11: were it off by a factor, only the clamp would notice; so clamp just beside E[w | z]."""
    schedule = Schedule.vp(15)
    exact, z = Exact(ring(beta=2.0), schedule), normal(8, 3)
    weight = exact.posterior(z, 5) @ exact.points[:, -1]
    for factor, clamped in ((1 - 1e-9, 0), (1 + 1e-9, 1)):
        for row, mean in zip(z, weight.tolist(), strict=True):
            guide = self_weighted(1.0, w_min=mean * factor)
            guide(exact, row, *numbers(5, schedule))
            assert guide.clamped == clamped


# -- rho ---------------------------------------------------------------------------------------------------------------


def test_one_rho_a_row_is_that_rows_scalar_rho():
    schedule = Schedule.vp(15)
    exact, z = Exact(ring(beta=2.0), schedule), normal(4, 3)
    rho = torch.tensor([0.0, 1.0, 5.0, 20.0]).double()
    together = self_weighted(rho.unsqueeze(-1))(exact, z, *numbers(4, schedule))
    for row in range(4):
        alone = self_weighted(rho[row].item())(exact, z[row : row + 1], *numbers(4, schedule))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)


def test_rho_zero_is_the_unguided_noise():
    schedule = Schedule.vp(15)
    exact, z = Exact(ring(beta=2.0), schedule), normal(4, 3)
    assert torch.equal(self_weighted(0.0)(exact, z, *numbers(4, schedule)), exact(z, 4))


@pytest.mark.parametrize("rho", [-1e-9, -5, float("nan"), torch.tensor([1.0, -1.0]), torch.tensor([1.0, torch.nan])])
def test_a_negative_or_undefined_rho_is_refused(rho):
    with pytest.raises(ValueError, match="rho must be"):
        self_weighted(rho)


# -- the learnt denoiser, split at its weight head ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt():
    """Two members, their outputs pushed up so that no w_hat lies below w_min; observations (2, 5, 3)."""
    denoiser = Denoiser(2, 3, 3, K=15, width=32)
    reset(denoiser, [generator(s, "test", 0) for s in range(2)])
    denoiser.weight_out.bias.data.fill_(-30.0)
    return denoiser.requires_grad_(False), normal(2, 5, 3, dtype=torch.float32)


def whole(denoiser, observations):
    return lambda z, k: denoiser(z, torch.full(z.shape[:-1], k), observations)


@pytest.mark.parametrize("k", [0, 7, 14])
def test_differentiating_the_first_blocks_is_differentiating_the_whole_denoiser(learnt, k):
    denoiser, observations = copy.deepcopy(learnt[0]).double(), learnt[1].double()
    schedule, z = Schedule.vp(15), normal(2, 5, 3, seed=1)
    split, plain = self_weighted(10.0), self_weighted(10.0)
    a = split(denoiser.bind(observations), z, *numbers(k, schedule))
    b = plain(whole(denoiser, observations), z, *numbers(k, schedule))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert (b - denoiser.bind(observations)(z, k)).abs().max() > 1e-3, "the guidance must be seen"
    assert not split.clamped.any()


def test_autograd_records_no_block_of_a_learnt_denoiser(learnt):
    denoiser, observations = learnt
    recorded = {}
    hooks = [
        block.up.register_forward_hook(lambda _, inputs, output, i=i: recorded.update({i: output.requires_grad}))
        for i, block in enumerate(denoiser.blocks, 1)
    ]
    self_weighted(1.0)(denoiser.bind(observations), normal(2, 5, 3, dtype=torch.float32), 3, ALPHA, SIGMA)
    for hook in hooks:
        hook.remove()
    assert recorded == {1: False, 2: False, 3: False}


def test_what_comes_out_carries_no_graph(learnt):
    denoiser, observations = learnt
    z = normal(2, 5, 3, dtype=torch.float32)
    for denoise in (denoiser.bind(observations), whole(denoiser, observations)):
        assert not self_weighted(1.0)(denoise, z, 3, ALPHA, SIGMA).requires_grad
    guided = sample(denoise, Schedule.vp(15), z.shape, guidance=self_weighted(1.0), generator=torch.Generator())
    assert not guided.requires_grad
