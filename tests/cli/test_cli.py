"""Every command from outside: exit code, the bytes on stdout, the text on stderr."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.harness import Chain, shell, swgctl

COMMAND = Path(sys.executable).with_name("swgctl")
OBJECT = {"schema", "stage", "task", "key", "digest", "path", "status", "seeds", "wall_s", "metrics"}
CELL = {
    *("rho", "candidates", "sampler", "temperature", "episodes", "seeds"),
    *("return_mean", "return_ci95", "score_mean", "score_ci95"),
}
METRICS = {
    "critic": {"steps", "steps_per_s", "q_loss", "v_loss"},
    "augment": {"mean", "min", "max", "ess", "quantiles"},
    "diffuse": {"steps", "steps_per_s", "loss"},
    "eval": {"cells"},
}


def stage(chain: Chain, name: str, *more):
    """A stage's command with the chain's own settings."""
    return chain.critic(*more) if name == "critic" else swgctl(name, "--recipe", chain.recipe, *more)


# -- one path, or one object -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["critic", "augment", "diffuse", "eval"])
def test_a_stage_prints_the_path_of_its_artifact(chain, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    answer = stage(chain, name, "--force")
    assert answer.path == chain.made(name)
    assert f"{name}: built {answer.path.name}" in answer.err


@pytest.mark.parametrize("name", ["critic", "augment", "diffuse", "eval"])
def test_json_is_one_object_with_the_promised_names(chain, name):
    answer = stage(chain, name, "--json", "--force").json
    assert answer.keys() == OBJECT
    assert (answer["stage"], answer["task"], answer["seeds"]) == (name, "pendulum", [0])
    assert answer["status"] == "built"
    assert Path(answer["path"]) == chain.made(name)
    assert answer["key"].startswith(chain.made(name).name)
    assert answer["metrics"].keys() >= METRICS[name]
    assert answer["wall_s"] > 0


@pytest.mark.parametrize("name", ["critic", "augment", "diffuse", "eval"])
def test_a_second_run_is_cached(chain, name):
    before = stage(chain, name).path.stat().st_mtime_ns
    answer = stage(chain, name, "--json").json
    assert answer["status"] == "cached"
    assert Path(answer["path"]).stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["critic", "augment", "diffuse", "eval"])
def test_force_builds_the_same_bytes_again(chain, name):
    digest = json.loads((chain.made(name) / "artifact.json").read_text())["digest"]
    assert stage(chain, name, "--json", "--force").json["digest"] == digest


def test_run_does_all_four_stages(built, tmp_path):
    path = built.run("--json", "--seeds", "1").json["path"]
    assert [Path(line).parent.parent.name for line in swgctl("tree", path).lines][-1] == "critic"
    again = built.run("--json", "--seeds", "1").json
    assert (again["path"], again["status"]) == (path, "cached")


def test_an_evaluations_cells_have_the_promised_names(chain):
    answer = stage(chain, "eval", "--rho", "0,1,2.5", "--resample", "1", "--resample", "2", "--json").json
    cells = answer["metrics"]["cells"]
    assert all(cell.keys() >= CELL for cell in cells)
    assert [(cell["candidates"], cell["rho"]) for cell in cells] == [(m, r) for m in (1, 2) for r in (0, 1, 2.5)]
    assert {cell["score_mean"] for cell in cells} == {None}  # a file has no reference scores


def test_an_evaluations_table_shows_every_cell_on_stderr(chain):
    answer = stage(chain, "eval", "--rho", "0,7")
    assert "data, best episode" in answer.err
    assert "behaviour model" in answer.err
    assert any("SWG" in line and " 7 " in line for line in answer.err.splitlines())


def test_augment_reports_quantiles_of_the_weights(chain):
    metrics = stage(chain, "augment", "--json").json["metrics"]
    values = [value for _, value in sorted(metrics["quantiles"].items())]
    assert values == sorted(values)
    assert metrics["min"] <= values[0] <= values[-1] <= metrics["max"]
    assert 0 < metrics["ess"] <= 1


# -- looking -----------------------------------------------------------------------------------------------------------


def test_ls_prints_a_directory_a_line(chain):
    answer = swgctl("ls")
    assert {Path(line) for line in answer.lines} == set(chain.store.glob("objects/*/*/*"))
    assert "pendulum" in answer.err


def test_ls_by_stage_and_task(chain):
    assert swgctl("ls", "--stage", "critic").path == chain.made("critic")
    assert swgctl("ls", "--task", "another").out == ""


def test_ls_json_is_an_object_a_line(chain):
    objects = [json.loads(line) for line in swgctl("ls", "--json").lines]
    assert {o["stage"] for o in objects} == {"critic", "augment", "diffuse", "eval"}


def test_ls_of_an_empty_store_is_empty():
    assert swgctl("ls").lines == []


def test_show_prints_the_path_and_says_what_is_inside(chain):
    answer = swgctl("show", chain.made("augment").name[:6])
    assert answer.path == chain.made("augment")
    assert "quantiles.0.5" in answer.err
    assert "ess" in answer.err
    assert "float32 (1, 400)" in answer.err


def test_show_says_where_a_parameter_comes_from(chain):
    lines = swgctl("show", chain.made("critic")).err.splitlines()
    (steps,) = [line for line in lines if line.split()[:1] == ["steps"] and "--recipe" in line]
    assert "60" in steps


def test_show_json_is_one_object(chain):
    answer = swgctl("show", "--json", chain.made("diffuse")).json
    assert answer["params"]["width"] == 16
    assert any(name.startswith("ema.") for name in answer["shapes"]["policy.safetensors"])


def test_tree_leads_from_the_evaluation_to_the_critic(chain):
    answer = swgctl("tree", chain.made("eval"))
    assert [Path(line).parent.parent.name for line in answer.lines] == ["eval", "diffuse", "augment", "critic"]
    assert str(chain.data) in answer.err


@pytest.mark.parametrize("command", ["ls", "show", "tree", "verify"])
def test_paths_are_whole_on_a_narrow_terminal(chain, command, monkeypatch):
    args = [command, *([chain.made("eval")] if command in ("show", "tree") else [])]
    wide = swgctl(*args).lines
    monkeypatch.setenv("COLUMNS", "20")
    assert swgctl(*args).lines == wide
    assert shell(f"swgctl {' '.join(map(str, args))}").lines == wide


def test_tree_json_is_nested(chain):
    answer = swgctl("tree", "--json", chain.made("eval")).json
    assert answer["inputs"]["diffuse"]["inputs"]["augment"]["inputs"]["critic"]["stage"] == "critic"


def test_diff_names_what_differs(chain):
    other = stage(chain, "augment", "--weight", "exponential").path
    answer = swgctl("diff", "--json", chain.made("diffuse").name, other).json["different"]
    assert answer["stage"] == ["diffuse", "augment"]
    answer = swgctl("diff", chain.made("critic"), chain.made("critic"))
    assert "no difference" in answer.err
    assert len(answer.lines) == 2


def test_verify_prints_a_line_an_artifact(chain):
    assert {Path(line) for line in swgctl("verify").lines} == set(chain.store.glob("objects/*/*/*"))
    assert swgctl("verify", chain.made("eval").name).path == chain.made("eval")


@pytest.mark.parametrize(("kind", "start"), [("rho", "eval"), ("weights", "eval"), ("weights", "augment")])
def test_a_plot_is_one_path(chain, kind, start, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert swgctl("plot", kind, chain.made(start)).path.stat().st_size > 1000


def test_a_plot_where_it_is_wanted(chain, tmp_path):
    assert swgctl("plot", "weights", chain.made("augment"), "--out", tmp_path / "w.svg").path == tmp_path / "w.svg"
    swgctl("plot", "weights", chain.made("augment"), "--out", tmp_path / "w.txt").refused(2, "w.txt")
    swgctl("plot", "rho", chain.made("augment")).refused(3, "augment")


def test_a_plot_takes_the_only_one_that_fits(chain):
    assert swgctl("plot", "rho").path.name == f"rho-pendulum-{chain.made('eval').name}.png"
    none = swgctl("plot", "posterior")
    none.refused(3, "has no guide artifact")
    assert none.helps == ["swgctl run TASK"]


def test_tasks_and_recipes_are_listed_one_a_line():
    assert "halfcheetah-medium-v2" in swgctl("task", "ls").lines
    assert "demo" in swgctl("recipe", "ls").lines


# -- the parser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("recipe",), ("plot",), ("task",)])
def test_a_command_without_its_subcommand_prints_its_help(args):
    answer = swgctl(*args)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("Usage: swgctl")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("crtic",), ("crtic", "critic")),
        (("critic",), ("task",)),
        (("eval", "--rh", "3"), ("--rh", "--rho")),
        (("critic", "demo", "--steps", "many"), ("--steps", "integer")),
        (("eval", "--rho", "1,x"), ("--rho", "1,x")),
        (("ls", "--stage", "critc"), ("critc", "critic")),
        (("plan", "demo", "--format", "tabel"), ("tabel",)),
    ],
)
def test_a_wrong_word_is_one_error_line(args, words):
    swgctl(*args).refused(2, *words)


def test_help_is_for_stdout_and_names_the_exit_codes():
    answer = swgctl("--help")
    assert answer.code == 0
    assert "75" in answer.out
    assert "critic" in swgctl("critic", "--help").out


# -- real processes ----------------------------------------------------------------------------------------------------


def test_a_real_process_keeps_stdout_to_one_path(chain):
    answer = shell(f"swgctl augment --recipe {chain.recipe} --weight exponential", COLUMNS="20")
    assert answer.path.parent.parent.name == "augment"
    assert "augment: built" in answer.err


QUICK = """
import sys
from swgctl.cli import main

