"""Sweeps: what is built, in which order, what follows a failure, and what the end says."""

import json
import re
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.harness import Answer, published, swgctl
from support.sweeps import Inline

from swgctl import config
from swgctl.stages import run
from swgctl.store import Store
from swgctl.sweeps import nodes, sweep
from swgctl.sweeps.engines import Machine
from swgctl.sweeps.plan import expand
from swgctl.tasks.sources import SHIPPED, Source

GRID = ["--grid", "critic.tau=0.6,0.8", "--grid", "diffuse.lr=1e-3,2e-3", "--until", "diffuse"]


@pytest.fixture
def ask(pendulum, tiny):
    """ask(*more): `swgctl sweep` of the pendulum's data."""
    data = pendulum()
    return lambda *more: swgctl("sweep", data, "--env", "Pendulum-v1", "--recipe", tiny, *more)


@pytest.fixture
def inline(monkeypatch):
    """inline(play): an engine in this process in the place of the local one."""

    def replace(*play) -> Inline:
        engine = Inline(*play)
        monkeypatch.setattr(sweep, "Local", engine)
        return engine

    return replace


def rows(answer: Answer) -> list[dict]:
    return [json.loads(line) for line in answer.out.splitlines()]


def states(answer: Answer) -> dict[str, Counter]:
    """How many nodes of each stage are in which state."""
    of: dict[str, Counter] = {}
    for row in rows(answer):
        of.setdefault(row["stage"], Counter())[row["state"]] += 1
    return of


# -- what is built -----------------------------------------------------------------------------------------------------


def test_what_runs_share_is_built_once_and_first(ask, inline, tmp_path):
    engine = inline()
    answer = ask(*GRID)
    assert Counter(engine.stages) == {"critic": 2, "augment": 2, "diffuse": 4}
    assert engine.stages[:2] == ["critic", "critic"]
    assert engine.most == 2
    assert [Path(line).parent.parent.name for line in answer.lines] == ["diffuse"] * 4
    assert sorted(map(Path, answer.lines)) == [
        path for path in published(tmp_path / "store") if "diffuse" in path.parts
    ]
    assert list((tmp_path / "store/tmp").iterdir()) == []


def test_a_plan_reads_the_checksum_of_its_data_once(ask, monkeypatch):
    asked, row = [], SHIPPED["file"]
    monkeypatch.setitem(SHIPPED, "file", replace(row, locate=lambda *given: asked.append(given) or row.locate(*given)))
    assert len(rows(ask("--grid", "critic.tau=0.5,0.6,0.7,0.8", "--until", "critic", "--dry-run", "--json"))) == 4
    assert len(asked) == 1


def test_a_node_starts_as_soon_as_its_inputs_exist(ask, inline):
    """The second critic is not waited for."""
    engine = inline()
    engine.slots = 1
    assert ask("--grid", "critic.tau=0.6,0.8", "--until", "augment").code == 0
    assert engine.stages == ["critic", "augment", "critic", "augment"]


def test_the_artifacts_are_those_of_run(ask, inline, pendulum, tiny, tmp_path):
    inline()
    (path,) = ask("--until", "diffuse", "--seeds", "0-1", "--set", "critic.tau=0.8").lines
    args = ["--env", "Pendulum-v1", "--recipe", tiny, "--seeds", "0-1", "--set", "critic.tau=0.8", "--until", "diffuse"]
    other = swgctl("run", tmp_path / "pendulum.hdf5", *args, "--store", tmp_path / "other", "--json").json
    swept = json.loads((Path(path) / "artifact.json").read_text())
    assert (swept["key"], swept["digest"]) == (other["key"], other["digest"])


def test_what_is_there_starts_no_process(chain, inline, monkeypatch):
    def refuse(*_):
        raise AssertionError("an engine was started")

    monkeypatch.setattr(sweep, "Local", refuse)
    answer = swgctl("sweep", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe)
    assert answer.path == chain.made("eval")
    assert "4 cached of 4 node(s)" in answer.err


