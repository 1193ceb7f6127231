"""Records that were signed again: settings, metrics and files that are not those of their stage."""

import importlib.util
import json

import pytest
from support.harness import swgctl
from support.records import rewrite

from swgctl.files import sha256

READERS = (
    *("show REF", "show --json REF", "tree REF", "diff REF CRITIC", "report", "report --format html", "plot rho EVAL"),
    *("plot training EVAL", "export EVAL --policy OUT --force", "eval --force --from DIFFUSE"),
    *(
        "augment --force --from CRITIC",
        "candidates --from DIFFUSE",
        "guide mse --from DIFFUSE --steps 1",
        "push EVAL OUT",
    ),
    *("log EVAL --to tensorboard:OUT", "plot compare", "verify"),
)
WRONG = {  # stage, section, field -> another value
    ("critic", "params", "hidden"): ["256", [], [0], ["16"], [[16]], {"a": 1}, None, [10**9]],
    ("critic", "params", "loss"): ["cubic", 5, None],
    ("critic", "params", "tau"): ["0.7", [], 7],
    ("critic", "params", "clip_actions"): [1, "yes"],
    ("augment", "params", "weight"): ["cubic", 5, ["expectile"]],
    ("augment", "params", "tau"): ["0.7", None],
    ("diffuse", "params", "K"): ["3", 3.5, 0, 10**30, True],
    ("diffuse", "params", "schedule"): ["__init__", 5],
    ("diffuse", "params", "width"): ["16", -1, 2**40],
    ("eval", "params", "rho"): ["1", {}, ["x"], [[1]], [-1]],
    ("eval", "params", "method"): [5, ["swg"]],
    ("eval", "metrics", "cells"): [[], [5], [{"rho": "1"}], [{"return_ci95": [1]}], [{"seeds": -1}]],
    ("critic", "metrics", "data"): [[], {"observation_dim": "3"}, {"action_dim": 0}, {"return_mean": "x"}],
    ("augment", "metrics", "ess"): ["0.9", []],
}


NAMED = ("CRITIC", "AUGMENT", "DIFFUSE", "EVAL")


def asked(chain, tmp_path, reader: str):
    if reader.startswith("log ") and not importlib.util.find_spec("tensorboardX"):
        reader = "report"
    named = {name: next(chain.store.glob(f"objects/{name.lower()}/*/*")) for name in NAMED}
    return swgctl(*(named.get(word, word) for word in reader.replace("OUT", str(tmp_path / "out")).split()))


@pytest.mark.parametrize("way", WRONG, ids=".".join)
def test_a_setting_of_another_type_is_named(chain, tmp_path, way):
    """Each value is asked for by a few of the commands, so that all of them are in turn."""
    stage, section, field = way
    made = chain.made(stage)
    for i, value in enumerate(WRONG[way]):
        rewrite(made, lambda record, value=value: record[section].update({field: value}))
        for reader in ("show REF", "report", READERS[(7 * i + len(field)) % len(READERS)]):
            answer = asked(chain, tmp_path, reader.replace("REF", str(made)))
            if answer.code or reader == "show REF":
                answer.refused(4, str(made), section, field)
    assert asked(chain, tmp_path, "ls").code in (0, 4)


@pytest.mark.parametrize("reader", READERS)
def test_every_command_names_a_setting_of_another_type(chain, tmp_path, reader):
    for stage in ("critic", "diffuse", "eval"):
        rewrite(chain.made(stage), lambda record: record["params"].update({"precision": ["bf16"]}))
    asked(chain, tmp_path, reader.replace("REF", str(chain.made("eval")))).refused(4, "params.precision")


def test_a_record_of_before_a_setting_is_read(chain):
    """What a record lacks counts as its default, and what this version does not know is shown."""
    for stage, name in (("critic", "precision"), ("diffuse", "precision"), ("eval", "precision")):
        rewrite(chain.made(stage), lambda record, name=name: record["params"].pop(name))
    rewrite(chain.made("critic"), lambda record: record["params"].update({"of_tomorrow": {"a": 1}}))
    assert swgctl("report").code == 0
    assert "of_tomorrow" in swgctl("show", chain.made("critic")).err


def test_a_method_that_is_not_installed_is_no_damage(chain):
    rewrite(chain.made("eval"), lambda record: record["params"].update({"method": "of_a_plugin"}))
    assert swgctl("show", "--json", chain.made("critic")).code == 0
    swgctl("report").refused(3, "of_a_plugin")


