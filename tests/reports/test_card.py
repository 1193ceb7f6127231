"""The model card: what a reader needs to judge and load a policy, from the numbers of its evaluations."""

import pytest
import yaml
from support.fake_evaluations import agent_evaluation, evaluation, normal

from swgctl.evaluation.groups import gather
from swgctl.reports.remote import card


def test_a_card_has_the_scores_with_their_intervals_and_the_protocol(tmp_path):
    one = evaluation(tmp_path, "hopper-medium-v2", normal([(0.0, 1), (5.0, 1), (5.0, 8)], range(3)))
    text = card("hf://me/hopper", [one], "mit")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "mit"
    assert head["library_name"] == "swgctl"
    (group,) = gather([one])
    for cell in group.cells:
        if cell["seeds"]:
            low, high = cell["score_ci95"]
            assert f"| {cell['score_mean']:.1f} | {low:.1f} to {high:.1f} | seeds | 3 | 20 | {cell['policy']} |" in text
    policy = one.parent("diffuse")
    assert f'swgctl.load_policy("hf://me/hopper#{policy.id}")' in text
    assert all(f"{name}: " in text for name in group.settings)
    for ancestor in policy.ancestors().values():
        assert f"{ancestor.stage} `{ancestor.id}`" in text
    assert "d4rl:" in text


def test_a_policy_without_an_evaluation_and_what_is_no_policy(tmp_path):
    one = evaluation(tmp_path, "demo", normal([(0.0, 1)], [0]))
    policy = one.parent("diffuse")
    assert "No evaluation was pushed with it." in card("hf://me/x", [policy], "unknown")
    assert card("hf://me/x", [policy.parent("augment")], "unknown") is None


def test_cells_that_differ_in_temperature_are_told_apart(tmp_path):
    one = evaluation(tmp_path, "hopper-medium-v2", normal([(5.0, 1), (5.0, 8)], [0]))
    rows = [line.strip("| ").split(" | ") for line in card("hf://me/x", [one], "mit").splitlines() if line[:2] == "| "]
    assert rows[0][-4:] == ["policy", "rho", "M", "T"]
    assert [row[-4:] for row in rows[1:]] == [["SWG", "5", "1", "1"], ["SWG-R", "5", "8", "1"]]


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("data", "TD3+BC"),
        ("regenerated", "TD3+BC, guided"),
        ("0", "TD3+BC, unguided"),
        ("dynamics", "TD3+BC, dynamics model"),
    ],
)
def test_an_agent_without_an_evaluation_is_named_as_one_with_it(of, name, tmp_path):
    one = agent_evaluation(tmp_path, "hopper-medium-v2", {0: [1000.0, 1200.0]}, of=of)
    for pushed in (one, one.parent("agent")):
        assert f"- method: {name}\n" in card("hf://me/x", [pushed], "mit")


def test_an_agent_is_evaluated_rather_than_loaded(tmp_path):
    one = agent_evaluation(tmp_path, "hopper-medium-v2", {0: [1000.0, 1200.0], 1: [900.0, 950.0]})
    text = card("hf://me/agent", [one], "mit")
    assert "load_policy" not in text
    assert f"swgctl eval --from 'hf://me/agent#{one.parent('agent').id}'" in text
    assert "TD3+BC" in text


def test_what_a_name_holds_is_text(tmp_path):
    one = evaluation(tmp_path, "demo", normal([(0.0, 1)], [0]), diffuse_note="```\n<script>| x")
    text = card("hf://me/x", [one], "<b>|mine")
    assert "<script>" not in text.replace("```text", "").split("<details>")[0]
    assert text.count("```") == 4  # two blocks
    assert "&lt;b>\\|mine" in text
