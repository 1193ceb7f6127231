"""Samplers step by step and with the exact denoiser of a Gaussian; test_exact.py has them on eight weighted modes."""

import math

import pytest
import torch

from swgctl.diffusion import SAMPLERS, Exact, Schedule, sample, self_weighted
from swgctl.diffusion.exact import ring

DETERMINISTIC = [name for name in SAMPLERS if name != "ddpm"]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(mean: float, sd: float, schedule: Schedule):
    """The exact denoiser of N(mean, sd^2): eps = sigma (z - alpha mean) / (alpha^2 sd^2 + sigma^2)."""

    def denoise(z, k):
        alpha, sigma = schedule.at(k)
        return sigma * (z - alpha * mean) / (alpha**2 * sd**2 + sigma**2)

    return denoise


def pointing_to(target, schedule: Schedule):
    """A denoiser whose predicted z_0 is `target` from anywhere."""

    def denoise(z, k):
        alpha, sigma = schedule.at(k)
        return (z - alpha * target) / sigma

    return denoise


class Noise:
    """Standard normal draws that are counted and kept."""

    def __init__(self, seed=0):
        self.generator, self.draws = gen(seed), []

    def __call__(self, shape):
        self.draws.append(torch.randn(shape, generator=self.generator))
        return self.draws[-1]


# -- the distribution --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", [Schedule.cosine(200), Schedule.vp(200), Schedule.linear(200, beta_max=0.1)])
def test_a_gaussian_comes_out_with_its_mean_and_deviation(schedule, sampler):
    """The standard error of 20,000 samples is 0.002; deterministic walks from N(0, 1) lose 0.014 of the mean on vp."""
    z = sample(gaussian(0.6, 0.3, schedule), schedule, (20_000,), sampler=sampler, generator=gen())
    assert z.mean().item() == pytest.approx(0.6, abs=0.02)
    assert z.std().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("sd", [0.3, 0.5])
@pytest.mark.parametrize("make", [Schedule.cosine, Schedule.vp])
def test_ddim_is_of_first_order_and_dpm_solver_of_a_higher_one(make, sd):
    """A Gaussian's probability flow is linear: z_0 - mean = sd (z_K - alpha mean) / sqrt(alpha^2 sd^2 + sigma^2)."""

    def error(sampler, K):
        schedule, start = make(K), torch.linspace(-2, 2, 9, dtype=torch.float64)
        z = sample(gaussian(0.6, sd, schedule), schedule, (9,), sampler=sampler, generator=lambda _: start, dtype=None)
        alpha, sigma = schedule.at(K - 1)
        return (z - 0.6 - sd * (start - alpha * 0.6) / math.hypot(alpha * sd, sigma)).abs().max().item()

    assert error("ddim", 50) / error("ddim", 100) == pytest.approx(2, abs=0.1)
    assert error("dpm-solver++", 15) < 0.7 * error("ddim", 15)
    assert error("dpm-solver++", 50) < 0.2 * error("ddim", 50) < 0.01


def test_every_step_is_ddpms_by_hand():
    """z_{k-1} = (z_k - beta_k / sigma_k eps) / sqrt(1 - beta_k) + sqrt(beta_k) n, no noise at k = 0."""
    schedule = Schedule.from_betas(torch.tensor([0.2, 0.4]).double())
    noise = Noise()
    z0 = sample(lambda z, k: torch.full_like(z, 0.1 * (k + 1)), schedule, (5,), generator=noise)
    start, middle = noise.draws
    sigma_1, sigma_0 = math.sqrt(1 - 0.8 * 0.6), math.sqrt(0.2)
    z1 = (start - 0.4 / sigma_1 * 0.2) / math.sqrt(0.6) + math.sqrt(0.4) * middle
    torch.testing.assert_close(z0, (z1 - 0.2 / sigma_0 * 0.1) / math.sqrt(0.8))


THREE = Schedule.from_betas(torch.tensor([0.1, 0.3, 0.8]).double())


