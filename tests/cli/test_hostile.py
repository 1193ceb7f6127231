"""Stores that somebody else wrote: one line, the right exit code, nothing outside, no traceback."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.harness import keep_capabilities, published, shell, swgctl
from support.records import moved, rewrite

from swgctl.store import Store


def put(*way):
    """A change of a record: the last of `way` in place of what lies under the names before it."""
    *names, last, value = way

    def change(record: dict) -> None:
        for name in names:
            record = record[name]
        record[last] = value

    return change


def without(*way):
    *names, last = way

    def change(record: dict) -> None:
        for name in names:
            record = record[name]
        del record[last]

    return change


# -- records that are JSON, but not ours -------------------------------------------------------------------------------

FILE, INPUT = ("files", "critic.safetensors"), ("inputs", "critic")
WRONG = {
    "no name of a task": (without("task", "name"), "task.name"),
    "a number for a task": (put("task", 5), "task"),
    "a task elsewhere": (put("task", "name", "../../../../escaped"), "task.name"),
    "a task with a newline": (put("task", "name", "a\n\\input{x}"), "task.name"),
    "a task that is a folder": (put("task", "name", ".."), "task.name"),
    "a task without a source": (without("task", "source"), "task.source"),
    "a source with a null character": (put("task", "source", "file:/a\0b"), "task.source"),
    "one reference": (put("task", "references", [1.0]), "task.references"),
    "a horizon of text": (put("task", "horizon", "200"), "task.horizon"),
    "a stage elsewhere": (put("stage", "../critic"), "stage"),
    "a key of another form": (put("key", "0123"), "key"),
    "a number for a file": (put(*FILE, 5), "files.critic.safetensors"),
    "a file without bytes": (without(*FILE, "bytes"), "bytes"),
    "a file of negative bytes": (put(*FILE, "bytes", -1), "bytes"),
    "a file elsewhere": (put("files", "../x", {"sha256": "0" * 64, "bytes": 1}), "files"),
    "a text for inputs": (put("inputs", "critic"), "inputs"),
    "a text for an input": (put(*INPUT, "x"), "inputs.critic"),
    "an input elsewhere": (
        put(*INPUT, {"stage": "..", "task": "demo", "key": "0" * 64, "digest": "0" * 64, "path": "/"}),
        "inputs.critic.stage",
    ),
    "nothing made": (put("made", {}), "made.at"),
    "an empty source": (put("source", {}), "source"),
    "no metrics": (without("metrics"), "metrics"),
    "cells that are a number": (put("metrics", "cells", 5), "metrics"),
    "data that are a list": (put("metrics", "data", [1]), "metrics"),
    "seeds of text": (put("seeds", ["0"]), "seeds.0"),
    "nested seeds": (put("seeds", [[0]]), "seeds.0"),
    "no seeds": (put("seeds", []), "seeds"),
    "a seed that is true": (put("seeds", [True]), "seeds.0"),
    "a seed beyond 64 bits": (put("seeds", [10**30]), "seeds.0"),
    "a list of params": (put("params", []), "params"),
    "a wall time of text": (put("wall_s", "7"), "wall_s"),
    "an origin of numbers": (put("origin", {"critic.lr": 1}), "origin"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("signed", [True, False])
def test_a_record_of_another_shape_is_damage(chain, tmp_path, name, signed):
    change, field = WRONG[name]
    critic = chain.made("critic")
    rewrite(critic, change, signed)
    before = {path for path in tmp_path.rglob("*") if "processes" not in path.parts}
    for args in (["ls"], ["ls", "--json"], ["show", critic], ["augment", "--from", critic, "--force"], ["verify"]):
        answer = swgctl(*args)
        answer.refused(4, str(critic), field)
        assert f"rm -r {critic}" in answer.helps[0]
    assert {path for path in tmp_path.rglob("*") if "locks" not in path.parts} <= before


def text_of(critic: Path) -> bytes:
    return (critic / "artifact.json").read_bytes()


BYTES = {
    "nothing": lambda text: b"",
    "a list": lambda text: b"[]",
    "a number": lambda text: b"5",
    "brackets without end": lambda text: b"[" * 3_000_000,
    "brackets within a field": lambda text: text.replace(b'"seeds": [', b'"seeds": [' + b"[" * 100_000),
    "10 MB": lambda text: text + b" " * 10_000_000,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "Latin-1": lambda text: text.replace(b"pendulum", b"p\xe9ndulum"),
    "NaN": lambda text: text.replace(b'"wall_s": ', b'"wall_s": NaN, "x": '),
    "NaN in the metrics": lambda text: text.replace(b'"metrics": {', b'"metrics": {"x": NaN,'),
    "a lone surrogate": lambda text: text.replace(b'"name": "pendulum"', rb'"name": "\ud800"'),
    "a number of 400 digits": lambda text: text.replace(b'"metrics": {', b'"metrics": {"x": %d,' % 10**400),
    "another schema": lambda text: text.replace(b'"schema": 1', b'"schema": true'),
    "a changed value": lambda text: text.replace(b'"batch": 32', b'"batch": 33'),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_record_are_damage(chain, name):
    critic = chain.made("critic")
    changed = BYTES[name](text_of(critic))
    assert changed != text_of(critic)
    (critic / "artifact.json").write_bytes(changed)
    for args in (["ls"], ["show", critic], ["tree", chain.made("eval")], ["augment", "--force"], ["verify"]):
        swgctl(*args).refused(4, str(critic))


MISSING = {  # field of a record beyond the schema -> a command that reads it
    ("params",): ["augment", "--from", "critic", "--force"],
    ("metrics",): ["diffuse", "--from", "augment", "--force", "--steps", "1"],
}


@pytest.mark.parametrize("field", MISSING)
def test_a_field_that_a_stage_looks_for_in_vain_is_damage(chain, field):
    verb, option, stage, *more = MISSING[field]
    rewrite(chain.made("critic"), put(*field, {}))
    answer = swgctl(verb, option, chain.made(stage), *more)
    assert answer.code in (0, 4), answer.err
    if answer.code:
        answer.refused(4, "damaged", f"it has no {field[0]}.")


def test_records_without_a_checksum_are_read_and_said_to_be_unsigned_once(chain):
    for stage in ("critic", "augment"):
        rewrite(chain.made(stage), lambda record: None, signed=False)
    answer = swgctl("ls")
    assert len(answer.lines) == 4
    assert answer.err.count("unsigned") == 1
    assert swgctl("augment", "--from", chain.made("critic"), "--json").json["status"] == "cached"
    rewrite(chain.made("critic"), put("seeds", [5]), signed=False)
    swgctl("augment", "--from", chain.made("critic")).refused(4, "is not what was written")


# -- lineage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["tree"], ["tree", "--json"], ["report"], ["eval", "--force", "--from"]])
def test_an_artifact_that_was_made_from_itself(chain, args):
    last, augment = chain.made("eval"), chain.made("augment")
    record = json.loads(text_of(last))
    given = {"stage": "critic", "task": "pendulum", "path": str(last)} | {k: record[k] for k in ("key", "digest")}
    rewrite(augment, put("inputs", "critic", given))
    ref = chain.made("diffuse") if args[0] == "eval" else last
    swgctl(*args, ref, *(["--recipe", chain.recipe] if args[0] == "eval" else [])).refused(
        4, "was not made from" if args[0] == "eval" else "in a circle"
    )


def test_a_parent_that_was_deleted_is_named(chain):
    for stage in ("augment", "diffuse", "eval"):
        moved(chain.made(stage))
    critic = chain.made("critic")
    shutil.rmtree(critic)
    swgctl("tree", chain.made("eval")).refused(3, critic.name)
    assert f"{critic.name}, which is gone" in swgctl("report").err


def test_a_copied_store_says_where_it_reads_from(chain, tmp_path, monkeypatch):
    copied = shutil.copytree(chain.store, tmp_path / "copied")
    monkeypatch.setenv("SWGCTL_STORE", str(copied))
    assert str(chain.store) not in swgctl("tree", "-", stdin=swgctl("ls", "--stage", "eval").out).err
    shutil.rmtree(next(copied.glob("objects/critic/*/*")))
    answer = swgctl("tree", next(copied.glob("objects/eval/*/*")))
    assert "read where it was made" in answer.err
    assert f"critic {chain.made('critic').name}" in answer.err


def test_a_copied_store_works_on_its_own_artifacts(chain, tmp_path, monkeypatch):
    assert chain.critic().path == chain.made("critic")
    for noted in (None, f"{chain.made('critic')}\n"):  # as an early version noted it
        if noted:
            (chain.store / "current/scope-test/critic").write_text(noted)
        copied = shutil.copytree(chain.store, tmp_path / f"copied{bool(noted)}")
        latest = Store(copied).current("critic")
        assert latest is None if noted else latest.path.is_relative_to(copied)
    (chain.store / "current/scope-test/critic").write_text("objects/../../elsewhere\n")
    (tmp_path / "elsewhere").mkdir()
    assert Store(chain.store).current("critic") is None


def test_gc_takes_what_a_killed_process_was_noting(chain):
    assert chain.critic().path
    ended = subprocess.Popen(["true"])
    ended.wait()
    notes = chain.store / "current/scope-test"
    gone, here = (notes / f".critic.{pid}.0123abcd" for pid in (ended.pid, os.getpid()))
    for path in (gone, here):
        path.touch()
    assert str(gone) in swgctl("gc").err
    assert (gone.exists(), here.exists()) == (False, True)


# -- lines to paste ----------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(chain, tmp_path, monkeypatch):
    """A store whose path has a space, a quote and a semicolon, in a folder with all that a wrong line could remove."""
    folder = tmp_path / "mine"
    store = folder / "my store's; touch X"
    folder.mkdir()
    shutil.move(chain.store, store)
    for name in ("my", "touch", "X", "store"):
        (folder / name).mkdir()
    monkeypatch.setenv("SWGCTL_STORE", str(store))
    monkeypatch.chdir(folder)
    return store


def broken(store: Path, kind: str) -> Path:
    """The artifact that is gone once the line was pasted."""
    critic = next(store.glob("objects/critic/*/*"))
    if kind == "record":
        (critic / "artifact.json").write_text("{")
    elif kind == "lost":
        (critic / "artifact.json").unlink()
    elif kind == "field":
        rewrite(critic, put("made", {}))
    elif kind == "file":
        (critic / "critic.safetensors").write_bytes(b"x")
    else:
        (critic / "critic.safetensors").unlink()
    return critic


@pytest.mark.parametrize("kind", ["record", "lost", "field", "file", "missing"])
@pytest.mark.parametrize("command", ["verify", "augment"])
def test_a_pasted_line_removes_what_it_names_and_nothing_else(odd, kind, command):
    critic = broken(odd, kind)
    answer = swgctl("verify") if command == "verify" else swgctl("augment", "--from", critic, "--force")
    assert answer.code == 4, answer.err
    before = set(odd.parent.rglob("*"))
    for line in answer.helps:
        subprocess.run(["bash", "-c", line.partition("   #")[0]], check=True, cwd=odd.parent)
    assert before - set(odd.parent.rglob("*")) == {critic, *(path for path in before if critic in path.parents)}


def test_a_pasted_command_finds_its_store(chain, tmp_path):
    odd = tmp_path / "my store's; touch X"
    answer = swgctl("show", "zzz", "--store", odd)
    answer.refused(3, "zzz")
    pasted = subprocess.run(["bash", "-c", f"printf '%s\\n' {answer.helps[0]}"], capture_output=True, text=True)
    assert pasted.stdout.splitlines() == ["swgctl", "ls", "--store", str(odd)]


# -- file systems ------------------------------------------------------------------------------------------------------


def test_a_pipe_as_a_record_answers_at_once(chain):
    file = chain.made("critic") / "artifact.json"
    file.unlink()
    os.mkfifo(file)
    for args in (["ls"], ["show", file.parent], ["verify"]):
        swgctl(*args).refused(4, str(file), "not a regular file")


def test_a_pipe_as_a_file_of_an_artifact_answers_at_once(chain):
    file = chain.made("critic") / "critic.safetensors"
    file.unlink()
    os.mkfifo(file)
    swgctl("verify").refused(4, str(file), "not a regular file")
    swgctl("augment", "--force").refused(4, str(file))


def test_one_bad_folder_is_one_line(chain):
    for folder in (chain.store / "objects/critic", chain.store / "objects/critic/pendulum", chain.store / "objects"):
        (folder / "loop").symlink_to("loop")
    for command in ("ls", "verify"):
        assert len(swgctl(command).lines) == 4


IMPOSSIBLE = {
    "below /proc": lambda folder: Path("/proc/swg-store"),
    "a circle of links": lambda folder: folder / "loop",
    "a file": lambda folder: folder / "file",
    "below a file": lambda folder: folder / "file" / "store",
    "a long name": lambda folder: folder / ("x" * 300),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_store_that_cannot_be(built, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    store = IMPOSSIBLE[name](tmp_path)
    answer = built.critic("--store", store)
    answer.refused(2, "cannot be a store")
    if name != "below /proc":  # it might have been
        for args in (["ls"], ["verify"], ["gc"], ["show", "a"]):
            swgctl(*args, "--store", store).refused(2, "cannot be a store")


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_folder_that_cannot_be_pushed_to_is_not_called_the_store(chain, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    answer = swgctl("push", chain.made("critic"), IMPOSSIBLE[name](tmp_path))
    answer.refused(2, "cannot be a store")
    assert answer.helps == ["swgctl push REF FOLDER   # another folder"]


@pytest.mark.parametrize("how", ["swgctl ls", "SWGCTL_STORE=here swgctl ls", "swgctl ls --store here"])
def test_a_working_directory_that_has_been_removed(tmp_path, how):
    script = f"unset SWGCTL_STORE; mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {how}"
    answer = shell(script)
    answer.refused(2, "the working directory has been removed")
    assert answer.helps == ["cd"]


UNREADABLE = {  # what may not be read -> commands that do
    "objects/critic/pendulum/*/artifact.json": (["show"], ["augment", "--force", "--from"], ["ls"]),
    "objects/critic/pendulum/*/critic.safetensors": (["augment", "--force", "--from"],),
    "objects/critic/pendulum/*": (["show"], ["augment", "--force", "--from"]),
    ".": (["ls"], ["show"]),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_may_not_be_read_comes_with_a_chmod(chain, start, name):
    critic = chain.made("critic")
    (path,) = [chain.store] if name == "." else chain.store.glob(name)
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        for args in UNREADABLE[name]:
            words = [*args, *([] if args == ["ls"] else [critic])]
            answer = start(*words, setup=keep_capabilities).answer()
            answer.refused(3, "Permission denied")
            assert answer.helps == [f"chmod u+rX {path}"]
    finally:
        path.chmod(mode)


def test_a_lock_whose_owners_name_does_not_fit_on_the_disk_is_one(chain, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert swgctl("augment", "--force").path == chain.made("augment")


def test_files_follow_the_umask(built):
    for path in published(built.store):
        assert len({file.stat().st_mode for file in path.iterdir()}) == 1


def test_a_store_outside_utf_8_is_shown_and_printed(chain, tmp_path):
    store = tmp_path / "st\udcffre"
    shutil.move(chain.store, store)
    lines = subprocess.run(
        [Path(sys.executable).with_name("swgctl"), "ls", "--store", store], capture_output=True, check=True
    ).stdout.splitlines()
    assert sorted(map(os.fsdecode, lines)) == sorted(map(str, published(store)))


# -- streams -----------------------------------------------------------------------------------------------------------

STREAMS = {  # redirections of `swgctl ls` and `swgctl show -` -> exit code, words of the error
    "ls >/dev/full": (1, "No space left on device"),
    "ls --json >/dev/full": (1, "No space left on device"),
    "--help >/dev/full": (1, "No space left on device"),
    "ls >/dev/full 2>/dev/full": (1, ""),
    "ls >&-": (0, ""),
    "show - <&-": (3, "standard input named no artifact"),
    "show - </dev/null": (3, "standard input named no artifact"),
    "show - </dev/zero": (3, "more than 16,000,000 characters"),
}


@pytest.mark.parametrize("line", STREAMS)
def test_a_stream_that_is_full_closed_or_endless(chain, line):
    code, words = STREAMS[line]
    answer = shell(f"exec swgctl {line}")
    assert answer.code == code, answer.err
    assert not answer.out
    assert "internal" not in answer.err
    assert "Exception ignored" not in answer.err
    if words:
        assert words in answer.error


def test_names_pass_whatever_the_encoding_of_the_streams(chain, tmp_path):
    store = tmp_path / "st\u03bfre"
    shutil.move(chain.store, store)
    answer = shell("swgctl ls --stage critic | swgctl show - --json", PYTHONIOENCODING="ascii", SWGCTL_STORE=str(store))
    assert answer.json["stage"] == "critic"
    answer = shell("printf '\\377\\376' | swgctl show -", PYTHONIOENCODING="utf-8:strict", SWGCTL_STORE=str(store))
    answer.refused(3, "no artifact")
