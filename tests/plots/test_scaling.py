"""What `swgctl bench scaling --json` prints, drawn."""

import csv
import json

import pytest
from harness import swgctl

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


def test_what_is_drawn_is_beside_it(file, tmp_path):
    path = swgctl("plot", "scaling", file, "--out", tmp_path / "s.svg").path
    found = list(csv.DictReader(path.with_suffix(".csv").open()))
    assert [(r["what"], r["axis"], float(r["value"]), float(r["steps_per_s"])) for r in found] == [
        (r["what"], r["axis"], r["value"], r["steps_per_s"]) for r in ROWS
    ]


def test_from_standard_input(file, tmp_path):
    from_file = swgctl("plot", "scaling", file, "--out", tmp_path / "a.svg").path.read_bytes()
    read = swgctl("plot", "scaling", "-", "--out", tmp_path / "b.svg", stdin=file.read_text()).path.read_bytes()
    assert read == from_file


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"what": "critic"}', json.dumps(row("batch", 1, 0.0)), json.dumps(row("batch", "x", 1.0))]
)
def test_a_line_that_is_no_measurement_is_named(file, tmp_path, line):
    file.write_text(file.read_text() + line + "\n")
    swgctl("plot", "scaling", file, "--out", tmp_path / "s.png").refused(3, "line 7", "bench.jsonl")
    assert not (tmp_path / "s.png").exists()


def test_a_file_that_is_not_there_or_empty(tmp_path):
    swgctl("plot", "scaling", tmp_path / "no.jsonl").refused(3, "no.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    swgctl("plot", "scaling", tmp_path / "empty.jsonl").refused(3, "empty.jsonl")
