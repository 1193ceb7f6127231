"""What may be averaged: a whole family of a paper by one protocol, and nothing else."""

import numpy as np
import pytest
from support.fake_evaluations import agent_evaluation, evaluation, guided_evaluation, normal

from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.store import Store
from swgctl.tasks import get, normalized_score, quoted

LOCOMOTION = quoted.paper("swg")["scores"]["locomotion"]["tasks"]


@pytest.fixture
def made(tmp_path):
    """made(task, returns, **changed): an evaluation in the test's store."""
    return lambda *args, **changed: evaluation(tmp_path / "store", *args, **changed)


def test_a_whole_family_has_the_mean_of_its_tasks_at_the_papers_rho(made):
    levels = {task: 100.0 * (i + 1) for i, task in enumerate(LOCOMOTION)}
    groups = gather(
        [
            made(
                task,
                {(rho, 1, s): [level + rho + s] for rho in (0.0, float(quoted.guidance_scale(task))) for s in (0, 1)},
            )
            for task, level in levels.items()
        ]
    )
    (family,) = families(groups)
    (average,) = family.averages()
    by_hand = [normalized_score(get(t), level + quoted.guidance_scale(t) + 0.5) for t, level in levels.items()]
    assert average.paper_rho
    assert (average.tasks, family.missing) == (9, [])
    assert average.statistics["mean"] == pytest.approx(np.mean(by_hand))
    unguided = next(one for one in family.fixed() if one.rho == 0)
    expected = np.mean([normalized_score(get(t), level + 0.5) for t, level in levels.items()])
    assert unguided.statistics["mean"] == pytest.approx(expected)
    assert all(one.statistics is None for one in family.fixed() if one.rho != 0)  # each in some of the tasks only


def test_a_part_of_a_family_has_no_average(made):
    groups = gather([made(task, normal([(float(quoted.guidance_scale(task)), 1)], [0])) for task in LOCOMOTION[:8]])
    (family,) = families(groups)
    (average,) = family.averages()
    assert (average.tasks, average.statistics, family.missing) == (8, None, LOCOMOTION[8:])


def test_the_fullest_groups_of_its_tasks_make_the_first_family(made):
    """A pilot of one seed, which came first in one task and last in the others, is averaged with pilots alone."""
    places = {task: [(float(quoted.guidance_scale(task)), 1)] for task in LOCOMOTION}
    pilots = [made(task, normal(place, [0], stream=1), policy="pilot") for task, place in places.items()]
    whole = [made(task, normal(place, range(5))) for task, place in places.items()]
    groups = gather([pilots[4], *whole, *pilots[:4], *pilots[5:]])
    first, second = families(groups)
    for family, seeds in ((first, 5), (second, 1)):
        assert [len(group.seeds) for group in family.groups.values()] == [seeds] * 9
        assert family.averages()[0].runs == 9 * seeds


def test_tasks_of_different_protocols_are_different_families(made):
    returns = {task: normal([(float(quoted.guidance_scale(task)), 1)], [0]) for task in LOCOMOTION}
    changed = {LOCOMOTION[3]: {"diffuse_lr": 1e-4}}
    groups = gather([made(task, found, **changed.get(task, {})) for task, found in returns.items()])
    whole, one = families(groups)
    assert (len(whole.groups), list(one.groups)) == (8, [LOCOMOTION[3]])
    assert (whole.differs, one.differs) == ({"diffuse.lr": 3e-4}, {"diffuse.lr": 1e-4})
    assert all(average.statistics is None for family in (whole, one) for average in family.averages())


def test_what_a_task_alone_differs_in_is_said_of_its_families(made, tmp_path):
    """Other data for one task, as its publisher may swap it: not the same thing once more."""
    tasks = quoted.paper("swg")["scores"]["kitchen"]["tasks"]
    for task in tasks:
        made(task, normal([(0.0, 1)], range(3), 2, 0.1))
    made(tasks[0], normal([(0.0, 1)], range(2), 3, 0.1), data="e" * 64)
    first, second = families(gather(select(Store(tmp_path / "store"))))
    name = f"data of {tasks[0]}"
    assert (first.differs, second.differs) == ({name: "d" * 64}, {name: "e" * 64})
    assert (first.again, second.again) == (False, False)
    assert second.missing == tasks[1:]


def test_a_family_of_another_paper_where_swg_has_no_such_task(made):
    tasks = [f"maze2d-{size}-v1" for size in ("umaze", "medium", "large")]
    (family,) = families(gather([made(task, normal([(0.0, 1)], [0])) for task in tasks]))
    assert (family.paper, family.name, family.missing) == ("aepo", "maze2d", [])
    assert family.averages() == []  # no paper says a rho for them
    assert family.fixed()[0].statistics is not None


def test_guided_behaviour_models_of_a_familys_tasks_have_an_average(tmp_path):
    """Behaviour models read a task's data as critics do, and so differ in the task's name, environment and horizon."""
    tasks = quoted.paper("swg")["scores"]["kitchen"]["tasks"]
    returns = normal([(0.0, 1), (1.0, 1)], range(2), 2, 0.1)
    (family,) = families(gather([guided_evaluation(tmp_path / "store", task, returns, "aepo") for task in tasks]))
    assert (family.missing, family.differs) == ([], {})
    assert [(one.policy, one.statistics is None) for one in family.fixed()] == [
        ("behaviour model", False),
        ("AEPO", False),
    ]


def test_agents_belong_to_every_papers_family_with_their_task_and_policies_to_the_first(made, tmp_path):
    """Two tasks of PGD's locomotion, of which SWG has one, whose diffusion policy is in SWG's family alone."""
    tasks, returns = ("hopper-random-v2", "hopper-medium-v2"), {0: [1000.0, 1200.0]}
    agents = [agent_evaluation(tmp_path / "store", task, returns) for task in tasks]
    policy = made(tasks[1], normal([(0.0, 1)], [0]))
    of_paper = {}
    for family in families(gather([policy, *agents])):
        of_paper.setdefault(family.paper, []).append((family.agent, set(family.groups)))
    assert of_paper["pgd"] == [("TD3+BC", set(tasks))]
    assert sorted(of_paper["swg"], key=str) == [("TD3+BC", {tasks[1]}), (None, {tasks[1]})]


def test_the_best_of_each_task_is_told_from_the_papers_rho(made):
    groups = gather(
        [made(task, normal([(5.0, 1), (float(quoted.guidance_scale(task)), 1)], [0, 1])) for task in LOCOMOTION]
    )
    paper, best = families(groups)[0].averages()
    assert (paper.paper_rho, best.paper_rho, best.rho, best.candidates) == (True, False, None, None)
    expected = [max(c["score_mean"] for c in group.cells if c["seeds"]) for group in groups]
    assert best.statistics["mean"] == pytest.approx(np.mean(expected))
    assert best.statistics["mean"] > paper.statistics["mean"]
