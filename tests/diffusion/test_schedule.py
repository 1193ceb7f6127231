"""Schedules against printed values and closed forms."""

import math

import pytest
import torch

from swgctl.diffusion import Schedule

# The official code's VP schedule at K = 15 (beta_min 0.1, beta_max 10), k = 0 .. 14.
BETA = """.028260 .070089 .110118 .148424 .185081 .220160 .253729 .285853 .316594 .346012 .374164 .401104 .426884
          .451554 .475163"""
ALPHA_BAR = """.971740 .903632 .804125 .684774 .558035 .435178 .324761 .231927 .158500 .103657 .064872 .038852
               .022267 .012212 .006409"""
SIGMA = ".16811 .31043 .44258 .56145 .66480 .75155 .82173 .87640 .91733 .94675 .96702 .98038 .98880 .99388 .99679"

CONSTRUCTORS = [Schedule.vp, Schedule.cosine, Schedule.linear]


def numbers(text: str) -> torch.Tensor:
    return torch.tensor([float(x) for x in text.split()], dtype=torch.float64)


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_vp_has_the_official_codes_fifteen_values():
    schedule = Schedule.vp(15)
    close(1 - schedule.step_alpha, numbers(BETA), 1e-6)
    close(schedule.alpha.square(), numbers(ALPHA_BAR), 1e-6)
    close(schedule.sigma, numbers(SIGMA), 1e-5)


@pytest.mark.parametrize("K", [2, 5, 15, 100, 1000])
def test_vp_ends_at_the_same_noise_for_every_number_of_steps(K):
    """alpha-bar_{K-1} = exp(-(beta_min + beta_max) / 2) = exp(-5.05)."""
    assert Schedule.vp(K).alpha[-1].item() ** 2 == pytest.approx(math.exp(-5.05), rel=1e-12)


def test_cosine_is_the_cosine_until_its_last_clipped_step():
    """alpha_k = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)) at t = (k + 1)/K (Nichol & Dhariwal, equation 17)."""
    K, s = 50, 0.008
    t = torch.arange(1, K + 1, dtype=torch.float64) / K
    expected = torch.cos(math.pi / 2 * (t + s) / (1 + s)) / math.cos(math.pi / 2 * s / (1 + s))
    schedule = Schedule.cosine(K)
    close(schedule.alpha[:-1], expected[:-1], 1e-12)
    assert schedule.step_alpha[-1].item() == pytest.approx(1 - 0.999, rel=1e-9)


def test_linear_betas_are_evenly_spaced_and_end_at_ddpms_noise():
    """alpha-bar of DDPM's 1,000 steps is 4.0358e-5."""
    schedule = Schedule.linear(1000)
    close(1 - schedule.step_alpha, torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 1e-12)
    assert schedule.alpha[-1].item() ** 2 == pytest.approx(4.0358e-5, rel=1e-4)


def test_linear_of_a_thousand_steps_is_the_vp_sde_from_a_tenth_to_twenty():
    """log alpha(t) = -19.9 t^2 / 4 - 0.1 t / 2 at t = (k + 1)/K (Song et al., 2021); the gap is widest at t = 1."""
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    gap = (Schedule.linear(1000).alpha.log() + 19.9 * t**2 / 4 + 0.1 * t / 2).abs()
    assert gap.max().item() == pytest.approx(0.034, abs=1e-3)
    assert gap.argmax() == 999


@pytest.mark.parametrize("make", CONSTRUCTORS)
def test_signal_and_noise_share_unit_variance_and_noise_grows(make):
    schedule = make(20)
    assert len(schedule) == 20
    close(schedule.alpha.square() + schedule.sigma.square(), torch.ones(20, dtype=torch.float64), 1e-12)
    assert (schedule.sigma.diff() > 0).all()


@pytest.mark.parametrize("make", CONSTRUCTORS)
@pytest.mark.parametrize("K", [1, 0, -3])
def test_fewer_than_two_steps_are_refused(make, K):
    with pytest.raises(ValueError, match="at least 2 steps"):
        make(K)


def test_from_betas_multiplies_up_what_each_step_keeps():
    schedule = Schedule.from_betas(torch.tensor([0.1, 0.5]))
    close(schedule.alpha.square(), torch.tensor([0.9, 0.45], dtype=torch.float64), 1e-7)


def test_noisy_mixes_each_row_by_its_own_step():
    schedule = Schedule.from_betas(torch.tensor([0.36, 0.75]).double())  # alpha 0.8, 0.4; sigma 0.6, sqrt 0.84
    z0, eps = torch.tensor([[1.0, -1.0], [2.0, 0.5]]).double(), torch.tensor([[0.5, 1.0], [1.0, -1.0]]).double()
    expected = torch.tensor([[0.8 + 0.3, -0.8 + 0.6], [0.8 + 0.84**0.5, 0.2 - 0.84**0.5]]).double()
    close(schedule.noisy(z0, eps, torch.tensor([0, 1])), expected, 1e-7)


def test_below_the_least_noisy_step_lies_the_data():
    schedule = Schedule.from_betas(torch.tensor([0.36, 0.75]).double())
    assert schedule.at(-1) == (1.0, 0.0)
    assert schedule.at(0) == pytest.approx((0.8, 0.6))
    assert schedule.at(1) == pytest.approx((0.4, 0.84**0.5))
