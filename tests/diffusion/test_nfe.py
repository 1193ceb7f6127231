"""Walks over some of a schedule's steps, and DPM-Solver++(2S), with the exact denoiser of a Gaussian."""

import math

import pytest
import torch

from swgctl.diffusion import SAMPLERS, Schedule, sample

LINEAR = Schedule.linear(1000)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


class Gaussian:
    """The exact denoiser of N(mean, sd^2), which records the steps at which it is called."""

    def __init__(self, schedule, mean=0.0, sd=0.5):
        self.schedule, self.mean, self.sd, self.steps = schedule, mean, sd, []

    def __call__(self, z, k):
        self.steps.append(k)
        alpha, sigma = self.schedule.at(k)
        return sigma * (z - alpha * self.mean) / (alpha**2 * self.sd**2 + sigma**2)


def nonlinear(z, k):
    return torch.sin(z + k)


# -- the steps that are visited ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
@pytest.mark.parametrize(
    ("nfe", "steps"),
    [(1, [14]), (2, [14, 0]), (3, [14, 7, 0]), (8, [14, 12, 10, 8, 6, 4, 2, 0]), (15, [*range(14, -1, -1)])],
)
def test_steps_are_uniform_from_the_noisiest_to_the_least_noisy(sampler, nfe, steps):
    denoise = Gaussian(Schedule.vp(15))
    sample(denoise, denoise.schedule, (2,), sampler=sampler, nfe=nfe, generator=gen())
    assert denoise.steps == steps


@pytest.mark.parametrize(
    ("nfe", "steps"), [(1, [14, 0]), (2, [14, 7, 0]), (7, [14, 12, 10, 8, 6, 4, 2, 0]), (14, [*range(14, -1, -1)])]
)
def test_the_singlestep_solver_predicts_once_more_at_the_least_noisy_step(nfe, steps):
    denoise = Gaussian(Schedule.vp(15))
    sample(denoise, denoise.schedule, (2,), sampler="dpm-solver-2s", nfe=nfe, generator=gen())
    assert denoise.steps == steps


