"""Settings: how the layers merge, what is said of each value, and the keys that rest on them."""

import itertools
import json
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field
from support.harness import CHAIN, swgctl

from swgctl import config, seeds, tasks
from swgctl.config import AUGMENT, TOY, AugmentSettings, CriticSettings, EvalSettings
from swgctl.errors import UsageError
from swgctl.stages import agent, augment, critic, inputs, job, run, toy
from swgctl.stages.job import Job
from swgctl.store import make_key
from swgctl.tasks import Task, quoted

KEYS = Path(__file__).parents[1] / "keys.json"


def recipe(tmp_path, text: str, name: str = "mine.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_each_layer_wins_over_the_one_before(tmp_path):
    layers = {}
    default = CriticSettings().steps
    steps = lambda: config.resolve("demo", "demo", **layers)["critic"].steps  # noqa: E731
    shipped = steps()
    assert shipped != default
    layers["recipe"] = recipe(tmp_path, "critic: {steps: 11}")
    assert steps() == 11
    layers["assignments"] = ["critic.steps=12"]
    assert steps() == 12
    layers["flags"] = {"critic.steps": 13}
    assert steps() == 13
    layers["flags"] = {"critic.steps": None}  # a flag that was not given
    assert steps() == 12


def test_a_recipe_says_something_else_for_one_task(tmp_path):
    path = recipe(tmp_path, "critic: {steps: 5, tau: 0.6}\ntasks: {demo: {critic: {steps: 6}, seeds: 3}}")
    special, general = config.resolve("demo", "", recipe=path), config.resolve("other", "", recipe=path)
    assert (special["critic"].steps, special["critic"].tau, special.seeds) == (6, 0.6, [3])
    assert (general["critic"].steps, general["critic"].tau, general.seeds) == (5, 0.6, [0])


def test_every_value_has_an_origin(tmp_path):
    path = recipe(tmp_path, "critic: {tau: 0.6}")
    found = config.resolve(
        "demo", "demo", recipe=path, assignments=["diffuse.K=5"], flags={"eval.episodes": 2, "seeds": "0-4"}
    )
    assert found.origin["critic.tau"] == f"--recipe {path}"
    assert found.origin["critic.steps"] == "recipe demo"
    assert found.origin["critic.gamma"] == "default"
    assert found.origin["diffuse.K"] == "--set"
    assert found.origin["eval.episodes"] == found.origin["seeds"] == "flag"
    fields = {f"{stage}.{name}" for stage, row in config.stages().items() for name in row.settings.model_fields}
    assert found.origin.keys() == fields | {"seeds"}


# -- YAML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["3e-4", "3E-4", "0.3e-3", ".0003", "+3e-4", "3.e-4", "0.000_3"])
def test_a_number_is_a_number_however_it_is_written(text, tmp_path):
    assert config.read_yaml(f"lr: {text}", "") == {"lr": 3e-4}
    assert config.resolve(None, "", assignments=[f"critic.lr={text}"])["critic"].lr == 3e-4


@pytest.mark.parametrize("text", ["e4", "3e", "1.2.3", "0-4", "3e-4x"])
def test_what_is_no_number_stays_text(text):
    assert config.read_yaml(f"a: {text}", "") == {"a": text}


@pytest.mark.parametrize("text", ["010", "0x10", "0b_", "1:30", "12:30.5", "2024-99-99", "2024-01-01"])
def test_what_only_yaml_takes_for_a_number_is_none(text):
    assert config.read_yaml(f"a: {text}", "") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-7", -7), ("1_000", 1000), ("1.5", 1.5), ("-.5", -0.5), ("2.", 2.0)]
)
def test_plain_numbers_are_numbers(text, value):
    found = config.read_yaml(f"a: {text}", "")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["critic.steps=yes", "critic.lr=true", "eval.rho=on", "eval.rho=[1, true]"])
def test_yes_is_no_number(text):
    with pytest.raises(UsageError, match=f"{text.partition('=')[0]}.*must not be true"):
        config.resolve(None, "", assignments=[text])


def test_a_key_that_comes_twice_is_an_error():
    with pytest.raises(UsageError, match=r"here: 'a' comes twice \(line 3\)"):
        config.read_yaml("a: 1\nb: 2\na: 3", "here")


