"""Agents of one algorithm by the data that they learnt from."""

import pytest
from support.fake_evaluations import agent_evaluation, evaluation, normal

from swgctl.evaluation.agents import by_data
from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather
from swgctl.tasks import get, normalized_score, quoted

TASK = "halfcheetah-medium-v2"


@pytest.fixture
def made(tmp_path):
    """made(levels, **changed): an evaluation of an agent, by seed one episode of each level."""
    return lambda levels, task=TASK, **changed: agent_evaluation(
        tmp_path / "store", task, {seed: [level] for seed, level in enumerate(levels)}, **changed
    )


def test_differences_from_the_data_and_their_p(made):
    (agents,) = by_data(gather([made([1.0, 2, 3, 4]), made([11.0, 12, 13, 14], of="1"), made([2.0, 3, 1, 4], of="0")]))
    difference, p = agents.against_data("guided")
    unit = normalized_score(get(TASK), 10.0) - normalized_score(get(TASK), 0.0)
    assert (difference, p) == (pytest.approx(unit), pytest.approx(2 / 70))
    assert agents.against_data("unguided") == (pytest.approx(0.0), 1.0)
    assert agents.against_data("data") is None


def test_two_kinds_of_one_algorithm_make_a_comparison(made, tmp_path):
    diffusion = evaluation(tmp_path / "store", TASK, normal([(0.0, 1)], [0]))
    groups = gather([diffusion, made([1.0]), made([1.0], algo="iql", of="1"), made([1.0], of="dynamics")])
    assert by_data(groups) == []
    groups = gather(
        [*(one for group in groups for one in group.evaluations), made([2.0], algo="iql", of="regenerated")]
    )
    assert by_data(groups) == []  # both of them guided
    (agents,) = by_data(gather([made([1.0], algo="iql", of="0"), made([1.0], algo="iql", of="1")]))
    assert (agents.algorithm, list(agents.groups)) == ("IQL", ["unguided", "guided"])
    assert agents.against_data("guided") is None


def test_continuous_and_mixed_data_are_not_the_guided_kind(made):
    continuous = made([9.0, 9.0], of="regenerated", agent_keep=2)
    mixed = made([8.0, 8.0], of="regenerated", agent_real=16)
    (agents,) = by_data(gather([made([1.0, 2.0]), continuous, mixed, made([3.0, 4.0], of="regenerated")]))
    assert list(agents.groups) == ["data", "guided", "guided, continuous"]
    assert agents.groups["guided"].cells[0]["return_mean"] == 3.5


def test_the_group_of_most_seeds_stands_for_its_kind(made):
    pilot, whole = made([50.0], of="1", agent_steps=4), made([1.0, 2.0], of="1")
    (agents,) = by_data(gather([made([1.0, 2.0]), pilot, whole]))
    assert (agents.groups["guided"].seeds, agents.others) == ([0, 1], 1)


@pytest.mark.parametrize("of", ["data", "1"])
def test_a_whole_family_of_agents_has_an_average(of, made):
    """As of any protocol, without temperature, M and rho."""
    tasks = quoted.paper("swg")["scores"]["locomotion"]["tasks"]
    (family,) = families(gather([made([100.0 * i, 300.0], task=task, of=of) for i, task in enumerate(tasks)]))
    assert family.averages() == []
    (average,) = family.fixed()
    assert (average.policy, average.rho, average.candidates, average.temperature) == (family.agent, None, None, None)
    assert (average.online, average.paper_rho, average.runs) == (False, False, 18)
    expected = [normalized_score(get(task), (100.0 * i + 300.0) / 2) for i, task in enumerate(tasks)]
    assert average.statistics["mean"] == pytest.approx(sum(expected) / len(tasks))
