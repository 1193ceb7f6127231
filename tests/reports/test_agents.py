"""Reports of agents: beside diffusion policies, by data, and beside what PGD's paper prints."""

import csv

import pytest
from support.fake_evaluations import agent_evaluation, evaluation, normal
from support.harness import swgctl

from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.reports import agents, html, latex, sheets
from swgctl.reports.results import print_evaluation
from swgctl.store import Artifact, Store

CHEETAH, HOPPER = "halfcheetah-medium-v2", "hopper-medium-v2"
SEEDS = range(4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Of one task a diffusion policy and six agents, of another two agents.  Not to be written to."""
    path = tmp_path_factory.mktemp("agents") / "store"
    evaluation(path, CHEETAH, normal([(0.0, 1), (5.0, 8)], SEEDS, 5000))
    for algo in ("iql", "td3bc"):
        for level, of in ((5000.0, "data"), (4000.0, "0"), (6000.0, "1")):
            agent_evaluation(path, CHEETAH, {seed: [level + seed, level] for seed in SEEDS}, algo, of)
    agent_evaluation(path, HOPPER, {seed: [1000.0 + seed] for seed in SEEDS})
    agent_evaluation(path, HOPPER, {seed: [1000.0 - seed] for seed in SEEDS}, of="regenerated")
    return path


@pytest.fixture(scope="module")
def groups(store):
    return gather(select(Store(store)))


def test_agents_stand_beside_a_tasks_diffusion_policies(groups):
    cheetah, hopper = agents.tasks(groups)
    assert (cheetah.title, hopper.title) == (f"{CHEETAH}: agents beside diffusion policies", f"{HOPPER}: agents")
    rows = [row for row, mark in zip(cheetah.rows, cheetah.marks, strict=True) if mark != "quoted"]
    names = ["TD3+BC", "TD3+BC, unguided", "TD3+BC, guided", "IQL", "IQL, unguided", "IQL, guided"]
    assert [row[0] for row in rows][-6:] == names
    assert all(row[1:4] == ["-", "-", "-"] for row in rows[-6:])
    diffusion = next(group for group in groups if group.task.name == CHEETAH and not group.agent)
    assert [row[1:4] for row in rows[:-6]] == [
        [f"{cell['rho']:g}", str(cell["candidates"]), f"{cell['temperature']:g}"]
        for cell in diffusion.cells
        if cell["seeds"]
    ]
    means = {g.agent: g.cells[0]["score_mean"] for g in groups if g.task.name == CHEETAH and g.agent}
    assert {row[0]: row[4] for row in rows[-6:]} == {name: f"{mean:.1f}" for name, mean in means.items()}
    assert all(len(row) == len(sheet.columns) for sheet in (cheetah, hopper) for row in sheet.rows)
    assert len(sheets.tasks(groups, families(groups))) == 1  # the diffusion policy's own


def test_a_table_of_tasks_by_algorithm_and_data(groups):
    (sheet,) = agents.by_data(groups)
    assert [row[0] for row in sheet.rows] == [CHEETAH, HOPPER]
    cheetah, hopper = (dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows)
    assert (cheetah["seeds"], cheetah["TD3+BC, guided"][:4]) == ("4", "50.6")
    for algorithm in ("TD3+BC", "IQL"):  # all of four seeds above all of four others: 2 of 70 splits
        assert cheetah[f"p, {algorithm}, unguided"] == cheetah[f"p, {algorithm}, guided"] == "0.029"
    assert hopper["IQL, data"] == hopper["TD3+BC, unguided"] == "missing"
    assert hopper["p, TD3+BC, unguided"] == "-"
    assert hopper["p, TD3+BC, guided"] == "0.057"  # 1000 ... 1003 against 1000 ... 997, whose 1000 are a tie: 4 of 70
    assert sheet.quoted == 0


def test_the_papers_table_beside_it(groups):
    (sheet,) = agents.by_data(groups, "pgd")
    cheetah = dict(zip(sheet.columns[-sheet.quoted :], sheet.rows[0][-sheet.quoted :], strict=True))
    assert cheetah == {
        "TD3+BC, guided": "47.6 ± 0.3",
        "IQL, guided": "45.1 ± 0.1",
        "IQL": "48.4 ± 0.1",
        "IQL, unguided": "45.4 ± 0.1",
        "TD3+BC": "48.6 ± 0.1",
        "TD3+BC, unguided": "45.3 ± 0.2",
    }
    assert sheet.notes == ["quoted from arXiv 2404.06356, ± standard error over the seeds"]
    task = agents.tasks(groups, "pgd")[0]
    assert [sheets.STANDARD_ERROR in sheets.conventions(agents.tasks(groups, name)) for name in ("pgd", "swg")] == [
        1,
        0,
    ]
    assert [row[5] for row in task.rows if row[0] == "quoted: TD3+BC, guided"] == ["se 0.3"]


def test_every_form_has_them(store):
    table = swgctl("report", "--store", store)
    for words in ("agents by the data that they learnt from: 2 tasks", "permutation test", f"{CHEETAH}: agents beside"):
        assert words in table.err
    assert r"\begin{tabular}" in swgctl("report", "--store", store, "--format", "latex", "--paper", "pgd").out
    page = swgctl("report", "--store", store, "--format", "html").out
    assert "9 evaluations of 2 tasks" in page
    assert "<td>0.029</td>" in page


def test_programs_get_the_numbers(store, groups):
    report = swgctl("report", "--store", store, "--json").json
    rows = [row for row in report["rows"] if row["row"] == "against data"]
    assert [(row["task"], row["policy"]) for row in rows] == [
        *((CHEETAH, f"{name}, {kind}") for name in ("TD3+BC", "IQL") for kind in ("unguided", "guided")),
        (HOPPER, "TD3+BC, guided"),
    ]
    assert [row["p_value"] for row in rows] == pytest.approx([2 / 70] * 4 + [4 / 70])
    by_number = {group.number: group for group in groups}
    for row in rows:
        group = by_number[row["group"]]
        data = next(g for g in groups if (g.task.name, g.agent) == (row["task"], row["policy"].partition(",")[0]))
        expected = group.cells[0]["score_mean"] - data.cells[0]["score_mean"]
        assert row["difference"] == pytest.approx(expected)
    cells = [row for row in report["rows"] if row["row"] == "cell" and row["policy"] == "IQL, guided"]
    assert [(row["rho"], row["candidates"], row["temperature"]) for row in cells] == [(None, None, None)]
    lines = swgctl("report", "--store", store, "--format", "csv").lines
    assert len(list(csv.DictReader(lines))) == len(report["rows"])


def test_standard_errors_are_not_called_deviations(store):
    rows = swgctl("report", "--store", store, "--json", "--paper", "pgd").json["rows"]
    (row,) = [row for row in rows if (row["row"], row["task"], row["policy"]) == ("quoted", HOPPER, "IQL, guided")][:1]
    assert (row["score_mean"], row["score_sd"], row["score_se"]) == (62.8, None, 1.2)


def test_a_page_that_compiles_and_one_that_is_well_formed(groups):
    """Every row of a tabular has its columns."""
    shown = [*agents.by_data(groups, "pgd"), *agents.tasks(groups, "pgd")]
    for line in latex.page(shown).splitlines():
        if line.startswith("halfcheetah-medium-v2 &"):
            assert line.count("&") == len(shown[0].columns) - 1
    assert html.page(shown[:1], shown[1:]).count("<table>") == len(shown)


def test_agents_alone_change_no_other_table(store, groups):
    """The diffusion policy's sheet is that of a store without agents."""
    diffusion = [one for group in groups if not group.agent for one in group.evaluations]
    alone = gather(diffusion)
    with_agents, without = sheets.tasks(groups, []), sheets.tasks(alone, [])
    assert [(s.title, s.notes, s.rows) for s in with_agents] == [(s.title, s.notes, s.rows) for s in without]
    assert sheets.conventions(without) == [sheets.D4RL, *sheets.CONVENTIONS]


def test_an_agents_evaluation_ends_with_its_table(store, capsys):
    (path,) = [
        one.path
        for one in map(Artifact, store.glob(f"objects/eval/{HOPPER}/*"))
        if "trajectories" in one.parent("agent").meta["inputs"]
    ]
    print_evaluation(Artifact(path))
    line = next(line for line in capsys.readouterr().err.splitlines() if "TD3+BC, guided" in line)
    assert line.count(" - ") == 3
