"""Scores that are shares of successes: `info["success"]` of any step of an episode, a column of episodes.csv."""

import pytest
import torch
from support.fake_evaluations import evaluation

from swgctl.errors import CorruptError
from swgctl.evaluation import scores
from swgctl.evaluation.groups import gather
from swgctl.evaluation.rollout import roll_out
from swgctl.plots.artifacts import draw_rho
from swgctl.reports import sheets
from swgctl.tasks import Task, get, modules

modules.allow("support.upright:Upright-v0")
TASK = Task("upright", "support.upright:Upright-v0", "file:x", "none", "default", None, 25, score="success")


class Still:
    """A policy without noise and choices: the same action everywhere."""

    seeds, action_dim, device, noise_shape, statistics = [0, 1], 1, torch.device("cpu"), (0,), ()

    def prepare(self, cells):
        assert cells == [{}] * len(cells)
        return lambda observations, noise: (torch.zeros(*observations.shape[:2], 1), {})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_episode_succeeds_where_any_of_its_steps_does(workers, monkeypatch):
    """The pendulum starts anywhere and hangs down: it is above the horizon at some step in some episodes only."""
    monkeypatch.setenv("SWGCTL_WORKERS", workers)
    rows = roll_out(Still(), TASK, [{}], episodes=10, base=0)
    scores.add_scores(rows, TASK)
    assert list(rows[0]) == ["seed", "episode", "return", "length", "success", "score"]
    for row in rows:
        assert row["success"] in (0.0, 1.0)
        assert row["score"] == 100 * row["success"]
    assert 0 < sum(row["success"] for row in rows) < len(rows)


def test_a_report_shows_shares_and_their_interval(tmp_path):
    returns = {(0.0, 1, seed): [0.0] * 4 for seed in range(3)}
    successes = {0: [1, 0, 0, 0], 1: [1, 1, 0, 0], 2: [1, 1, 1, 0]}
    (group,) = gather([evaluation(tmp_path / "store", TASK, returns, successes=successes)])
    (cell,) = group.cells
    assert group.measure == "score"
    assert cell["score_mean"] == pytest.approx(50)
    assert cell["success_share"] == pytest.approx(0.5)


def test_nothing_calls_a_share_of_successes_a_normalised_score(tmp_path):
    store, returns = tmp_path / "store", {(rho, 1, 0): [-9.0] * 4 for rho in (0.0, 1.0)}
    artifact = evaluation(store, TASK, returns, successes={0: [1, 0, 0, 0]})
    (sheet,) = sheets.tasks(gather([artifact]), [])
    assert sheets.conventions([sheet])[-1] == sheets.SUCCESS
    assert not any("D4RL's" in line for line in sheets.conventions([sheet])[:-1])
    figure, _ = draw_rho(artifact)
    (panel,) = figure.axes
    assert panel.get_ylabel() == scores.axis("score", TASK) == "success, %"
    (line,) = panel.get_lines()
    assert list(line.get_ydata()) == [25.0, 25.0]


def test_a_task_says_what_its_score_is_only_where_it_is_no_return():
    assert "score" not in get("demo").to_json()
    assert Task.from_json(TASK.to_json()) == TASK
    with pytest.raises(CorruptError, match="weather"):
        Task.from_json(TASK.to_json() | {"weather": "fine"})
