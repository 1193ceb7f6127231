"""Agents by the data that they learnt from, in one picture."""

import csv

import numpy as np
import pytest
from support.fake_evaluations import agent_evaluation, evaluation, normal
from support.harness import swgctl

from swgctl.evaluation.groups import gather, select
from swgctl.plots.agents import CONTINUOUS, behaviour_of, by_kind, draw_synthetic
from swgctl.store import Store
from swgctl.tasks import get, normalized_score

HALFCHEETAH, HOPPER = "halfcheetah-medium-v2", "hopper-medium-v2"
DATA, GUIDED = [1000.0, 1200.0, 1700.0], [2000.0, 2300.0]


@pytest.fixture
def made(tmp_path):
    """made(levels, task, **changed): an evaluation of an agent, by seed one episode of each level."""
    return lambda levels, task=HALFCHEETAH, **changed: agent_evaluation(
        tmp_path / "store", task, {seed: [level] for seed, level in enumerate(levels)}, **changed
    )


def rows_of(path) -> list[dict]:
    return list(csv.DictReader(path.with_suffix(".png.csv").open()))


def test_bars_are_means_of_the_cells_with_their_standard_errors(made):
    made(DATA)
    made(DATA, task=HOPPER)
    made(GUIDED, of="1")
    made(GUIDED, task=HOPPER, of="regenerated")
    rows = rows_of(swgctl("plot", "synthetic").path)
    scores = {
        (task, kind): normalized_score(get(task), np.array(levels))
        for task in (HALFCHEETAH, HOPPER)
        for kind, levels in (("data", DATA), ("guided", GUIDED))
    }
    error = {place: one.std(ddof=1) / np.sqrt(len(one)) for place, one in scores.items()}
    for row in rows:
        inside = [HALFCHEETAH, HOPPER] if row["by"] == "behaviour policy" else [f"{row['place'].lower()}-medium-v2"]
        places = [(task, row["learnt_from"]) for task in inside]
        assert float(row["score_mean"]) == pytest.approx(np.mean([scores[place].mean() for place in places]))
        expected = np.sqrt(np.sum([error[place] ** 2 for place in places])) / len(places)
        assert float(row["score_se"]) == pytest.approx(expected)
    places = [(row["by"], row["place"]) for row in rows]
    expected = [("environment", "HalfCheetah"), ("environment", "Hopper"), ("behaviour policy", "medium")]
    assert list(dict.fromkeys(places)) == expected


def test_a_bar_is_a_mean_over_all_cells_of_its_place_or_none(made, tmp_path):
    made(DATA)
    made(DATA, algo="iql")
    made(GUIDED, of="0")
    figure, numbers = draw_synthetic(by_kind(gather(select(Store(tmp_path / "store")))))
    data, unguided = (row for row in numbers if row["by"] == "environment")
    assert (data["cells"], data["of"]) == (2, 2)
    scores = normalized_score(get(HALFCHEETAH), np.array(DATA))  # of either algorithm, seed by seed
    assert data["score_se"] == pytest.approx(scores.std(ddof=1) / np.sqrt(3))
    assert (unguided["cells"], unguided["of"], unguided["score_mean"]) == (1, 2, None)
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["1 of 2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["data", "unguided"]


def test_regeneration_with_several_sets_in_use_is_continuous(made, tmp_path):
    made(GUIDED, of="regenerated")
    made(GUIDED, of="regenerated", agent_keep=10)
    made(GUIDED, of="dynamics")
    (kinds,) = by_kind(gather(select(Store(tmp_path / "store")))).values()
    assert set(kinds) == {"guided", CONTINUOUS}


def test_the_group_of_most_seeds_is_drawn_and_one_seed_has_no_error(made, tmp_path):
    made([50.0], agent_steps=4)
    made(DATA)
    made([50.0], task=HOPPER)
    cells = by_kind(gather(select(Store(tmp_path / "store"))))
    assert [len(kinds["data"].seeds) for kinds in cells.values()] == [3, 1]
    _, numbers = draw_synthetic(cells)
    assert [row["score_se"] is None for row in numbers] == [False, True, True]


@pytest.mark.parametrize(
    ("task", "behaviour"),
    [
        ("halfcheetah-medium-replay-v2", "medium-replay"),
        ("local-hopper-medium", "medium"),
        ("maze2d-umaze-v1", "umaze"),
        ("demo", "demo"),
    ],
)
def test_behaviour_is_what_a_name_says_beside_the_environment(task, behaviour):
    assert behaviour_of(task) == behaviour


def test_what_is_no_evaluation_of_an_agent_is_refused(made, tmp_path):
    swgctl("plot", "synthetic").refused(3, "has no evaluation")
    diffusion = evaluation(tmp_path / "store", HOPPER, normal([(0.0, 1)], [0]))
    swgctl("plot", "synthetic").refused(3, "none of the 1 evaluations is of an agent")
    swgctl("plot", "synthetic", diffusion.parent("diffuse").id).refused(3, "is a policy (diffuse)")
