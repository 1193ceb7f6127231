"""Guidances side by side, and AEPO's posterior variances: pictures show what the rows and the tensors hold."""

import csv

import numpy as np
from support.guidances import row, rows
from support.harness import swgctl

from swgctl.files import load_tensors
from swgctl.plots.artifacts import draw_posterior
from swgctl.plots.guidances import compare, draw_guidances
from swgctl.store import Artifact, Store

QUICK = ("guide.steps=5", "guide.hidden=[16]", "guide.batch=32", "guide.moments=256")


def lines_of(panel) -> list[np.ndarray]:
    """The values of the guided policies' lines."""
    return [container.lines[0].get_ydata() for container in panel.containers]


def test_a_line_has_the_means_and_their_intervals():
    table = rows()
    figure, numbers = draw_guidances(table)
    assert numbers == table
    (panel,) = figure.axes
    np.testing.assert_array_equal(lines_of(panel), [[10, 40], [11, 41]])
    (bars,) = panel.containers[0].lines[2]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[8, 11], [38, 41]])
    levels = [line.get_ydata()[0] for line in panel.lines if line.get_xdata()[0] == 0]
    assert levels == [10, 20]
    assert list(panel.get_xticks()) == [1, 4]


def test_a_dash_says_where_the_critic_is_asked():
    figure, _ = draw_guidances([*rows(), row("swg", 1.0, 7.0, candidates=8)])
    dashes = [container.lines[0].get_linestyle() for container in figure.axes[0].containers]
    assert dashes == ["-", ":", "--"]
    swg, _, resampled = (container.lines[0] for container in figure.axes[0].containers)
    assert swg.get_color() == resampled.get_color()
    assert (resampled.get_markerfacecolor(), swg.get_markerfacecolor()) == ("white", swg.get_color())


def test_a_temperature_is_a_panel_and_the_legend_names_a_policy_once():
    figure, _ = draw_guidances([*rows(), *rows(temperature=0.5)])
    assert [axes.get_title() or axes.get_title("left") for axes in figure.axes] == ["demo, T = 0.5", "demo, T = 1"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["behaviour model", "behaviour model, resampled, M = 8", "SWG", "DPS"]


def test_the_csv_has_every_row(tmp_path):
    path = compare(Store(tmp_path), rows())
    drawn = list(csv.DictReader(path.with_suffix(".png.csv").open()))
    for shown, one in zip(drawn, rows(), strict=True):
        assert (shown["method"], float(shown["rho"]), float(shown["score_mean"])) == (
            one["method"],
            one["rho"],
            one["score_mean"],
        )
        assert [float(shown["score_ci95_low"]), float(shown["score_ci95_high"])] == one["score_ci95"]


# -- posterior variances -----------------------------------------------------------------------------------------------


def test_posterior_shows_the_tensors(chain):
    quick = [word for text in QUICK for word in ("--set", text)]
    guide = Artifact(swgctl("guide", "aepo", "--from", chain.made("diffuse"), *quick).path)
    answer = swgctl("plot", "posterior")
    shown = list(csv.DictReader(answer.path.with_suffix(".png.csv").open()))
    tensors = load_tensors(guide.file("energy.safetensors"))
    assert tensors["posterior"].shape == (1, 3, 3)  # one seed, three estimates, K = 3
    for i in range(3):
        assert [float(line[f"posterior_{i + 1}"]) for line in shown] == tensors["posterior"][0, i].tolist()
    assert [float(line["in_use"]) for line in shown] == tensors["variance"][0].tolist()
    figure, _ = draw_posterior(guide)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels[0] == "posterior 1, equation 22"
    assert labels[-1] == "in use: posterior 1, clipped"


def test_posterior_is_of_aepo_alone(chain):
    guide = swgctl("guide", "dps", "--from", chain.made("diffuse")).path
    answer = swgctl("plot", "posterior", guide)
    answer.refused(3, "guides by dps")
    assert answer.helps == ["swgctl guide aepo"]
    swgctl("plot", "posterior", chain.made("critic")).refused(3, "made from no guide")
