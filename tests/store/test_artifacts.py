"""The store from outside: what is found, kept, verified and collected."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.harness import flip, lineage, published, swgctl
from support.records import moved

from swgctl.errors import InputError, UsageError
from swgctl.store import Artifact, Store, make_key
from swgctl.store.locks import lock


def record(path: Path) -> dict:
    return json.loads((path / "artifact.json").read_text())


# -- where -------------------------------------------------------------------------------------------------------------


def test_the_option_comes_before_the_variable_and_that_before_the_folder(tmp_path, monkeypatch):
    (tmp_path / "swg-store").mkdir()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "variable"))
    assert Store.locate("option").root == below / "option"
    assert Store.locate().root == tmp_path / "variable"
    monkeypatch.delenv("SWGCTL_STORE")
    assert Store.locate().root == tmp_path / "swg-store"
    (tmp_path / "swg-store").rmdir()
    assert Store.locate().root == below / "swg-store"


def test_looking_makes_no_store(tmp_path):
    for args in (["ls"], ["verify"], ["gc"]):
        assert swgctl(*args).code == 0
    assert not (tmp_path / "store").exists()


def test_a_store_can_be_moved(chain, tmp_path, monkeypatch):
    shutil.move(chain.store, tmp_path / "elsewhere")
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "elsewhere"))
    assert len(swgctl("tree", "-", stdin=swgctl("ls", "--stage", "eval").out).lines) == 4
    assert chain.critic("--json").json["status"] == "cached"


def test_a_store_that_cannot_be_written_is_one_line(chain, tmp_path):
    (tmp_path / "file").touch()
    answer = chain.critic("--store", tmp_path / "file")
    answer.refused(2, str(tmp_path / "file"), "cannot be a store")


def test_an_artifact_in_another_store_is_an_input_too(built, tmp_path):
    made = swgctl("augment", "--from", built.made("critic"), "--store", tmp_path / "mine").path
    assert made.is_relative_to(tmp_path / "mine")


def test_an_artifact_that_was_copied_out_of_its_store(chain, tmp_path):
    copy = Path(shutil.copytree(chain.made("eval"), tmp_path / "copy"))
    assert swgctl("show", copy).path == copy
    assert lineage(swgctl("tree", "--json", copy).json) == {("pendulum", 0)}, "its parents are where they were"
    moved(copy)
    swgctl("tree", copy).refused(3, "diffuse")


def test_a_folder_with_no_store_above_it():
    with pytest.raises(InputError, match="copy"):
        _ = Artifact(Path("/copy")).store


# -- what an artifact is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "files"),
    [
        ("critic", {"critic.safetensors", "metrics.jsonl"}),
        ("augment", {"data.hdf5"}),
        ("diffuse", {"policy.safetensors", "metrics.jsonl"}),
        ("eval", {"episodes.csv", "summary.json"}),
    ],
)
def test_the_files_of_an_artifact(built, stage, files):
    found = {path.name for path in built.made(stage).iterdir()}
    assert found == files | {"artifact.json", "config.yaml", "log.txt"}
    assert record(built.made(stage))["files"].keys() == found - {"artifact.json"}


def test_a_safetensors_file_has_one_metadata_entry(built):
    for stage, name in (("critic", "critic.safetensors"), ("diffuse", "policy.safetensors")):
        content = (built.made(stage) / name).read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = header["__metadata__"]
        assert about.keys() == {"swg"}
        assert json.loads(about["swg"])["task"] == "pendulum"
        assert about["swg"] == json.dumps(json.loads(about["swg"]), sort_keys=True, separators=(",", ":"))


def test_the_augmented_data_set_opens_as_d4rls(built):
    import h5py

    with h5py.File(built.made("augment") / "data.hdf5") as file, h5py.File(built.data) as source:
        assert file["weights"].shape == (1, 400)
        for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
            assert (file[name][()] == source[name][()]).all()
            assert {"long_name", "units"} <= file[name].attrs.keys()


def test_no_artifact_holds_a_pickle(built):
    names = {path.suffix for path in built.store.rglob("*") if path.is_file()}
    assert names <= {".safetensors", ".hdf5", ".json", ".jsonl", ".yaml", ".txt", ".csv", ".lock", ""}


def test_the_same_run_in_another_store_has_the_same_digests(built, tmp_path):
    assert built.run("--store", tmp_path / "other").path
    for path in published(tmp_path / "other"):
        twin = built.store / path.relative_to(tmp_path / "other")
        assert record(path)["digest"] == record(twin)["digest"]


def test_a_key_depends_on_each_of_its_parts():
    base = ("critic", 1, {"lr": 3e-4}, [0], {"augment": "a"}, "source")
    others = [
        ("augment", *base[1:]),
        ("critic", 2, *base[2:]),
        (*base[:2], {"lr": 1e-4}, *base[3:]),
        (*base[:3], [1], *base[4:]),
        (*base[:4], {"augment": "b"}, base[5]),
        (*base[:5], None),
    ]
    assert len({make_key(*parts) for parts in [base, *others]}) == 7


def test_seeds_data_and_task_change_the_key_and_the_place_of_the_file_does_not(chain, pendulum, tmp_path):
    key = chain.critic("--json").json["key"]
    assert chain.critic("--seeds", "1", "--json").json["key"] != key
    args = ("--env", "Pendulum-v1", "--recipe", chain.recipe, "--json")
    (tmp_path / "elsewhere").mkdir()
    same = shutil.copy(chain.data, tmp_path / "elsewhere" / chain.data.name)
    assert swgctl("critic", same, *args).json["key"] == key
    other = shutil.copy(chain.data, tmp_path / "twin.hdf5")
    assert swgctl("critic", other, *args).json["key"] != key
    assert swgctl("critic", pendulum("pendulum", 1), *args).json["key"] != key


# -- refs --------------------------------------------------------------------------------------------------------------


def test_a_prefix_that_fits_several_lists_them(chain):
    store = Store(chain.store)
    critic = chain.made("critic")
    for name in ("abc1", "abc2"):
        shutil.copytree(critic, chain.store / "objects/critic/pendulum" / name)
    assert store.resolve("abc1").path.name == "abc1"
    swgctl("show", "abc").refused(3, "abc1", "abc2")


def test_a_prefix_that_fits_many_names_the_first(chain):
    critic = chain.made("critic")
    for i in range(30):
        shutil.copytree(critic, critic.with_name(f"abc{i:02}"))
    swgctl("show", "abc").refused(3, "fits 30", "abc00, abc01", "abc07, ...")


def test_ls_is_oldest_first_and_by_the_very_name_of_the_task(chain):
    critic = chain.made("critic")
    paths = [critic.parent.with_name(task) / key for task, key in (("a[1]", "2"), ("a1", "3"), ("*", "1"))]
    for age, path in enumerate(paths):
        shutil.copytree(critic, path)
        os.utime(path, (age, age))
    assert [Path(line) for line in swgctl("ls").lines][:3] == paths
    for path in paths:
        assert swgctl("ls", "--task", path.parent.name).lines == [str(path)]


def test_what_lies_about_in_a_store_is_no_artifact(chain):
    before, critic = swgctl("ls").lines, chain.made("critic")
    for folder in critic.parents[:3]:
        (folder / "notes.txt").touch()
    critic.with_name("nowhere").symlink_to("gone")
    critic.with_name("link").symlink_to(critic)
    assert set(swgctl("ls").lines) == {*before, str(critic.with_name("link"))}


def test_an_artifact_that_goes_while_others_are_listed_is_left_out(chain, monkeypatch):
    found = Store(chain.store).directories()
    monkeypatch.setattr(Store, "directories", lambda *_: found)
    shutil.rmtree(chain.made("diffuse"))
    assert len(swgctl("ls").lines) == len(swgctl("ls", "--json").lines) == 3
    (chain.made("augment") / "artifact.json").unlink()
    swgctl("ls").refused(4, "lost its artifact.json")


def test_a_scope_that_is_no_name_is_refused_before_anything_is_built(built, tmp_path, monkeypatch):
    monkeypatch.setenv("SWGCTL_SCOPE", "../x")
    built.critic().refused(2, "SWGCTL_SCOPE")
    assert published(tmp_path / "store") == []


def test_without_a_scope_the_parent_process_is_it(monkeypatch):
    from swgctl.store.processes import scope

    monkeypatch.delenv("SWGCTL_SCOPE")
    assert scope().startswith(f"shell-{socket.gethostname()}-{os.getppid()}-")
    monkeypatch.setenv("SWGCTL_SCOPE", ".x")
    with pytest.raises(UsageError):
        scope()


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_names_every_damaged_artifact(chain):
    flip(chain.made("critic") / "critic.safetensors")
    flip(chain.made("eval") / "episodes.csv")
    answer = swgctl("verify")
    answer.refused(4, "2 artifact")
    for path in (chain.made("critic"), chain.made("eval")):
        assert f"damaged: {path}" in answer.err
    assert f"whole: augment {chain.made('augment').name}" in answer.err


def test_verify_notices_a_missing_file(chain):
    (chain.made("eval") / "summary.json").unlink()
    swgctl("verify").refused(4, "summary.json")


def test_verify_notices_a_changed_record(chain):
    file = chain.made("diffuse") / "artifact.json"
    file.write_text(file.read_text().replace('"width": 16', '"width": 32'))
    swgctl("verify").refused(4, str(file))


# -- gc ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def littered(chain):
    """(store, what is left over in it, what a live writer needs)."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    key, finished = "0123456789abcdef", chain.made("critic").name
    old, host = time.time() - 2 * 86400, socket.gethostname()
    garbage = [
        chain.store / "tmp" / f"{host}-{dead.pid}-{key}-aa",
        chain.store / "work" / finished,
        chain.store / "work" / "old0000000000000",
        chain.store / "current" / f"shell-{host}-{dead.pid}-1",
    ]
    needed = [
        chain.store / "tmp" / f"{host}-{os.getpid()}-{key}-bb",
        chain.store / "tmp" / f"elsewhere-{dead.pid}-{key}-cc",
        chain.store / "tmp" / f"{host}-{dead.pid}-{os.getpid()}-{key}-dd",  # of a machine called so
        chain.store / "current" / f"shell-{host}-{dead.pid}-{os.getpid()}-1",
        chain.store / "work" / key,
        chain.store / "current" / "scope-test",
    ]
    for path in [*garbage, *needed]:
        path.mkdir(parents=True)
        (path / "file").touch()
    for path in (garbage[2] / "file", garbage[2]):
        os.utime(path, (old, old))
    return chain.store, garbage, needed


