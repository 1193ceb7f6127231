"""Evaluations side by side: a panel a task, what is measured filled, what is quoted hollow."""

from dataclasses import replace

import pytest
from support.fake_evaluations import LATER, evaluation, normal, several
from support.harness import swgctl

from swgctl.evaluation.groups import gather, select
from swgctl.plots.comparison import draw_comparison
from swgctl.store import Store
from swgctl.tasks import get, quoted


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return several(tmp_path_factory.mktemp("several") / "store")


def draw(store, task=None):
    groups = gather(select(Store(store), task=task))
    figure, numbers = draw_comparison(groups)
    return groups, [axes for axes in figure.axes if axes.axison], numbers


def test_there_is_a_panel_for_each_task(store):
    groups, panels, _ = draw(store)
    assert [p.get_title() for p in panels] == list(dict.fromkeys(group.task.name for group in groups))


def test_dots_are_at_the_means_with_their_intervals(store):
    groups, (panel,), numbers = draw(store, "hopper-medium-v2")
    marks = [line for line in panel.lines if len(line.get_xdata()) == 1]
    dots = {(round(float(line.get_xdata()[0]), 9), line.get_markerfacecolor() == "white") for line in marks}
    measured = [cell for group in groups for cell in group.cells if cell["seeds"]]
    assert len([row for row in numbers if not row["quoted"]]) == len(measured) == 6
    for cell in measured:
        assert (round(cell["score_mean"], 9), False) in dots
        assert [list(line.get_xdata()) for line in panel.lines].count(cell["score_ci95"]) == 1
    for method, (score, _) in quoted.scores("hopper-medium-v2").items():
        assert (score, True) in dots, method


def test_quoted_numbers_say_so(store):
    _, (panel,), numbers = draw(store, "hopper-medium-v2")
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels[:5] == [
        "behaviour model, T 1",
        "SWG, rho 5, T 1",
        "SWG, rho 20 (the paper's), T 1",
        "behaviour model, M 8, T 1",
        "SWG-R, rho 20 (the paper's), M 8, T 1",
    ]
    assert labels[5:7] == ["SWG, quoted", "SWG-R, quoted"]
    assert len([row for row in numbers if row["quoted"]]) == len(quoted.scores("hopper-medium-v2"))


def test_groups_of_a_task_are_told_apart_by_what_differs(store):
    _, (panel,), _ = draw(store, "hopper-medium-v2")
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "diffuse.lr = 0.0003",
        "diffuse.lr = 0.0001",
    ]
    _, (panel,), _ = draw(store, "demo")
    assert panel.get_legend() is None


def test_a_protocol_has_its_colour_in_every_panel(tmp_path):
    """Also where a task has no other."""
    for task, lr in (
        ("demo", 1e-3),
        ("hopper-medium-v2", 2e-3),
        ("hopper-medium-v2", 1e-3),
        ("walker2d-medium-v2", 2e-3),
    ):
        evaluation(tmp_path / "store", task, normal([(0.0, 1)], [0]), diffuse_lr=lr)
    _, panels, _ = draw(tmp_path / "store")
    found = {}
    for panel in panels:
        lines = panel.get_legend().get_lines()
        found[panel.get_title()] = {line.get_label(): (line.get_color(), line.get_marker()) for line in lines}
    high, low = "diffuse.lr = 0.002", "diffuse.lr = 0.001"
    assert found["hopper-medium-v2"][low] != found["hopper-medium-v2"][high]
    assert found["demo"] == {low: found["hopper-medium-v2"][low]}
    assert found["walker2d-medium-v2"] == {high: found["hopper-medium-v2"][high]}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"policy": "b"}, ["evaluated first", "evaluated again"]),
        ({"data": "e" * 64}, ["data = dddddddddddddddd", "data = eeeeeeeeeeeeeeee"]),
    ],
)
def test_groups_of_the_same_settings_are_told_apart_too(changed, told, tmp_path):
    for seeds, more in ((1, {}), (2, {"at": LATER, **changed})):
        evaluation(tmp_path / "store", "demo", normal([(0.0, 1)], range(seeds)), **more)
    _, (panel,), _ = draw(tmp_path / "store")
    lines = panel.get_legend().get_lines()
    assert [line.get_label() for line in lines] == told
    assert len({line.get_color() for line in lines}) == 2


def test_a_task_without_scores_has_returns(store):
    _, (panel,), numbers = draw(store, "mine_100")
    assert panel.get_xlabel() == "return"
    assert [row["measure"] for row in numbers] == ["return"]


@pytest.mark.filterwarnings("error")  # of matplotlib, where a legend leaves a panel no room
@pytest.mark.parametrize("first", [None, (0.0, 2000.0)])
def test_groups_of_a_task_share_an_axis(first, tmp_path):
    """Returns, where one of them has no scores; and no quoted score beside them."""
    references = [first, (0.0, 2000.0) if first is None else None]
    made = [
        evaluation(tmp_path / "store", replace(get("hopper-medium-v2"), references=pair), normal([(20.0, 1)], range(2)))
        for pair in references
    ]
    groups, (panel,), numbers = draw(tmp_path / "store")
    assert {group.measure for group in groups} == {"return", "score"}
    assert panel.get_xlabel() == "return"
    wanted = [one.meta["metrics"]["cells"][0]["return_mean"] for one in made]
    assert sorted(row["mean"] for row in numbers) == sorted(wanted)
    assert {(row["measure"], row["quoted"]) for row in numbers} == {("return", False)}
    assert "hollow" not in panel.figure.get_supxlabel()
    swgctl("plot", "compare", "--store", tmp_path / "store").path.unlink()


def test_refusals_are_those_of_the_report(store, tmp_path):
    (critic,) = store.glob("objects/critic/demo/*")
    swgctl("plot", "compare", critic, "--store", store).refused(3, "a critic")
    swgctl("plot", "compare", "--store", tmp_path / "empty").refused(3, "no evaluation")


def test_other_evaluations_are_another_picture(tmp_path):
    """Where no file is named."""
    made = [evaluation(tmp_path / "store", "demo", normal([(0.0, 1)], [0]), diffuse_K=k).path for k in (5, 6, 7)]
    pictures = [swgctl("plot", "compare", made[0], other, "--store", tmp_path / "store").path for other in made[1:]]
    assert len(set(pictures)) == 2
    assert all(picture.is_file() for picture in pictures)


def test_many_groups_keep_to_their_line(tmp_path):
    for i in range(8):
        evaluation(tmp_path / "store", "demo", normal([(0.0, 1), (5.0, 1)], [0]), diffuse_K=10 + i)
    _, (panel,), _ = draw(tmp_path / "store")
    heights = [line.get_ydata()[0] for line in panel.lines if len(line.get_xdata()) == 1]
    assert max(heights[:8]) < 0.5 < min(heights[8:16])