def test_a_part_that_is_there_is_not_built_again(chain, inline):
    engine = inline()
    args = [chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--grid", "diffuse.lr=1e-3,2e-3"]
    answer = swgctl("sweep", *args, "--until", "diffuse", "--json")
    assert set(engine.stages) == {"diffuse"}
    assert states(answer) == {"critic": {"cached": 1}, "augment": {"cached": 1}, "diffuse": {"built": 2}}


def test_methods_are_an_axis(ask):
    counts = states(ask("--method", "swg,aepo,pgd,cep", "--dry-run", "--json"))
    assert {stage: sum(of.values()) for stage, of in counts.items()} == {
        "critic": 1, "augment": 1, "diffuse": 1, "behaviour": 1, "candidates": 1, "guide": 2, "trajectories": 1,
        "agent": 1, "eval": 4,
    }  # fmt: skip


def test_a_dry_run_builds_nothing_and_says_what_it_would(chain, inline, tmp_path):
    engine = inline()
    before = published(chain.store)
    args = [chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--grid", "diffuse.lr=1e-3,2e-3", "--dry-run"]
    answer = swgctl("sweep", *args)
    assert (answer.lines, engine.asked, published(chain.store)) == ([], [], before)
    assert "2 run(s), 6 node(s)" in answer.err
    assert "2 node(s) need nothing, 4 to build" in answer.err
    assert states(swgctl("sweep", *args, "--json"))["eval"] == {"waiting": 2}


# -- the command of a node ---------------------------------------------------------------------------------------------

ODD = ("critic.lr=1e-05", "diffuse.decay=cosine", "critic.hidden=[8]", "behaviour.K=7", "trajectories.lr=0.1")
OF_EVAL = {"resample": ("eval.rho=0",), "pgd": ()}


@pytest.mark.parametrize("method", config.method.SHIPPED)
@pytest.mark.parametrize("more", [(), ODD])
def test_the_settings_of_a_command_are_the_nodes(method, more, tiny, pendulum, tmp_path):
    """--set as the child reads it, on top of the recipe that the child finds by itself."""
    store = Store(tmp_path / "store")
    grid = [f"eval.method={method}"]
    more += OF_EVAL.get(method, ("eval.rho=[0.5, 1e3]", "eval.clip=false"))
    (one,) = expand([str(pendulum())], [], grid, more, str(tiny), "Pendulum-v1", store)
    for node in one.node.walk():
        assignments = [f"{node.stage.name}.{name}={json.dumps(value)}" for name, value in nodes.changed(node).items()]
        flags = {"guide.method": method} if node.stage.name == "guide" else {}
        read = config.resolve(node.task.name, node.task.recipe, assignments=assignments, flags=flags)
        unread = run.unread(node.stage, node.settings, node.inputs)
        ours, theirs = (settings.keyed() for settings in (node.settings, read[node.stage.name]))
        assert {k: v for k, v in ours.items() if k not in unread} == {
            k: v for k, v in theirs.items() if k not in unread
        }


@pytest.mark.slow
@pytest.mark.parametrize("method", config.method.SHIPPED)
def test_every_method_is_built_under_the_keys_that_were_planned(method, ask, inline):
    """`_end` refuses a command that leaves no artifact of its node's key."""
    inline()
    answer = ask("--method", method, *(["--set", "eval.rho=0"] if method == "resample" else []))
    assert answer.path.parents[1].name == "eval"


def test_a_command_names_its_inputs_and_only_what_is_not_usual(chain, inline):
    engine = inline(lambda arguments, before: 1)
    swgctl("sweep", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--set", "diffuse.K=4")
    (words,) = engine.asked
    assert words[:3] == ["diffuse", "--from", f"augment={chain.made('augment')}"]
    assert "diffuse.K=4" in words
    assert "diffuse.blocks=3" not in words  # the recipe's
    assert "--no-wait" in words


@pytest.mark.parametrize(
    ("method", "stages"), [("swg", {"critic", "eval"}), ("pgd", {"trajectories", "agent", "eval"})]
)
def test_a_command_that_makes_the_environment_names_it_as_it_was_typed(method, stages, tiny, pendulum, tmp_path):
    """Its module runs only for whoever names it."""
    store = Store(tmp_path / "store")
    (one,) = expand([str(pendulum())], [], [f"eval.method={method}"], (), str(tiny), "Pendulum-v1", store)
    items, _ = nodes.items_of([one])
    for item in items:
        item.artifact = SimpleNamespace(path=tmp_path)
    commands = [nodes.command(item, store, "auto", "auto") for item in items]
    named = {words[0]: words[words.index("--env") + 1] for words in commands if "--env" in words}
    assert named == dict.fromkeys(stages, "Pendulum-v1")


# -- failures ----------------------------------------------------------------------------------------------------------


def test_what_was_stopped_is_tried_again(ask, inline):
    engine = inline(lambda arguments, before: 75 if arguments[0] == "critic" and before < 2 else None)
    answer = ask("--until", "augment")
    assert answer.code == 0
    assert engine.stages == ["critic"] * 3 + ["augment"]
    assert "stopped, exit code 75; trying again, 2 of 3" in answer.err


@pytest.mark.parametrize(("code", "end"), [(75, 75), (-9, 1)])
def test_not_for_ever(code, end, ask, inline):
    engine = inline(lambda arguments, before: code)
    answer = ask("--until", "augment", "--retries", "1", "--json")
    assert answer.code == end
    assert engine.stages == ["critic"] * 2
    assert [row["state"] for row in rows(answer)] == (["unfinished"] * 2 if end == 75 else ["failed", "skipped"])


NEXT = {"critic": "failed", "augment": "skipped", "diffuse": "skipped"}


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_a_failure_is_not_tried_again_and_the_others_go_on(code, ask, inline):
    def play(arguments: list[str], before: int) -> int | None:
        return code if arguments[0] == "critic" and "critic.tau=0.8" in arguments else None

    engine = inline(play)
    answer = ask("--grid", "critic.tau=0.6,0.8", "--until", "diffuse", "--set", "critic.steps=5", "--json")
    assert answer.code == code
    assert Counter(engine.stages) == {"critic": 2, "augment": 1, "diffuse": 1}
    assert states(answer) == {stage: {"built": 1, other: 1} for stage, other in NEXT.items()}
    (why,) = {row["why"] for row in rows(answer) if row["state"] == "skipped"}
    assert re.fullmatch(r"because critic pendulum, seeds 0, \w{16} failed", why)


def test_an_error_is_quoted_with_its_help_and_where_its_log_is(ask, inline, tmp_path):
    inline()
    answer = ask("--set", "critic.lr=1e20", "--until", "augment")  # diverges
    assert answer.code == 1
    (error,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: critic pendulum, seeds 0, \w{16}: critic: .* is not finite", error)
    assert answer.helps[0].startswith("--set critic.lr=")
    assert "not finite" in Path(shlex.split(answer.helps[1])[1]).read_text()
    assert answer.out == ""


@pytest.mark.parametrize(("codes", "end"), [((4, 1), 1), ((2, 4), 4), ((2, 3), 3), ((75, 2), 2), ((75, None), 75)])
def test_the_worst_exit_code_is_the_sweeps(codes, end, ask, inline):
    inline(lambda arguments, before: codes["critic.tau=0.8" in arguments])
    assert ask("--grid", "critic.tau=0.6,0.8", "--until", "critic", "--retries", "0").code == end


def test_a_command_that_leaves_no_artifact_has_failed(ask, inline):
    inline(lambda arguments, before: 0)
    answer = ask("--until", "critic")
    assert answer.code == 1
    assert "has no artifact of its key" in answer.err


def test_a_damaged_artifact_is_said_before_anything_is_built(chain, inline):
    engine = inline()
    (chain.made("augment") / "data.hdf5").write_bytes(b"")
    answer = swgctl("sweep", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe)
    assert (answer.code, engine.asked) == (4, [])
    assert "cut off" in answer.err


def test_what_another_process_builds_is_waited_for(ask, inline, monkeypatch):
    """Exit code 5 takes up no slot; once the lock is free and no artifact there, it is built here."""
    monkeypatch.setattr(sweep, "LOOK_AGAIN", 0.01)
    engine = inline(lambda arguments, before: 5 if before == 0 and arguments[0] == "critic" else None)
    engine.ended = lambda ended=engine.ended: ended() if engine._queue else []
    answer = ask("--until", "augment", "--retries", "0")
    assert answer.code == 0
    assert engine.stages == ["critic", "critic", "augment"]
    assert "elsewhere: another process builds it" in answer.err


def test_data_that_only_the_commands_machine_has_is_fetched_for_the_key(ask, inline, monkeypatch, tmp_path):
    monkeypatch.setitem(SHIPPED, "file", replace(SHIPPED["file"], find=lambda where: None))
    inline()
    assert ask("--until", "augment").path in published(tmp_path / "store")


def test_two_whose_data_is_to_be_fetched_do_not_both_fetch_it(inline, monkeypatch):
    monkeypatch.setitem(SHIPPED, "local", Source("local", SHIPPED["local"].locate, lambda where: None))
    engine = inline(lambda arguments, before: 1)
    answer = swgctl("sweep", "demo", "--grid", "critic.tau=0.6,0.8", "--until", "critic")
    assert answer.code == 1
    assert (len(engine.asked), engine.most) == (2, 1)


# -- hardware ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "options", "threads", "cards"),
    [
        (Machine(8), {}, 1, [None] * 8),
        (Machine(8), {"slots": 3}, 2, [None] * 3),
        (Machine(8), {"cpu": 4}, 4, [None] * 2),
        (Machine(1), {"slots": 3}, 1, [None] * 3),
        (Machine(8, ("0", "1")), {}, 4, ["0", "1"]),
        (Machine(8, ("0", "1")), {"gpu": 0.25}, 1, ["0"] * 4 + ["1"] * 4),
        (Machine(8, ("3",)), {"gpu": 0.3}, 2, ["3"] * 3),
        (Machine(8, ("0", "1")), {"slots": 3}, 2, ["0", "1", "0"]),
        (Machine(8, ("0", "1")), {"gpu": 0.5, "slots": 2}, 4, ["0", "0"]),
        (Machine(8, ("0", "1")), {"gpu": 0.0}, 1, [""] * 8),
        (Machine(8, ("0", "1")), {"device": "cpu", "slots": 2}, 4, ["", ""]),
    ],
)
def test_hardware_is_divided_among_the_slots(machine, options, threads, cards, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    given = {"slots": None, "gpu": None, "cpu": None, "device": "auto"} | options
    assert machine.divide(**given) == (threads, cards)


@pytest.mark.parametrize(
    ("visible", "listed", "cards"),
    [("0,2", "", ("0", "2")), ("", "", ()), ("1,-1,2", "", ("1",)), (None, "GPU 0: A\nGPU 1: B\n", ("0", "1"))],
)
def test_cards_are_counted_without_pytorch(visible, listed, cards, monkeypatch, tmp_path):
    from swgctl.sweeps import engines

    monkeypatch.setattr(engines, "version", lambda name: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(engines.shutil, "which", lambda name: str(program))
    assert Machine.here().cards == cards


@pytest.mark.parametrize(
    ("more", "code", "word", "advice"),
    [
        (["--engine", "ry"], 2, "unknown engine 'ry'", "swgctl sweep TASK --engine ray"),
        (["--engine", "slurm"], 2, "unknown engine 'slurm'", "swgctl sweep TASK --engine local"),
        (["--address", "a b:1"], 2, "has no cluster", "swgctl sweep TASK --engine ray --address 'a b:1'"),
        (["--slots", "0"], 2, "--slots 0", "swgctl sweep TASK --slots 1"),
        (["--slots", "99999999999"], 2, "--slots 99999999999", "swgctl sweep TASK --slots 1"),
        (["--cpu", "-1"], 2, "--cpu -1", "swgctl sweep TASK --cpu 1"),
        (["--gpu", "2"], 2, "--gpu 2", "swgctl sweep TASK --gpu 0.25"),
        (["--gpu", "nan"], 2, "--gpu nan", "swgctl sweep TASK --gpu 0.25"),
        (["--device", "cuda:3"], 2, "--device cuda:3", "CUDA_VISIBLE_DEVICES=3 swgctl sweep TASK"),
        (["--until", "difuse"], 2, "difuse", "swgctl run TASK --until diffuse"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_bad_input(more, code, word, advice, dry, tmp_path):
    answer = swgctl("sweep", "demo", *more, *dry)
    answer.refused(code, word)
    assert answer.helps == [advice]
    assert not (tmp_path / "store").exists()


def test_ray_that_is_missing_says_what_to_install(monkeypatch, inline):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    answer = swgctl("sweep", "demo", "--engine", "ray", "--until", "critic")
    answer.refused(2, "needs Ray")
    assert answer.helps == ["pip install 'swgctl[ray]'"]


def test_an_address_that_answers_nothing():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'swgctl[ray]'")
    answer = swgctl("sweep", "demo", "--engine", "ray", "--address", "127.0.0.1:9", "--until", "critic")
    answer.refused(3, "no Ray cluster answers at 127.0.0.1:9")


def test_a_gpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr(Machine, "here", lambda: Machine(2))
    swgctl("sweep", "demo", "--gpu", "0.25").refused(3, "--gpu 0.25", "there is none")
    monkeypatch.setattr(Machine, "here", lambda: Machine(2, ("0",)))
    answer = swgctl("sweep", "demo", "--gpu", "0.25", "--slots", "5")
    answer.refused(2, "5 of --gpu 0.25", "2 GPUs", "there is 1")
    assert answer.helps == ["swgctl sweep TASK --gpu 0.25 --slots 4"]


# -- the live table ----------------------------------------------------------------------------------------------------


def test_the_live_table_has_steps_and_the_time_left(chain, monkeypatch):
    from swgctl.sweeps.board import Board

    store = Store(chain.store)
    runs = expand([str(chain.data)], [], ["diffuse.lr=1e-3,5e-3"], (), str(chain.recipe), "Pendulum-v1", store)
    items, _ = nodes.items_of(runs)
    nodes.survey(items, store)
    item = next(item for item in items if item.state == "ready")
    work = store.work(item.job.key)
    work.mkdir(parents=True)
    (work / "metrics.jsonl").write_text('{"step": 10, "train_s": 20.0}\n{"step": 20, "train_s": 60.0}\n')
    assert nodes.progress_of(item, store) == (20, 40, 60.0)
    board = Board(items, store)
    board.changed(item)
    item.state = "running"
    board.changed(item)
    table = board._table()
    assert table.title.plain == "3 waiting, 1 running, 2 cached"
    cells = [str(next(iter(column.cells))) for column in table.columns]
    assert cells[0].startswith("diffuse pendulum, seeds 0, ")
    assert cells[1:3] == ["20/40", "0:01:00 left"]
