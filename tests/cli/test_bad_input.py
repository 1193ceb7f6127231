"""Bad input gets one line that says what and where, one that helps, the right exit code, and leaves nothing behind."""

import json
import resource
import shlex
import shutil
import subprocess

import gymnasium
import numpy as np
import pytest
from support.harness import flip, published, shell, swgctl, write_pendulum
from support.records import moved

from swgctl.errors import InputError


def critic(data, *more):
    return swgctl("critic", data, "--env", "Pendulum-v1", *more)


@pytest.fixture(autouse=True)
def nothing_half_written(tmp_path):
    """Whatever a test does, its store holds whole artifacts or none, and no writer's leftovers."""
    yield
    store = tmp_path / "store"
    assert all((path / "artifact.json").is_file() for path in published(store))
    assert list(store.glob("tmp/*")) == []


# -- the data ----------------------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    critic(tmp_path / "none.hdf5").refused(3, "none.hdf5", "no such file")


def test_a_truncated_file(pendulum):
    path = pendulum()
    path.write_bytes(path.read_bytes()[:3000])
    critic(path).refused(4, str(path), "not a whole HDF5 file")


def test_a_file_that_is_not_hdf5(tmp_path):
    path = tmp_path / "text.hdf5"
    path.write_text("observations, actions\n" * 100)
    critic(path).refused(4, str(path), "not a whole HDF5 file")


