"""The text of a report's tables: rounding, what is missing, and that a part of a family has no mean."""

import pytest
from support.fake_evaluations import evaluation, normal, several

from swgctl import console
from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.reports import sheets
from swgctl.reports.sheets import interval, number
from swgctl.store import Store
from swgctl.tasks import quoted


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return gather(select(Store(several(tmp_path_factory.mktemp("several") / "store"))))


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (46.949, "score", "46.9"),
        (-0.04, "score", "0.0"),
        (112.0, "score", "112.0"),
        (None, "score", ""),
        (12345.6, "return", "12,346"),
        (-100.4, "return", "-100"),
        (2.345, "return", "2.35"),
        (-0.001, "return", "0.00"),
    ],
)
def test_numbers_are_rounded_as_the_papers_are(value, measure, text):
    assert number(value, measure) == text


def test_intervals():
    assert interval([-0.04, 12.36]) == "[0.0, 12.4]"
    assert interval(None) == ""


def test_every_row_has_a_cell_for_each_column(groups):
    found = families(groups)
    for sheet in sheets.tasks(groups, found) + sheets.families(found):
        assert len(sheet.marks) == len(sheet.rows)
        assert all(len(row) == len(sheet.columns) for row in sheet.rows)


def test_a_task_has_all_cells_then_the_best_then_what_is_quoted(groups):
    hopper = next(g for g in groups if g.task.name == "hopper-medium-v2")
    (sheet,) = sheets.tasks([hopper], [])
    marks = list(dict.fromkeys(sheet.marks))
    assert marks == ["", "paper", "missing", "online", "quoted"]
    assert len([m for m in sheet.marks if m in ("", "paper", "missing")]) == 6
    swg = next(row for row in sheet.rows if row[0].startswith("quoted: SWG "))
    assert swg == ["quoted: SWG (Tagle et al., 2025)", "20", "", "", "68.6", "sd 4.4", "", "", ""]


def test_seeds_of_different_devices_are_pooled_with_a_note(tmp_path):
    def notes(*cards):
        store = tmp_path / "-".join(str(card) for card in cards)
        for seed, card in enumerate(cards):
            evaluation(store, "hopper-medium-v2", {(0.0, 1, seed): [100.0 + seed] * 4}, card=card)
        (group,) = gather(select(Store(store)))
        assert group.seeds == [*range(len(cards))]
        return sheets.circumstances(group)

    assert "devices: H100, 132; cpu, which draw different numbers for the same seed" in notes(None, "H100, 132")
    assert not any("device" in note for note in notes("H100, 132", "H100, 132") + notes(None, None))


def test_a_tasks_own_cells_are_marked_at_the_papers_rho(groups):
    for sheet in sheets.tasks(groups, []):
        for row, mark in zip(sheet.rows, sheet.marks, strict=True):
            told = row[0].endswith(", the paper's rho")
            assert told == (
                mark in ("paper", "missing") and float(row[1]) == quoted.guidance_scale(sheet.group.task.name)
            )


def test_a_family_stands_beside_its_paper(groups):
    sheet, fixed = sheets.families(families(groups))[-2:]
    by_task = {row[0]: row for row in sheet.rows}
    columns = ["task", "seeds", "SWG T=1, the paper's rho", "SWG-R M=8 T=1, the paper's rho"]
    columns += ["SWG, selected online", "SWG-R, selected online"]
    assert sheet.columns == [*columns, *quoted.methods("swg", "kitchen")]
    assert by_task["kitchen-complete-v0"][-3:] == ["77.9", "84.0", "-"]
    assert by_task["n, tasks x seeds"][2:6] == ["15"] * 4
    best = next(g for g in groups if g.task.name == "kitchen-complete-v0").selected("SWG-R")
    chosen = f"{best['score_mean']:.1f} (rho {best['rho']:g}, M 8, T 1, of {best['choices']})"
    assert by_task["kitchen-complete-v0"][5] == chosen
    assert any("Table 3" in note for note in sheets.families(families(groups))[0].notes)
    assert by_task["average"][6:] == ["67.4", "70.2", "48.2", "53.3", "57.1", "69.0", "-"]
    assert [row[1:3] for row in fixed.rows] == [[r, m] for m in ("1", "8") for r in ("0", "10", "15")]
    # the column of the paper's rho is the cells of the tasks' own sheets
    for group in groups:
        if group.task.name in by_task:
            cell = group.cell(1.0, 8, quoted.guidance_scale(group.task.name))
            assert by_task[group.task.name][3] == f"{cell['score_mean']:.1f}"


def test_a_part_of_a_family_says_how_many(groups):
    sheet = sheets.families(families(groups))[0]
    assert sheet.title == "locomotion: 2 of 9 tasks"
    assert len([row for row in sheet.rows if row[2] == "missing"]) == 7
    average = next(row for row in sheet.rows if row[0] == "average")
    assert set(average[2 : len(sheet.columns) - sheet.quoted]) == {"2 of 9 tasks"}
    assert not [row for row in sheet.rows if row[0] in ("95 %", "IQM")]


def test_a_single_task_makes_no_familys_sheet(tmp_path):
    groups = gather([evaluation(tmp_path / "store", "hopper-medium-v2", normal([(20.0, 1)], [0]))])
    found = families(groups)
    assert sheets.families(found) == []
    (sheet,) = sheets.tasks(groups, found)
    assert "no average of locomotion: 1 of 9 tasks by this protocol" in sheet.notes


def test_a_family_without_the_papers_rho_shows_what_was_measured(tmp_path):
    tasks = [f"maze2d-{size}-v1" for size in ("umaze", "medium", "large")]
    made = [evaluation(tmp_path / "store", task, {(5.0, 1, 0): [100.0]}) for task in tasks]
    sheet, _ = sheets.families(families(gather(made)))
    assert sheet.columns[:4] == ["task", "seeds", "SWG, rho 5, M 1, T 1", "AEPO"]
    assert sheet.rows[0][2] == number(made[0].meta["metrics"]["cells"][0]["score_mean"])


def test_tables_four_and_five_are_beside_one_guidance_scale(tmp_path):
    made = [
        evaluation(tmp_path / "store", task, {(rho, 1, 0): [1000.0 + rho] for rho in (0.0, 10.0)})
        for task in quoted.paper("swg")["scores"]["locomotion"]["tasks"]
    ]
    _, fixed = sheets.families(families(gather(made)))
    assert [row[-1] for row in fixed.rows] == ["-", "72.9"]
    assert fixed.columns[-1] == "SWG"


def test_lines_of_a_tables_head_are_as_wide_as_the_others(groups, capsys):
    sheets.show(sheets.families(families(groups)))
    drawn = [line for line in capsys.readouterr().err.splitlines() if line[:1] in "┏┃┡│└" and line]
    tables = "\n".join(drawn).split("┏")[1:]
    assert all(len({len(line) for line in table.splitlines()[1:]}) == 1 for table in tables)
    assert "quoted" in drawn[1]
    assert "D-DICE" in drawn[2]
    console.table("title", ["a", "b\nc"], [["1", "2"]])
    assert capsys.readouterr().err.splitlines()[2:4] == ["┃   ┃ b ┃", "┃ a ┃ c ┃"]
