"""Planning: what is cached, what would be built, and lines that can be run."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from support.harness import CHAIN, published, shell, swgctl

from swgctl import config
from swgctl.config import recipes


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


def test_what_several_runs_share_is_counted_once(chain):
    """A critic and an augmented data set, then a denoiser and an evaluation of each rate."""
    answer = plan(chain, "--seeds", "5", "--grid", "diffuse.lr=1e-4,3e-4")
    assert "2 run(s), 0 stage(s) cached, 6 to build" in answer.err


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
    tasks = ["hopper-medium-v2", "walker2d-medium-v2"]
    lines = swgctl("plan", *tasks, "--store", "/a store", "--format", "commands").lines
    assert lines == [f"swgctl run {task} --store '/a store'" for task in tasks]


def test_the_same_run_comes_once():
    """However it is written."""
    args = ["--seeds", "0-1", "--seeds", "0,1", "--grid", "diffuse.lr=1e-3,0.001,2e-3", "--format", "commands"]
    lines = swgctl("plan", "demo", "demo", *args, "--store", "/store").lines
    assert lines == [f"swgctl run demo --seeds 0-1 --store /store --set diffuse.lr={lr}" for lr in ("1e-3", "2e-3")]


@pytest.mark.parametrize("named", ["elsewhere", None])
def test_each_line_names_the_store_that_is_meant(named, tmp_path, monkeypatch):
    """As $SWGCTL_STORE or the nearest swg-store/ have it here: the line runs from anywhere."""
    (tmp_path / "swg-store").mkdir()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("SWGCTL_STORE", raising=False)
    if named:
        monkeypatch.setenv("SWGCTL_STORE", named)
    (line,) = swgctl("plan", "demo", "--format", "commands").lines
    assert line == f"swgctl run demo --store {tmp_path / 'below' / named if named else tmp_path / 'swg-store'}"


def test_two_formats_are_refused():
    swgctl("plan", "demo", "--json", "--format", "commands").refused(2, "two formats")


def test_a_setting_is_varied_once():
    grid = ["--grid", "diffuse.lr=1e-4,2e-4", "--grid", "diffuse.lr = 3e-4"]
    answer = swgctl("plan", "demo", *grid)
    answer.refused(2, "two --grid of diffuse.lr")
    assert answer.helps == ["swgctl plan TASK --grid diffuse.lr=1e-4,2e-4,3e-4"]


@pytest.mark.slow  # a whole chain, in its own processes
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


def test_points_of_equal_candidates_are_left_out_of_a_grid(chain):
    grid = ["--grid", "eval.temperature=0,0.5", "--grid", "eval.resample=1,8"]
    answer = plan(chain, *grid, "--format", "commands")
    points = [line.split("eval.temperature=")[1] for line in answer.lines]
    assert points == ["0 --set eval.resample=1", "0.5 --set eval.resample=1", "0.5 --set eval.resample=8"]
    assert "1 run(s) left out: at temperature 0 all candidates are equal" in answer.err
    plan(chain, "--grid", "eval.temperature=0", "--grid", "eval.resample=4,8").refused(2, "--resample 1")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--grid", "diffuse.lr"], ["diffuse.lr", "NAME=VALUE"]),
        (["--grid", "=1,2"], ["--grid '=1,2'", "NAME=VALUE"]),
        (["--grid", "diffuse.lrr=1,2"], ["diffuse.lrr", "did you mean 'diffuse.lr'"]),
        (["--grid", "diffuse.lr=1e-4,fast"], ["diffuse.lr", "fast"]),
        (["--seeds", "a"], ["'a'"]),
    ],
)
def test_a_plan_that_cannot_be(chain, more, words):
    plan(chain, *more).refused(2, *words)
    swgctl("plan").refused(2, "TASK")
    swgctl("plan", "demoo").refused(2, "did you mean 'demo'")


def test_a_plan_refuses_what_its_lines_would_be_refused_for(chain):
    linex = chain.run("--set", "augment.weight=linex")
    linex.refused(2, "'linex' needs V trained with the linex loss")
    planned = plan(chain, "--grid", "augment.weight=expectile,linex", "--format", "commands")
    assert (planned.code, planned.out, planned.err) == (linex.code, linex.out, linex.err)
    assert "4 to build" in plan(chain, "--set", "critic.loss=linex", "--grid", "augment.weight=linex").err


def test_a_format_that_is_none_has_the_nearest_to_paste(chain):
    for told, meant in (("jsn", "json"), ("tabel", "table"), ("command", "commands"), ("x", "commands")):
        answer = plan(chain, "--format", told)
        answer.refused(2, f"'{told}'")
        assert answer.helps == [f"swgctl plan TASK --format {meant}"]
    assert plan(chain, "--format", "json").lines == plan(chain, "--json").lines
    assert "[table|commands|json|slurm]" in swgctl("plan", "--help").out


# -- sound recipes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def validate(tmp_path):
    """validate(text): what `recipe validate` says of it."""
    path = tmp_path / "mine.yaml"
    return lambda text: path.write_text(text) and swgctl("recipe", "validate", path)


@pytest.mark.parametrize(
    ("text", "word", "task"),
    [
        ("eval: {temperature: 0, resample: 8}", "eval.temperature = ", "demo"),
        ("diffuse: {blocks: 1}", "diffuse.weight_block = 2", "demo"),
        ("augment: {weight: linex}", "needs V trained with the linex loss", "demo"),
        ("tasks: {hopper-medium-v2: {eval: {temperature: 0, resample: 8}}}", "eval.temperature = ", "hopper-medium-v2"),
        ("tasks: {demo: {seeds: 1}, pen-cloned-v0: {diffuse: {blocks: 1}}}", "weight_block = 2", "pen-cloned-v0"),
        ("agent: {steps: 10, epochs: 4}", "agent.epochs = 4 does not divide agent.steps = 10", "demo"),
        ("toy: {beta_max: 5}", "toy.beta = [0", "8gaussians"),
    ],
)
def test_a_recipe_that_no_run_takes_is_not_sound(validate, text, word, task):
    answer = validate(text)
    answer.refused(2, "mine.yaml", word)
    assert answer.helps == [f"swgctl recipe show {task}   # lists every key"]
    assert swgctl("recipe", "show", task).code == 0


def test_what_is_sound_with_the_rest_of_it_is(validate):
    sound = "eval: {temperature: 0}", "diffuse: {blocks: 1, weight_block: 1}", "seeds: 0-4", "# nothing"
    single = "cube-single-play-singletask-task1-v0"  # named by a rule, and in no list
    sound = *sound, f"tasks: {{{single}: {{critic: {{tau: 0.8}}}}}}"
    for text in (*sound, "toy: {beta_max: 5, beta: 5}", "{critic: {loss: linex}, augment: {weight: linex}}"):
        assert validate(text).path.name == "mine.yaml"


def test_all_wrong_recipes_are_reported_and_the_sound_ones_printed(validate, tmp_path):
    wrong, sound = tmp_path / "wrong.yaml", tmp_path / "sound.yaml"
    wrong.write_text("criticc: {tau: 0.8}")
    validate("diffuse: {blocks: 1}")
    sound.write_text("critic: {tau: 0.8}")
    answer = swgctl("recipe", "validate", wrong, tmp_path / "mine.yaml", "nothing", sound)
    assert (answer.code, answer.out) == (2, f"{sound}\n")
    for problem in ("unknown key 'criticc'", "weight_block = 2", "no recipe 'nothing'"):
        assert problem in answer.err
    assert answer.helps == ["swgctl recipe show demo   # lists every key", "swgctl recipe ls"]


def test_a_recipe_that_some_families_take_says_which_do_not(validate, tmp_path, monkeypatch):
    shipped = shutil.copytree(config.recipes_folder(), tmp_path / "recipes")
    (shipped / "kitchen.yaml").write_text("diffuse: {blocks: 4}")
    monkeypatch.setattr(recipes, "recipes_folder", lambda: shipped)
    answer = validate("diffuse: {weight_block: 4}")
    assert answer.path.name == "mine.yaml"
    told = [line.partition("not on top of the recipe ")[2].partition(":")[0] for line in answer.err.splitlines()]
    families = {"adroit", "antmaze", "default", "demo", "local", "locomotion", "maze2d", "ogbench", "ogbench-long"}
    assert (set(told), len(told)) == (families, len(families))


def test_what_is_wrong_with_a_task_points_to_that_task(chain):
    """With a file to the demo, since its name is no task's."""
    for args, meant in ((["hopper-medium-v2"], "hopper-medium-v2"), ([chain.data, "--env", "Pendulum-v1"], "demo")):
        answer = swgctl("recipe", "show", *args, "--set", "eval.temperature=-1")
        answer.refused(2, "eval.temperature")
        assert answer.helps == [f"swgctl recipe show {meant}   # lists every key"]


