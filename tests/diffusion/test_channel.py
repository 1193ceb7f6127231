"""The channel of the weight in another scale, and a head that predicts its clean value: guidance is what it was."""

import pytest
import torch

from swgctl.diffusion import Exact, Schedule, sample, self_weighted
from swgctl.diffusion.exact import ring, sampling_floor, shares, total_variation

VP = Schedule.vp(15)
POINTS = ring(3.0)
OFFSET, FACTOR = 0.3, 0.25  # w = OFFSET + FACTOR z_w
STANDARD = torch.cat([POINTS[:, :-1], (POINTS[:, -1:] - OFFSET) / FACTOR], -1)
EXACT = Exact(POINTS, VP)


def channel(k):
    return OFFSET, FACTOR


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Clean:
    """The exact denoiser, its weight by way of E[w_0 | z_k]."""

    def __call__(self, z, k):
        alpha, sigma = VP.at(k)
        w_0 = EXACT.posterior(z, k) @ POINTS[:, -1]
        return torch.cat([EXACT(z, k)[..., :-1], ((z[..., -1] - alpha * w_0) / sigma).unsqueeze(-1)], -1)


@pytest.mark.parametrize("k", [0, 7, 14])
def test_both_forms_of_the_exact_denoiser_guide_alike(k):
    z = normal(64, 3)
    by_noise, by_data = (self_weighted(2.0)(denoise, z, k, *VP.at(k)) for denoise in (EXACT, Clean()))
    torch.testing.assert_close(by_data, by_noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [0, 7, 14])
def test_the_line_of_a_channel_gives_the_conditional_mean_of_the_weight_and_its_gradient(k):
    """w_hat = E[w | z_k], for the exact denoiser of points [a, (w - offset) / factor], by posterior and autograd."""
    exact = Exact(STANDARD, VP)
    z, (alpha, sigma) = normal(64, 3), VP.at(k)
    w_hat = OFFSET + FACTOR * (z[..., -1] - sigma * exact(z, k)[..., -1]) / alpha
    torch.testing.assert_close(w_hat, exact.posterior(z, k) @ POINTS[:, -1], rtol=1e-9, atol=1e-9)
    x = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((exact.posterior(x, k) @ POINTS[:, -1]).log().sum(), x)
    eps = self_weighted(2.0, line=channel)(exact, z, k, alpha, sigma)
    torch.testing.assert_close(eps, exact(z, k) - 2 * sigma * gradient, rtol=1e-9, atol=1e-9)


def test_guided_samples_follow_q_w_in_either_scale():
    """At rho = 1, 50 steps: within 0.04 in total variation and the sampling error of 4,000 draws, of which the raw
    channel's own are as near."""
    target = EXACT.tilted().mass
    for points, guidance in ((POINTS, self_weighted(1.0)), (STANDARD, self_weighted(1.0, line=channel))):
        exact = Exact(points, Schedule.cosine(50))
        source = torch.Generator().manual_seed(0)
        z = sample(exact, exact.schedule, (4_000, 3), guidance=guidance, generator=source, dtype=torch.float64)
        distance = total_variation(shares(z[:, :-1], POINTS), target)
        assert distance < 0.04 + sampling_floor(target, 4_000)