ROWS = 400
BAD = {
    "a missing array": ({"rewards": None}, ["rewards is missing"]),
    "two missing arrays": ({"rewards": None, "actions": None}, ["rewards is missing", "actions is missing"]),
    "rows of unequal length": ({"rewards": np.zeros(ROWS - 1)}, ["rows differ", "rewards 399"]),
    "NaN": ({"rewards": np.where(np.arange(ROWS) == 7, np.nan, 0)}, ["rewards", "NaN", "row 7"]),
    "infinity": ({"observations": np.full((ROWS, 3), np.inf)}, ["observations", "1200", "row 0"]),
    "text": ({"actions": np.full((ROWS, 1), b"left")}, ["actions", "not numbers"]),
    "no rows": ({"rewards": np.zeros(0)}, ["rewards is empty"]),
    "another environment's": ({"observations": np.zeros((ROWS, 4))}, ["observations", "4 dimensions", "Pendulum-v1 3"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays(name, pendulum, tmp_path, tiny):
    changes, words = BAD[name]
    path = pendulum(**changes)
    critic(path, "--recipe", tiny).refused(3, str(path), *words)
    assert published(tmp_path / "store") == []


def test_actions_outside_the_bounds_are_refused_with_their_share(pendulum, tiny):
    path = pendulum(actions=np.where(np.arange(ROWS) < 40, 1.5, 0.5)[:, None])
    refusal = critic(path, "--recipe", tiny)
    refusal.refused(3, str(path), "10.00%", "1.5")
    assert "--clip-actions" in refusal.helps[0]


def test_actions_outside_the_bounds_are_clipped_when_told_so(pendulum, tiny):
    path = pendulum(actions=np.where(np.arange(ROWS) < 40, 1.5, 0.5)[:, None])
    made = critic(path, "--recipe", tiny, "--clip-actions").path
    assert json.loads((made / "artifact.json").read_text())["params"]["clip_actions"] is True
    assert swgctl("augment").path


def test_a_data_file_that_changed_after_the_critic_was_fitted(pendulum, tiny):
    path = pendulum()
    assert critic(path, "--recipe", tiny).path
    write_pendulum(path, seed=1)
    answer = swgctl("augment")
    answer.refused(3, str(path), "has changed")
    pasted = shlex.split(answer.helps[0], comments=True)[1:]
    assert swgctl(*pasted, "--recipe", tiny, "--json").json["status"] == "built"
    assert swgctl("augment").path


def test_a_data_file_that_is_gone(pendulum, tiny):
    path = pendulum()
    assert critic(path, "--recipe", tiny).path
    path.unlink()
    swgctl("augment").refused(3, str(path))


# -- unknown words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["critic", "halfcheeta-medium-v2"], ["halfcheeta-medium-v2", "did you mean 'halfcheetah-medium-v2'"]),
        (["critic", "demo", "--env", "Hopper-v4"], ["demo", "Hopper-v4"]),
        (["critic", "demo", "--recipe", "demoo"], ["demoo", "did you mean 'demo'"]),
        (["critic", "demo", "--set", "critic.lrr=1"], ["critic.lrr", "did you mean 'critic.lr'"]),
        (["critic", "demo", "--set", "lr=1"], ["'lr'", "did you mean 'critic.lr'"]),
        (["critic", "demo", "--set", "critic.lr"], ["critic.lr", "NAME=VALUE"]),
        (["critic", "demo", "--set", "critic.lr=[1"], ["critic.lr"]),
        (["critic", "demo", "--set", "critic.lr=fast"], ["critic.lr", "'fast'", "--set"]),
        (["critic", "demo", "--loss", "expectil"], ["critic.loss", "'expectile'"]),
        (["critic", "demo", "--tau", "1.5"], ["critic.tau", "1.5"]),
        (["critic", "demo", "--seeds", "4-0"], ["4-0"]),
        (["recipe", "show", "dem"], ["dem", "did you mean 'demo'"]),
        (["recipe", "show", "aepo"], ["'aepo' is a recipe"]),
        (["recipe", "validate"], ["recipes"]),
        (["critic", "demo", "--stepps", "3"], ["--stepps", "--steps"]),
    ],
)
def test_an_unknown_word_comes_with_the_nearest(args, words, tmp_path):
    swgctl(*args).refused(2, *words)
    assert published(tmp_path / "store") == []


def test_an_unknown_device(pendulum, tmp_path):
    critic(pendulum(), "--device", "gpu").refused(2, "gpu")
    assert published(tmp_path / "store") == []


def test_an_unknown_environment(pendulum):
    swgctl("critic", pendulum(), "--env", "Pendulm-v1").refused(2, "Pendulm-v1", "did you mean 'Pendulum-v1'")
    swgctl("critic", pendulum(), "--env", "Hopper-v2").refused(2, "Hopper-v2")
    swgctl("critic", pendulum()).refused(2, "environment")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["augment", "--weight", "expectil"], ["augment.weight", "'expectile'"]),
        (["eval", "--rho", "-1"], ["eval.rho", "from 0 to 1,000,000"]),
        (["eval", "--rho", "1e39"], ["eval.rho", "from 0 to 1,000,000"]),
        (["eval", "--rho", "nan"], ["eval.rho", "finite"]),
        (["eval", "--rho", "inf"], ["eval.rho", "finite"]),
        (["eval", "--resample", "0"], ["eval.resample", "at least 1"]),
        (["eval", "--resample", "8", "--temperature", "0"], ["eval.temperature", "all candidates equal"]),
        (["eval", "--temperature", "-1"], ["eval.temperature"]),
        (["eval", "--sampler", "dppm"], ["eval.sampler", "'ddpm'"]),
        (["eval", "--select", "best"], ["eval.select", "'critic'"]),
        (["diffuse", "--set", "diffuse.weight_block=9"], ["diffuse.weight_block", "blocks = 3"]),
        (["diffuse", "--set", "diffuse.blocks=1"], ["diffuse.weight_block", "blocks = 1"]),
        (["diffuse", "--set", "diffuse.dropout=0.999999"], ["diffuse.dropout", "0.99"]),
    ],
)
def test_a_value_that_means_nothing(chain, args, words):
    before = published(chain.store)
    swgctl(*args).refused(2, *words)
    assert published(chain.store) == before


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_environment_without_an_end_is_refused_before_anything_is_built(command, pendulum, tmp_path):
    name = f"Endless{command.title()}-v0"
    gymnasium.register(name, "gymnasium.envs.classic_control:PendulumEnv")
    swgctl(command, pendulum(), "--env", name).refused(3, f"{name} never ends an episode by the clock")
    assert published(tmp_path / "store") == []


def test_an_environment_that_fails_when_it_is_made_is_named(pendulum):
    gymnasium.register("NoLicence-v0", "no_such_module_at_all:Env", max_episode_steps=5)
    gymnasium.register("Broken-v0", lambda **_: [][0], max_episode_steps=5)
    swgctl("critic", pendulum(), "--env", "NoLicence-v0").refused(2, "NoLicence-v0", "no_such_module_at_all")
    swgctl("critic", pendulum(), "--env", "Broken-v0").refused(1, "Broken-v0 failed: IndexError")


@pytest.mark.parametrize("command", ["show", "tree", "verify"])
def test_an_unknown_ref(chain, command):
    swgctl(command, "zzz").refused(3, "zzz")


