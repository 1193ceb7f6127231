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
    assert rows[0]["reached"].item() == pytest.approx(
        rows[0]["target"].item(), abs=4 * advantages.std().item() / STATES**0.5
    )


def test_the_number_of_candidates_that_a_target_rests_on_falls_with_the_scale(chain):
    """By hand at rho = 1; without guidance all count alike, at a great scale the best, which may be several."""
    diagnosis = Diagnosis(Artifact(chain.made("diffuse")))
    none, one, most = (row["effective"].item() for row in diagnosis.reach([0.0, 1.0, 1e4]))
    weights = diagnosis.weigh(diagnosis.candidates[1]).double()
    assert one == pytest.approx((weights.sum(-1) ** 2 / weights.square().sum(-1)).mean().item())
    assert none == pytest.approx(M)
    assert none > one > most >= 1


def test_what_is_known_is_of_the_weight_that_the_model_learnt_whatever_guides_it(chain):
    """A guide by another weight, on the same denoiser: its channel is the expectile's, and so is what it knows."""
    joint = chain.made("diffuse")
    words = ("guide", "dps", "--from", joint, "--weight", "exponential", "--recipe", chain.recipe)
    of_guide, of_joint = (Diagnosis(Artifact(path)) for path in (swgctl(*words).path, joint))
    expected = of_joint.knowledge()
    for name, values in of_guide.knowledge().items():
        torch.testing.assert_close(values, expected[name])
    assert of_guide.reach([1.0])[0]["target"] != of_joint.reach([1.0])[0]["target"]


def test_a_policy_without_a_weight_is_refused(chain):
    plain = swgctl("behaviour", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    swgctl("plot", "guidance", plain).refused(3, "without a joint policy")
    swgctl("plot", "guidance", chain.made("critic")).refused(3, "a critic, without a joint policy")
    words = ("--from", plain, "--critic", chain.made("critic"), "--recipe", chain.recipe)
    guide = swgctl("guide", "dps", *words).path
    swgctl("plot", "guidance", guide).refused(3, "has no joint policy")