INPUTS = {  # stage -> inputs that its record may not have
    "eval": [{}, {"critic": "critic"}, {"diffuse": "critic"}],
    "diffuse": [{}, {"augment": "critic"}],
}


@pytest.mark.parametrize("stage", INPUTS)
def test_inputs_of_another_stage(chain, stage):
    for inputs in INPUTS[stage]:
        given = {
            role: {
                "stage": other,
                "task": "pendulum",
                "key": "0" * 64,
                "digest": "0" * 64,
                "path": str(chain.made(other)),
            }
            for role, other in inputs.items()
        }
        rewrite(chain.made(stage), lambda record, given=given: record.update(inputs=given))
        for args in (["show", chain.made(stage)], ["report"], ["tree", chain.made("eval")]):
            swgctl(*args).refused(4, str(chain.made(stage)), "inputs")


FILES = {  # file of an artifact -> a command that reads it
    ("critic", "critic.safetensors"): ["augment --force --from CRITIC"],
    ("critic", "metrics.jsonl"): ["plot training CRITIC", "log CRITIC --to tensorboard:OUT"],
    ("augment", "data.hdf5"): ["plot weights AUGMENT", "diffuse --force --from AUGMENT --steps 1", "show AUGMENT"],
    ("diffuse", "policy.safetensors"): [
        "eval --force --from DIFFUSE",
        "export DIFFUSE --policy OUT --force",
        "show DIFFUSE",
    ],
    ("eval", "episodes.csv"): ["report", "plot compare", "log EVAL --to tensorboard:OUT"],
}
OTHERS = ("critic.safetensors", "metrics.jsonl", "data.hdf5", "policy.safetensors", "episodes.csv")


@pytest.mark.parametrize("way", FILES, ids="/".join)
def test_a_file_of_another_form_that_was_signed(chain, tmp_path, way):
    stage, name = way
    contents = {name: (chain.made(one) / name).read_bytes() for one, name in FILES}
    file = chain.made(stage) / name
    for content in (b"", b"x", b"[]", b"{}\n", b"a,b\n1,2\n", *(contents[one] for one in OTHERS if one != name)):
        file.write_bytes(content)
        signed = {"sha256": sha256(file), "bytes": len(content)}
        rewrite(chain.made(stage), lambda record, signed=signed: record["files"].update({name: signed}))
        for reader in FILES[way]:
            answer = asked(chain, tmp_path, reader)
            assert answer.code in (0, 4), (reader, content[:20], answer.err)
            if answer.code:
                answer.refused(4, str(chain.made(stage)))


ROW = '{"step": 1, "train_s": 0.1, "v_loss": [0.1]}'
METRICS = {  # lines of a signed metrics.jsonl -> the exit codes of `plot training` and of `log`
    "infinite": (ROW.replace("[0.1]", "[1e999]"), 4, 0),
    "an infinite step": (ROW.replace("1,", "1e999,", 1), 4, 4),
    "a step beyond 64 bits": (ROW.replace("1,", f"{10**30},", 1), 4, 4),
    "a value of 400 digits": (ROW.replace("[0.1]", f"[{10**400}]"), 4, 4),
    "a step before the first": (ROW.replace("1,", "-1,", 1), 0, 4),
    "a formula as a name": (ROW.replace("v_loss", "$\\\\frac{$"), 0, 0),
    "an escape sequence as a name": (ROW.replace("v_loss", "\\u001b[31m"), 0, 0),
    "a long name": (ROW.replace("v_loss", "v" * 100_000), 0, 0),
    "many names": (json.dumps(json.loads(ROW) | {f"x{i}": [0.1] for i in range(200)}), 4, 0),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_that_are_not_ours(chain, tmp_path, name):
    critic, (text, drawn, logged) = chain.made("critic"), METRICS[name]
    (file := critic / "metrics.jsonl").write_text(text + "\n")
    signed = {"sha256": sha256(file), "bytes": file.stat().st_size}
    rewrite(critic, lambda record: record["files"].update({file.name: signed}))
    answer = swgctl("plot", "training", critic)
    assert answer.code == drawn, answer.err
    if drawn:
        answer.refused(drawn, "metrics.jsonl")
    if importlib.util.find_spec("tensorboardX"):
        answer = swgctl("log", critic, "--to", f"tensorboard:{tmp_path / 'log'}")
        assert (answer.code in (1, 4)) == bool(logged), answer.err
        assert "internal" not in answer.err
