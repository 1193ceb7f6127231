"""The folder of downloads: what others put into it, checksums, full disks and neighbours."""

import errno
import hashlib
import os
import resource
import subprocess
import sys

import pytest
from support.downloads import BODY, NAME, OTHER, break_off, fetch
from support.harness import shell

from swgctl.errors import CorruptError, InputError, SwgError
from swgctl.tasks import downloads
from swgctl.tasks.cache import cache_folder


def test_the_second_time_nothing_is_downloaded(server):
    assert fetch() == fetch()
    assert len(server.log) == 1


def planted(cache, part, suffix):
    """The path of a file that `fetch` writes."""
    path = part.with_name(part.name + ".json") if suffix == "part.json" else cache / (NAME + suffix)
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("suffix", ["", ".lock", "part.json", ".sha256"])
@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_a_planted_link_is_not_followed(cache, part, tmp_path, suffix, kind):
    victim, path = tmp_path / "victim", planted(cache, part, suffix)
    there = kind == "link" and suffix  # a data set may be a link to a file
    if there:
        victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(InputError, match="is a symbolic link") as raised:
        fetch()
    assert (raised.value.code, raised.value.help.split("   #")[0]) == (3, f"rm {path}")
    assert (victim.read_text() == "precious") if there else not victim.exists()


def test_a_planted_link_is_not_appended_to(server, part, tmp_path):
    """Even with a record that says how to go on."""
    break_off(server, 700_000)
    victim = tmp_path / "victim"
    victim.write_bytes(BODY[:700_000])
    part.unlink()
    part.symlink_to(victim)
    with pytest.raises(InputError, match="is a symbolic link"):
        fetch()
    assert victim.read_bytes() == BODY[:700_000]


@pytest.mark.parametrize("suffix", ["", ".lock", "part.json", ".sha256"])
def test_a_pipe_is_not_waited_for(cache, part, suffix):
    os.mkfifo(planted(cache, part, suffix))
    with pytest.raises(InputError, match=r"is not a file"):
        fetch()


def test_a_data_set_that_is_a_link_to_another_disk_is_read(server, cache, tmp_path):
    elsewhere = tmp_path / "elsewhere.hdf5"
    elsewhere.write_bytes(BODY)
    (cache / NAME).parent.mkdir(parents=True)
    (cache / NAME).symlink_to(elsewhere)
    assert fetch().read_bytes() == BODY
    assert server.log == []


def test_help_can_be_pasted_whatever_the_path(tmp_path, monkeypatch):
    folder = tmp_path / "my 'cache'; touch ran"
    monkeypatch.setenv("SWGCTL_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    path = fetch()
    path.write_bytes(b"other bytes")
    with pytest.raises(CorruptError) as raised:
        fetch()
    assert shell(raised.value.help).code == 0
    assert not path.exists()
    assert not (tmp_path / "ran").exists()
    assert fetch().read_bytes() == BODY


def test_a_file_that_changed_after_pinning_is_refused(server, cache):
    path = fetch()
    path.write_bytes(b"other bytes")
    with pytest.raises(CorruptError) as caught:
        fetch()
    assert caught.value.code == 4
    for digest in (hashlib.sha256(b"other bytes"), hashlib.sha256(BODY)):
        assert digest.hexdigest() in str(caught.value)
    assert caught.value.help.startswith(f"rm {path}   #")
    path.unlink()
    assert fetch().read_bytes() == BODY


def test_bytes_swapped_on_the_server_are_refused_until_the_pin_goes(server, cache):
    path = fetch()
    path.unlink()
    server.body = OTHER
    for _ in range(2):
        with pytest.raises(CorruptError, match=r"maze2d-umaze-sparse-v1\.hdf5\.sha256 says"):
            fetch()
    (cache / (NAME + ".sha256")).unlink()
    assert fetch().read_bytes() == OTHER
    assert len(server.log) == 2


@pytest.mark.parametrize("place", [NAME, NAME.rpartition("/")[2]])
def test_a_local_folder_comes_first_and_is_left_alone(server, tmp_path, monkeypatch, place):
    mine = tmp_path / "mine" / place
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path / "mine"))
    assert fetch() == mine
    assert server.log == []
    assert list(mine.parent.iterdir()) == [mine]


def test_a_local_folder_without_the_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path))
    said = []
    assert fetch(say=said.append).read_bytes() == BODY
    assert said[0] == f"SWGCTL_DATA: {tmp_path} does not hold maze2d-umaze-sparse-v1.hdf5"


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SWGCTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "swgctl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "swgctl"


def test_a_full_disk_is_named(monkeypatch, part):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SwgError, match="No space left on device") as caught:
            fetch()
    assert caught.value.code == 1
    assert "SWGCTL_CACHE" in caught.value.help
    assert part.exists()


def test_what_was_written_before_the_disk_was_full_is_kept(server, part, monkeypatch):
    monkeypatch.setattr(downloads, "CHUNK", 1 << 16)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(SwgError, match="File too large") as caught:
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == 1
    assert part.stat().st_size == 500_000
    assert fetch().read_bytes() == BODY
    assert server.log[1][0] == "bytes=500000-"


def test_two_processes_download_once(server, monkeypatch):
    server.pause = 60
    monkeypatch.setenv("SWGCTL_D4RL_URL", server.url)
    code = (
        "from swgctl.tasks import d4rl, downloads; say = lambda line: print(line, flush=True); "
        f"print(downloads.fetch(d4rl.download({NAME!r}), say)[0])"
    )

    def start():
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    first = start()
    assert first.stdout.readline().startswith("downloading")
    second = start()
    assert second.stdout.readline().startswith("waiting for another process")
    server.going.set()
    said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
    assert len(server.log) == 1


def test_a_page_that_is_no_hdf5_file_is_neither_kept_nor_pinned(server, cache):
    server.body = b"<html>sign in first</html>"
    with pytest.raises(InputError, match="not an HDF5 file"):
        fetch()
    server.body = BODY
    assert fetch().read_bytes() == BODY
