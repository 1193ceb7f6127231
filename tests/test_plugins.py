"""A package that extends swgctl, installed beside it: a guidance, a stage and a family of tasks."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.harness import CHAIN, Answer

pytestmark = pytest.mark.training

SOURCE = Path(__file__).parent / "support" / "plugin"
ENTRY_POINTS = """\
[swgctl.methods]
pull = swgctl_pull:PULL

[swgctl.stages]
probe = swgctl_pull:PROBE

[swgctl.tasks]
springs = swgctl_pull:SPRINGS
broken = swgctl_pull.missing:TASKS
"""
TASK = "spring-soft-v0"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of packages into which the plugin's wheel has been installed."""
    folder = tmp_path_factory.mktemp("plugin")
    about = "swgctl_pull-0.1.0.dist-info"
    wheel = folder / "swgctl_pull-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted((SOURCE / "swgctl_pull").iterdir()):
            if path.is_file():
                archive.write(path, path.relative_to(SOURCE))
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: swgctl-pull\nVersion: 0.1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/entry_points.txt", ENTRY_POINTS)
        archive.writestr(f"{about}/RECORD", "")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def plugged(site, tmp_path_factory):
    """plugged(*args): a command in a process that has the plugin, over one store."""
    folder = tmp_path_factory.mktemp("plugged")
    path = os.pathsep.join([str(site), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {name: value for name, value in os.environ.items() if not name.startswith("SWGCTL_")}
    env |= {"PYTHONPATH": path, "SWGCTL_STORE": str(folder / "store"), "SWGCTL_CACHE": str(folder / "cache")}
    env |= {"SWGCTL_SCOPE": "plugged", "OMP_NUM_THREADS": "1"}

    def plugged(*args) -> Answer:
        command = [sys.executable, "-m", "swgctl", *map(str, args)]
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
        return Answer(done.returncode, done.stdout, done.stderr)

    return plugged


@pytest.fixture(scope="module")
def evaluation(plugged) -> Path:
    """What the plugin's method makes of the plugin's task."""
    return plugged("run", TASK, "--method", "pull").path


def test_the_chain_of_a_plugins_method_on_a_plugins_task(evaluation, plugged):
    record = json.loads((evaluation / "artifact.json").read_text())
    assert record["params"]["method"] == "pull"
    assert [cell["rho"] for cell in record["metrics"]["cells"]] == [0, 2, 0, 2]
    assert all(cell["score_mean"] is not None for cell in record["metrics"]["cells"])
    listed = plugged("ls")
    assert {Path(line).parts[-3] for line in listed.lines} >= set(CHAIN)
    assert plugged("verify").code == 0


def test_its_guidance_acts(evaluation):
    """It pulls Pendulum's torque up: a guided episode is another than the unguided one of the same start and noise."""
    header, *rows = (evaluation / "episodes.csv").read_text().splitlines()
    assert header == "seed,rho,candidates,temperature,episode,return,length,score"  # its guidance counts nothing
    returns = {(row["rho"], row["candidates"]): float(row["return"]) for row in csv.DictReader([header, *rows])}
    assert returns["0.0", "1"] != returns["2.0", "1"]


def test_reports_call_it_by_its_label(evaluation, plugged):
    policies = {row["policy"] for row in csv.DictReader(plugged("report", "--format", "csv").lines)}
    assert {"behaviour model", "behaviour model, resampled", "Pull", "Pull-R"} <= policies
    assert not {"SWG", "SWG-R"} & policies
    assert " Pull " in plugged("show", evaluation).err


@pytest.mark.slow
def test_the_same_policy_serves_both_methods(evaluation, plugged):
    swg = plugged("run", TASK)
    inputs = [json.loads((path / "artifact.json").read_text())["inputs"] for path in (evaluation, swg.path)]
    assert inputs[0] == inputs[1]
    assert "diffuse: cached" in swg.err


def test_its_stage_trains_something_and_takes_several_inputs(evaluation, plugged):
    made = plugged("probe", "--recipe", "spring", "--json").json
    assert made["metrics"]["others"] == 0
    critic = next(evaluation.parents[2].glob("critic/*/*"))
    other = plugged("critic", TASK, "--set", "critic.tau=0.9").path
    both = plugged("probe", "--from", f"other={critic}", "--from", f"other={other}", "--json").json
    assert both["metrics"]["others"] == 2
    record = json.loads((Path(both["path"]) / "artifact.json").read_text())
    assert record["inputs"].keys() == {"augment", "other", "other.2"}
    assert record["params"] == {"ridge": 2.0}
    assert {Path(path).parts[-3] for path in plugged("tree", both["path"]).lines} == {"probe", "augment", "critic"}
    plugged("probe", "--from", f"critic={other}").refused(2, "probe has no input 'critic'")


def test_plans_know_it(evaluation, plugged):
    states = [json.loads(line) for line in plugged("plan", TASK, "--set", "eval.method=pull", "--json").lines]
    assert [(row["stage"], row["state"]) for row in states] == [(stage, "cached") for stage in CHAIN]


def test_help_lists_its_command_and_its_task_is_a_task(plugged):
    assert "probe" in plugged("--help").out
    assert "--from" in plugged("probe", "--help").out
    assert TASK in plugged("task", "ls").lines


def test_a_plugin_that_cannot_be_imported_is_named_in_one_line_and_the_rest_works(plugged):
    answer = plugged("task", "ls")
    lines = [line for line in answer.err.splitlines() if line.startswith("plugin ")]
    assert lines == [
        "plugin swgctl-pull is left out: broken = swgctl_pull.missing:TASKS: "
        "ModuleNotFoundError: No module named 'swgctl_pull.missing'"
    ]
    assert answer.code == 0
