"""`swgctl report`: its streams, formats and refusals, on evaluations that nobody rolled out."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_evaluations import evaluation, normal, several
from support.harness import flip, swgctl

from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.store import Store
from swgctl.tasks import quoted


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Not to be written to."""
    return several(tmp_path_factory.mktemp("several") / "store")


@pytest.fixture
def report(store):
    """report(*args): `swgctl report` on that store."""
    return lambda *args: swgctl("report", *args, "--store", store)


# -- streams and formats -----------------------------------------------------------------------------------------------


def test_a_table_is_for_people_and_stdout_has_what_it_was_made_of(report, store):
    answer = report()
    assert {Path(line) for line in answer.lines} == set(store.glob("objects/eval/*/*"))
    for word in ("hopper-medium-v2: 5 seeds (0-4) x 20 episodes", "quoted: CQL (Kumar et al., 2020)", "2 of 9 tasks"):
        assert word in answer.err


def test_a_product_is_on_stdout_or_in_a_file_of_the_same_bytes(report, tmp_path):
    for form, suffix in (("csv", "csv"), ("json", "json"), ("latex", "tex"), ("html", "html")):
        answer = report("--format", form)
        assert (answer.code, answer.err) == (0, "")
        for more in ((), ("--format", form)):
            path = tmp_path / "deep" / f"report.{suffix}"
            assert report("--out", path, *more).path == path
            assert path.read_text() == answer.out
    assert report("--json").out == report("--format", "json").out


def test_a_file_may_have_any_name_with_a_format(report, tmp_path):
    assert report("--format", "latex", "--out", tmp_path / "table.txt").path.read_text().startswith("%")


def test_the_same_artifacts_give_the_same_bytes(report, store, tmp_path):
    """Wherever the store is but for the paths, and whatever the times of its directories."""
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    for path in sorted(copy.glob("objects/eval/*/*")):
        path.touch()
    for form in ("csv", "latex", "html"):
        assert swgctl("report", "--store", copy, "--format", form).out == report("--format", form).out


def test_refs_and_tasks_choose(report, store):
    (demo,) = store.glob("objects/eval/demo/*")
    assert report(demo.name).lines == report(demo).lines == report("--task", "demo").lines == [str(demo)]


QUICK = """
import sys
from swgctl.cli import main

for form in ("table", "csv", "json", "latex", "html"):
    sys.argv = ["swgctl", "report", "--format", form, "--store", sys.argv[-1]]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (form, end.code)
    slow = {"torch", "matplotlib", "gymnasium", "h5py"} & set(sys.modules)
    assert not slow, (form, slow)
"""