@pytest.mark.parametrize("nfe", [7, 100, 333, 999, 1000])
def test_any_number_of_steps_is_visited_without_repetition(nfe):
    denoise = Gaussian(LINEAR)
    sample(denoise, LINEAR, (1,), nfe=nfe, generator=gen())
    assert len(denoise.steps) == nfe
    assert denoise.steps == sorted(set(denoise.steps), reverse=True)
    assert denoise.steps[0] == 999
    assert denoise.steps[-1] == 0
    gaps = [a - b for a, b in zip(denoise.steps, denoise.steps[1:], strict=False)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_steps_are_visited_by_default(sampler):
    schedule, walks = Schedule.vp(15), []
    for nfe in (0, 14 if sampler == "dpm-solver-2s" else 15):
        denoise = Gaussian(schedule)
        walks.append(sample(denoise, schedule, (50,), sampler=sampler, nfe=nfe, generator=gen()))
        assert denoise.steps == [*range(14, -1, -1)]
    assert torch.equal(*walks)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_walk_over_some_steps_is_a_walk_over_the_schedule_of_those_steps(sampler):
    """With the variance of "ddpm" that the ratio of the visited alphas gives."""
    schedule, steps = Schedule.cosine(100), [0, 33, 66, 99]
    short = Schedule(schedule.alpha[steps], schedule.sigma[steps])
    nfe = 3 if sampler == "dpm-solver-2s" else 4
    a = sample(nonlinear, schedule, (50,), sampler=sampler, nfe=nfe, generator=gen())
    b = sample(lambda z, i: nonlinear(z, steps[i]), short, (50,), sampler=sampler, generator=gen())
    assert torch.equal(a, b)


def test_ddpm_on_two_of_three_steps_by_hand():
    """From alpha-bar 0.126 to 0.9: the step keeps 0.14 of the variance."""
    schedule, draws = Schedule.from_betas(torch.tensor([0.1, 0.3, 0.8]).double()), []

    def noise(shape):
        draws.append(torch.randn(shape, generator=gen(len(draws)), dtype=torch.float64))
        return draws[-1]

    z = sample(nonlinear, schedule, (5,), nfe=2, generator=noise)
    start, middle = draws
    z_0 = (start - 0.86 / math.sqrt(1 - 0.126) * nonlinear(start, 2)) / math.sqrt(0.14) + math.sqrt(0.86) * middle
    torch.testing.assert_close(z, (z_0 - 0.1 / math.sqrt(0.1) * nonlinear(z_0, 0)) / math.sqrt(0.9))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_is_given_the_schedules_own_step(sampler):
    schedule, seen = Schedule.vp(15), []

    def guide(denoise, z, k, alpha, sigma):
        seen.append((k, alpha, sigma))
        return denoise(z, k)

    sample(nonlinear, schedule, (5,), guidance=guide, sampler=sampler, nfe=4, generator=gen())
    assert seen == [(k, *schedule.at(k)) for k, _, _ in seen]
    assert (seen[0][0], seen[-1][0]) == (14, 0)


@pytest.mark.parametrize(
    ("sampler", "nfe", "most"), [*((name, 16, 15) for name in SAMPLERS if name != "dpm-solver-2s"), ("ddpm", -1, 15)]
)
def test_more_steps_than_the_schedule_has_are_refused(sampler, nfe, most):
    with pytest.raises(ValueError, match=rf"nfe must lie in 0 \.\. {most} for {sampler.replace('+', '.')} on 15 steps"):
        sample(nonlinear, Schedule.vp(15), (1,), sampler=sampler, nfe=nfe, generator=gen())


def test_the_singlestep_solver_needs_one_step_more_than_it_counts():
    with pytest.raises(ValueError, match=r"nfe must lie in 0 \.\. 14 for dpm-solver-2s on 15 steps, not 15"):
        sample(nonlinear, Schedule.vp(15), (1,), sampler="dpm-solver-2s", nfe=15, generator=gen())


# -- DPM-Solver++(2S) --------------------------------------------------------------------------------------------------


def test_every_step_is_the_singlestep_solvers_by_hand():
    """Algorithm 1 of Lu et al. in its own terms, from step 3 over 2 to 1, then the odd step to 0."""
    schedule = Schedule.from_betas(torch.tensor([0.1, 0.3, 0.4, 0.8]).double())
    a, s = schedule.alpha.tolist(), schedule.sigma.tolist()
    lam = [math.log(x / y) for x, y in zip(a, s, strict=True)]
    start = torch.randn(5, generator=gen(), dtype=torch.float64)
    z0 = sample(nonlinear, schedule, (5,), sampler="dpm-solver-2s", generator=lambda _: start)

    def x(z, k):
        return (z - s[k] * nonlinear(z, k)) / a[k]

    h = lam[1] - lam[3]
    r = (lam[2] - lam[3]) / h
    D = x(start, 3)
    u = s[2] / s[3] * start - a[2] * math.expm1(-r * h) * D
    z1 = s[1] / s[3] * start - a[1] * math.expm1(-h) * D - a[1] * math.expm1(-h) / (2 * r) * (x(u, 2) - D)
    z = s[0] / s[1] * z1 - a[0] * math.expm1(lam[1] - lam[0]) * x(z1, 1)
    torch.testing.assert_close(z0, x(z, 0))


@pytest.mark.parametrize(("nfe", "sd"), [(15, 0.447), (16, 0.537), (25, 0.478), (50, 0.504)])
def test_few_steps_of_the_linear_schedule_bias_the_deviation(nfe, sd):
    """N(0, 0.5^2) from 20,000 draws; the map is linear, so the deviation is also that of one start at 1."""
    options = {"sampler": "dpm-solver-2s", "nfe": nfe, "dtype": torch.float64}
    z = sample(Gaussian(LINEAR), LINEAR, (20_000,), generator=gen(), **options)
    factor = sample(Gaussian(LINEAR), LINEAR, (1,), generator=lambda shape: torch.ones(shape).double(), **options)
    assert z.std().item() == pytest.approx(sd, abs=0.01)
    assert factor.item() == pytest.approx(sd, abs=0.01)


def test_few_steps_of_many_suit_the_singlestep_solver_better():
    """The deviation's error at 15 calls on linear, K = 1000: 0.06 and 0.15."""
    error = {}
    for sampler in ("dpm-solver-2s", "dpm-solver++"):
        options = {"sampler": sampler, "nfe": 15, "dtype": torch.float64}
        z = sample(Gaussian(LINEAR), LINEAR, (1,), generator=lambda shape: torch.ones(shape).double(), **options)
        error[sampler] = abs(z.item() - 0.5)
    assert error["dpm-solver-2s"] < 0.5 * error["dpm-solver++"]


@pytest.mark.parametrize("sd", [0.3, 0.5])
@pytest.mark.parametrize("make", [Schedule.cosine, Schedule.vp])
def test_the_singlestep_solver_is_of_a_higher_order_than_the_first(make, sd):
    """Twice the steps make 0.40 to 0.35 of the error, against the flow of a Gaussian, which is linear; ddim 0.50."""

    def error(K):
        schedule, start = make(K), torch.linspace(-2, 2, 9, dtype=torch.float64)
        denoise = Gaussian(schedule, 0.6, sd)
        z = sample(denoise, schedule, (9,), sampler="dpm-solver-2s", generator=lambda _: start)
        alpha, sigma = schedule.at(K - 1)
        return (z - 0.6 - sd * (start - alpha * 0.6) / math.hypot(alpha * sd, sigma)).abs().max().item()

    assert error(201) < 0.42 * error(101)
    assert error(101) < 0.02
