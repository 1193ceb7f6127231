"""What a denoiser knows of its weight: the regression of w on w_hat against closed forms."""

import pytest
import torch

from swgctl.diffusion import Exact, Schedule, late, sample, self_weighted
from swgctl.diffusion.calibration import line, predicted_weights, regression
from swgctl.diffusion.exact import ring

VP = Schedule.vp(15)
POINTS = ring(3.0)
EXACT = Exact(POINTS, VP)
ROWS = 40_000


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def rows() -> torch.Tensor:
    """Rows of the data, (1, ROWS, 3)."""
    return POINTS[torch.randint(len(POINTS), (1, ROWS), generator=source(1))]


def normal(seed=2):
    """A source of standard normal noise of any shape."""
    generator = source(seed)
    return lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def test_a_line_is_the_one_of_least_squares():
    w, w_hat = torch.rand(2, 50, generator=source()).double(), torch.rand(2, 3, 50, generator=source(1)).double()
    intercept, slope, correlation = regression(w, w_hat)
    for s in range(2):
        for k in range(3):
            design = torch.stack([torch.ones(50).double(), w_hat[s, k]], 1)
            expected = torch.linalg.lstsq(design, w[s]).solution
            torch.testing.assert_close(torch.stack([intercept[s, k], slope[s, k]]), expected)
            assert correlation[s, k].item() == pytest.approx(torch.corrcoef(torch.stack([w[s], w_hat[s, k]]))[0, 1])


def test_what_is_constant_says_nothing():
    w = torch.rand(1, 50, generator=source())
    for predicted, seen in ((torch.ones(1, 2, 50), w), (torch.rand(1, 2, 50), torch.ones(1, 50))):
        intercept, slope, correlation = regression(seen, predicted)
        assert (slope.tolist(), correlation.tolist()) == ([[0, 0]], [[0, 0]])
        torch.testing.assert_close(intercept, seen.double().mean(1, keepdim=True).expand(1, 2))


def test_a_negative_slope_is_no_knowledge():
    w = torch.rand(1, 50, generator=source()).double()
    intercept, slope = line(w, torch.stack([-w, w], 1))
    torch.testing.assert_close(slope, torch.tensor([[0.0, 1.0]]).double())
    torch.testing.assert_close(intercept, torch.stack([w.mean(1), torch.zeros(1).double()], 1))


def test_the_exact_denoisers_weight_is_the_conditional_mean_at_every_step():
    """So its line has slope 1 and intercept 0, within four standard errors, and calibration changes nothing."""
    z0 = rows()
    w_hat = predicted_weights(EXACT, VP, z0, normal())
    intercept, slope, correlation = regression(z0[..., -1], w_hat)
    spread = w_hat.std(-1)
    errors = (z0[..., -1:].squeeze(-1).unsqueeze(1) - w_hat).std(-1) / (spread * ROWS**0.5)
    assert ((slope - 1).abs() < 4 * errors).all()
    assert ((intercept + (slope - 1) * w_hat.mean(-1)).abs() < 4 * errors * spread).all()
    assert (correlation.diff() < 0).all()  # the noisier a step, the less it says


@pytest.mark.parametrize("deviation", [0.05, 0.5])
def test_noise_in_the_denoiser_lowers_the_slope_as_the_algebra_says(deviation):
    """w_hat + n with n = -sigma / alpha times the error: slope var(w_hat) / (var(w_hat) + (sigma / alpha)^2 d^2),
    within four standard errors and the two variances' own."""
    generator = source(3)

    def noisy(z, k):
        eps = EXACT(z, k)
        eps[..., -1] += deviation * torch.randn(eps.shape[:-1], generator=generator, dtype=torch.float64)
        return eps

    z0 = rows()
    w_hat = predicted_weights(noisy, VP, z0, normal())
    _, slope, _ = regression(z0[..., -1], w_hat)
    exact = predicted_weights(EXACT, VP, z0, normal()).var(-1)
    expected = exact / (exact + ((VP.sigma / VP.alpha).double() * deviation) ** 2)
    errors = 4 * z0[..., -1].std() / (w_hat.std(-1) * ROWS**0.5) + 0.03 * expected
    assert ((slope - expected).abs() < errors).all()
    assert (errors < 0.25).all()


def guided(guidance):
    return sample(EXACT, VP, (64, 3), guidance=guidance, generator=source(4), dtype=torch.float64)


def test_a_line_of_slope_one_changes_nothing_and_one_of_slope_zero_does_not_guide():
    plain = guided(self_weighted(2.0))
    torch.testing.assert_close(guided(self_weighted(2.0, line=lambda k: (0.0, 1.0))), plain, rtol=0, atol=0)
    nothing = guided(self_weighted(2.0, line=lambda k: (0.5, 0.0)))
    torch.testing.assert_close(nothing, guided(None), rtol=0, atol=1e-12)
    assert (nothing - plain).abs().max() > 0.1


def test_a_line_moves_the_weight_before_its_logarithm():
    """rho sigma grad log(a + b w_hat), by hand at one step, for lines of two members."""
    z = normal(5)((2, 5, 3))
    alpha, sigma = VP.at(6)
    intercept, slope = torch.tensor([[0.3], [0.6]]).double(), torch.tensor([[0.5], [0.1]]).double()
    eps = self_weighted(2.0, line=lambda k: (intercept, slope))(EXACT, z, 6, alpha, sigma)
    x = z.clone().requires_grad_()
    w_hat = (x[..., -1] - sigma * EXACT(x, 6)[..., -1]) / alpha
    (slope_of_w,) = torch.autograd.grad(w_hat.sum(), x)
    expected = EXACT(z, 6) - 2 * sigma * (slope / (intercept + slope * w_hat)).unsqueeze(-1) * slope_of_w
    torch.testing.assert_close(eps, expected.detach())


def test_late_guidance_acts_in_the_last_steps_alone():
    guidance = self_weighted(2.0)
    z = normal(6)((5, 3))
    for k in (0, 2, 3, 14):
        alpha, sigma = VP.at(k)
        inner = self_weighted(2.0)(EXACT, z, k, alpha, sigma)
        eps = late(guidance, 3)(EXACT, z, k, alpha, sigma)
        torch.testing.assert_close(eps, inner if k < 3 else EXACT(z, k), rtol=0, atol=0)
    assert guidance.calls == 2
    torch.testing.assert_close(guided(late(self_weighted(2.0), 15)), guided(self_weighted(2.0)), rtol=0, atol=0)
