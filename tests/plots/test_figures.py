"""How pictures are written: formats, bytes, the numbers beside them, and refusals that leave nothing behind."""

import csv

import pytest
from support.fake_evaluations import several
from support.harness import swgctl

from swgctl.plots.figures import short, style

PLOTS = ("rho", "training", "compare")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return several(tmp_path_factory.mktemp("several") / "store")


@pytest.fixture
def plot(store):
    """plot(kind, *args) of that store's demo."""
    (demo,) = store.glob("objects/eval/demo/*")
    return lambda kind, *args: swgctl("plot", kind, demo, "--store", store, *args)


@pytest.mark.training  # of pictures, twelve of them
@pytest.mark.parametrize("kind", PLOTS)
@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes(plot, kind, form, tmp_path, monkeypatch):
    first, second = tmp_path / f"a.{form}", tmp_path / "b" / f"a.{form}"
    assert plot(kind, "--out", first).path == first
    monkeypatch.setenv("MPLBACKEND", "svg")
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    assert plot(kind, "--out", second).path == second
    assert first.read_bytes() == second.read_bytes()
    numbers = [path.with_name(f"{path.name}.csv").read_bytes() for path in (first, second)]
    assert numbers[0] == numbers[1]
    assert first.read_bytes()[:8] == (b"\x89PNG\r\n\x1a\n" if form == "png" else b"<?xml ve")


@pytest.mark.parametrize("kind", PLOTS)
def test_the_store_keeps_what_is_not_sent_elsewhere(plot, kind, store):
    answer = plot(kind)
    assert answer.path.parent == store / "plots"
    assert answer.path.suffix == ".png"
    numbers = answer.path.with_suffix(".png.csv")
    assert str(numbers) in answer.err
    assert len(list(csv.DictReader(numbers.open()))) > 2


@pytest.mark.parametrize("kind", PLOTS)
def test_another_format_is_refused_before_anything_is_written(plot, kind, tmp_path):
    plot(kind, "--out", tmp_path / "picture.pdf").refused(2, "picture.pdf", ".png")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_nothing_is(plot):
    plot("rho", "--out", "/proc/nowhere/picture.png").refused(1, "/proc/nowhere/picture.png")


@pytest.mark.parametrize("taken", ["picture.png", "picture.png.csv"])
def test_what_cannot_be_written_is_named(plot, taken, tmp_path):
    (tmp_path / taken).mkdir()
    plot("rho", "--out", tmp_path / "picture.png").refused(1, f"{taken} cannot be written")
    assert not (tmp_path / "picture.png").is_file()


def test_a_report_of_the_pictures_name_stays(plot, tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    plot("rho", "--out", tmp_path / "results.png")
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_the_styles_of_as_many_lines_as_anyone_draws_differ():
    styles = {tuple(style(i).values()) for i in range(36)}
    assert len(styles) == 36


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1024, "1024"), (9999, "9999"), (10_000, "10k"), (250_000, "250k"), (1.5e6, "1.5M")]
)
def test_labels_of_ticks(value, text):
    assert short(value) == text
