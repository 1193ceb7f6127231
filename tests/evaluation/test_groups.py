"""What may be pooled and averaged, on evaluations that nobody rolled out."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.fake_evaluations import evaluation, normal
from support.harness import swgctl
from support.records import rewrite

from swgctl.errors import CorruptError, InputError
from swgctl.evaluation.groups import episodes, gather, protocol, select
from swgctl.files import sha256
from swgctl.store import Artifact, Store
from swgctl.tasks import get, normalized_score

HOPPER = "hopper-medium-v2"
CELLS = [(0.0, 1), (20.0, 1)]


@pytest.fixture
def made(tmp_path):
    """made(task, returns, **changed): an evaluation in the test's store."""
    return lambda *args, **changed: evaluation(tmp_path / "store", *args, **changed)


def cell(group, rho: float, m: int) -> dict:
    (found,) = [c for c in group.cells if (c["rho"], c["candidates"]) == (rho, m)]
    return found


# -- pooling -----------------------------------------------------------------------------------------------------------


def test_seeds_of_several_evaluations_are_one_group(made):
    """As one evaluation of all the seeds would have been, to the last bit."""
    parts = [normal(CELLS, range(2)), normal(CELLS, range(2, 5))]
    (pooled,) = gather([made(HOPPER, part) for part in parts])
    (whole,) = gather([made(HOPPER, parts[0] | parts[1])])
    assert pooled.seeds == [0, 1, 2, 3, 4]
    assert pooled.cells == whole.cells
    assert pooled.differs == {}
    by_hand = [normalized_score(get(HOPPER), np.mean(values)) for (rho, _, _), values in whole_of(parts) if rho == 20]
    assert cell(pooled, 20, 1)["score_mean"] == pytest.approx(np.mean(by_hand))
    assert cell(pooled, 20, 1)["score_iqm"] == pytest.approx(np.mean(sorted(by_hand)[1:4]))
    assert cell(pooled, 20, 1)["score_sd"] == pytest.approx(np.std(by_hand, ddof=1))


def whole_of(parts: list[dict]) -> list:
    return [item for part in parts for item in part.items()]


def test_cells_are_those_that_the_evaluation_itself_reports(made):
    one = made(HOPPER, normal(CELLS, range(3)))
    (group,) = gather([one])
    for told, found in zip(one.meta["metrics"]["cells"], group.cells, strict=True):
        assert found.items() >= told.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eval.sampler", "ddim"),
        ("eval.w_min", 1e-3),
        ("eval.select", "self"),
        ("eval.seed", 1),
        ("diffuse.K", 30),
        ("augment.weight", "exponential"),
        ("critic.tau", 0.9),
        ("data", "e" * 64),
    ],
)
def test_another_setting_is_another_group_that_names_it(made, name, value):
    usual = made(HOPPER, normal(CELLS, range(2)))
    other = made(HOPPER, normal(CELLS, range(2, 4)), **{name.replace(".", "_"): value})
    groups = gather([usual, other])
    assert [group.seeds for group in groups] == [[0, 1], [2, 3]]
    assert [list(group.differs) for group in groups] == [[name], [name]]
    assert groups[1].differs[name] == value != groups[0].differs[name]


def test_fewer_episodes_are_another_group(made):
    groups = gather([made(HOPPER, normal(CELLS, range(2), episodes=n)) for n in (20, 10)])
    assert [group.differs for group in groups] == [{"eval.episodes": 20}, {"eval.episodes": 10}]


def test_a_seed_twice_is_never_averaged(made):
    """Two policies of seed 1: the settings are the same, the bytes are not."""
    first, second = normal(CELLS, range(2)), normal(CELLS, range(1, 3), stream=1)
    groups = gather([made(HOPPER, first), made(HOPPER, second, policy="another")])
    assert [(group.seeds, group.again) for group in groups] == [([0, 1], False), ([1, 2], True)]
    assert cell(groups[1], 20, 1)["seeds"] == 2