def removed(answer) -> set[Path]:
    """The paths that `gc` names, on stderr: they are no artifacts."""
    assert answer.lines == []
    return {Path(line) for line in answer.err.splitlines() if line.startswith("/")}


def test_gc_removes_the_leftovers_of_the_dead(littered):
    store, garbage, needed = littered
    artifacts = published(store)
    assert removed(swgctl("gc")) == set(garbage)
    assert not any(path.exists() for path in garbage)
    assert all(path.exists() for path in needed)
    assert published(store) == artifacts
    assert len(swgctl("verify").lines) == 4


def test_gc_leaves_the_draft_of_another_machine_whose_lock_is_held(chain):
    """A build that trains for days says nothing on a terminal, and containers see no processes of each other."""
    key, old = "0123456789abcdef", time.time() - 2 * 86400
    draft = chain.store / "tmp" / f"elsewhere-7-{key}-aa"
    draft.mkdir(parents=True)
    os.utime(draft, (old, old))
    with lock(chain.store, key, wait=False):
        assert removed(swgctl("gc")) == set()
    assert removed(swgctl("gc")) == {draft}


def test_gc_puts_back_what_a_killed_force_had_moved_away(chain):
    path = chain.made("eval")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.rename(chain.store / "tmp" / f"{socket.gethostname()}-{dead.pid}-{path.name}-aa.replaced")
    assert removed(swgctl("gc", "--dry-run")) == set()
    assert f"put back, since --force was killed before the new one was there: {path}" in swgctl("gc").err
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert swgctl("verify").code == 0


