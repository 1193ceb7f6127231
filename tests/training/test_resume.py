"""A run that was killed or stopped, and run again, gives the bytes of one that was left alone."""

import json
import random
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.harness import flip, published, shell, swgctl
from support.interrupts import Signalled

from swgctl.store import Artifact
from swgctl.training import begun_in, execution

KILLS = 4
OFTEN = {"SWGCTL_CHECKPOINT_EVERY": "0.1"}
# Longer than the kills come apart, so that the work is cut into several pieces.
LONG = {"critic": ["--steps", "1200"], "augment": [], "diffuse": ["--steps", "900"], "eval": ["--episodes", "20"]}


def arguments(chain, stage: str) -> list:
    more = [chain.data, "--env", "Pendulum-v1"] if stage == "critic" else []
    return [stage, *more, "--recipe", chain.recipe, *LONG[stage], "--json"]


def without(chain, stage: str) -> None:
    """Takes the artifact of a stage out of the store, so that nothing is cached."""
    shutil.rmtree(chain.made(stage))


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return {}


@pytest.fixture
def undisturbed(built, start, tmp_path, known):
    """undisturbed(stage) -> the digest that it has in a process that is left alone, in a store of its own."""

    def digest(stage: str) -> str:
        if stage not in known:
            store = tmp_path / "undisturbed"
            shutil.copytree(built.store, store, ignore=shutil.ignore_patterns("current", stage))
            answer = start(*arguments(built, stage), "--store", store).answer().json
            assert answer["status"] == "built"
            known[stage] = answer["digest"]
        return known[stage]

    return digest


@pytest.mark.parametrize(
    "stage", ["critic", "augment", *(pytest.param(one, marks=pytest.mark.slow) for one in ("diffuse", "eval"))]
)
def test_a_killed_stage_gives_the_same_bytes(stage, chain, start, undisturbed):
    expected = undisturbed(stage)
    without(chain, stage)
    left = published(chain.store)
    moments, kills = random.Random(stage), 0
    for _ in range(KILLS):
        process = start(*arguments(chain, stage), env=OFTEN)
        process.wait_for(lambda process=process: "building" in process.said())
        time.sleep(moments.uniform(0, 0.02 if stage == "augment" else 0.7))
        process.send(signal.SIGKILL)
        if process.answer().code == 0:
            break
        kills += 1
        assert published(chain.store) == left
        assert len(swgctl("verify").lines) == len(left)
    unfinished = list(chain.store.glob("work/*/checkpoint.safetensors"))
    answer = start(*arguments(chain, stage), env=OFTEN).answer().json
    assert answer["digest"] == expected
    assert answer["status"] == ("cached" if kills < KILLS else "resumed" if unfinished else "built")
    assert len(swgctl("verify").lines) == 4
    swgctl("gc")
    assert list(chain.store.glob("tmp/*")) == []


def test_a_run_goes_on_in_the_mode_in_which_it_was_begun(chain, start, undisturbed, monkeypatch):
    """Even where another one would be taken today."""
    expected = undisturbed("critic")
    without(chain, "critic")
    process = start(*arguments(chain, "critic"))
    process.wait_for(lambda: list(chain.store.glob("work/*/metrics.jsonl")))
    process.send(signal.SIGTERM)
    process.answer().refused(75, "stopped by SIGTERM")
    (work,) = chain.store.glob("work/*")
    assert [begun_in(work, device) for device in ("cpu", "cuda")] == ["eager", None]
    monkeypatch.setattr(execution, "COMPILES_FROM", 1)
    monkeypatch.setattr(execution, "uncompilable", lambda device: None)
    answer = swgctl(*arguments(chain, "critic"))
    assert (answer.json["status"], answer.json["digest"]) == ("resumed", expected)
    assert begun_in(work, "cpu") is None


@pytest.mark.slow  # compiling takes a while
def test_a_compiled_training_that_is_killed_ends_in_the_same_bytes(built, start, tmp_path):
    """What long training runs by default, compiled in each process anew."""
    command = (*arguments(built, "critic"), "--mode", "compiled", "--store")

    def anew(name: str) -> dict[str, str]:
        return OFTEN | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / name)}  # nothing of what another process compiled

    whole = start(*command, tmp_path / "whole", env=anew("0")).answer().json
    for call in (500, 300):
        kill = Signalled("swgctl.training.loop:_Meter.add", call)
        killed = start(*command, tmp_path / "killed", env=anew(str(call)), setup=kill).answer()
        assert killed.code == -signal.SIGKILL, killed.err
    again = start(*command, tmp_path / "killed", env=anew("1")).answer().json
    assert (again["digest"], again["status"]) == (whole["digest"], "resumed")
    assert Artifact(again["path"]).meta["made"]["mode"] == "compiled"


