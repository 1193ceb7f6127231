"""Planning: what is cached, what would be built, and lines that can be run."""

import json
import shlex

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
    assert len(swgctl("plan", "demo", "demo", "--seeds", "0", "--seeds", "0", "--format", "commands").lines) == 1


def test_the_commands_run(chain, tmp_path):
    """By a shell, from another folder, for a file whose name has a space."""
    odd = tmp_path / "my data.hdf5"
    odd.write_bytes(chain.data.read_bytes())
    answer = swgctl("plan", odd, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--format", "commands")
    (line,) = answer.lines
    assert "/objects/eval/my-data/" in shell(line).out
    assert swgctl(*shlex.split(line)[1:], "--json").json["status"] == "cached"


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
