"""Intervals and cells against cases by hand."""

from dataclasses import replace

import numpy as np
import pytest

from swgctl.config import methods
from swgctl.evaluation.scores import add_scores, cells, order, statistics
from swgctl.tasks import get, normalized_score


def rows(returns: dict[tuple, list[float]], clamped=0.0) -> list[dict]:
    """Rows of (seed, rho, candidates) -> the returns of its episodes."""
    return [
        {
            "seed": s,
            "rho": rho,
            "candidates": m,
            "temperature": 1.0,
            "episode": e,
            "return": r,
            "length": 10,
            "clamped": clamped,
            "score": None,
        }
        for (s, rho, m), values in returns.items()
        for e, r in enumerate(values)
    ]


# -- the interval ------------------------------------------------------------------------------------------------------


def interval(groups: list[np.ndarray]) -> tuple[float, ...]:
    return tuple(statistics(groups)["ci95"])


def test_two_seeds_span_their_interval():
    """Means of two picks of {0, 1} are 0, 1/2, 1 with 1/4, 1/2, 1/4: both tails are beyond 2.5 %."""
    assert interval([np.array([0.0]), np.array([1.0])]) == (0.0, 1.0)


@pytest.mark.parametrize(("seeds", "share"), [(5, 0.83), (10, 0.91)])
def test_how_often_it_holds_the_mean_is_what_reports_say(seeds, share):
    """Of normal seeds.  Few of them give an interval that is too narrow, as any percentile bootstrap's."""
    random = np.random.default_rng(0)
    found = [interval(list(random.normal(size=(seeds, 1)))) for _ in range(600)]
    assert np.mean([low <= 0 <= high for low, high in found]) == pytest.approx(share, abs=0.035)


def test_of_five_seeds_one_of_which_is_off():
    """The number of picks of the one is binomial(5, 1/5): 0 has 33 %, 3 and more 5.8 %, 4 and more 0.7 %."""
    groups = [np.array([x]) for x in (0.0, 0.0, 0.0, 0.0, 1.0)]
    assert interval(groups) == (0.0, pytest.approx(0.6))


def test_over_seeds_only_their_means_count():
    spread, tight = [np.array([-9.0, 11.0]), np.array([0.0, 4.0])], [np.array([1.0]), np.array([2.0])]
    assert interval(spread) == interval(tight)


def test_of_one_seed_the_episodes_count_as_the_normal_law_says():
    """Of 400 values the bootstrap is close to mean +- 1.96 sd / sqrt(400)."""
    values = np.random.Generator(np.random.PCG64(1)).normal(50, 8, 400)
    half = 1.96 * values.std() / 20
    assert interval([values]) == (
        pytest.approx(values.mean() - half, abs=0.06 * half),
        pytest.approx(values.mean() + half, abs=0.06 * half),
    )


def test_it_moves_and_stretches_with_the_values():
    """100 (R - random) / (expert - random) of the interval is the interval of the scores."""
    values = np.random.Generator(np.random.PCG64(2)).normal(size=30)
    low, high = interval([values])
    assert interval([5 * values + 3]) == (pytest.approx(5 * low + 3), pytest.approx(5 * high + 3))


def test_it_repeats_and_holds_the_mean():
    values = np.random.Generator(np.random.PCG64(3)).normal(size=20)
    assert interval([values]) == interval([values])
    low, high = interval([values])
    assert low < values.mean() < high


def test_one_value_is_its_own_interval():
    assert interval([np.array([7.0])]) == (7.0, 7.0)


# -- cells -------------------------------------------------------------------------------------------------------------


def test_cells_are_means_over_seeds_of_means_over_episodes():
    table = rows({(0, 0.0, 1): [1.0, 3.0], (1, 0.0, 1): [5.0, 9.0], (0, 5.0, 1): [10.0, 10.0], (1, 5.0, 1): [0.0, 0.0]})
    first, second = cells(table, "ddpm")
    assert (first["rho"], first["candidates"], first["episodes"], first["seeds"]) == (0.0, 1, 2, 2)
    assert (first["return_mean"], second["return_mean"]) == (4.5, 5.0)
    assert (first["return_ci95"], second["return_ci95"]) == ([2.0, 7.0], [0.0, 10.0])
    assert first["interval_over"] == "seeds"
    assert (first["score_mean"], first["score_ci95"]) == (None, None)
    assert (first["sampler"], first["temperature"]) == ("ddpm", 1.0)