@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [
        ("critic", signal.SIGINT, 130),
        ("critic", signal.SIGTERM, 75),
        pytest.param("diffuse", signal.SIGTERM, 75, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_training_resumes(stage, number, code, chain, start, undisturbed):
    expected = undisturbed(stage)
    without(chain, stage)
    process = start(*arguments(chain, stage))  # checkpoints only when it is stopped
    process.wait_for(lambda: list(chain.store.glob("work/*/metrics.jsonl")))
    process.send(number)
    process.answer().refused(code, "stopped by", number.name)
    assert list(chain.store.glob("tmp/*")) == []
    assert len(published(chain.store)) == 3
    answer = start(*arguments(chain, stage)).answer()
    assert answer.json["status"] == "resumed"
    assert answer.json["digest"] == expected
    assert "going on from step" in answer.err
    assert list(chain.store.glob("work/*")) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGHUP, 75)])
def test_a_stopped_evaluation_leaves_nothing(number, code, chain, start):
    without(chain, "eval")
    process = start(*arguments(chain, "eval"))
    process.wait_for(lambda: "building" in process.said())
    time.sleep(0.1)
    process.send(number)
    process.answer().refused(code, "stopped by")
    assert list(chain.store.glob("tmp/*")) == []
    assert len(published(chain.store)) == 3


def test_a_hangup_is_ignored_under_nohup(chain, start):
    process = start(*arguments(chain, "critic"), "--steps", "300", setup=ignore_hangup)
    process.wait_for(lambda: list(chain.store.glob("work/*/metrics.jsonl")))
    process.send(signal.SIGHUP)
    assert process.answer().json["status"] == "built"


def test_a_stopped_evaluation_says_that_it_starts_again(chain, start):
    """It has no checkpoint."""
    stopped = Signalled("swgctl.evaluation.rollout:Batch.propose", 3, signal.SIGTERM)
    words = ("eval", "--from", chain.made("diffuse"), "--recipe", chain.recipe, "--rho", "3", "--store", chain.store)
    answer = start(*words, setup=stopped).answer()
    answer.refused(75, "stopped by SIGTERM")
    assert answer.helps == ["run the same command again: an evaluation starts anew"]


def ignore_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.slow
def test_a_real_process_is_stopped_and_resumes(chain):
    run = shlex.join(["swgctl", *map(str, arguments(chain, "critic"))])
    training = f"ls {chain.store / 'work'}/*/metrics.jsonl"
    answer = shell(f"{run} & until {training}; do sleep 0.1; done >/dev/null 2>&1; kill $!; wait $!")
    answer.refused(75, "SIGTERM")
    assert answer.helps == ["run the same command again to go on"]
    assert swgctl(*arguments(chain, "critic")).json["status"] == "resumed"


@pytest.fixture
def unfinished(chain, start):
    """The directory of an unfinished critic's work."""
    without(chain, "critic")
    process = start(*arguments(chain, "critic"))
    process.wait_for(lambda: list(chain.store.glob("work/*/metrics.jsonl")))
    process.send(signal.SIGTERM)
    assert process.answer().code == 75
    (work,) = chain.store.glob("work/*")
    return work


def test_a_damaged_checkpoint_is_an_error_that_names_the_way_out(unfinished, chain):
    checkpoint = unfinished / "checkpoint.safetensors"
    content = checkpoint.read_bytes()
    last_digit_of_step = [*re.finditer(rb'\\"step\\":\d+', content)][-1].end() - 1
    for position in (5, last_digit_of_step, len(content) // 2, -1):
        flip(checkpoint, position)
        answer = swgctl(*arguments(chain, "critic"))
        answer.refused(4, str(checkpoint), "unfinished critic")
        flip(checkpoint, position)
    assert shell(answer.helps[0].partition(" and ")[0]).code == 0
    assert swgctl(*arguments(chain, "critic")).json["status"] == "built"


def test_force_starts_anew(unfinished, chain):
    flip(unfinished / "checkpoint.safetensors")
    assert swgctl(*arguments(chain, "critic"), "--force").json["status"] == "built"


def test_other_settings_do_not_touch_unfinished_work(unfinished, chain):
    assert chain.critic("--json").json["status"] == "built"
    assert (unfinished / "checkpoint.safetensors").exists()


def test_cadence_is_not_in_the_key(chain, monkeypatch):
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", "0")
    assert chain.critic("--json").json["status"] == "cached"
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", "often")
    chain.critic("--force").refused(2, "SWGCTL_CHECKPOINT_EVERY", "often")


def test_the_steps_of_a_resumed_run_are_all_in_its_metrics(unfinished, chain):
    path = swgctl(*arguments(chain, "critic")).json["path"]
    steps = [json.loads(line)["step"] for line in Path(path, "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 1200