def nonlinear(z, k):
    return torch.sin(z + k)


def test_every_step_is_ddims_by_hand():
    """z_{k-1} = alpha_{k-1} (z_k - sigma_k eps) / alpha_k + sigma_{k-1} eps."""
    noise = Noise()
    z0 = sample(nonlinear, THREE, (5,), sampler="ddim", generator=noise)
    alpha, sigma = [1.0, *THREE.alpha.tolist()], [0.0, *THREE.sigma.tolist()]
    (z,) = noise.draws
    for k in (2, 1, 0):
        eps = nonlinear(z, k)
        z = alpha[k] * (z - sigma[k + 1] * eps) / alpha[k + 1] + sigma[k] * eps
    torch.testing.assert_close(z0, z)


def test_every_step_is_dpm_solvers_by_hand():
    """Algorithm 2 of Lu et al. in its own terms, h, r and D; z_0 is the prediction at the least noisy step."""
    noise = Noise()
    z0 = sample(nonlinear, THREE, (5,), sampler="dpm-solver++", generator=noise)
    (a0, a1, a2), (s0, s1, s2) = THREE.alpha.tolist(), THREE.sigma.tolist()
    l0, l1, l2 = (math.log(a / s) for a, s in ((a0, s0), (a1, s1), (a2, s2)))
    (z2,) = noise.draws
    x2 = (z2 - s2 * nonlinear(z2, 2)) / a2
    z1 = s1 / s2 * z2 - a1 * math.expm1(l2 - l1) * x2
    x1 = (z1 - s1 * nonlinear(z1, 1)) / a1
    r = (l1 - l2) / (l0 - l1)
    D = (1 + 1 / (2 * r)) * x1 - 1 / (2 * r) * x2
    z0_by_hand = s0 / s1 * z1 - a0 * math.expm1(l1 - l0) * D
    torch.testing.assert_close(z0, (z0_by_hand - s0 * nonlinear(z0_by_hand, 0)) / a0)


@pytest.mark.parametrize("make", [Schedule.cosine, Schedule.vp])
@pytest.mark.parametrize("K", [2, 3, 5, 15, 100, 1000])
def test_dpm_solver_never_extrapolates_by_a_whole_change(make, K):
    """h / (2 h_before) < 1, which no cap has to see to; K = 2 has no step of second order."""
    schedule = make(K)
    h = -(schedule.alpha / schedule.sigma).log().diff()
    assert (h[:-1] / (2 * h[1:]) < 0.83).all()


# -- noise and temperature ---------------------------------------------------------------------------------------------


