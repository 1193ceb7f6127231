"""What `swgctl bench scaling --json` prints, drawn."""

import csv
import itertools
import json

import pytest
from support.harness import swgctl

from swgctl.plots.scaling import draw_scaling, read_measurements


def row(axis: str, value: float, rate: float, **more) -> dict:
    usual = {"what": "critic", "mode": "compiled", "precision": "high", "device": "cpu", "seed_steps_per_s": rate}
    return usual | {"axis": axis, "value": value, "steps_per_s": rate} | more


ROWS = [
    *(row("batch", value, rate) for value, rate in ((1024, 100.0), (256, 400.0))),
    row("batch", 256, 200.0, mode="eager"),
    *(row("seeds", n, 500.0 / n, seed_steps_per_s=500.0 + n) for n in (1, 5)),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bench.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
    return path


def test_a_panel_for_each_axis_a_line_for_each_way(file):
    figure, _ = draw_scaling(read_measurements(str(file)))
    batch, seeds = figure.axes
    assert [line.get_label() for line in batch.lines] == ["compiled", "eager"]
    assert list(batch.lines[0].get_xdata()) == [256, 1024]  # sorted
    assert list(batch.lines[0].get_ydata()) == [400, 100]
    assert list(seeds.lines[0].get_ydata()) == [501, 505]  # of all seeds together
    assert (batch.get_ylabel(), seeds.get_ylabel()) == ("steps / s", "seeds x steps / s")
    assert batch.get_xlabel() == "rows a step"
    assert [text.get_text() for text in batch.get_xticklabels()] == ["256", "1024"]


TIMES = [
    row("depth", n, 1e3 / ms, what="inference", guidance=name, seconds_mean=ms / 1e3, seconds_sd=sd / 1e3, runs=9)
    for name, times in {"none": [(1, 10, 1), (2, 20, 2)], "guided": [(1, 15, 9), (2, 40, 1)]}.items()
    for n, ms, sd in times
]


def test_the_time_of_an_action_has_a_band_of_two_standard_deviations():
    figure, numbers = draw_scaling(TIMES)
    (place,) = figure.axes
    assert [line.get_label() for line in place.lines] == ["none", "guided"]
    assert place.get_legend().get_title().get_text() == "guidance"
    assert list(place.lines[1].get_ydata()) == [15, 40]
    assert place.get_ylabel().startswith("ms / action")
    none, guided = (band.get_paths()[0].vertices for band in place.collections)
    assert {(1, 8), (1, 12), (2, 16), (2, 24)} == set(map(tuple, none.round(9)))
    assert {(1, -3), (1, 33), (2, 38), (2, 42)} == set(map(tuple, guided.round(9)))
    assert [(r["seconds_mean"], r["seconds_sd"], r["runs"]) for r in numbers] == [
        (r["seconds_mean"], r["seconds_sd"], 9) for r in TIMES
    ]


def test_rates_and_times_have_panels_of_their_own():
    """A band below zero leaves a logarithmic axis as it is."""
    wide = [r | {"axis": "batch"} for r in TIMES]
    figure, _ = draw_scaling([*ROWS, *wide])
    assert [place.get_ylabel() for place in figure.axes[:3]] == [
        "steps / s",
        "seeds x steps / s",
        "ms / action, mean ± 2 sd",
    ]
    low, high = figure.axes[2].get_ylim()
    assert 1 < low < 10
    assert 40 < high < 100
    assert [line.get_label() for line in figure.axes[2].lines] == [
        "inference, compiled, none",
        "inference, compiled, guided",
    ]


@pytest.mark.parametrize("reach", [2, 10, 50, 500, 5e3, 5e5])
def test_labels_of_rates_do_not_overlap(reach):
    """Few or many, however far they reach."""
    figure, _ = draw_scaling([row("batch", 1, 3.0), row("batch", 2, 3.0 * reach)])
    figure.draw_without_rendering()
    place = figure.axes[0]
    low, high = place.get_ylim()
    labels = [t.label1 for t in place.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    heights = sorted((box.y0, box.y1) for box in (label.get_window_extent() for label in labels))
    assert len(heights) >= 3
    assert all(below[1] < above[0] for below, above in itertools.pairwise(heights))


def test_what_is_drawn_is_beside_it(file, tmp_path):
    path = swgctl("plot", "scaling", file, "--out", tmp_path / "s.svg").path
    found = list(csv.DictReader(path.with_suffix(".svg.csv").open()))
    assert [(r["what"], r["axis"], float(r["value"]), float(r["steps_per_s"])) for r in found] == [
        (r["what"], r["axis"], r["value"], r["steps_per_s"]) for r in ROWS
    ]


def test_from_standard_input(file, tmp_path):
    from_file = swgctl("plot", "scaling", file, "--out", tmp_path / "a.svg").path.read_bytes()
    read = swgctl("plot", "scaling", "-", "--out", tmp_path / "b.svg", stdin=file.read_text()).path.read_bytes()
    assert read == from_file


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '{"what": "critic"}',
        json.dumps(row("batch", 1, 0.0)),
        json.dumps(row("batch", "x", 1.0)),
        json.dumps(row("batch", 1, float("inf"))),
        json.dumps(row("batch", 1, 1.0, peak_bytes=float("nan"))),
        *(json.dumps(TIMES[0] | {name: value}) for name, value in (("seconds_mean", 0), ("seconds_sd", None))),
    ],
)
def test_a_line_that_is_no_measurement_is_named(file, tmp_path, line):
    file.write_text(file.read_text() + line + "\n")
    swgctl("plot", "scaling", file, "--out", tmp_path / "s.png").refused(3, "line 7", "bench.jsonl")
    assert not (tmp_path / "s.png").exists()


def test_a_file_that_is_not_there_or_empty(tmp_path):
    swgctl("plot", "scaling", tmp_path / "no.jsonl").refused(3, "no.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    swgctl("plot", "scaling", tmp_path / "empty.jsonl").refused(3, "empty.jsonl")