def test_yaml_makes_no_python_objects():
    with pytest.raises(UsageError):
        config.read_yaml("a: !!python/object/apply:os.getcwd []", "here")


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("0-4", [0, 1, 2, 3, 4]), ("5,1,1", [1, 5]), (" 0 , 2-3", [0, 2, 3]), (7, [7]), ([2, 1], [1, 2])],
)
def test_seeds(text, expected):
    assert seeds.parse(text) == expected
    assert seeds.parse(seeds.ranges(expected)) == expected


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "0-4-8", "1.5", "0-1000000", None, [[1]]])
def test_what_are_no_seeds(text):
    with pytest.raises(UsageError):
        seeds.parse(text)


def test_rho_and_resample_are_sorted_sets_and_one_number_is_a_list():
    found = EvalSettings(rho=[5, 0, 5.0], resample=2)
    assert (found.rho, found.resample) == ([0.0, 5.0], [2])


def test_recipes_are_sound():
    paths = swgctl("recipe", "validate", "--all").lines
    assert {Path(path).stem for path in paths} == set(swgctl("recipe", "ls").lines)


def test_every_task_has_its_recipe():
    assert {tasks.get(name).recipe for name in tasks.names()} <= set(config.recipe_names())
    assert "default" in config.recipe_names()  # of files


# -- recipes against the paper -----------------------------------------------------------------------------------------

# Appendix B.2: of all families, and what is otherwise in one.
GENERAL = """
critic: {tau: 0.7, gamma: 0.99, lr: 3e-4, batch: 256, steps: 1_000_000, target_rate: 0.005, hidden: [256, 256]}
augment: {weight: expectile}
diffuse: {K: 15, schedule: vp, width: 256, blocks: 3, weight_block: 2, dropout: 0.1, lr: 3e-4, batch: 1024,
          steps: 1_000_000}
"""
SPECIAL = {
    "locomotion": "eval: {episodes: 20}",
    "antmaze": "{critic: {tau: 0.9}, diffuse: {steps: 3_000_000}, eval: {episodes: 50}}",
    "kitchen": "{}",
    "adroit": "diffuse: {lr: 3e-5}",
}
SWEEP = [1, 2, 4, 8, 16]  # of M
PAPER = quoted.paper("swg")
PAPERS_TASKS = [(family, task) for family in SPECIAL for task in PAPER["scores"][family]["tasks"]]


def resolved(task: str, recipe: str | None = None) -> dict:
    """Every setting of a task, by dotted name."""
    found = config.resolve(task, tasks.get(task).recipe, recipe=recipe)
    return dotted({stage: found[stage].model_dump() for stage in CHAIN})


def dotted(sections: dict[str, dict]) -> dict:
    return {f"{stage}.{name}": value for stage, section in sections.items() for name, value in section.items()}


@pytest.mark.parametrize(("family", "task"), PAPERS_TASKS)
def test_a_task_has_the_papers_settings(family, task):
    found = resolved(task)
    general, special = (dotted(config.read_yaml(text, "B.2")) for text in (GENERAL, SPECIAL[family]))
    paper = general | special
    assert {name: found[name] for name in paper} == paper
    assert tasks.get(task).recipe == family
    assert found["eval.rho"] == [0, quoted.guidance_scale(task)]
    assert set(found["eval.resample"]) <= set(SWEEP)


def test_recipes_single_out_the_papers_tasks_and_no_others():
    """A scale for a task that no table has would pass for the paper's."""
    for family in SPECIAL:
        sections = config.task_sections(config.read_recipe(config.recipe_path(family)))
        assert sorted(sections) == sorted(PAPER["scores"][family]["tasks"])


def test_where_the_paper_has_no_scale_some_of_its_sweep_is_tried():
    for name in tasks.names():
        if quoted.guidance_scale(name) is None:
            assert set(resolved(name)["eval.rho"]) - {0.0} <= set(PAPER["scales"]["rho"])


OFFICIAL = {"augment.weight", "augment.scale", "eval.rho", "eval.resample", "eval.temperature", "eval.episodes"}


@pytest.mark.parametrize("name", tasks.names())
def test_the_official_recipe_goes_on_top_of_any(name):
    """It changes what it should and nothing else; all tasks have the code's one rate and number of steps."""
    plain, official = resolved(name), resolved(name, "official")
    changed = {key for key in plain if plain[key] != official[key]}
    assert changed - OFFICIAL - {"diffuse.lr", "diffuse.steps"} == set()
    assert (official["eval.temperature"], official["eval.resample"]) == ([0], [1])
    assert official["eval.rho"] == [0, *PAPER["scales"]["rho"]]
    assert (official["augment.weight"], official["augment.scale"]) == ("hard_expectile", 3)
    assert (official["diffuse.lr"], official["diffuse.steps"]) == (3e-4, 1_000_000)
    assert official["critic.tau"] == plain["critic.tau"]


