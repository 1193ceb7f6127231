"""The diagnosis of guidance: what its picture shows is what two ways of computing it agree on."""

import csv

import pytest
import torch
from support.harness import swgctl

from swgctl.evaluation.diagnosis import STATES, Diagnosis, M
from swgctl.store import Artifact


def numbers(answer) -> list[dict]:
    return list(csv.DictReader(answer.path.with_suffix(".png.csv").open()))


def test_the_picture_has_every_step_and_every_scale(chain):
    shown = numbers(swgctl("plot", "guidance", chain.made("eval")))
    assert {row["of"] for row in shown if row["at"] == "k"} == {
        "slope", "correlation", "within_slope", "within_correlation"
    }  # fmt: skip
    assert sorted(int(row["x"]) for row in shown if row["of"] == "slope") == [0, 1, 2]
    assert [float(row["x"]) for row in shown if row["of"] == "reached"] == [0, 1, 2, 5, 10, 20]
    correlations = [float(row["value"]) for row in shown if "correlation" in row["of"]]
    assert all(-1 <= value <= 1 for value in correlations)


def test_its_correlations_are_those_of_the_calibration(chain):
    """Over 400 rows, once with other noise and other draws of the rows."""
    words = ("guide", "calibrated", "--from", chain.made("diffuse"), "--recipe", chain.recipe, "--json")
    recorded = swgctl(*words).json["metrics"]["calibration"]["correlation"]
    knowledge = Diagnosis(Artifact(chain.made("diffuse"))).knowledge()
    assert knowledge["correlation"].mean(0).tolist() == pytest.approx(recorded, abs=0.2)


def test_the_target_without_guidance_is_the_mean_of_the_candidates_and_grows_with_rho(chain):
    diagnosis = Diagnosis(Artifact(chain.made("diffuse")))
    actions, advantages = diagnosis.candidates
    assert actions.shape == (1, min(STATES, 400), M, 1)
    rows = diagnosis.reach([0.0, 1.0, 50.0])
    torch.testing.assert_close(rows[0]["target"], advantages.double().mean((1, 2)))
    assert rows[0]["target"] < rows[1]["target"] < rows[2]["target"] <= advantages.amax(-1).mean().double()
    assert rows[0]["reached"].item() == pytest.approx(rows[0]["target"].item(), abs=4 * advantages.std().item() / 16)


def test_a_policy_without_a_weight_is_refused(chain):
    plain = swgctl("behaviour", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    swgctl("plot", "guidance", plain).refused(3, "without a joint policy")
    swgctl("plot", "guidance", chain.made("critic")).refused(3, "a critic, without a joint policy")
    words = ("--from", plain, "--critic", chain.made("critic"), "--recipe", chain.recipe)
    guide = swgctl("guide", "dps", *words).path
    swgctl("plot", "guidance", guide).refused(3, "has no joint policy")
