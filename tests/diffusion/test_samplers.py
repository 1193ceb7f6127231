"""Samplers with exact denoisers: what comes out has the distribution that it must have."""

import math

import pytest
import torch
from exact import Exact, ring, shares, total_variation

from swgctl.diffusion import SAMPLERS, Schedule, sample, self_weighted


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(mean: float, sd: float, schedule: Schedule):
    """The exact denoiser of N(mean, sd^2): eps = sigma (z - alpha mean) / (alpha^2 sd^2 + sigma^2)."""

    def denoise(z, k):
        alpha, sigma = schedule.alpha[k].item(), schedule.sigma[k].item()
        return sigma * (z - alpha * mean) / (alpha**2 * sd**2 + sigma**2)

    return denoise


class Noise:
    """Standard normal draws that are counted and kept."""

    def __init__(self, seed=0):
        self.generator, self.draws = gen(seed), []

    def __call__(self, shape):
        self.draws.append(torch.randn(shape, generator=self.generator))
        return self.draws[-1]


# -- the distribution --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "tolerance"), [(Schedule.cosine(100), 0.03), (Schedule.vp(15), 0.05)])
@pytest.mark.parametrize("beta", [0, 3, 10, 20])
def test_guided_samples_have_the_modes_of_the_weighted_distribution(schedule, tolerance, beta):
    """Eight modes on a circle are drawn in proportion to q(a) w(a) (SWG, Theorem 3.5, figure 2)."""
    points = ring(beta)
    z = sample(
        Exact(points, schedule), schedule, (6000, 3), guidance=self_weighted(1.0), generator=gen(), dtype=points.dtype
    )
    expected = points[:, -1] / points[:, -1].sum()
    assert total_variation(shares(z[:, :2], points), expected) < tolerance


def test_without_guidance_the_modes_are_the_datas_own():
    points, schedule = ring(beta=10.0), Schedule.cosine(100)
    z = sample(Exact(points, schedule), schedule, (6000, 3), generator=gen(), dtype=points.dtype)
    assert total_variation(shares(z[:, :2], points), torch.full((8,), 1 / 8)) < 0.03