# -- recipes as text ---------------------------------------------------------------------------------------------------


def test_recipe_show_prints_every_key_with_its_origin(chain):
    lines = swgctl("recipe", "show", "demo", "--set", "critic.tau=0.8", "--recipe", chain.recipe).lines
    origins = {line.split(":")[0].strip(): line.rpartition("# ")[2] for line in reversed(lines) if ":" in line}
    assert origins["tau"] == "--set"
    assert origins["hidden"] == f"--recipe {chain.recipe}"
    assert origins["gamma"] == "default"
    fields = {name for stage, row in config.stages().items() if stage != "toy" for name in row.settings.model_fields}
    assert {"synth", "dynamics"} <= origins.keys()
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


def test_methods_of_one_plan_may_read_different_settings_of_their_guides():
    """dps trains nothing; the command of its own guide would refuse this."""
    rows = [
        json.loads(line)
        for line in swgctl("plan", "demo", "--method", "dps,mse", "--set", "guide.steps=7", "--json").lines
    ]
    assert [row["stage"] for row in rows].count("guide") == 2


def test_methods_are_an_axis_each_with_its_chain():
    rows = [json.loads(line) for line in swgctl("plan", "demo", "--method", "swg,cep", "--json").lines]
    stages: dict[str, list[str]] = {}
    for row in rows:
        stages.setdefault(row["run"].rpartition("=")[2], []).append(row["stage"])
    assert stages["swg"] == ["critic", "augment", "diffuse", "eval"]
    assert sorted(stages["cep"]) == ["behaviour", "candidates", "critic", "eval", "guide"]
    answer = swgctl("plan", "demo", "--method", "swg,cep", "--format", "commands")
    assert "1 critic, 1 augment, 1 diffuse, 1 behaviour, 1 candidates, 1 guide, 2 eval" in answer.err
    answer = swgctl("plan", "demo", "--method", "aepo", "--grid", "guide.posterior=1,2", "--format", "commands")
    assert "run the lines of --until critic, then of --until behaviour first" in answer.err
    assert "did you mean 'ddice'" in swgctl("plan", "demo", "--method", "ddize").error


def test_a_critic_that_learns_from_candidates_is_built_step_by_step():
    error = swgctl("run", "demo", "--set", "critic.loss=isq").error
    assert "learns from candidates" in error
