"""The exact denoiser against brute force, and samplers that it drives against the eight modes of the ring."""

import math

import pytest
import torch

from swgctl.diffusion import SAMPLERS, Exact, Schedule, sample, self_weighted
from swgctl.diffusion.exact import convergence, ring, sampling_floor, shares, total_variation


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# -- the denoiser ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mass", [None, torch.tensor([1.0, 3.0, 0.5]).double()])
def test_the_denoiser_is_the_mean_noise_of_bayes_rule(mass):
    """One z at a time, one point at a time: eps = sum_i p(i | z) (z - alpha z_0i) / sigma."""
    points, schedule, z = torch.randn(3, 2, generator=gen()).double(), Schedule.vp(15), [0.25, -1.5]
    alpha, sigma = schedule.at(6)
    prior = [1.0, 1.0, 1.0] if mass is None else mass.tolist()
    noises = [[(z[d] - alpha * point[d]) / sigma for d in range(2)] for point in points.tolist()]
    joint = [p * math.exp(-(e[0] ** 2 + e[1] ** 2) / 2) for p, e in zip(prior, noises, strict=True)]
    expected = [sum(p * e[d] for p, e in zip(joint, noises, strict=True)) / sum(joint) for d in range(2)]
    exact = Exact(points, schedule, mass)
    assert exact(torch.tensor(z).double(), 6).tolist() == pytest.approx(expected, rel=1e-12)
    assert exact.posterior(torch.tensor(z).double(), 6).tolist() == pytest.approx([p / sum(joint) for p in joint])


def test_no_other_function_predicts_noise_better():
    """The global minimum of equation 9: any change to it, here of 0.1 in any direction, has a greater loss."""
    points, schedule, k = ring(2.0), Schedule.vp(15), 7
    z0, eps = points.repeat(5000, 1), torch.randn(40_000, 3, generator=gen(), dtype=torch.float64)
    z = schedule.noisy(z0, eps, torch.full((40_000,), k))
    best = Exact(points, schedule)(z, k)
    loss = (best - eps).square().sum(-1).mean()
    for change in (0.1 * torch.eye(3).double()[0], -0.1 * z.sign(), 0.1 * torch.sin(3 * z)):
        assert (best + change - eps).square().sum(-1).mean() > loss


def test_tilting_multiplies_the_mass_by_a_power_of_the_weight():
    points, mass = ring(2.0), torch.arange(1.0, 9.0).double()
    exact = Exact(points, Schedule.vp(15), mass).tilted(3.0)
    torch.testing.assert_close(exact.mass, mass * points[:, -1] ** 3 / (mass * points[:, -1] ** 3).sum())


def test_the_ring_has_unit_actions_and_boltzmann_weights():
    points = ring(3.0)
    torch.testing.assert_close(points[:, :2].norm(dim=1), torch.ones(8).double())
    assert points[:, 2].tolist() == pytest.approx([math.exp(-3 * (1 - i / 7)) for i in range(8)])
    assert torch.pdist(points[:, :2]).min().item() == pytest.approx(2 * math.sin(math.pi / 8))


# -- shares and their floor --------------------------------------------------------------------------------------------


def test_shares_are_those_of_the_nearest_actions():
    points = ring(3.0)
    actions = points[[0, 0, 5, 7], :2] * torch.tensor([[0.5], [1.5], [1.1], [0.9]]).double()
    assert shares(actions, points).tolist() == [0.5, 0, 0, 0, 0, 0.25, 0, 0.25]


def test_total_variation_lies_between_equal_and_disjoint():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert total_variation(p, p) == 0
    assert total_variation(p, q) == 1
    assert total_variation(p, torch.tensor([0.25, 0.5, 0.25])) == 0.25


def test_the_floor_of_one_draw_is_by_hand():
    """One draw i has total variation 1 - p_i, with probability p_i."""
    p = torch.tensor([0.7, 0.2, 0.1]).double()
    assert sampling_floor(p, 1) == pytest.approx(0.7 * 0.3 + 0.2 * 0.8 + 0.1 * 0.9)