def test_samples_carry_the_weight_of_their_action():
    points, schedule = ring(beta=3.0), Schedule.cosine(100)
    z = sample(
        Exact(points, schedule), schedule, (500, 3), guidance=self_weighted(1.0), generator=gen(), dtype=points.dtype
    )
    nearest = torch.cdist(z[:, :2], points[:, :2]).argmin(-1)
    torch.testing.assert_close(z, points[nearest], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("make", [Schedule.cosine, Schedule.vp, Schedule.linear])
def test_a_gaussian_comes_out_with_its_mean_and_deviation(make, sampler):
    """200 steps; the standard error of 20,000 samples is 0.004, the linear schedule keeps some signal at its end."""
    schedule = make(200) if make is not Schedule.linear else Schedule.linear(200, beta_max=0.1)
    z = sample(gaussian(0.6, 0.3, schedule), schedule, (20_000,), sampler=sampler, generator=gen())
    assert z.mean().item() == pytest.approx(0.6, abs=0.02)
    assert z.std().item() == pytest.approx(0.3, abs=0.02)


def test_every_step_is_ddpms_by_hand():
    """z_{k-1} = (z_k - beta_k / sigma_k eps) / sqrt(1 - beta_k) + sqrt(beta_k) n, no noise at k = 0."""
    schedule = Schedule.from_betas(torch.tensor([0.2, 0.4]).double())
    noise = Noise()
    z0 = sample(lambda z, k: torch.full_like(z, 0.1 * (k + 1)), schedule, (5,), generator=noise)
    start, middle = noise.draws
    sigma_1, sigma_0 = math.sqrt(1 - 0.8 * 0.6), math.sqrt(0.2)
    z1 = (start - 0.4 / sigma_1 * 0.2) / math.sqrt(0.6) + math.sqrt(0.4) * middle
    torch.testing.assert_close(z0, (z1 - 0.2 / sigma_0 * 0.1) / math.sqrt(0.8))


# -- noise and temperature ---------------------------------------------------------------------------------------------


def test_one_draw_starts_the_walk_and_one_follows_every_step_but_the_last():
    noise = Noise()
    sample(lambda z, k: z, Schedule.vp(15), (4, 3), generator=noise)
    assert len(noise.draws) == 15


def test_temperature_zero_is_deterministic_and_starts_from_zero():
    schedule, points = Schedule.vp(15), ring(beta=3.0)
    exact, seen = Exact(points, schedule), []

    def denoise(z, k):
        seen.append(z)
        return exact(z, k)

    options = {"guidance": self_weighted(1.0), "temperature": 0.0, "dtype": points.dtype}
    a, b = (sample(denoise, schedule, (2, 3), generator=gen(seed), **options) for seed in (0, 1))
    assert torch.equal(a, b)
    assert torch.equal(a[0], a[1])
    assert (seen[0] == 0).all()


def test_temperature_zero_draws_no_noise_after_the_start():
    noise = Noise()
    sample(lambda z, k: z, Schedule.vp(15), (4, 3), temperature=0.0, generator=noise)
    assert len(noise.draws) <= 1


def test_temperature_scales_every_draw():
    """With eps = 0 the walk is linear in its noise, so half the temperature gives half the sample."""
    full, half = (
        sample(lambda z, k: torch.zeros_like(z), Schedule.vp(15), (100,), temperature=t, generator=gen())
        for t in (1.0, 0.5)
    )
    torch.testing.assert_close(half, full / 2)


def test_equal_generators_give_equal_samples_and_others_do_not():
    def draw(seed):
        return sample(lambda z, k: 0.5 * z, Schedule.vp(15), (10,), generator=gen(seed))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_bounds_clip_every_predicted_sample():
    """The denoiser points to z_0 = (5, -5, 5): the action ends on its bounds, the unbounded last channel at 5."""
    schedule, target = Schedule.vp(15), torch.tensor([5.0, -5.0, 5.0])
    high = torch.tensor([1.0, 1.0, torch.inf])

    def denoise(z, k):
        return (z - schedule.alpha[k].item() * target) / schedule.sigma[k].item()

    z = sample(denoise, schedule, (100, 3), bounds=(-high, high), generator=gen())
    torch.testing.assert_close(z, torch.tensor([1.0, -1.0, 5.0]).expand(100, 3), rtol=0, atol=1e-4)


def test_bounds_clip_the_prediction_and_not_the_state():
    """A clipped prediction gives the walk of a denoiser that pointed to the bound in the first place."""
    schedule = Schedule.vp(15)

    def pointing_to(target):
        return lambda z, k: (z - schedule.alpha[k].item() * target) / schedule.sigma[k].item()

    one = torch.ones(1)
    walks = []
    for target, bounds in ((5.0, (-one, one)), (1.0, None)):
        states = []

        def denoise(z, k, states=states, target=target):
            states.append(z)
            return pointing_to(target)(z, k)

        sample(denoise, schedule, (50, 1), bounds=bounds, generator=gen())
        walks.append(torch.stack(states))
    torch.testing.assert_close(walks[0], walks[1], rtol=0, atol=1e-4)
    assert walks[0].abs().max() > 1.5, "noisy states lie outside the bounds of z_0"


def test_bounds_that_never_bind_change_nothing():
    schedule = Schedule.vp(15)
    wide = torch.full((1,), 100.0)
    denoise = gaussian(0.2, 0.5, schedule)
    a, b = (sample(denoise, schedule, (50, 1), bounds=bounds, generator=gen()) for bounds in (None, (-wide, wide)))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_bounds_clip_what_guidance_points_to():
    """Guidance of a large scale overshoots; the clipped action stays in [-1, 1]."""
    points, schedule = ring(beta=3.0), Schedule.vp(15)
    high = torch.tensor([1.0, 1.0, torch.inf], dtype=points.dtype)
    options = {"guidance": self_weighted(30.0), "generator": gen(), "dtype": points.dtype}
    z = sample(Exact(points, schedule), schedule, (200, 3), bounds=(-high, high), **options)
    assert z[:, :2].abs().max() <= 1 + 1e-9


def test_an_unknown_sampler_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown sampler 'ddim2', know ddpm"):
        sample(lambda z, k: z, Schedule.vp(15), (1,), sampler="ddim2", generator=gen())