def test_a_directory_that_is_no_artifact(chain, tmp_path):
    swgctl("show", tmp_path).refused(3, str(tmp_path), "not an artifact")


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_all_errors_of_a_recipe_at_once(tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("critic: {lr: fast, taau: 0.7, steps: 0}\ndiffuse: {K: 1}\nseeds: many\n")
    words = ("critic.lr", "critic.taau", "critic.tau", "critic.steps", "diffuse.K", "many")
    swgctl("critic", "demo", "--recipe", recipe).refused(2, *words)
    swgctl("recipe", "validate", recipe).refused(2, *words)


def test_a_misplaced_section_is_reported_beside_a_bad_value(tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("critc: {lr: 1e-4}\ndiffuse: {K: 1}\n")
    swgctl("recipe", "validate", recipe).refused(2, "critc", "did you mean 'critic'", "diffuse.K")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("critic: {lr: 1e-4}\ncritic: {lr: 3e-4}\n", ["'critic' comes twice", "line 2"]),
        ("critic:\n  lr: 1e-4\n  lr: 3e-4\n", ["'lr' comes twice", "line 3"]),
        ("- critic\n", ["no recipe"]),
        ("critic: fast\n", ["critic", "section"]),
        ("critic: {lr: 1e-4\n", ["bad.yaml"]),
        ("tasks: {demo: {critc: {}}}\n", ["tasks.demo.critc"]),
        ("tasks: {demoo: {critic: {lr: 1}}}\n", ["demoo"]),
        ("tasks: [demo]\n", ["tasks"]),
        ("tasks: {demo: 3}\n", ["tasks.demo"]),
        ("? [critic]\n: {lr: 1}\n", ["bad.yaml"]),
    ],
)
def test_a_recipe_that_is_none(tmp_path, text, words):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    swgctl("recipe", "validate", recipe).refused(2, str(recipe), *words)


def test_a_recipe_of_bytes(tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_bytes(b"\xff\xfe\x00critic")
    swgctl("recipe", "validate", recipe).refused(2, str(recipe))


# -- the wrong artifact ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "source"), [("augment", "eval"), ("augment", "augment"), ("diffuse", "critic"), ("eval", "critic")]
)
def test_the_wrong_kind_of_artifact(chain, stage, source):
    swgctl(stage, "--from", chain.made(source)).refused(3, stage, source if source == "critic" else "")


def test_a_critic_of_another_task_cannot_rank(chain, pendulum):
    other = critic(pendulum("other", 1), "--recipe", chain.recipe).path
    answer = swgctl("eval", "--critic", other, "--resample", "2")
    answer.refused(3, "other", "pendulum")
    pasted = shlex.split(answer.helps[0], comments=True)[1:]
    assert swgctl(*pasted, "--recipe", chain.recipe).path == chain.made("critic")


def test_a_critic_of_other_seeds_cannot_rank(chain):
    other = chain.critic("--seeds", "3,4").path
    swgctl("eval", "--critic", other, "--resample", "2").refused(3, "3-4")
    answer = swgctl("eval", "--critic", chain.made("augment"), "--resample", "2")
    answer.refused(3, "takes a critic for its role critic")


def test_load_policy_refuses_what_cannot_rank(chain):
    from swgctl import load_policy

    other = chain.critic("--seeds", "3,4").path
    for wrong in (other, chain.made("augment")):
        with pytest.raises(InputError, match="critic"):
            load_policy(str(chain.made("diffuse")), critic=str(wrong))
    assert load_policy(str(chain.made("diffuse"))).seeds == [0]


def test_the_linex_weight_names_the_command_that_builds_its_critic(chain):
    answer = swgctl("augment", "--weight", "linex")
    answer.refused(3, "linex", "expectile")
    pasted = shlex.split(answer.helps[0], comments=True)[1:]
    made = swgctl(*pasted, "--recipe", chain.recipe).path
    assert json.loads((made / "artifact.json").read_text())["params"]["loss"] == "linex"
    assert swgctl("augment", "--weight", "linex", "--json").json["metrics"]["min"] > 0


# -- damage ------------------------------------------------------------------------------------------------------------

USES = {
    ("critic", "critic.safetensors"): ["augment", "--force"],
    ("augment", "data.hdf5"): ["diffuse", "--force"],
    ("diffuse", "policy.safetensors"): ["eval", "--force"],
}


@pytest.mark.parametrize(("stage", "name"), USES)
def test_a_flipped_byte_is_found_on_use_and_by_verify(chain, stage, name):
    path = chain.made(stage) / name
    flip(path)
    swgctl(*USES[stage, name], "--recipe", chain.recipe).refused(4, str(path), "damaged")
    swgctl("verify").refused(4, "1 artifact", str(path))
    swgctl("verify", chain.made(stage)).refused(4, str(path))


def test_force_mends_a_damaged_artifact(chain):
    flip(chain.made("critic") / "critic.safetensors")
    assert chain.critic("--force").path == chain.made("critic")
    assert len(swgctl("verify").lines) == 4