for line in sys.argv[1:]:
    sys.argv = ["swgctl", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, (line, end.code)
    assert "torch" not in sys.modules, line
"""


def test_looking_does_not_import_torch(chain):
    evaluation = chain.made("eval")
    lines = [
        *("--help", "critic --help", "ls", "ls --json", f"show {evaluation}", f"show --json {evaluation}"),
        *(f"show {chain.made('diffuse')}", f"show {chain.made('augment')}", f"tree {evaluation}", "task ls"),
        *("recipe ls", "recipe show demo", "recipe validate --all", f"recipe show {chain.data} --env Pendulum-v1"),
        *(f"diff {evaluation} {chain.made('diffuse')}", "verify", "gc", "plan demo --format commands"),
    ]
    done = subprocess.run([sys.executable, "-c", QUICK, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.timing
@pytest.mark.parametrize("name", ["critic", "augment", "diffuse", "eval"])
def test_what_is_cached_comes_at_once(chain, name):
    assert stage(chain, name, "--json").json["wall_s"] < 1


@pytest.mark.timing
@pytest.mark.parametrize("args", [["--help"], ["ls"]])
def test_an_answer_comes_quickly(chain, args):
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([COMMAND, *args], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.5


def test_a_reader_that_goes_away_is_no_error(chain):
    answer = shell(
        "set -o pipefail; swgctl recipe show demo | true && swgctl ls | head -n 1 && swgctl task ls --json | head -c 9",
        "bash",
        PYTHONUNBUFFERED="1",
    )
    assert answer.code == 0
    assert "error" not in answer.err
    assert answer.out.endswith('{"task": ')


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("SWGCTL_DEBUG", "1")
    assert "Traceback" in swgctl("show", "nothing").err


# -- which input -------------------------------------------------------------------------------------------------------


def test_a_stage_takes_what_this_shell_made(chain):
    other = chain.critic("--seeds", "7").path
    answer = stage(chain, "augment", "--json")
    assert answer.json["seeds"] == [7]
    assert f"from critic {other.name} (pendulum), which this shell made last" in answer.err


def test_a_cached_run_counts_as_made_in_this_shell(chain):
    chain.critic("--seeds", "7")
    chain.critic()
    assert stage(chain, "augment", "--json").json["seeds"] == [0]


def test_a_stage_takes_the_only_one_that_fits(chain):
    answer = stage(chain, "augment")
    assert "the only one that fits" in answer.err
    assert answer.path == chain.made("augment")


def test_two_scopes_do_not_see_each_other(chain, monkeypatch):
    for name, seed in (("one", "1"), ("two", "2")):
        monkeypatch.setenv("SWGCTL_SCOPE", name)
        chain.critic("--seeds", seed)
    for name, seed in (("one", 1), ("two", 2)):
        monkeypatch.setenv("SWGCTL_SCOPE", name)
        assert stage(chain, "augment", "--json").json["seeds"] == [seed]


def test_ambiguity_is_refused_with_lines_to_paste(chain, monkeypatch):
    chain.critic("--seeds", "7")
    monkeypatch.setenv("SWGCTL_SCOPE", "fresh")
    answer = stage(chain, "augment")
    answer.refused(3, "2 critic artifacts")
    which = [line.partition("#")[2].partition(", made")[0].strip() for line in answer.helps]
    assert which == ["critic of pendulum, seeds 7", "critic of pendulum, seeds 0"]
    pasted = swgctl(*shlex.split(answer.helps[1], comments=True)[1:], "--json").json
    assert pasted["seeds"] == [0]
    monkeypatch.setenv("SWGCTL_SCOPE", "another")
    several = swgctl("plot", "training")
    several.refused(3, "3 diffuse or", "artifacts fit")
    assert [line.partition("   #")[0].rpartition(" ")[0] for line in several.helps] == ["swgctl plot training"] * 3


def test_lines_to_paste_name_a_store_that_is_not_the_usual_one(chain, tmp_path, monkeypatch):
    shutil.copytree(chain.store, tmp_path / "my store")
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "usual"))
    usual = swgctl("show", "nothing")
    other = swgctl("show", "nothing", "--store", tmp_path / "my store")
    assert (usual.helps, other.helps) == (["swgctl ls"], [f"swgctl ls --store '{tmp_path / 'my store'}'"])
    assert len(swgctl(*shlex.split(other.helps[0])[1:]).lines) == 4


def test_a_stage_of_the_wrong_input_names_a_command_that_there_is(chain):
    answer = stage(chain, "augment", "--from", chain.made("eval").name)
    answer.refused(3, "augment starts from a critic")
    assert swgctl(*answer.helps[0].split()[1:]).path == chain.made("critic")


@pytest.mark.parametrize(
    ("args", "whose"),
    [
        (["run", "demo", "--set", "toy.lr=3"], "toy"),
        (["plan", "demo", "--grid", "toy.lr=1,2"], "toy"),
        (["recipe", "show", "demo", "--set", "toy.lr=3"], "toy"),
        (["recipe", "show", "moons", "--set", "critic.lr=3"], "run"),
        (["critic", "demo", "--set", "toy.lr=3"], "toy"),
        (["critic", "demo", "--set", "eval.rho=3"], "run"),
    ],
)
def test_a_setting_of_another_command_is_refused(args, whose):
    answer = swgctl(*args)
    answer.refused(2, "has no setting")
    assert answer.helps[0].startswith(f"swgctl {whose} ")


def test_nothing_that_fits_is_said_with_the_stage_to_run(tmp_path):
    for name, first in (("augment", "critic"), ("diffuse", "augment"), ("eval", "diffuse")):
        answer = swgctl(name)
        answer.refused(3, str(tmp_path / "store"))
        assert answer.helps[0].startswith(f"swgctl {first}")


@pytest.mark.parametrize("form", ["path", "id", "prefix"])
def test_from_a_directory_an_id_or_its_first_characters(chain, form):
    critic = chain.made("critic")
    chain.critic("--seeds", "7")
    ref = {"path": critic, "id": critic.name, "prefix": critic.name[:7]}[form]
    assert stage(chain, "augment", "--from", ref).path == chain.made("augment")


def test_from_standard_input(chain):
    line = chain.critic("--seeds", "7").out
    assert swgctl("augment", "--from", "-", "--json", stdin=line).json["seeds"] == [7]
    assert swgctl("show", "-", stdin=line).out == line
    swgctl("augment", "--from", "-", stdin="\n").refused(3, "standard input")


def test_an_empty_ref_is_not_the_same_as_none(chain):
    """As `--from "$(swgctl critic ...)"` gives where the critic has failed."""
    swgctl("augment", "--from", "").refused(3)


def test_the_task_filter(chain, pendulum):
    other = pendulum("other", 1)
    made = swgctl("critic", other, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    assert stage(chain, "augment", "--task", "other", "--json").json["task"] == "other"
    assert stage(chain, "augment", "--task", "pendulum", "--json").json["task"] == "pendulum"
    stage(chain, "augment", "--task", "third").refused(3, "third")
    stage(chain, "augment", "--from", made, "--task", "pendulum").refused(3, "other", "pendulum")


def test_what_was_taken_is_recorded(chain):
    record = json.loads((stage(chain, "augment", "--force").path / "artifact.json").read_text())
    assert record["inputs"]["critic"]["key"].startswith(chain.made("critic").name)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.slow  # two trainings in a shell
def test_a_shell_that_execs_its_last_command_is_the_same_shell(chain, pendulum):
    """bash replaces itself by the last command of `-c 'a && b'`, whose parent is then another process."""
    other = pendulum("other", 1)
    script = f"swgctl critic {other} --env Pendulum-v1 --recipe {chain.recipe} && swgctl augment --json"
    answer = shell(script, program="bash", SWGCTL_SCOPE="")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out.splitlines()[-1])["task"] == "other"