def test_gc_dry_run_removes_nothing(littered):
    _, garbage, needed = littered
    answer = swgctl("gc", "--dry-run")
    assert removed(answer) == set(garbage)
    assert "would remove 4" in answer.err
    assert all(path.exists() for path in [*garbage, *needed])


def test_gc_says_what_it_cannot_remove(littered, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as of a disk that cannot be written
    swgctl("gc").refused(1, "4 leftover(s) cannot be removed")


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta | {"inputz": meta.pop("inputs")},
        lambda meta: meta | {"schema": "x"},
        lambda meta: {"schema": 1},
        lambda meta: meta | {"files": []},
        lambda meta: meta | {"wall_s": 7.0},
        lambda meta: meta | {"metrics": {}},
    ],
)
def test_a_record_that_was_changed_is_found(chain, change):
    file = chain.made("eval") / "artifact.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    swgctl("verify").refused(4, str(chain.made("eval")))
    assert swgctl("ls").code in (0, 4)  # 0 where it is still a record


def test_several_lines_on_standard_input(chain):
    both = f"{chain.made('critic')}\n\n{chain.made('eval')}\n"
    assert len(swgctl("verify", "-", stdin=both).lines) == 2
    swgctl("show", "-", stdin=both).refused(3, "named 2 artifacts")
    assert swgctl("report", "-", "--format", "json", stdin=f"{chain.made('eval')}\n" * 2).code == 0


def test_a_whole_key_is_a_ref(chain):
    key = json.loads((chain.made("eval") / "artifact.json").read_text())["key"]
    assert swgctl("show", key).path == chain.made("eval")
    swgctl("show", key[:-1] + "-").refused(3, "no artifact")


def test_an_empty_store_is_said(tmp_path, chain):
    assert "has no artifacts" in swgctl("verify", "--store", tmp_path / "none").err
    assert "has no artifacts of task 'foo'" in swgctl("ls", "--task", "foo").err


def test_gc_twice_finds_nothing_more(littered):
    swgctl("gc")
    assert removed(swgctl("gc")) == set()


def test_old_artifacts_are_kept(chain):
    for path in [*chain.store.rglob("*")]:
        os.utime(path, (0, 0))
    swgctl("gc")
    assert len(swgctl("verify").lines) == 4
