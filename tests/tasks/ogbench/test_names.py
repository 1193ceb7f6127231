"""OGBench's tasks follow from their names, without the package."""

import sys

import pytest
import yaml
from support.harness import swgctl

from swgctl import config, tasks
from swgctl.errors import CorruptError
from swgctl.tasks import ogbench, quoted, registry

CUBE = "cube-single-play-singletask-task2-v0"


def test_a_task_follows_from_its_name():
    task = tasks.get(CUBE)
    assert (task.environment, task.source) == ("cube-single-singletask-task2-v0", f"ogbench:{CUBE}")
    assert (task.horizon, task.score, task.references, task.rewards) == (200, "success", None, "none")
    assert registry.facts(task).dimensions == (28, 5)
    assert ogbench.download(CUBE).path == "ogbench/cube-single-play-v0.npz"
    assert tasks.get("cube-single-play-singletask-v0") == task


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("antmaze-large-navigate", 1),
        ("humanoidmaze-giant-stitch", 1),
        ("antsoccer-arena-navigate", 4),
        ("scene-play", 2),
        ("puzzle-3x3-noisy", 4),
        ("puzzle-4x6-play", 2),
    ],
)
def test_a_name_without_a_number_is_the_sets_default_task(name, default):
    assert tasks.get(f"{name}-singletask-v0").name == f"{name}-singletask-task{default}-v0"


@pytest.mark.parametrize(
    "name",
    ["cube-single-play-singletask-task6-v0", "cube-single-navigate-singletask-v0", "cube-nine-play-singletask-v0"],
)
def test_another_name_is_refused(name):
    swgctl("task", "show", name).refused(2, "no task is called")


def test_a_family_is_listed_by_itself():
    listed = swgctl("task", "ls", "--family", "ogbench").lines
    assert listed == registry.names("ogbench")
    assert len(listed) == len(set(listed)) == 235
    assert not set(listed) & set(tasks.names())
    assert all(tasks.get(name).name == name for name in listed)
    assert swgctl("task", "ls", "--family", "kitchen").lines == [
        f"kitchen-{kind}-v0" for kind in ("complete", "partial", "mixed")
    ]
    swgctl("task", "ls", "--family", "kitchn").refused(2, "did you mean 'kitchen'")


@pytest.mark.parametrize(("name", "discount"), [(CUBE, 0.99), ("antsoccer-arena-navigate-singletask-v0", 0.995)])
def test_recipes_have_fqls_protocol(name, discount):
    found = yaml.safe_load("\n".join(swgctl("recipe", "show", name).lines))
    assert found["critic"]["gamma"] == discount
    assert found["eval"]["episodes"] == 50
    assert (found["critic"]["steps"], found["diffuse"]["steps"]) == (1_000_000, 1_000_000)
    assert tasks.get(name).recipe in config.recipe_names()


def test_fqls_means_are_shown_and_not_taken_for_a_tasks():
    assert quoted.scores(CUBE, "fql") == {}
    means = {"BC": 5, "IQL": 83, "ReBRAC": 91, "IDQL": 95, "SRPO": 80, "CAC": 85, "FAWAC": 81, "FBRAC": 79, "IFQL": 79}
    assert quoted.averages(CUBE, "fql") == means | {"FQL": 96}
    shown = swgctl("task", "show", CUBE, "--json").json["scores"]
    assert shown == {"FQL, arXiv 2502.02538, the mean of its family": means | {"FQL": 96}}
    assert quoted.averages("puzzle-4x4-play-singletask-task1-v0", "fql")["IDQL"] == 29
    assert quoted.averages("antmaze-giant-navigate-singletask-task5-v0", "fql")["ReBRAC"] == 26


def test_without_the_package_a_line_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    for command in (("data", "fetch"), ("critic",)):
        answer = swgctl(*command, CUBE)
        answer.refused(3, "need the package ogbench")
        assert answer.helps == ["pip install 'swgctl[ogbench]'"]


def test_a_records_source_is_a_task_or_nothing():
    for where in ("../../etc/passwd", "cube-single-play-v0", ""):
        with pytest.raises(CorruptError, match="is no single task of OGBench"):
            ogbench.download(where)
