"""What other packages, other users of a folder and other machines put in our way: one line, and nothing changed."""

import os
from types import SimpleNamespace

import pytest
from support.harness import published, swgctl
from support.records import rewrite

from swgctl import plugins
from swgctl.files import read_tensors, sha256, write_tensors

# -- plugins -----------------------------------------------------------------------------------------------------------


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [SystemExit(0), ValueError("no"), GeneratorExit(), Odd(), BaseException("base")])
def test_a_plugin_that_fails_as_it_is_imported_is_left_out(monkeypatch, capsys, error):
    def load():
        print("imported")
        raise error

    point = SimpleNamespace(name="odd", value="odd:ROW", dist=None, load=load)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    assert plugins.load.__wrapped__("swgctl.stages") == {}
    out, err = capsys.readouterr()
    assert out == ""
    assert f"plugin odd:ROW is left out: odd = odd:ROW: {type(error).__name__}" in err


# -- folders that somebody else serves as a remote ---------------------------------------------------------------------


def sparse(path) -> None:
    path.touch()
    os.truncate(path, 1 << 34)


IN_THE_WAY = {
    "a pipe": os.mkfifo,
    "a circle of links": lambda path: path.symlink_to(path.name),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": os.mkdir,
    "16 GiB": sparse,
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_a_remote_folder_in_which_a_file_is_none(chain, tmp_path, what):
    store = tmp_path / "ours"
    critic = chain.made("critic")
    for name in ("critic.safetensors", "artifact.json"):
        (critic / name).unlink()
        IN_THE_WAY[what](critic / name)
        answer = swgctl("pull", chain.store, critic.name, "--store", store)
        assert answer.code in (3, 4), answer.err
        assert answer.error
    assert published(store) == []
    answer = swgctl("ls", f"file://{chain.store}")
    assert answer.code == (4 if what == "16 GiB" else 0), answer.err


PLANTED = {  # in the folder where a pull collects its files
    "a link": lambda path, victim: path.symlink_to(victim),
    "another name of a file": lambda path, victim: os.link(victim, path),
    "a pipe": lambda path, victim: os.mkfifo(path),
    "a folder": lambda path, victim: (path / "x").mkdir(parents=True),
}


@pytest.mark.parametrize("name", ["critic.safetensors", "artifact.json", "other"])
@pytest.mark.parametrize("what", PLANTED)
def test_a_pull_does_not_write_through_what_was_planted(chain, tmp_path, what, name):
    store, critic = tmp_path / "ours", chain.made("critic")
    (victim := tmp_path / "victim").write_bytes(b"precious")
    (draft := store / "work" / f"{critic.name}-pull").mkdir(parents=True)
    PLANTED[what](draft / name, victim)
    pulled = swgctl("pull", chain.store, critic.name, "--store", store).path
    assert victim.read_bytes() == b"precious"
    assert all(path.is_file() and not path.is_symlink() for path in pulled.iterdir())
    assert (pulled / "critic.safetensors").read_bytes() == (critic / "critic.safetensors").read_bytes()


def test_a_pull_into_a_link_to_somebody_elses_folder(chain, tmp_path):
    store, critic = tmp_path / "ours", chain.made("critic")
    (theirs := tmp_path / "theirs").mkdir()
    (store / "work").mkdir(parents=True)
    (store / "work" / f"{critic.name}-pull").symlink_to(theirs)
    assert not swgctl("pull", chain.store, critic.name, "--store", store).path.is_symlink()
    assert list(theirs.iterdir()) == []


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_a_file_only_by_name_is_an_input_that_cannot_be_read():
    swgctl("critic", "/proc/self/mem", "--env", "Pendulum-v1").refused(3, "/mem cannot be read: Input/output error")
    answer = swgctl("plan", "/proc/self/mem", "--env", "Pendulum-v1")
    assert (answer.code, "/mem cannot be read" in answer.err) == (0, True)


def test_an_artifact_that_is_named_many_times_is_read_once(chain):
    critic = chain.made("critic")
    answer = swgctl("verify", "-", stdin=f"{critic}\n" * 10_000 + f"{critic.name}\n")
    assert answer.lines == [str(critic)]


def test_measurements_without_end(tmp_path):
    swgctl("plot", "scaling", "/dev/zero").refused(3, "more than 16,000,000 characters")


def test_a_denoiser_of_nan_is_one_line(chain):
    diffuse = chain.made("diffuse")
    file = diffuse / "policy.safetensors"
    tensors, meta = read_tensors(file)
    write_tensors(file, {name: tensor * float("nan") for name, tensor in tensors.items()}, meta)
    signed = {"sha256": sha256(file), "bytes": file.stat().st_size}
    rewrite(diffuse, lambda record: record["files"].update({file.name: signed}))
    before = published(chain.store)
    answer = swgctl("candidates", "--from", diffuse, "--recipe", chain.recipe)
    answer.refused(1, "not finite")
    assert "internal" not in answer.err
    assert published(chain.store) == before


def test_gc_removes_a_link_and_not_what_it_names(chain, tmp_path):
    (theirs := tmp_path / "theirs").mkdir()
    (theirs / "file").touch()
    for folder, name in (("work", chain.made("critic").name), ("tmp", "a\nerror: b")):
        (place := chain.store / folder).mkdir(exist_ok=True)
        (place / name).symlink_to(theirs)
    os.utime(theirs / "file", (0, 0))
    os.utime(theirs, (0, 0))
    answer = swgctl("gc")
    assert answer.lines == []
    assert "removed 2 leftover(s)" in answer.err
    assert "\nerror" not in answer.err
    assert (theirs / "file").exists()
    assert not any((chain.store / "tmp").iterdir())


@pytest.mark.parametrize("out", ["file/x.png", "\udcff.png"])
def test_a_picture_where_none_can_be(chain, tmp_path, out):
    (tmp_path / "file").touch()
    answer = swgctl("plot", "training", chain.made("critic"), "--out", tmp_path / out)
    assert answer.code == ("file" in out), answer.err
    assert "internal" not in answer.err