def test_nothing_slow_is_imported(store):
    done = subprocess.run([sys.executable, "-c", QUICK, str(store)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- numbers -----------------------------------------------------------------------------------------------------------


def number(text: str):
    return {"": None, "True": True, "False": False}.get(text, text)


def test_csv_and_json_have_the_same_rows(report):
    told = report("--json").json
    table = list(csv.DictReader(report("--format", "csv").lines))
    assert len(table) == len(told["rows"])
    for line, row in zip(table, told["rows"], strict=True):
        for name, value in row.items():
            if name.endswith("ci95"):
                found = [float(line[f"{name}_{end}"]) for end in ("low", "high")] if value else None
            else:
                found = number(line[name])
                found = float(found) if isinstance(value, (int, float)) and not isinstance(value, bool) else found
            assert found == value, (name, row)


def test_every_number_is_that_of_its_group(report, store):
    """To the last bit, though they went through text."""
    groups = gather(select(Store(store)))
    rows = report("--json").json["rows"]
    cells = [row for row in rows if row["row"] in ("cell", "missing")]
    for row, (group, cell) in zip(cells, ((g, c) for g in groups for c in g.cells), strict=True):
        assert (row["task"], row["group"]) == (group.task.name, group.number)
        assert (row["row"] == "missing") == (cell["seeds"] == 0)
        assert all(row[name] == cell[name] for name in cell if name in row)
    averages = [row for row in rows if row["row"].startswith("average")]
    expected = [one for family in families(groups) for one in (*family.averages(), *family.fixed())]
    assert [row["score_mean"] for row in averages] == [one.statistics and one.statistics["mean"] for one in expected]


def test_quoted_numbers_are_the_papers(report):
    rows = report("--json").json["rows"]
    told = {(r["task"], r["policy"]): (r["score_mean"], r["score_sd"]) for r in rows if r["row"] == "quoted"}
    assert told["hopper-medium-v2", "SWG-R"] == (74.6, 5.2)
    assert told["kitchen-complete-v0", "D-QL"] == (84.0, None)
    assert ("demo", "SWG") not in told
    averages = {r["policy"]: r["score_mean"] for r in rows if r["row"] == "quoted average" and r["family"] == "kitchen"}
    assert averages == quoted.paper("swg")["scores"]["kitchen"]["averages"]


def test_another_papers_numbers(report):
    rows = report("--json", "--paper", "aepo").json["rows"]
    found = {(row["task"], row["policy"]): row["score_mean"] for row in rows if row["row"] == "quoted"}
    assert found["hopper-medium-v2", "AEPO"] == 100.2
    assert {task for task, _ in found} == {"hopper-medium-v2", "halfcheetah-medium-v2"}  # AEPO has no kitchen


def test_the_best_of_a_sweep_stands_beside_all_cells_and_says_so(report):
    rows = report("--json", "--task", "hopper-medium-v2").json["rows"]
    (best,) = [row for row in rows if row["row"] == "selected online"]  # of SWG-R a single cell was measured
    cells = [row for row in rows if row["row"] == "cell" and row["group"] == best["group"] and row["policy"] == "SWG"]
    assert len(cells) == 2
    assert best["score_mean"] == max(row["score_mean"] for row in cells)
    lines = report("--task", "hopper-medium-v2").err.splitlines()
    assert len([line for line in lines if "selected online (best of 2)" in line]) == 1


def test_missing_cells_are_there(report):
    lines = report("--task", "hopper-medium-v2").err.splitlines()
    (line,) = [line for line in lines if "missing" in line]
    assert re.sub(r"[│ ]+", " ", line).strip() == "SWG-R 5 8 1 missing 0 of 5"


def test_groups_say_in_what_they_differ_and_only_that(report):
    told = [line.strip() for line in report("--task", "hopper-medium-v2").err.splitlines() if "protocol" in line]
    assert told == [
        "where these groups' protocols differ: diffuse.lr = 0.0003",
        "no average of locomotion: 1 of 9 tasks by this protocol",
        "where these groups' protocols differ: diffuse.lr = 0.0001",
        "no average of locomotion: 1 of 9 tasks by this protocol",
    ]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--format", "htm"), 2, ("htm", "html")),
        (("--paper", "swq"), 2, ("swq", "swg")),
        (("--out", "report.txt"), 2, ("report.txt", ".html")),
        (("--out", "report"), 2, ("report",)),
        (("--format", "table", "--out", "report.html"), 2, ("report.html", "not written")),
        (("--format", "csv", "--out", "report.html"), 2, ("report.html", "csv")),
        (("--format", "csv", "--json"), 2, ("csv", "json")),
        (("nothing",), 3, ("nothing",)),
        (("--task", "hoper-medium-v2"), 3, ("hoper-medium-v2", "hopper-medium-v2")),
        (("--out", "/proc/nowhere/report.csv"), 1, ("/proc/nowhere/report.csv",)),
    ],
)
def test_what_cannot_be_is_refused(report, args, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report(*args).refused(code, *words)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_nothing_to_report(tmp_path):
    swgctl("report", "--store", tmp_path / "empty").refused(3, "no evaluation")


def test_what_is_no_evaluation_is_refused(report, store):
    (critic,) = store.glob("objects/critic/demo/*")
    report(critic).refused(3, critic.name, "a critic")


def test_a_damaged_evaluation_is_never_left_out_in_silence(tmp_path):
    made = evaluation(tmp_path / "store", "demo", normal([(0.0, 1)], [0]))
    evaluation(tmp_path / "store", "demo", normal([(0.0, 1)], [1]))
    flip(made.path / "episodes.csv")
    swgctl("report", "--store", tmp_path / "store", "--out", tmp_path / "r.csv").refused(4, "episodes.csv")
    assert not (tmp_path / "r.csv").exists()
    (made.path / "artifact.json").write_text("{")
    swgctl("report", "--store", tmp_path / "store").refused(4, "artifact.json")


def test_a_report_of_real_evaluations(chain):
    """What the stages write is what a report reads."""
    told = swgctl("report", "--json").json
    (group,) = told["groups"]
    evaluation = json.loads((chain.made("eval") / "summary.json").read_text())
    cells = [row for row in told["rows"] if row["row"] == "cell"]
    assert [row["return_mean"] for row in cells] == [cell["return_mean"] for cell in evaluation["cells"]]
    assert [row["return_ci95"] for row in cells] == [cell["return_ci95"] for cell in evaluation["cells"]]
    assert group["settings"]["diffuse.K"] == 3
    assert group["settings"]["eval.environment"] == "Pendulum-v1"