@pytest.mark.parametrize("n", [50, 4000])
def test_the_floor_is_what_exact_draws_have_on_average(n):
    """2,000 draws of n; the standard error is below 1 % of the floor."""
    p = Exact(ring(3.0), Schedule.vp(15)).tilted().mass
    draws = torch.multinomial(p, 2000 * n, True, generator=gen()).view(2000, n)
    counts = torch.zeros(2000, 8).double().scatter_add_(1, draws, torch.ones(2000, n).double())
    assert sampling_floor(p, n) == pytest.approx((counts / n - p).abs().sum(1).mean().item() / 2, rel=0.03)


# -- guided samples follow q w -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    """(schedule, sampler, K) -> row."""
    rows = convergence(beta=3.0, steps=(10, 100), samples=4000)
    return {(row["schedule"], row["sampler"], row["K"]): row for row in rows}


@pytest.mark.slow
def test_the_table_has_a_row_a_cell(table):
    assert set(table) == {(s, n, K) for s in ("vp", "cosine") for n in SAMPLERS for K in (10, 100)}
    assert {row["floor"] for row in table.values()} == {sampling_floor(Exact(ring(3.0), None).tilted().mass, 4000)}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["vp", "cosine"])
def test_more_steps_come_nearer_to_the_target(table, schedule, sampler):
    """Seen with 20,000 samples, K = 10 and 100: ddpm 0.04 and 0.01, the others on cosine 0.03 and 0.005, on vp 0.02."""
    few, many = table[schedule, sampler, 10], table[schedule, sampler, 100]
    assert few["total_variation"] < 0.07
    assert many["total_variation"] < 3 * many["floor"]
    assert few["distance"] > 0.05
    assert many["distance"] < 0.002


@pytest.mark.parametrize(
    ("sampler", "total", "distance"),
    [("ddpm", 0.0425, 0.09481), ("ddim", 0.0401, 0.08793), ("dpm-solver++", 0.0193, 0.06922)],
)
def test_the_table_at_ten_steps_is_what_it_was(table, sampler, total, distance):
    """On cosine.  A walk may cross from one mode to another by a last bit: two of 4,000 samples."""
    row = table["cosine", sampler, 10]
    assert row["total_variation"] == pytest.approx(total, abs=6e-4)
    assert row["distance"] == pytest.approx(distance, rel=1e-3)


@pytest.mark.training
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("beta", [0, 10, 20])
def test_guided_samples_have_the_modes_of_the_weighted_distribution(beta, sampler):
    """Eight modes on a circle are drawn in proportion to q(a) w(a) (SWG, Theorem 3.5, figure 3)."""
    (row,) = convergence(beta, samplers=[sampler], schedules=["cosine"], steps=[100], samples=4000)
    assert row["total_variation"] < 3 * row["floor"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_without_guidance_the_modes_are_the_datas_own_and_with_it_keep_their_weight(sampler):
    points, schedule = ring(beta=3.0), Schedule.cosine(50)
    for guidance in (None, self_weighted(1.0)):
        options = {"guidance": guidance, "sampler": sampler, "generator": gen(), "dtype": points.dtype}
        z = sample(Exact(points, schedule), schedule, (4000, 3), **options)
        nearest = torch.cdist(z[:, :2], points[:, :2]).argmin(-1)
        assert (z - points[nearest]).norm(dim=1).quantile(0.95) < 1e-3
        if guidance is None:
            uniform = torch.full((8,), 1 / 8)
            assert total_variation(shares(z[:, :2], points), uniform) < 3 * sampling_floor(uniform, 4000)


@pytest.mark.training
def test_what_vp_lacks_is_lost_at_the_start():
    """From N(0, I) deterministic walks miss the target by the same 0.02 for any K; from p_{K-1} itself by nothing."""
    schedule, n = Schedule.vp(50), 30_000
    exact = Exact(ring(3.0), schedule)
    alpha, sigma = schedule.at(49)

    def at_last_step(shape):
        z0 = exact.points[torch.multinomial(exact.tilted().mass, shape[0], True, generator=gen(1))]
        return alpha * z0 + sigma * torch.randn(shape, generator=gen(2), dtype=z0.dtype)

    def error(noise):
        options = {"guidance": self_weighted(1.0), "generator": noise, "dtype": torch.float64}
        z = sample(exact, schedule, (n, 3), sampler="dpm-solver++", **options)
        return total_variation(shares(z[:, :2], exact.points), exact.tilted().mass)

    assert error(gen()) > 2.5 * sampling_floor(exact.tilted().mass, n)
    assert error(at_last_step) < 1.5 * sampling_floor(exact.tilted().mass, n)
