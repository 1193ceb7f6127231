"""Where the papers have a task, in which order, and whose methods they quote."""

import pytest

from swgctl.tasks import names, quoted


def test_a_task_is_at_home_in_swg_before_the_others():
    assert quoted.home("hopper-medium-v2") == ("swg", "locomotion")
    assert quoted.home("hopper-medium-v2", "aepo") == ("aepo", "locomotion")
    assert quoted.home("maze2d-large-v1") == ("aepo", "maze2d")
    assert quoted.home("maze2d-large-v1", "swg") is None
    assert quoted.home("maze2d-large-v1", "pgd") == ("pgd", "maze2d")
    assert quoted.home("hopper-random-v2") == ("pgd", "locomotion")
    assert quoted.home("demo") is None
    assert quoted.home("hopper-medium-v2", agent=True) == ("pgd", "locomotion")
    assert quoted.home("hopper-medium-v2", "aepo", agent=True) == ("aepo", "locomotion")
    assert quoted.home("kitchen-mixed-v0", agent=True) == ("swg", "kitchen")


def test_a_later_paper_moves_no_tasks_home():
    assert quoted.papers() == ["swg", "aepo", "pgd", "fql"]
    assert set(quoted.papers()) == {path.stem for path in quoted.PAPERS.glob("*.yaml")}
    earlier: set[str] = set()
    for paper in quoted.papers():
        tasks = {task for section in quoted.paper(paper)["scores"].values() for task in section["tasks"]}
        known = [*names(), *names("ogbench")]
        at_home = {task for task in known if (home := quoted.home(task)) and home[0] == paper}
        assert at_home == tasks - earlier
        earlier |= tasks
        if paper == "pgd":
            assert at_home == {"halfcheetah-random-v2", "hopper-random-v2", "walker2d-random-v2"}
    assert len(at_home) == 50  # FQL's: ten sets of five tasks


def test_a_papers_own_methods_come_first():
    methods = quoted.methods("swg", "antmaze")
    assert methods[:3] == ["SWG", "SWG-R", "CQL"]
    assert sorted(methods) == sorted(quoted.paper("swg")["scores"]["antmaze"]["methods"])
    assert list(quoted.scores("antmaze-umaze-v0")) == methods


def test_tasks_are_in_the_papers_order():
    ordered = sorted(names(), key=quoted.position)
    tables = [section["tasks"] for section in quoted.paper("swg")["scores"].values()]
    swg = [task for tasks in tables for task in tasks]
    assert ordered[: len(swg)] == swg
    unknown = [task for task in ordered if quoted.home(task) is None]
    assert ordered[-len(unknown) :] == sorted(unknown)


@pytest.mark.parametrize("paper", quoted.papers())
def test_citations_are_of_quoted_methods(paper):
    tables = quoted.paper(paper)
    methods = {method for section in tables["scores"].values() for method in section["methods"]}
    assert set(tables.get("citations", {})) <= methods
    if paper == "swg":
        assert set(tables["citations"]) == methods


@pytest.mark.parametrize("paper", quoted.papers())
def test_deviations_are_of_a_papers_own_methods(paper):
    tables = quoted.paper(paper)
    assert quoted.spread(paper) == ("se" if paper == "pgd" else "sd")
    for family, rows in tables["deviations"].items():
        assert list(rows) == tables["ours"]
        for method, row in rows.items():
            scores = tables["scores"][family]["methods"][method]
            assert len(row) == len(scores)
            assert min(row) > 0
            if paper != "pgd":  # whose random tasks have scores of about 0
                assert all(deviation < score / 4 for deviation, score in zip(row, scores, strict=True))


@pytest.mark.parametrize("paper", quoted.papers())
def test_methods_have_a_score_for_every_task(paper):
    for section in quoted.paper(paper)["scores"].values():
        assert all(len(row) == len(section["tasks"]) for row in section["methods"].values())
        assert set(section["averages"]) <= set(section["methods"])


def test_aepos_row_is_as_printed():
    """Its Table 1, where a score and its deviation stand side by side."""
    tasks = quoted.paper("aepo")["scores"]["locomotion"]["tasks"]
    row = ["{}{}".format(*quoted.scores(task, "aepo")["AEPO"]) for task in tasks]
    assert " ".join(row) == "94.40.9 111.51.1 109.30.5 49.61.1 100.20.5 86.21.1 43.71.3 101.00.9 90.81.5"
    assert quoted.scores("maze2d-large-v1", "aepo")["AEPO"] == (132.4, None)


def test_pgds_row_is_as_printed():
    """Its Table 2, where a score and its standard error stand side by side."""
    row = ["{}±{}".format(*pair) for pair in quoted.scores("hopper-medium-replay-v2", "pgd").values()]
    assert " ".join(row) == "82.9±3.5 97.4±2.7 100.5±0.5 58.6±11.2 52.1±1.8 91.9±4.3"
    assert quoted.scores("walker2d-random-v2", "pgd")["TD3+BC, guided"] == (-0.3, 0.1)
    assert quoted.label("pgd") == "PGD, arXiv 2404.06356"
