"""Planning: what is cached, what would be built, and lines that can be run."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from harness import published, shell, swgctl

from swgctl import config
from swgctl.store import CHAIN


def plan(chain, *more):
    return swgctl("plan", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, *more)


def states(answer) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in answer.lines]
    return [(row["stage"], row["state"]) for row in rows]


def test_all_is_cached_after_a_run(chain):
    assert states(plan(chain, "--json")) == [(stage, "cached") for stage in CHAIN]


def test_what_follows_a_change_is_to_be_built(chain):
    answer = plan(chain, "--json", "--set", "diffuse.K=4")
    assert [state for _, state in states(answer)] == ["cached", "cached", "build", "build"]
    why = [json.loads(line)["why"] for line in answer.lines]
    assert why[0] == chain.made("critic").name
    assert why[2].startswith("no artifact ")
    assert why[3] == "its input is to be built: diffuse"


def test_a_plan_builds_nothing(chain):
    before = published(chain.store)
    answer = plan(chain, "--seeds", "5", "--set", "critic.steps=9")
    assert answer.lines == []
    assert "4 to build" in answer.err
    assert published(chain.store) == before
    assert not (chain.store / "work").exists() or list(chain.store.glob("work/*")) == []


def test_unfinished_work_is_said_to_be_resumed(chain):
    key = json.loads(plan(chain, "--json", "--seeds", "1").lines[0])["why"].split()[-1]
    (chain.store / "work" / key).mkdir(parents=True)
    (chain.store / "work" / key / "checkpoint.safetensors").touch()
    assert "resumed" in plan(chain, "--seeds", "1").err


def test_a_grid_is_every_combination_for_every_seeds(chain):
    grid = ["--grid", "diffuse.lr=1e-4,3e-4", "--grid", "critic.tau=0.7,0.9"]
    lines = plan(chain, *grid, "--seeds", "0-1", "--seeds", "2", "--format", "commands").lines
    assert len(lines) == len(set(lines)) == 8
    assert sum("--seeds 0-1" in line for line in lines) == 4
    assert sum("--set diffuse.lr=1e-4" in line for line in lines) == 4
    assert sum("--set critic.tau=0.9" in line for line in lines) == 4


def test_several_tasks():
    lines = swgctl("plan", "hopper-medium-v2", "walker2d-medium-v2", "--format", "commands").lines
    assert lines == ["swgctl run hopper-medium-v2", "swgctl run walker2d-medium-v2"]


def test_the_same_run_comes_once():
    """However it is written."""
    args = ["--seeds", "0-1", "--seeds", "0,1", "--grid", "diffuse.lr=1e-3,0.001,2e-3", "--format", "commands"]
    lines = swgctl("plan", "demo", "demo", *args).lines
    assert lines == [f"swgctl run demo --seeds 0-1 --set diffuse.lr={lr}" for lr in ("1e-3", "2e-3")]


def test_the_commands_run(chain, tmp_path):
    """By a shell, from another folder, for a file whose name has a space."""
    odd = tmp_path / "my data.hdf5"
    odd.write_bytes(chain.data.read_bytes())
    answer = swgctl("plan", odd, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--format", "commands")
    (line,) = answer.lines
    assert "/objects/eval/my-data/" in shell(line).out
    assert swgctl(*shlex.split(line)[1:], "--json").json["status"] == "cached"


GRID = ["--grid", "critic.tau=0.6,0.8", "--grid", "diffuse.lr=1e-3,2e-3", "--grid", "eval.seed=0,1"]


def test_what_runs_share_comes_once_with_until(chain):
    lines = {
        stage: plan(chain, *GRID, "--until", stage, "--format", "commands").lines
        for stage in ("critic", "augment", "diffuse")
    }
    assert {stage: len(of) for stage, of in lines.items()} == {"critic": 2, "augment": 2, "diffuse": 4}
    assert [line.partition(" --until ")[2] for line in lines["critic"]] == [
        "critic --set critic.tau=0.6",
        "critic --set critic.tau=0.8",
    ]
    assert all("diffuse.lr" in line and "eval.seed" not in line for line in lines["diffuse"])


def test_a_plan_says_what_to_run_first(chain):
    said = plan(chain, *GRID, "--format", "commands").err.splitlines()[-1]
    assert said.startswith("8 run(s): 2 critic, 2 augment, 4 diffuse, 8 eval; ")
    assert "--until augment, then of --until diffuse first" in said
    (alone,) = plan(chain, "--format", "commands").err.splitlines()
    assert alone == "1 run(s): 1 critic, 1 augment, 1 diffuse, 1 eval"


def test_run_until_a_stage_ends_with_its_artifact(chain):
    assert chain.run("--until", "critic").path == chain.made("critic")
    assert chain.run("--until", "diffuse", "--json").json["stage"] == "diffuse"
    assert states(plan(chain, "--json", "--until", "augment")) == [("critic", "cached"), ("augment", "cached")]


def test_run_until_a_stage_checks_the_settings_of_all(chain):
    chain.run("--until", "critic", "--rho", "-1").refused(2, "eval.rho")
    plan(chain, "--until", "critic", "--grid", "eval.rho=1,-1").refused(2, "eval.rho")


@pytest.mark.parametrize("command", [plan, lambda chain, *more: chain.run(*more)])
def test_until_a_stage_that_is_none(chain, command):
    command(chain, "--until", "difuse").refused(2, "difuse", "did you mean 'diffuse'")


WAYS = {
    "a loop": 'while read -r line; do sh -c "$line"; done <jobs.txt',
    "xargs": "xargs -d '\\n' -n 1 -P 2 sh -c <jobs.txt",
    "GNU parallel": "parallel -j 2 <jobs.txt",
    "a Slurm array": (
        "for task in $(seq 1 $(wc -l <jobs.txt)); do SLURM_ARRAY_TASK_ID=$task "
        """sh -c 'sed -n "${SLURM_ARRAY_TASK_ID}p" jobs.txt | sh'; done"""
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_lines_run_in_all_the_ways_of_the_readme(chain, way, tmp_path):
    """With names that a shell would take apart: a space, a quote and a dollar."""
    if way == "GNU parallel" and not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    odd = tmp_path / "it's $HOME"
    odd.mkdir()
    data, store = odd / "pendulum.hdf5", odd / "store"
    data.write_bytes(chain.data.read_bytes())
    chain.store.rename(store)
    args = ["--env", "Pendulum-v1", "--recipe", chain.recipe, "--store", store, "--format", "commands"]
    lines = swgctl("plan", data, *args, "--until", "diffuse").lines + swgctl("plan", data, *args).lines
    (tmp_path / "jobs.txt").write_text("".join(f"{line}\n" for line in lines))
    answer = shell(f"cd {tmp_path}; {WAYS[way]}")
    assert sorted(Path(line).parts[-3] for line in answer.lines) == ["diffuse", "eval"]
    assert sorted(answer.err.split()).count("cached") == 7


@pytest.mark.slow
def test_eight_chains_through_xargs_build_what_they_share_once(tmp_path, tiny, pendulum):
    """Two critics, four policies, eight evaluations; with the lines of --until first, no process waits for another."""
    args = ["--env", "Pendulum-v1", "--recipe", tiny, *GRID, "--format", "commands"]
    rounds = [["--until", "augment"], ["--until", "diffuse"], []]
    lines = [swgctl("plan", pendulum(), *args, *more).lines for more in rounds]
    assert [len(of) for of in lines] == [2, 4, 8]
    said = ""
    for of in lines:
        (tmp_path / "jobs.txt").write_text("".join(f"{line}\n" for line in of))
        answer = shell(f"cd {tmp_path}; {WAYS['xargs'].replace('-P 2', '-P 8')}", timeout=500)
        assert len(set(answer.lines)) == len(of)
        said += answer.err
    built = [line.partition(":")[0] for line in said.splitlines() if ": built " in line]
    assert {stage: built.count(stage) for stage in CHAIN} == {"critic": 2, "augment": 2, "diffuse": 4, "eval": 8}
    assert "waiting" not in said
    assert len(published(tmp_path / "store")) == 16


def test_commands_name_files_absolutely(chain, tmp_path, monkeypatch):
    monkeypatch.chdir(chain.data.parent)
    args = ["--env", "Pendulum-v1", "--recipe", chain.recipe.name, "--store", "mine", "--format", "commands"]
    (line,) = swgctl("plan", chain.data.name, *args).lines
    assert f"--store {chain.data.parent / 'mine'}" in line
    monkeypatch.chdir(tmp_path)
    args = line.replace(str(chain.data.parent / "mine"), str(chain.store))
    assert swgctl(*shlex.split(args)[1:], "--json").json["status"] == "cached"


def test_a_grid_over_lists(chain):
    """A value may itself hold commas."""
    lines = plan(chain, "--grid", "critic.hidden=[8],[8,8]", "--format", "commands").lines
    assert [line.rpartition(" ")[2] for line in lines] == ["'critic.hidden=[8]'", "'critic.hidden=[8,8]'"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--grid", "diffuse.lr"], ["diffuse.lr", "NAME=VALUE"]),
        (["--grid", "diffuse.lrr=1,2"], ["diffuse.lrr", "did you mean 'diffuse.lr'"]),
        (["--grid", "diffuse.lr=1e-4,fast"], ["diffuse.lr", "fast"]),
        (["--seeds", "a"], ["'a'"]),
    ],
)
def test_a_plan_that_cannot_be(chain, more, words):
    plan(chain, *more).refused(2, *words)
    swgctl("plan").refused(2, "tasks")
    swgctl("plan", "demoo").refused(2, "did you mean 'demo'")


# -- recipes as text ---------------------------------------------------------------------------------------------------


def test_recipe_show_prints_every_key_with_its_origin(chain):
    lines = swgctl("recipe", "show", "demo", "--set", "critic.tau=0.8", "--recipe", chain.recipe).lines
    origins = {line.split(":")[0].strip(): line.rpartition("# ")[2] for line in lines if ": " in line}
    assert origins["tau"] == "--set"
    assert origins["hidden"] == f"--recipe {chain.recipe}"
    assert origins["gamma"] == "default"
    fields = {name for stage in CHAIN for name in config.STAGES[stage].model_fields}
    assert fields <= origins.keys()


@pytest.mark.parametrize("task", ["demo", "hopper-medium-v2"])
def test_what_recipe_show_prints_is_a_recipe_of_the_same_keys(task, tmp_path):
    text = swgctl("recipe", "show", task, "--set", "critic.lr=0.00031", "--set", "seeds=0-2").out
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    assert swgctl("recipe", "validate", path).path == path
    shown = config.resolve(task, "", recipe=str(path))
    meant = config.resolve(task, task if task == "demo" else "locomotion", assignments=["critic.lr=0.00031"])
    assert shown.seeds == [0, 1, 2]
    for stage in CHAIN:
        assert shown[stage].keyed() == meant[stage].keyed()


def test_a_shown_recipe_finds_what_is_cached(chain, tmp_path):
    args = (chain.data, "--env", "Pendulum-v1")
    path = tmp_path / "shown.yaml"
    path.write_text(swgctl("recipe", "show", *args, "--recipe", chain.recipe).out)
    assert swgctl("run", *args, "--recipe", path, "--json").json["status"] == "cached"