def test_every_cell_is_there_in_the_tables_order():
    order = [(5.0, 1), (0.0, 1), (5.0, 4), (0.0, 4)]
    found = cells(rows({(0, rho, m): [1.0, 2.0] for rho, m in order}), "ddpm")
    assert [(cell["rho"], cell["candidates"]) for cell in found] == order
    assert all(cell["interval_over"] == "episodes" for cell in found)


def test_places_without_numbers_are_the_last():
    """Those of agents, which have no temperature, M and rho."""
    places = [(None, None, None), (1.0, 8, 0.0), (0.0, 1, 5.0), (1.0, 1, 20.0)]
    assert sorted(places, key=order) == [(0.0, 1, 5.0), (1.0, 1, 20.0), (1.0, 8, 0.0), (None, None, None)]


def test_clamped_shares_are_averaged():
    table = rows({(0, 5.0, 1): [1.0]}, clamped=0.1) + rows({(1, 5.0, 1): [1.0]}, clamped=0.3)
    assert cells(table, "ddpm")[0]["clamped_share"] == pytest.approx(0.2)


def test_what_a_cell_is_called():
    names = {(0.0, 1): "behaviour model", (0.0, 8): "behaviour model, resampled", (5.0, 1): "SWG", (5.0, 8): "SWG-R"}
    for (rho, m), name in names.items():
        assert methods()["swg"].policy({"rho": rho, "candidates": m}) == name


# -- statistics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("means", "iqm"),
    [
        ([7.0], 7.0),
        ([0.0, 10.0, 50.0], 20.0),  # of three none is cut
        ([-90.0, 1.0, 3.0, 100.0], 2.0),
        ([100.0, 1.0, 2.0, 6.0, -100.0], 3.0),  # of five one at each end
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0], 2.5),
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(means, iqm):
    assert statistics([np.array([m - 1, m + 1]) for m in means])["iqm"] == pytest.approx(iqm)


def test_the_standard_deviation_is_over_the_seeds_with_n_minus_1():
    assert statistics([np.array([0.0, 2.0]), np.array([4.0, 6.0])])["sd"] == pytest.approx(8**0.5)
    assert statistics([np.array([0.0, 2.0])])["sd"] is None


def test_a_family_is_the_mean_of_its_tasks_however_many_seeds_each_has():
    one, two = [np.array([0.0]), np.array([4.0])], [np.array([10.0]), np.array([20.0]), np.array([60.0])]
    found = statistics(one, two)
    assert found["mean"] == pytest.approx((2 + 30) / 2)
    assert found["iqm"] == pytest.approx((4 + 10 + 20) / 3)  # of five runs
    assert found["sd"] is None


def test_a_familys_seeds_are_drawn_task_by_task():
    """Drawn alike, the tasks' means would sum to 1 each time; drawn apart, all four corners have 1/16 and more."""
    assert statistics([np.array([0.0]), np.array([1.0])], [np.array([1.0]), np.array([0.0])])["ci95"] == [0.0, 1.0]


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "random", "expert"),
    [
        ("halfcheetah-medium-v2", -280.178953, 12135.0),
        ("hopper-medium-v2", -20.272305, 3234.3),
        ("walker2d-medium-v2", 1.629008, 4592.3),
    ],
)
def test_a_random_policy_scores_zero_and_an_expert_a_hundred(name, random, expert):
    """D4RL's references."""
    task = get(name)
    assert normalized_score(task, random) == pytest.approx(0, abs=1e-9)
    assert normalized_score(task, expert) == pytest.approx(100)
    assert normalized_score(task, (random + expert) / 2) == pytest.approx(50)


def test_scores_of_cells_are_the_scores_of_their_returns():
    task = get("hopper-medium-v2")
    table = rows({(0, 0.0, 1): [100.0, 300.0], (1, 0.0, 1): [1000.0, 2000.0]})
    add_scores(table, task)
    cell = cells(table, "ddpm")[0]
    assert cell["score_mean"] == pytest.approx(normalized_score(task, cell["return_mean"]))
    assert cell["score_ci95"] == pytest.approx([normalized_score(task, r) for r in cell["return_ci95"]])


def test_a_task_without_references_has_no_scores():
    table = rows({(0, 0.0, 1): [100.0]})
    add_scores(table, replace(get("demo"), references=None))
    assert table[0]["score"] is None
