"""Agents beside diffusion policies in one picture."""

from support.fake_evaluations import LATER, agent_evaluation, evaluation, normal

from swgctl.evaluation.groups import gather, select
from swgctl.plots.comparison import draw_comparison
from swgctl.store import Store

TASK = "hopper-medium-v2"


def test_an_agent_is_a_line_of_its_own(tmp_path):
    """Also where several have no rho, M and T."""
    store = tmp_path / "store"
    evaluation(store, TASK, normal([(20.0, 1)], range(2)))
    for of in ("data", "0", "1"):
        agent_evaluation(store, TASK, {0: [900.0], 1: [1000.0]}, of=of)
    groups = gather(select(Store(store)))
    figure, numbers = draw_comparison(groups)
    (panel,) = (axes for axes in figure.axes if axes.axison)
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels[:4] == ["SWG, rho 20 (the paper's), T 1", "TD3+BC", "TD3+BC, guided", "TD3+BC, unguided"]
    assert panel.get_legend() is None  # their names tell them apart
    for row in (row for row in numbers if row["policy"].startswith("TD3+BC") and not row["quoted"]):
        group = next(group for group in groups if group.number == row["group"])
        assert (row["rho"], row["mean"]) == (None, group.cells[0]["score_mean"])


def test_agents_of_two_protocols_are_told_apart(tmp_path):
    for epochs, at in ((4, "2026-01-01T00:00:00Z"), (100, LATER)):
        agent_evaluation(tmp_path / "store", TASK, {0: [900.0]}, of="regenerated", at=at, agent_epochs=epochs)
    figure, _ = draw_comparison(gather(select(Store(tmp_path / "store"))))
    (panel,) = (axes for axes in figure.axes if axes.axison)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["agent.epochs = 4", "agent.epochs = 100"]