def test_one_draw_starts_the_walk_and_one_follows_every_step_but_the_last():
    noise = Noise()
    sample(lambda z, k: z, Schedule.vp(15), (4, 3), generator=noise)
    assert len(noise.draws) == 15


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_deterministic_samplers_draw_the_start_alone(sampler):
    noise = Noise()
    sample(lambda z, k: z, Schedule.vp(15), (4, 3), sampler=sampler, generator=noise)
    assert len(noise.draws) == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_temperature_zero_is_deterministic_and_starts_from_zero(sampler):
    schedule, points = Schedule.vp(15), ring(beta=3.0)
    exact, seen = Exact(points, schedule), []

    def denoise(z, k):
        seen.append(z)
        return exact(z, k)

    options = {"guidance": self_weighted(1.0), "sampler": sampler, "temperature": 0.0, "dtype": points.dtype}
    a, b = (sample(denoise, schedule, (2, 3), generator=gen(seed), **options) for seed in (0, 1))
    assert torch.equal(a, b)
    torch.testing.assert_close(a[0], a[1])  # to rounding: a product may add up its rows in different orders
    assert (seen[0] == 0).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_temperature_zero_draws_no_noise_after_the_start(sampler):
    noise = Noise()
    sample(lambda z, k: z, Schedule.vp(15), (4, 3), sampler=sampler, temperature=0.0, generator=noise)
    assert len(noise.draws) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_temperature_scales_every_draw(sampler):
    """With eps = 0 the walk is linear in its noise, so half the temperature gives half the sample."""
    full, half = (
        sample(lambda z, k: 0 * z, Schedule.vp(15), (100,), sampler=sampler, temperature=t, generator=gen())
        for t in (1.0, 0.5)
    )
    torch.testing.assert_close(half, full / 2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_generators_give_equal_samples_and_others_do_not(sampler):
    def draw(seed):
        return sample(lambda z, k: 0.5 * z, Schedule.vp(15), (10,), sampler=sampler, generator=gen(seed))

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bounds_clip_every_predicted_sample(sampler):
    """The denoiser points to z_0 = (5, -5, 5): the action ends on its bounds, the unbounded last channel at 5."""
    schedule, target = Schedule.vp(15), torch.tensor([5.0, -5.0, 5.0])
    high = torch.tensor([1.0, 1.0, torch.inf])
    denoise = pointing_to(target, schedule)
    z = sample(denoise, schedule, (100, 3), sampler=sampler, bounds=(-high, high), generator=gen())
    torch.testing.assert_close(z, torch.tensor([1.0, -1.0, 5.0]).expand(100, 3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bounds_clip_the_prediction_and_not_the_state(sampler):
    """A clipped prediction gives the walk of a denoiser that pointed to the bound in the first place."""
    schedule = Schedule.vp(15)
    one = torch.ones(1)
    walks = []
    for target, bounds in ((5.0, (-one, one)), (1.0, None)):
        states = []

        def denoise(z, k, states=states, target=target):
            states.append(z)
            return pointing_to(target, schedule)(z, k)

        sample(denoise, schedule, (50, 1), sampler=sampler, bounds=bounds, generator=gen())
        walks.append(torch.stack(states))
    torch.testing.assert_close(walks[0], walks[1], rtol=0, atol=1e-4)
    assert walks[0].abs().max() > 1.5, "noisy states lie outside the bounds of z_0"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bounds_that_never_bind_change_nothing(sampler):
    schedule = Schedule.vp(15)
    wide = torch.full((1,), 100.0)
    denoise = gaussian(0.2, 0.5, schedule)
    a, b = (
        sample(denoise, schedule, (50, 1), sampler=sampler, bounds=bounds, generator=gen())
        for bounds in (None, (-wide, wide))
    )
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bounds_clip_what_guidance_points_to(sampler):
    """Guidance of a large scale overshoots; the clipped action stays in [-1, 1]."""
    points, schedule = ring(beta=3.0), Schedule.vp(15)
    high = torch.tensor([1.0, 1.0, torch.inf], dtype=points.dtype)
    options = {"guidance": self_weighted(30.0), "sampler": sampler, "generator": gen(), "dtype": points.dtype}
    z = sample(Exact(points, schedule), schedule, (200, 3), bounds=(-high, high), **options)
    assert z[:, :2].abs().max() <= 1 + 1e-9


def test_an_unknown_sampler_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown sampler 'ddim2', know ddpm, ddim, dpm-solver\+\+"):
        sample(lambda z, k: z, Schedule.vp(15), (1,), sampler="ddim2", generator=gen())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_of_several_temperatures_are_what_each_is_alone(sampler):
    """The same draws of noise, scaled row by row."""
    temperature = torch.tensor([[0.0], [0.5], [1.0]])

    def walk(rows, temperature):
        draws = iter(torch.randn(16, 3, 2, generator=gen(0)))
        shape, noise = (len(range(3)[rows]), 2), lambda _: next(draws)[rows]
        how = {"temperature": temperature, "generator": noise, "sampler": sampler}
        return sample(lambda z, k: 0.3 * z, Schedule.vp(15), shape, **how)

    together = walk(slice(0, 3), temperature)
    for i, t in enumerate((0.0, 0.5, 1.0)):
        torch.testing.assert_close(walk(slice(i, i + 1), t), together[i : i + 1])