VALUE = re.compile(r"^ *[\w-]+:(?! *[|>&*{]) *\S")


@pytest.mark.parametrize("name", config.recipe_names())
def test_a_recipe_begins_with_its_command_and_every_value_has_a_comment(name):
    lines = config.recipe_path(name).read_text().splitlines()
    assert lines[0].startswith(("# swgctl run ", "# swgctl toy "))
    values = [line for line in lines if VALUE.match(line) and not line.startswith("about:")]
    assert values
    assert [line for line in values if "# " not in line] == []


@pytest.mark.parametrize("name", [name for name in config.recipe_names() if name not in ("default", "toy", "paper")])
def test_the_command_that_a_recipe_begins_with(name):
    """It is one that `swgctl` takes, and the recipe is among its layers."""
    first = config.recipe_path(name).read_text().partition("\n")[0]
    (line,) = swgctl("plan", *shlex.split(first)[3:], "--format", "commands").lines
    task, *more = shlex.split(line)[2:]
    assert tasks.get(task).recipe == name or more[more.index("--recipe") + 1] == name


# -- keys --------------------------------------------------------------------------------------------------------------


def test_every_whole_number_has_its_bounds():
    """So that what no machine can do is refused before anything is made.  A seed has 64 bits."""
    for stage in config.stages().values():
        for name, about in stage.settings.model_json_schema()["properties"].items():
            if about.get("type") == "integer" and "enum" not in about and name != "seed":
                assert {"minimum", "maximum"} <= about.keys(), f"{stage.name}.{name}"


def test_one_content_one_key(tmp_path):
    texts = ["critic: {lr: 3e-4}", "critic: {lr: 0.0003}", "critic:\n  lr: 0.3e-3", "about: other\ncritic: {lr: 3E-4}"]
    dumps = [config.resolve(None, "", recipe=recipe(tmp_path, t))["critic"].keyed() for t in texts]
    assert len({make_key("critic", 1, d, [0], {}, None) for d in dumps}) == 1
    values = ["1", "1.0", "1e0"]
    dumps = [config.resolve(None, "", assignments=[f"eval.temperature={v}"])["eval"].keyed() for v in values]
    assert len({make_key("eval", 1, d, [0], {}, None) for d in dumps}) == 1


def test_one_temperature_keeps_the_key_that_it_had_as_a_number():
    def keyed(text):
        return config.resolve(None, "", assignments=[f"eval.temperature={text}"])["eval"].keyed()["temperature"]

    assert keyed("0.5") == keyed("[0.5]") == 0.5
    assert keyed("[1, 0]") == keyed("[0, 1.0]") == [0.0, 1.0]
    assert EvalSettings().keyed()["temperature"] == 1.0


class Later(AugmentSettings):
    """What the settings may look like one day."""

    power: float = Field(2.0, json_schema_extra={"neutral": 2.0})


def test_a_later_field_at_its_neutral_value_leaves_keys_as_they_were():
    assert Later().keyed() == Later(power=2).keyed() == AugmentSettings().keyed()
    assert Later(power=3.0).keyed() == AugmentSettings().keyed() | {"power": 3.0}


def test_device_and_force_are_not_in_the_key(chain):
    key = chain.critic("--json").json["key"]
    assert chain.critic("--json", "--device", "cpu").json["key"] == key
    assert chain.critic("--json", "--force").json["key"] == key


