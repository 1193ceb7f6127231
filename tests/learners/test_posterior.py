"""The three estimates of the posterior's variance against a mixture's closed form, and what an error in eps does."""

import pytest
import torch
from support.gaussians import FOUR, VP

from swgctl.learners.posterior import by_step, data_variance, limited

STEPS = [0, 3, 6, 9, 12, 14]
ROWS = 200_000


def estimates(denoise=FOUR.denoise, rows=ROWS, members=1, **options):
    """The estimates (members, 3, K) and the actions (members, rows, 2)."""
    generator = torch.Generator().manual_seed(0)
    actions, _ = FOUR.draw((members, rows), generator)

    def noise(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return by_step(denoise, VP, actions, noise, actions.mean((0, 1)), **options), actions


@pytest.fixture(scope="module")
def measured():
    return estimates()[0][0]


def test_the_true_variances_are_those_of_the_mixture():
    true = []
    for k in STEPS:
        generator = torch.Generator().manual_seed(k)
        alpha, sigma = VP.at(k)
        z0 = FOUR.draw((ROWS,), generator)[0]
        z = alpha * z0 + sigma * torch.randn(z0.shape, generator=generator, dtype=z0.dtype)
        true.append(FOUR.posterior_variance(z, k).mean().item())
    assert true == pytest.approx(TRUE, rel=0.01)


TRUE = [0.0170, 0.1415, 0.2383, 0.2778, 0.2898, 0.2921]


def test_the_mean_error_of_the_posterior_mean_is_right_at_every_step(measured):
    """Equation 42."""
    assert measured[2, STEPS].tolist() == pytest.approx(TRUE, rel=0.02)


def test_the_variance_of_the_posterior_mean_is_right_from_step_3_on(measured):
    """Equation 24, a difference of two numbers that are nearly equal at small noise."""
    assert measured[1, STEPS[1:]].tolist() == pytest.approx(TRUE[1:], rel=0.02)
    assert measured[1, 0].item() == pytest.approx(TRUE[0], rel=0.1)


def test_the_size_of_the_noise_is_right_up_to_step_6(measured):
    """Equation 22, a difference of two numbers that are nearly equal at large noise."""
    assert measured[0, STEPS[:3]].tolist() == pytest.approx(TRUE[:3], rel=0.02)


def test_the_size_of_the_noise_says_nothing_of_the_last_steps():
    """Batches of 256 rows: its deviation at steps 12 and 14 exceeds 2, ten times the variance; the others' is 0.015."""
    spread = estimates(rows=256, members=780)[0].std(0)
    assert spread[0, 12:].min() > 2
    assert spread[1:].max() < 0.03


@pytest.mark.parametrize(("scale", "first"), [(0.99, 3.6), (1.01, -2.6)])
def test_one_per_cent_of_error_in_eps_is_beyond_all_bounds_and_is_limited(scale, first, measured):
    wrong, actions = estimates(lambda z, k: scale * FOUR.denoise(z, k))
    largest = data_variance(actions[0])
    assert largest.item() == pytest.approx(0.293, rel=0.02)
    # the same draws, and an exact shift: -(scale^2 - 1) E|eps|^2 / A sigma^2 / alpha^2, of E|eps|^2 / A = 0.998
    shift = (1 - scale**2) * (VP.sigma[-1] / VP.alpha[-1]) ** 2
    assert (wrong[0, 0, -1] - measured[0, -1]).item() == pytest.approx(shift.item(), rel=0.01)
    assert wrong[0, 0, -1].item() == pytest.approx(first, abs=1)
    variance = limited(wrong[0], largest)
    assert variance.min() >= 0
    assert variance.max() <= largest
    assert variance[0, -1].item() == (largest.item() if scale < 1 else 0)


def test_the_posterior_mean_is_clipped_to_its_bounds():
    """Bounds that no mean can leave change nothing; of [0, 0], a_0 itself is the error and no variance is explained."""
    free, actions = estimates(rows=1000)
    wide, _ = estimates(rows=1000, bounds=(-9.0, 9.0))
    assert torch.equal(free, wide)
    none, _ = estimates(rows=1000, bounds=(0.0, 0.0))
    assert torch.equal(none[:, 0], free[:, 0])
    torch.testing.assert_close(none[0, 2], actions.square().mean().expand(15))


def test_blocks_of_rows_average_to_the_whole():
    halves = estimates(rows=500, members=2)[0]
    actions = estimates(rows=500, members=2)[1]
    generator = torch.Generator().manual_seed(0)
    FOUR.draw((2, 500), generator)

    def noise(shape):
        return torch.randn(2, 500, 2, generator=generator, dtype=torch.float64).view(shape)

    whole = by_step(FOUR.denoise, VP, actions.view(1, 1000, 2), noise, actions.mean((0, 1)))
    torch.testing.assert_close(halves.mean(0), whole[0])