def test_what_a_damaged_artifact_advises_mends_it(chain):
    flip(chain.made("critic") / "critic.safetensors")
    advice = swgctl("augment", "--force").helps[0]
    assert f"rm -r {chain.made('critic')}" in advice
    shutil.rmtree(chain.made("critic"))
    assert chain.critic("--json").json["status"] == "built"
    assert len(swgctl("verify").lines) == 4


@pytest.mark.parametrize("name", ["critic.safetensors", "artifact.json"])
def test_a_file_that_was_cut_off(chain, name):
    path = chain.made("critic") / name
    path.write_bytes(path.read_bytes()[:100])
    chain.critic().refused(4, str(path))
    swgctl("verify").refused(4, str(path))


def test_an_artifact_of_a_newer_version(chain):
    path = chain.made("critic") / "artifact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    for answer in (chain.critic(), swgctl("show", path.parent), swgctl("verify"), swgctl("ls")):
        answer.refused(4, str(path.parent), "newer")
    swgctl("augment", "--force").refused(4, "newer")


def test_a_parent_that_is_gone(chain):
    shutil.rmtree(chain.made("augment"))
    moved(chain.made("eval"))
    moved(chain.made("diffuse"))
    swgctl("tree", chain.made("eval")).refused(3, "augment")


# -- training that fails -----------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite(chain):
    before = published(chain.store)
    chain.critic("--lr", "1e30", "--seeds", "0,5").refused(1, "critic", "not finite", "seed 0, 5")
    swgctl("diffuse", "--recipe", chain.recipe, "--lr", "1e30").refused(1, "diffuse", "not finite")
    assert published(chain.store) == before


def test_rewards_that_overflow(pendulum, tiny, tmp_path):
    path = pendulum(rewards=np.full(ROWS, 3e38))
    critic(path, "--recipe", tiny).refused(1, "not finite")
    assert published(tmp_path / "store") == []


# -- a full disk -------------------------------------------------------------------------------------------------------


def small_files():
    """No file of this process can grow beyond 8 KB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.parametrize("stage", ["critic", "augment", "diffuse"])
def test_a_disk_that_fills_up(chain, start, stage):
    more = [chain.data, "--env", "Pendulum-v1"] if stage == "critic" else []
    before = published(chain.store)
    answer = start(stage, *more, "--recipe", chain.recipe, "--force", setup=small_files).answer()
    answer.refused(1, "no space left", str(chain.store))
    assert published(chain.store) == before
    assert len(swgctl("verify").lines) == 4


def test_a_checkpoint_that_does_not_fit(built, start, tmp_path):
    args = ["critic", built.data, "--env", "Pendulum-v1", "--recipe", built.recipe]
    answer = start(*args, env={"SWGCTL_CHECKPOINT_EVERY": "0"}, setup=small_files).answer()
    answer.refused(1, "no space left")
    assert published(tmp_path / "store") == []


@pytest.mark.parametrize("stage", [pytest.param("critic", marks=pytest.mark.slow), "augment"])
def test_a_disk_that_is_really_full(built, tmp_path, stage):
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    store = tmp_path / "small"
    store.mkdir()
    run = {
        "critic": f"swgctl critic {built.data} --env Pendulum-v1 --recipe {built.recipe} --set critic.hidden=[64]",
        "augment": f"swgctl augment --from {built.made('critic')}",
    }[stage]
    script = (
        f"mount -t tmpfs -o size=32k none {store} || exit 9; "
        f"{run} --store {store}; code=$?; find {store} -path '*objects*' >&2"
    )
    answer = shell(f"unshare --map-root-user --mount sh -c '{script}; exit $code'")
    if answer.code == 9:
        pytest.skip("no file system can be mounted here")
    answer.refused(1, "no space left", str(store))
    assert "artifact.json" not in answer.err


# -- run checks everything first ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rho", "-1"], "eval.rho"),
        (["--set", "diffuse.steps=0"], "diffuse.steps"),
        (["--weight", "linex"], "needs V trained with the linex loss"),
    ],
)
def test_run_refuses_a_later_stages_settings_before_it_builds(chain, extra, message):
    before = published(chain.store)
    swgctl("run", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, *extra, "--seeds", "7").refused(
        2, message
    )
    assert published(chain.store) == before


def test_a_setting_of_another_stage_is_refused(chain):
    swgctl("augment", "--set", "critic.tau=0.9").refused(2, "augment has no setting critic.tau")
    swgctl("diffuse", "--set", "seeds=0-4").refused(2, "seeds=0-4", "diffuse")