def test_a_seed_of_two_policies_is_not_pooled_even_in_other_cells(made):
    first, second = normal([(0.0, 1)], [1]), normal([(5.0, 1)], [1, 2])
    assert len(gather([made(HOPPER, first), made(HOPPER, second, policy="another")])) == 2


def test_more_cells_of_the_same_policies_join_the_group(made):
    returns = normal([(0.0, 1), (5.0, 1), (20.0, 1)], range(2))
    part = {place: values for place, values in returns.items() if place[0] != 5}
    (group,) = gather([made(HOPPER, part), made(HOPPER, returns)])  # cells of both agree
    assert [c["rho"] for c in group.cells if c["seeds"]] == [0, 5, 20]
    changed = {place: [value + 1 for value in values] for place, values in returns.items()}
    other = made(HOPPER, changed | normal([(9.0, 1)], range(2)))  # cells of both do not
    assert [group.again for group in gather([made(HOPPER, part), other])] == [False, True]


def test_one_artifact_named_twice_counts_once(made):
    one = made(HOPPER, normal(CELLS, range(2)))
    assert select(one.store, [one.id, str(one.path)]) == [one]


def test_the_order_is_that_of_the_papers_then_by_name(made):
    for task in ("demo", "pen-human-v0", HOPPER, "local-hopper-medium"):
        last = made(task, normal(CELLS, [0]))
    assert [g.task.name for g in gather(select(last.store))] == [HOPPER, "pen-human-v0", "demo", "local-hopper-medium"]


def test_what_a_lost_parent_was_is_not_guessed(made):
    one, two = made(HOPPER, normal(CELLS, [0])), made(HOPPER, normal(CELLS, [1]))
    gone = two.parent("diffuse").parent("augment").parent("critic")
    told = {"critic": f"{gone.id}, which is gone"}
    shutil.rmtree(gone.path)
    groups = gather([one, two])
    assert [group.seeds for group in groups] == [[0], [1]]
    assert [group.differs for group in groups] == [{}, told]


@pytest.mark.slow
def test_a_critic_of_its_own_that_ranks_is_part_of_the_protocol(chain):
    other = chain.critic("--tau", "0.9").path
    policy = chain.made("diffuse")
    made = [
        Artifact(swgctl("eval", "--from", policy, "--resample", "2", "--recipe", chain.recipe, *more).path)
        for more in ((), ("--critic", other))
    ]
    own, another = map(protocol, made)
    assert another == own | {"ranking.tau": 0.9}
    assert own["critic.tau"] == 0.7
    assert [g.differs["ranking.tau"] for g in gather(made)] == ["that of the policy's critic", 0.9]


# -- cells -------------------------------------------------------------------------------------------------------------


def test_temperatures_are_cells_of_one_group_and_an_older_evaluation_has_its_settings(chain):
    """Several in one evaluation, another one beside; episodes.csv had no column of it before there could be several."""
    both = swgctl("eval", "--recipe", chain.recipe, "--temperature", "0,1", "--resample", "1,2", "--rho", "0")
    assert "at temperature 0 all candidates are equal" in both.err
    half = swgctl("eval", "--recipe", chain.recipe, "--temperature", "0.5", "--rho", "0").path
    (group,) = gather([Artifact(both.path), Artifact(half)])
    assert group.settled == [(0.0, 1), (0.5, 1), (1.0, 1), (1.0, 2)]
    table = half / "episodes.csv"
    header, *lines = (line.split(",") for line in table.read_text().splitlines())
    at = header.index("temperature")
    older = "".join(",".join(row[:at] + row[at + 1 :]) + "\n" for row in (header, *lines))
    before = episodes(Artifact(half))
    table.write_text(older)
    file = {"sha256": sha256(table), "bytes": table.stat().st_size}
    rewrite(half, lambda record: record["files"].update({"episodes.csv": file}))
    assert episodes(Artifact(half)) == before


