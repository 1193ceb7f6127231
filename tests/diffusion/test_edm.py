"""EDM against closed forms: F = 0 is the exact denoiser of N(0, I), and a walk with it is linear in its noise."""

import math

import pytest
import torch
from torch import Tensor

from swgctl.diffusion import edm
from swgctl.diffusion.edm import Walk

SIGMAS = torch.tensor([0.002, 0.05, 0.3, 1.0, 7.0, 80.0], dtype=torch.float64)


def zero(x: Tensor, c_noise: Tensor) -> Tensor:
    return torch.zeros_like(x)


def normal(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of N(0, I), as the one of F = 0."""
    return edm.denoised(zero, x, sigma)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


# -- preconditioning and loss ------------------------------------------------------------------------------------------


def test_preconditioning_keeps_the_variance_of_input_and_target_at_one():
    """Data of unit variance: c_in^2 (sigma^2 + 1) = 1, c_skip = c_in^2, c_skip + c_out^2 = 1, c_noise = log(sigma) / 4;
    and the network's target (x_0 - c_skip x) / c_out has variance ((1 - c_skip)^2 + c_skip^2 sigma^2) / c_out^2 = 1.
    """
    c_skip, c_out, c_in, c_noise = edm.preconditioning(SIGMAS)
    ones = torch.ones_like(SIGMAS)
    torch.testing.assert_close(c_in.square() * (SIGMAS.square() + 1), ones)
    torch.testing.assert_close(c_skip, c_in.square())
    torch.testing.assert_close(c_skip + c_out.square(), ones)
    torch.testing.assert_close((4 * c_noise).exp(), SIGMAS)
    target = ((1 - c_skip).square() + (c_skip * SIGMAS).square()) / c_out.square()
    torch.testing.assert_close(target, ones)


def test_without_a_network_the_denoiser_is_the_mean_of_a_gaussian():
    """E[x_0 | x] = x / (1 + sigma^2) for N(0, I); one level for all windows, or one for each."""
    x = randn(2, 6, 4, 3)
    for sigma in SIGMAS:
        torch.testing.assert_close(normal(x, sigma), x / (1 + sigma**2))
    torch.testing.assert_close(normal(x, SIGMAS.expand(2, 6)), x / (1 + SIGMAS.square().view(6, 1, 1)))


def test_the_network_sees_scaled_windows_and_a_level_for_each():
    seen = []

    def network(x, c_noise):
        seen.append((x, c_noise))
        return torch.sin(x)

    x, sigma = randn(2, 3, 4, 5), torch.tensor(2.0, dtype=torch.float64)
    denoised = edm.denoised(network, x, sigma)
    torch.testing.assert_close(denoised, x / 5 + 2 / math.sqrt(5) * torch.sin(x / math.sqrt(5)))
    (scaled, c_noise), *_ = seen
    assert scaled.shape == x.shape
    torch.testing.assert_close(c_noise, torch.full((2, 3), math.log(2) / 4, dtype=torch.float64))


def test_the_loss_is_the_weighted_error_of_the_denoiser():
    """Two ways: |F - c_in (sigma x_0 - eps)|^2, and (sigma^2 + 1) / sigma^2 |D(x_0 + sigma eps, sigma) - x_0|^2."""
    x0, eps = randn(2, 6, 4, 3), randn(2, 6, 4, 3, seed=1)
    sigma = SIGMAS.expand(2, 6)

    def network(x, c_noise):
        return torch.sin(3 * x + c_noise[..., None, None])

    loss, info = edm.loss(network, x0, eps, sigma)
    level = sigma[..., None, None]
    squared = (edm.denoised(network, x0 + level * eps, sigma) - x0).square().mean((-2, -1))
    torch.testing.assert_close(loss, ((sigma.square() + 1) / sigma.square() * squared).mean(-1))
    torch.testing.assert_close(info["error"], squared.mean(-1))


@pytest.mark.parametrize("sigma", SIGMAS.tolist())
def test_a_network_that_is_zero_has_loss_one_on_data_of_unit_second_moment(sigma):
    """Exactly so where x_0 and eps have second moment 1 and are orthogonal: here +1 and -1, in all four pairs."""
    x0 = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).view(1, 1, 4, 1)
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(1, 1, 4, 1)
    loss, _ = edm.loss(zero, x0, eps, torch.tensor([[sigma]], dtype=torch.float64))
    assert loss.item() == pytest.approx(1, abs=1e-12)


def test_members_losses_do_not_mix():
    x0, eps, sigma = randn(3, 5, 4, 2), randn(3, 5, 4, 2, seed=1), SIGMAS[:5].expand(3, 5)
    together, _ = edm.loss(zero, x0, eps, sigma)
    for s in range(3):
        alone, _ = edm.loss(zero, x0[s : s + 1], eps[s : s + 1], sigma[s : s + 1])
        torch.testing.assert_close(together[s : s + 1], alone)


# -- the walk's numbers ------------------------------------------------------------------------------------------------


def test_the_noise_levels_are_karras():
    levels = edm.noise_levels(256)
    assert levels.shape == (257,)
    expected = {0: 80, 1: 78.3029, 128: 2.47141, 254: 0.00220287, 255: 0.002, 256: 0}
    for n, sigma in expected.items():
        assert levels[n].item() == pytest.approx(sigma, rel=1e-5), n
    n = torch.arange(256, dtype=torch.float64)
    by_hand = (80 ** (1 / 7) + n / 255 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(levels[:-1], by_hand)


def test_191_of_256_steps_churn_by_the_same_share():
    gamma = edm.churns(edm.noise_levels(256), 80.0, 0.05, 50.0)
    where = gamma.nonzero().flatten()
    assert where.tolist() == list(range(22, 213))
    assert len(where) == 191
    assert gamma.unique().tolist() == [0, 0.3125]
    few = edm.churns(edm.noise_levels(18), 80.0, 0.05, 50.0)
    assert few.max().item() == pytest.approx(math.sqrt(2) - 1)
    assert edm.churns(edm.noise_levels(18), 0.0, 0.05, 50.0).eq(0).all()


def test_the_churn_adds_the_noise_that_raises_the_level():
    table = Walk(64, churn_noise=1.003).table()
    assert {name: column.shape for name, column in table.items()} == dict.fromkeys(table, (64,))
    raised = (table["sigma"].square() + (table["churn"] / 1.003).square()).sqrt()
    torch.testing.assert_close(raised, table["raised"])
    torch.testing.assert_close(table["after"][:-1], table["sigma"][1:])
    assert table["after"][-1] == 0


# -- one step ----------------------------------------------------------------------------------------------------------


def numbers(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


@pytest.mark.parametrize("published", [False, True])
def test_a_step_is_heuns_by_hand(published):
    x, eps = randn(2, 3, 4, 5), randn(2, 3, 4, 5, seed=1)

    def denoise(x, sigma):
        return torch.sin(x) / (1 + sigma)

    at = numbers(sigma=2.0, raised=2.5, churn=1.5, after=1.2)
    churned = x + 1.5 * eps
    slope = (churned - torch.sin(churned) / 3.5) / 2.5
    euler = (x if published else churned) - 1.3 * slope
    slope_after = (euler - torch.sin(euler) / 2.2) / 1.2
    expected = churned - 1.3 * (slope + slope_after) / 2
    torch.testing.assert_close(edm.step(denoise, x, at, eps, published=published), expected)


def test_the_last_step_returns_the_denoised_window():
    """At level 0 Euler's step arrives at D, and the denoiser is not asked about level 0, where c_noise is infinite."""
    levels = []

    def denoise(x, sigma):
        levels.append(sigma.item())
        return normal(x, sigma)

    x, at = randn(2, 3, 4, 5), numbers(sigma=0.002, raised=0.002, churn=0.0, after=0.0)
    torch.testing.assert_close(edm.step(denoise, x, at, torch.zeros_like(x)), normal(x, at["sigma"]))
    assert min(levels) > 0


# -- samples of N(0, 1) ------------------------------------------------------------------------------------------------

# sd of samples by N: churn of 80 by either rule, and without churn
SDS = {
    18: (1.10958, 1.87499, 1.04473),
    32: (1.04732, 1.33757, 1.01272),
    64: (1.02127, 1.13321, 1.00292),
    256: (1.00629, 1.03002, 1.00010),
}
WALKS = [
    pytest.param(walk, sd, id=f"{N}-{name}")
    for N, sds in SDS.items()
    for name, walk, sd in zip(
        ("karras", "published", "still"),
        (Walk(N), Walk(N, rule="published"), Walk(N, churn=0.0)),
        sds,
        strict=True,
    )
]


def exact_sd(walk: Walk) -> float:
    """The sd of samples: the walk is linear, so its value at the i-th unit vector is its factor of the i-th draw."""
    draws = iter(torch.eye(walk.levels + 1, dtype=torch.float64).unsqueeze(-1))
    return edm.sample(normal, (walk.levels + 1, 1), walk, lambda shape: next(draws)).norm().item()


def recursion(walk: Walk) -> float:
    """The same from (x_0 - D) / sigma = c x with c = sigma / (1 + sigma^2), for the variance of x alone."""
    table = {name: column.tolist() for name, column in walk.table().items()}
    variance = table["sigma"][0] ** 2
    for raised, churn, after in zip(table["raised"], table["churn"], table["after"], strict=True):
        change, slope, slope_after = after - raised, raised / (1 + raised**2), after / (1 + after**2)
        # Euler's step: a x + b churn eps; then Heun's
        a = b = 1 + change * slope
        if walk.rule == "published":
            a, b = 1 + change * slope, change * slope
        if after > 0:
            a, b = (1 + change * (slope + slope_after * euler) / 2 for euler in (a, b))
        variance = a**2 * variance + (b * churn) ** 2
    return math.sqrt(variance)


@pytest.mark.parametrize(("walk", "sd"), WALKS)
def test_the_sd_of_samples_is_the_recursions(walk, sd):
    assert exact_sd(walk) == pytest.approx(sd, abs=1e-5)
    assert exact_sd(walk) == pytest.approx(recursion(walk), rel=1e-9)


def test_without_churn_the_rules_agree():
    assert exact_sd(Walk(32, churn=0.0, rule="published")) == pytest.approx(exact_sd(Walk(32, churn=0.0)), rel=1e-12)


@pytest.mark.parametrize(("walk", "sd"), WALKS)
def test_samples_have_the_sd(walk, sd):
    """60,000 numbers, whose sd has a standard error of 0.3 %."""
    generator = gen()
    x = edm.sample(normal, (3, 1000, 4, 5), walk, lambda shape: torch.randn(shape, generator=generator))
    assert x.std().item() == pytest.approx(sd, rel=0.01)


def test_one_draw_starts_the_walk_and_one_belongs_to_each_step():
    draws = []

    def noise(shape):
        draws.append(torch.ones(shape))
        return draws[-1]

    edm.sample(normal, (2, 3, 4, 5), Walk(18), noise)
    assert len(draws) == 19
