"""Pictures of one artifact: what they show is what the artifact holds."""

import csv
import json

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file
from support.fake_evaluations import evaluation, normal
from support.harness import flip, swgctl
from support.records import rewrite

from swgctl.plots.artifacts import draw_rho, draw_training
from swgctl.store import Artifact


def numbers(answer) -> list[dict]:
    return list(csv.DictReader(answer.path.with_suffix(".png.csv").open()))


def test_rho_shows_the_evaluations_cells(chain):
    found = numbers(swgctl("plot", "rho", chain.made("eval")))
    cells = json.loads((chain.made("eval") / "summary.json").read_text())["cells"]
    assert [(float(row["rho"]), float(row["return_mean"])) for row in found] == [
        (cell["rho"], cell["return_mean"]) for cell in cells
    ]
    assert [float(row["return_ci95_low"]) for row in found] == [cell["return_ci95"][0] for cell in cells]


def test_lines_of_rho_are_told_by_m_and_temperature(tmp_path):
    """At rho = 0 a line of M = 1 is the behaviour model, elsewhere SWG."""
    figure, _ = draw_rho(
        evaluation(tmp_path / "store", "demo", normal([(r, m) for r in (0.0, 5.0) for m in (1, 8)], [0]))
    )
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["M = 1, T = 1", "M = 8, T = 1", "data, mean episode", "data, best episode"]


def test_several_evaluations_have_a_panel_each_and_one_legend(tmp_path):
    """A line looks the same in each, also where another panel lacks it."""
    tables = {"demo": [(0.0, 8), (5.0, 8)], "local-hopper-medium": [(0.0, 1), (5.0, 1), (0.0, 8), (5.0, 8)]}
    shown = [evaluation(tmp_path / "store", task, normal(cells, [0])) for task, cells in tables.items()]
    figure, numbers = draw_rho(*shown)
    assert [panel.get_title().split("\n")[0] for panel in figure.axes] == list(tables)
    first, second = ({line.get_label(): line.get_color() for line in panel.lines} for panel in figure.axes)
    assert first["M = 8, T = 1"] == second["M = 8, T = 1"] != second["M = 1, T = 1"]
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert sorted(labels) == ["M = 1, T = 1", "M = 8, T = 1", "data, best episode", "data, mean episode"]
    assert [(row["task"], row["rho"], row["candidates"]) for row in numbers] == [
        (task, *cell) for task, cells in tables.items() for cell in cells
    ]


def test_weights_are_shares_of_all_rows(chain):
    found = numbers(swgctl("plot", "weights", chain.made("eval")))
    with h5py.File(chain.made("augment") / "data.hdf5") as file:
        weights = file["weights"][0]
    assert sum(float(row["share"]) for row in found) == pytest.approx(1)
    middle = np.mean([float(row["share"]) * (float(row["from"]) + float(row["to"])) / 2 for row in found]) * len(found)
    assert middle == pytest.approx(weights.mean(), abs=float(found[0]["to"]) - float(found[0]["from"]))


def test_the_weights_of_a_calibration_stand_beside_what_the_policy_knows_of_them(chain):
    words = ("--from", chain.made("diffuse"), "--recipe", chain.recipe)
    guide = swgctl("guide", "calibrated", *words).path
    found = numbers(swgctl("plot", "weights", guide))
    slopes = load_file(guide / "calibration.safetensors")["slope"].flatten().tolist()
    assert [float(row["slope"]) for row in found if row["of"] == "calibration"] == pytest.approx(slopes)
    assert sum(float(row["share"]) for row in found if row["of"] == "data") == pytest.approx(1)
    plain = swgctl("behaviour", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    words = ("--from", plain, "--critic", chain.made("critic"), "--recipe", chain.recipe)
    swgctl("plot", "weights", swgctl("guide", "dps", *words).path).refused(3, "is a guide, made from no augment")


@pytest.mark.parametrize(
    ("ref", "stages"),
    [("eval", ["critic", "diffuse"]), ("augment", ["critic"]), ("diffuse", ["diffuse"]), ("critic", ["critic"])],
)
def test_training_shows_every_logged_number(chain, ref, stages):
    found = numbers(swgctl("plot", "training", chain.made(ref)))
    logged = []
    for stage in stages:
        rows = [json.loads(line) for line in (chain.made(stage) / "metrics.jsonl").read_text().splitlines()]
        names = [name for name, value in rows[0].items() if isinstance(value, list)]
        logged += [(stage, name, row["step"], row[name][0]) for name in names for row in rows]
    assert [(r["stage"], r["name"], int(r["step"]), float(r["value"])) for r in found] == logged


def test_losses_are_on_a_log_scale_and_values_are_not(chain):
    figure, _ = draw_training(Artifact(chain.made("critic")))
    scales = {axes.get_title(): axes.get_yscale() for axes in figure.axes}
    assert scales == {
        "critic: v_loss": "log",
        "critic: q_loss": "log",
        "critic: v": "linear",
        "critic: q": "linear",
    }
    assert {axes.get_xlabel() for axes in figure.axes} == {"gradient steps"}


def test_the_mean_over_the_seeds_is_the_line(chain):
    two = Artifact(chain.critic("--seeds", "0-1").path)
    figure, shown = draw_training(two)
    line = figure.axes[0].lines[0].get_ydata()
    values = [row["value"] for row in shown if row["name"] == "v_loss"]
    assert line == pytest.approx(np.array(values).reshape(-1, 2).mean(1))
    assert "2 seeds" in figure.get_suptitle()


def test_this_shells_last_artifact_is_taken(chain):
    made = chain.critic("--seeds", "3").path
    assert made.name in swgctl("plot", "training").path.name
    assert chain.run("--until", "diffuse").path == chain.made("diffuse")
    assert chain.made("diffuse").name in swgctl("plot", "training").path.name
    assert chain.critic("--seeds", "3").path == made
    assert made.name in swgctl("plot", "training").path.name


def test_what_has_no_such_picture_is_refused(chain):
    swgctl("plot", "training").refused(3, "diffuse or behaviour or guide or critic or toy")
    swgctl("plot", "weights", chain.made("critic")).refused(3, "is a critic, made from no augment")
    swgctl("plot", "rho", chain.made("augment")).refused(3, "is an augmented data set, made from no eval")
    swgctl("plot", "training", "0123").refused(3, "0123")
    flip(chain.made("critic") / "metrics.jsonl")
    swgctl("plot", "training", chain.made("critic")).refused(4, "metrics.jsonl")
    rewrite(chain.made("critic"), lambda record: record["files"].pop("metrics.jsonl"))
    swgctl("plot", "training", chain.made("critic")).refused(4, "it has no file metrics.jsonl")
