"""What is said of artifacts with several inputs: a critic and agents of synthetic sets, which agents guide."""

import pytest
from support.harness import swgctl

from swgctl.reports.look import _cell

pytestmark = pytest.mark.training


@pytest.fixture
def sets(chain) -> dict:
    """A trajectory model, an unguided set, an agent of it, a set that the agent guides, an agent of both sets."""
    recipe = ("--recipe", chain.recipe)
    model = swgctl("trajectories", chain.data, "--env", "Pendulum-v1", *recipe).path
    unguided = swgctl("synth", "--lambda", "0", *recipe).path
    guide = swgctl("agent", "--from", unguided, *recipe).path
    guided = swgctl("synth", "--from", model, "--agent", guide, *recipe).path
    agent = swgctl("agent", "--from", unguided, "--from", guided, *recipe).path
    return {"model": model, "unguided": unguided, "guide": guide, "guided": guided, "agent": agent}


def test_a_lineage_says_everything_once(sets, chain):
    answer = swgctl("tree", sets["agent"])
    order = [sets[name] for name in ("agent", "unguided", "model", "guided", "guide")]
    assert answer.lines == [str(path) for path in order]
    lines = answer.err.splitlines()
    shape = [(len(line) - len(line.lstrip()), line.split()[0], line.endswith("(above)")) for line in lines]
    assert shape == [
        (0, "agent", False),
        (3, "synth", False),
        (6, "trajectories", False),
        (9, "data", False),
        (3, "synth", False),
        (6, "agent", False),
        (9, "synth", True),
        (6, "trajectories", True),
    ]
    assert sum(str(chain.data) in line for line in lines) == 1


def test_the_data_of_a_critic_of_a_set_is_the_sets(sets, chain):
    critic = swgctl("critic", "--from", sets["guided"], "--recipe", chain.recipe).path
    answer = swgctl("tree", critic)
    files = [line for line in answer.err.splitlines() if line.split()[0] == "data"]
    assert len(files) == 1
    assert str(chain.data) in files[0]


def test_a_difference_of_many_numbers_is_that_of_their_means(sets):
    answer = swgctl("diff", sets["unguided"], sets["guided"])
    assert max(map(len, answer.err.splitlines())) < 200
    assert any("metrics.coverage" in line and "mean of 5" in line for line in answer.err.splitlines())
    exact = swgctl("diff", sets["unguided"], sets["guided"], "--json").json["different"]
    assert [len(values) for one in exact["metrics.coverage"] for values in one] == [5, 5]


def test_a_cell_is_a_value_or_a_mean():
    assert _cell(None) == ""
    assert _cell([0.5, 1]) == "[0.5, 1]"
    many = [[float(i) for i in range(20)], [None, 30.0]]
    assert _cell(many) == "10.4762, the mean of 21"
    assert _cell(["a" * 40, "b" * 40]) == str(["a" * 40, "b" * 40])


def test_columns_are_as_wide_as_their_names(sets):
    lines = [line for line in swgctl("show", sets["agent"]).err.splitlines() if "actor_target." in line]
    assert len({line.index(" F32 ") for line in lines}) == 1