def test_host_and_versions_are_not_in_the_key(chain, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    monkeypatch.setattr(job, "_versions", lambda: {"torch": "9"})
    assert chain.critic("--json").json["status"] == "cached"


class Made:
    """An artifact of a job, with a made-up digest."""

    def __init__(self, job: Job):
        self.stage, self.task, self.key, self.id = job.stage.name, job.task.name, job.key, job.key[:16]
        self.params, self.seeds, self.digest = job.params, job.seeds, f"digest of {job.key}"
        widths = {"observation_dim": 3, "action_dim": 1}
        source = {"sha256": job.source_sha256} if job.source_sha256 else None
        inputs = {role: {"stage": one.stage, "digest": one.digest, "key": one.key} for role, one in job.inputs.items()}
        self.meta = {"source": source, "task": job.task.to_json(), "metrics": {"data": widths}, "inputs": inputs}
        self.parent = job.inputs.__getitem__


def chain_keys(task: Task, monkeypatch, recipe: str | None = None, method: str | None = None) -> dict[str, str]:
    """The keys of a method's stages for a task, as its recipe has them, for a data file of a made-up hash."""
    for module in (critic, agent, inputs, job):
        monkeypatch.setattr(module, "locate_source", lambda *_: (Path("data.hdf5"), "hash of the data"))
    flags = {"eval.method": method, "eval.rho": [0.0] if method == "resample" else None}
    resolved, keys, made = config.resolve(task.name, task.recipe, recipe=recipe, flags=flags), {}, {}
    for node in run.chain(task, resolved).walk():
        one = run.prepare_node(node, made)
        keys[node.stage.name], made[node.identity] = one.key[:16], Made(one)
    return keys


def toy_key(density: str, recipe: str | None) -> dict[str, str]:
    task = toy.task_of(density)
    resolved = config.resolve(density, task.recipe, recipe=recipe)
    return {"toy": toy.prepare(task, resolved.of(TOY), resolved.seeds, {}).key[:16]}


def test_keys_of_all_recipes_are_as_they_were(monkeypatch):
    """A key that changes orphans the artifacts of everybody who has some.

    Where that is meant: SWGCTL_UPDATE_KEYS=1 python -m pytest tests/config
    """
    known = [tasks.get(name) for name in tasks.names()]
    known += [tasks.get("cube-single-play-singletask-v0"), tasks.get("antmaze-giant-navigate-singletask-v0")]
    file = Task("data", "Pendulum-v1", "file:data.hdf5", "none", "default", references=None, horizon=200)
    found = {task.name: {"recipe": task.recipe} | chain_keys(task, monkeypatch) for task in [*known, file]}
    for name in ("halfcheetah-medium-v2", "antmaze-umaze-v0", "kitchen-partial-v0", "pen-human-v0"):
        keys = chain_keys(tasks.get(name), monkeypatch, "official")
        found[f"{name}, --recipe official"] = {"recipe": "official"} | keys
        keys = chain_keys(tasks.get(name), monkeypatch, "aepo")
        found[f"{name}, --recipe aepo"] = {"recipe": "aepo"} | keys
    for recipe, name in itertools.product(("qgpo", "ddice"), ("halfcheetah-medium-expert-v2", "antmaze-umaze-v2")):
        found[f"{name}, --recipe {recipe}"] = {"recipe": recipe} | chain_keys(tasks.get(name), monkeypatch, recipe)
    for method in ("calibrated", "resample", "mse", "dps", "emse", "cep", "ddice", "aepo", "pgd"):
        keys = chain_keys(tasks.get("demo"), monkeypatch, method=method)
        found[f"demo, --method {method}"] = {"recipe": "demo"} | keys
    for recipe in ("pgd", "pgd-official", "continuous"):
        keys = chain_keys(tasks.get("halfcheetah-medium-replay-v2"), monkeypatch, recipe, "pgd")
        found[f"halfcheetah-medium-replay-v2, --method pgd --recipe {recipe}"] = {"recipe": recipe} | keys
    for density in toy.NAMES:
        found[density] = {"recipe": "toy"} | toy_key(density, None)
        found[f"{density}, --recipe paper"] = {"recipe": "paper"} | toy_key(density, "paper")
    assert {entry["recipe"] for entry in found.values()} == set(config.recipe_names())
    if os.environ.get("SWGCTL_UPDATE_KEYS") == "1":
        KEYS.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(KEYS.read_text())


def test_the_options_that_a_weight_does_not_use_are_not_in_its_key():
    parent = SimpleNamespace(params={"loss": "expectile", "tau": 0.7, "alpha": 1.0}, seeds=[0], digest="d", id="i")
    parent.meta = {"source": {"sha256": "s"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "locate_data", lambda *_: (Path("data.hdf5"), "s"))

        def key(*assignments):
            resolved = config.resolve(None, "", assignments=assignments)
            return augment.prepare(tasks.get("demo"), resolved.of(AUGMENT), [0], {"critic": parent}).key

        assert key() == key("augment.beta=9") != key("augment.scale=3")
        assert key("augment.weight=exponential") != key("augment.weight=exponential", "augment.beta=9")
