"""The picture in a page: where its points are, and its rulers."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from support.fake_evaluations import evaluation

from swgctl.evaluation.groups import gather
from swgctl.reports.svg import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, figure, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (41.3, 47.9, [42, 44, 46]),
        (-0.3, 0.4, [-0.2, 0, 0.2, 0.4]),
        (71.04, 71.04, [71.0]),
        (0, 0, [0]),
        (0.0012, 0.0019, [0.0012, 0.0014, 0.0016, 0.0018]),
    ],
)
def test_ticks_are_round_and_few(low, high, expected):
    found = ticks(low, high)
    assert found == pytest.approx(expected)
    assert len(found) <= 6


@pytest.mark.parametrize("scale", [1e-3, 1, 7, 1e5])
def test_there_are_ticks_whatever_the_range(scale):
    for part in range(1, 100):
        low, high = -0.37 * scale * part, 0.61 * scale * part
        found = ticks(low, high)
        assert 2 <= len(found) <= 6
        assert all(low <= tick <= high for tick in found)


def group(tmp_path, returns: dict, task: str = "demo"):
    (found,) = gather([evaluation(tmp_path / "store", task, returns)])
    return found


def test_points_are_where_their_numbers_are(tmp_path):
    """The returns are in a line, so the points are."""
    returns = {(rho, 1, seed): [1000 + 100 * rho] for rho in (0.0, 5.0, 20.0) for seed in (0, 1)}
    picture = ElementTree.fromstring(re.search("<svg.*</svg>", figure(group(tmp_path, returns)), re.S)[0])
    points = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in picture.iter("circle")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=0.001)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.25, abs=0.001)
    assert (y0, y2) == (HEIGHT - BOTTOM, TOP)  # a greater score is higher
    line = picture.find("polyline").get("points")
    assert line == " ".join(f"{x},{y}" for x, y in points)
    assert all(LEFT <= x <= WIDTH for x, _ in points)


def test_the_papers_score_is_a_ring(tmp_path):
    found = figure(group(tmp_path, {(r, 1, 0): [1000.0, 1500.0] for r in (0.0, 5.0)}, "hopper-medium-v2"))
    (ring,) = re.findall(r'<circle class="ring" cx="([\d.]+)"', found)
    assert float(ring) > max(float(x) for x in re.findall(r'<circle cx="([\d.]+)"', found))  # 20 is beyond 5
    assert "quoted: SWG (arXiv 2505.18345 v2), 68.6 at rho = 20" in found


def test_there_is_no_line_of_a_single_rho(tmp_path):
    assert figure(group(tmp_path, {(5.0, m, 0): [1.0, 2.0] for m in (1, 8)})) == ""