def test_a_setting_that_a_report_reads_and_no_record_has_is_damage(made):
    one = made(HOPPER, normal([(0.0, 1)], range(2)))
    rewrite(one.path, lambda record: record["params"].pop("episodes"))
    (group,) = gather([Artifact(one.path)])
    with pytest.raises(CorruptError, match=r"has the setting eval\.episodes"):
        group.settings["eval.episodes"]


def test_cells_that_were_not_measured_are_missing(made):
    """The grid of all rho and all M, and the paper's rho (20 here)."""
    returns = normal([(0.0, 1), (5.0, 1)], range(2)) | normal([(5.0, 8)], range(2))
    (group,) = gather([made(HOPPER, returns)])
    seeds = {(c["rho"], c["candidates"]): c["seeds"] for c in group.cells}
    assert seeds == {(0, 1): 2, (5, 1): 2, (20, 1): 0, (0, 8): 0, (5, 8): 2, (20, 8): 0}
    assert cell(group, 20, 1)["paper_rho"]
    assert cell(group, 20, 1)["score_mean"] is None


def test_a_cell_of_some_seeds_says_so(made):
    (group,) = gather([made(HOPPER, normal(CELLS, range(3))), made(HOPPER, normal([(20.0, 1)], range(3, 5)))])
    assert (cell(group, 0, 1)["seeds"], cell(group, 20, 1)["seeds"], len(group.seeds)) == (3, 5, 5)


def test_the_best_cell_is_chosen_among_guided_ones_of_one_method(made):
    returns = {(rho, m, 0): [value] for rho, m, value in [(0.0, 1, 9.0), (5.0, 1, 3.0), (9.0, 1, 4.0), (5.0, 8, 8.0)]}
    (group,) = gather([made("demo", returns)])
    (best,) = group.choices()  # of SWG-R there is one cell, so nothing was chosen
    assert (best["policy"], best["rho"], best["choices"]) == ("SWG", 9.0, 2)


# -- which evaluations -------------------------------------------------------------------------------------------------


def test_what_is_no_evaluation_is_refused_with_the_way_to_one(made, tmp_path):
    one = made(HOPPER, normal(CELLS, [0]))
    with pytest.raises(InputError, match=r"a policy \(diffuse\)") as caught:
        select(one.store, [str(one.parent("diffuse").path)])
    assert caught.value.help == f"swgctl eval --from {one.parent('diffuse').id}"
    with pytest.raises(InputError, match="no evaluation"):
        select(Store(tmp_path / "empty"))
    with pytest.raises(InputError, match=f"did you mean '{HOPPER}'") as caught:
        select(one.store, task="hopper-medum-v2")
    assert caught.value.help == f"--task {HOPPER}"
    with pytest.raises(InputError, match="no evaluation of 'kitchen") as caught:
        select(one.store, task="kitchen-mixed-v0")
    assert caught.value.help.startswith("swgctl run kitchen-mixed-v0 ")


def test_refs_of_another_task_are_told_from_a_store_without_it(made):
    one, two = made(HOPPER, normal(CELLS, [0])), made("demo", normal(CELLS, [0]))
    assert select(one.store, [one.id, two.id], HOPPER) == [one]
    with pytest.raises(InputError, match=f"the REFs are of demo, not of '{HOPPER}'") as caught:
        select(one.store, [two.id], HOPPER)
    assert caught.value.help == f"leave out --task {HOPPER}"


@pytest.mark.parametrize("command", ["report -", "plot compare -", "show -", "export - --policy p", "augment --from -"])
def test_nothing_on_standard_input(command, tmp_path):
    answer = swgctl(*command.split(), stdin="\n")
    answer.refused(3, "standard input named no artifact")
    assert answer.helps == ["swgctl ls"]


def test_an_evaluation_without_references_is_told_by_its_returns(made):
    (group,) = gather([made(replace(get("demo"), name="mine", references=None), {(0.0, 1, 0): [3.0, 5.0]})])
    assert group.measure == "return"
    assert (cell(group, 0, 1)["return_mean"], cell(group, 0, 1)["score_mean"]) == (4.0, None)
    assert cell(group, 0, 1)["policy"] == "behaviour model"
