"""Protocols and names of agents, and of what is beside them in a store."""

import shutil

import pytest
from support.fake_evaluations import agent_evaluation, evaluation, normal

from swgctl.evaluation.groups import episodes, gather
from swgctl.evaluation.protocols import agent_label, learnt_from, method_of, policy_label, protocol
from swgctl.tasks import get, normalized_score

TASK = "halfcheetah-medium-v2"
RETURNS = {0: [5000.0, 5200.0], 1: [4000.0, 4100.0]}


@pytest.fixture
def made(tmp_path):
    """made(**changed): an evaluation of an agent in the test's store."""
    return lambda **changed: agent_evaluation(tmp_path / "store", TASK, RETURNS, **changed)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "label"),
    [
        ({}, "TD3+BC"),
        ({"algo": "iql"}, "IQL"),
        ({"of": "regenerated"}, "TD3+BC, guided"),
        ({"of": "regenerated", "agent_scale": 0.0}, "TD3+BC, unguided"),
        ({"of": "regenerated", "agent_keep": 2}, "TD3+BC, guided, continuous"),
        ({"of": "regenerated", "agent_epochs": 1}, "TD3+BC, unguided"),
        ({"of": "regenerated", "agent_real": 16}, "TD3+BC, guided, data"),
        ({"of": "1", "agent_real": 16}, "TD3+BC, guided, data"),
        ({"of": "1", "agent_real": 256}, "TD3+BC"),
        ({"of": "0"}, "TD3+BC, unguided"),
        ({"of": "1", "algo": "iql"}, "IQL, guided"),
        ({"of": "0 0"}, "TD3+BC, unguided"),
        ({"of": "0 1"}, "TD3+BC, guided"),
        ({"of": "1 0"}, "TD3+BC, guided"),
        ({"of": "dynamics"}, "TD3+BC, dynamics model"),
        ({"of": "0 dynamics"}, "TD3+BC, unguided, dynamics model"),
        ({"of": "dynamics 0"}, "TD3+BC, unguided, dynamics model"),
    ],
)
def test_an_agent_is_named_by_its_algorithm_and_its_data(made, changed, label):
    settings = protocol(made(**changed))
    assert policy_label(settings, {}) == agent_label(settings) == label
    assert method_of(settings).name == "pgd"
    (group,) = gather([made(**changed)])
    assert (group.agent, group.cells[0]["policy"]) == (label, label)


def test_what_an_agent_learnt_from_may_be_gone(made):
    for of, stage, kinds in (("regenerated", "trajectories", ["guided"]), ("1", "synth", ["of data that is gone"])):
        one = made(of=of)
        shutil.rmtree(one.parent("agent").parent(stage).path)
        assert learnt_from(protocol(one)) == kinds


def test_a_diffusion_policy_is_named_by_its_cell(tmp_path):
    settings = protocol(evaluation(tmp_path / "store", TASK, normal([(0.0, 1)], [0])))
    assert agent_label(settings) is None
    assert policy_label(settings, {"rho": 5.0, "candidates": 8}) == "SWG-R"


# -- protocols ---------------------------------------------------------------------------------------------------------


def test_the_chain_of_an_agent(made):
    settings = protocol(made())
    assert {name.partition(".")[0] for name in settings} == {"eval", "agent", "data"}
    settings = protocol(made(of="regenerated"))
    assert {name.partition(".")[0] for name in settings} == {"eval", "agent", "trajectories", "data"}
    assert settings["data"] == "d" * 64


def test_the_agent_that_guides_is_told_from_the_one_that_learns(made):
    settings = protocol(made(of="1", target={"algo": "iql"}))
    assert (settings["agent.algo"], settings["synth.agent.algo"]) == ("td3bc", "iql")
    assert policy_label(settings, {}) == "TD3+BC, guided"
    groups = gather([made(of="1"), made(of="1", target={"algo": "iql"})])
    assert [group.differs for group in groups] == [{"synth.agent.algo": "td3bc"}, {"synth.agent.algo": "iql"}]


def test_a_second_set_is_listed_where_it_differs_from_the_first(made):
    one, two = made(of="1"), made(of="1 0.5")
    first = protocol(one)
    assert {name: value for name, value in protocol(two).items() if name not in first} == {"synth.2.scale": 0.5}
    absent = "that of the first synth, or none"
    assert [group.differs for group in gather([one, two])] == [{"synth.2.scale": absent}, {"synth.2.scale": 0.5}]


def test_what_another_input_was_made_from_is_part_of_the_protocol(made):
    settings = protocol(made(of="1 dynamics"))
    assert settings["synth.2.dynamics.members"] == 7
    assert "synth.2.agent.algo" not in settings  # the agent that guides both, listed once
    assert settings["synth.agent.algo"] == "td3bc"


def test_every_data_file_is_named(made):
    """Of an agent that was guided by one of other data."""
    assert protocol(made(of="0 1"))["data"] == "d" * 64
    assert protocol(made(of="1", target={"data": "e" * 64}))["data"] == f"{'d' * 64},{'e' * 64}"


def test_agents_of_other_data_are_not_compared_setting_by_setting(made, tmp_path):
    """A diffusion policy has settings that no agent has, and an agent of the data none of the generation's."""
    diffusion = evaluation(tmp_path / "store", TASK, normal([(0.0, 1), (5.0, 1)], range(2)))
    groups = gather([diffusion, made(), made(of="regenerated"), made(of="regenerated", agent_epochs=100)])
    assert [list(group.differs) for group in groups] == [[], [], ["agent.epochs"], ["agent.epochs"]]


# -- cells -------------------------------------------------------------------------------------------------------------


def test_an_agent_has_one_cell_without_place(made):
    one = made()
    (reported,) = one.meta["metrics"]["cells"]
    assert reported["rho"] is reported["candidates"] is reported["temperature"] is None
    assert "sampler" not in reported
    (group,) = gather([one])
    (cell,) = group.cells
    assert cell.items() >= reported.items()
    assert (cell["guidance"], cell["paper_rho"], group.settled, group.choices()) == ("none", False, [], [])
    assert cell["return_mean"] == pytest.approx((5100 + 4050) / 2)
    assert group.at_paper_rho(1.0, 1) is None
    assert group.seed_means(cell) == pytest.approx([normalized_score(get(TASK), value) for value in (5100, 4050)])
    assert episodes(one)[0].keys() == {"seed", "episode", "return", "length", "score"}


def test_seeds_of_several_evaluations_of_agents_are_pooled(tmp_path):
    store = tmp_path / "store"
    parts = [agent_evaluation(store, TASK, {seed: [100.0 * seed, 300.0]}) for seed in (0, 1)]
    (group,) = gather(parts)
    assert (group.seeds, group.cells[0]["seeds"]) == ([0, 1], 2)
    assert group.cells[0]["return_mean"] == pytest.approx(175.0)
