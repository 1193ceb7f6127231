"""Several sources of one file: who is asked, who is left, and what is believed."""

import contextlib
import re
import socket

import pytest
from support.downloads import BODY, KNOWN, NAME, OTHER, fetch, serving
from support.harness import swgctl

from swgctl.errors import CorruptError, InputError
from swgctl.tasks import d4rl, downloads, published
from swgctl.tasks.sources import SHIPPED


@pytest.fixture
def mirror(server, monkeypatch):
    """A second server, which is asked first."""
    with serving() as mirror:
        monkeypatch.setenv("SWGCTL_D4RL_URL", mirror.url)
        yield mirror


def dead(mirror):
    mirror.shutdown()
    mirror.server_close()


def silent(mirror):
    mirror.pause = 2


def forbidden(mirror):
    mirror.status = 403


def shorter(mirror):
    mirror.body = BODY[:500_000]


def other(mirror):
    mirror.body = OTHER


def longer(mirror):
    mirror.body, mirror.length = BODY * 40, "unknown"


def broken(mirror):
    mirror.break_after = 700_000


def local(mirror):
    mirror.to = "file:///etc/passwd"


def unasked(mirror):
    mirror.status = 206


def page(mirror):
    mirror.body = b"<html>sign in first</html>".ljust(len(BODY))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (dead, "Connection refused"),
        (silent, f"broke off after 524,288 of {len(BODY):,} bytes: timed out"),
        (forbidden, "HTTP 403 Forbidden"),
        (shorter, f"its file has 500,000 bytes, the published one {len(BODY):,}"),
        (other, "the sha256 of its file is [0-9a-f]{64}, that of the published one [0-9a-f]{64}"),
        (longer, f"sent more than the {len(BODY):,} bytes"),
        (broken, f"broke off after 700,000 of {len(BODY):,} bytes"),
        (local, "file:///etc/passwd' is not allowed"),
        (unasked, "which nobody asked for"),
        (page, "what was sent is not an HDF5 file"),
    ],
)
def test_a_source_that_fails_is_left_for_the_next(mirror, server, cache, publish, monkeypatch, fault, reason):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    monkeypatch.setattr(downloads, "CHUNK", 1 << 16)
    publish()
    fault(mirror)
    said = []
    assert fetch(name=KNOWN, say=said.append).read_bytes() == BODY
    why = [line for line in said if line.endswith("asking the next source")]
    assert len(why) == 1
    assert re.search(f"^{mirror.url}/{KNOWN}: .*{reason}", why[0])
    assert [status for _, _, status, _ in server.log] == [200]
    left = {path.name for path in (cache / KNOWN).parent.iterdir()}
    assert left == {f"hopper_medium-v2.hdf5{suffix}" for suffix in ("", ".sha256", ".lock")}


def test_all_sources_and_their_reasons_are_in_one_list(mirror, server, publish):
    publish()
    mirror.status, server.body = 404, OTHER
    answer = swgctl("data", "fetch", "hopper-medium-v2")
    answer.refused(3, f"{mirror.url}/{KNOWN}: HTTP 404", f"; {server.url}/{KNOWN}: the sha256 of its file is ")
    assert len(answer.helps) == 1


def test_a_download_that_breaks_off_three_times_goes_on_where_it_was(mirror, server, cache, publish):
    """The other source, which is dead, costs nothing of it."""
    publish()
    server.status = 503
    for sent in (300_000, 200_000, 100_000):
        mirror.break_after = sent
        with pytest.raises(InputError, match=r"broke off after .*503") as raised:
            fetch(name=KNOWN)
        assert "the same command again: it resumes" in raised.value.help
    mirror.break_after = None
    assert fetch(name=KNOWN).read_bytes() == BODY
    assert [start for start, *_ in mirror.log] == [None, "bytes=300000-", "bytes=500000-", "bytes=600000-"]


def test_a_range_of_another_file_is_found_out(mirror, server, publish):
    """Its server vouches for it: the sum does not."""
    publish()
    server.status, mirror.break_after = 503, 700_000
    with pytest.raises(InputError):
        fetch(name=KNOWN)
    mirror.body, mirror.break_after, server.status = OTHER, None, 200
    assert fetch(name=KNOWN).read_bytes() == BODY
    assert mirror.log[-1][0] == "bytes=700000-"


def test_a_published_file_says_nothing_more(server, publish):
    publish()
    said = []
    fetch(name=KNOWN, say=said.append)
    assert said == [f"downloading {server.url}/{KNOWN}"]


def test_the_copy_comes_last_and_is_asked_for_published_files_alone(server, publish, monkeypatch):
    monkeypatch.setattr(d4rl, "COPY", "http://copy")
    publish(copied=True)
    assert d4rl.download(KNOWN).urls == (f"{server.url}/{KNOWN}", "http://copy/hopper_medium-v2.hdf5")
    assert d4rl.download(NAME).urls == (f"{server.url}/{NAME}",)
    publish(copied=False)
    assert d4rl.download(KNOWN).urls == (f"{server.url}/{KNOWN}",)


def test_templates_of_mirrors(server, monkeypatch):
    monkeypatch.setenv("SWGCTL_D4RL_URL", "http://a/{path} http://b/x/{name}?raw=1  http://c/folder/")
    urls = ["http://a/" + KNOWN, "http://b/x/hopper_medium-v2.hdf5?raw=1", "http://c/folder/" + KNOWN]
    assert list(d4rl.download(KNOWN).urls[:3]) == urls
    monkeypatch.setenv("SWGCTL_D4RL_URL", "http://a/{nmae}")
    swgctl("data", "fetch", "hopper-medium-v2").refused(2, "SWGCTL_D4RL_URL: {nmae} is neither {path} nor {name}")


# -- files that are here -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, publish):
    """$SWGCTL_DATA with another file than the published one; its path."""
    publish()
    path = tmp_path / "mine" / "hopper_medium-v2.hdf5"
    path.parent.mkdir()
    path.write_bytes(OTHER)
    monkeypatch.setenv("SWGCTL_DATA", str(path.parent))
    return path


def test_another_file_is_refused_with_both_sums(folder, publish):
    right, wrong = publish(), downloads.digest(folder)
    answer = swgctl("data", "fetch", "hopper-medium-v2")
    answer.refused(3, str(folder), right, wrong)
    assert [line.partition("   #")[0] for line in answer.helps] == [
        "SWGCTL_DATA= swgctl data fetch hopper-medium-v2",
        "swgctl data fetch hopper-medium-v2 --trust",
    ]
    swgctl("critic", "hopper-medium-v2").refused(3, right, wrong)
    swgctl("data", "verify", "hopper-medium-v2").refused(4, right, wrong)


def test_trust_overrules_that_one_file_and_is_remembered(folder):
    answer = swgctl("data", "fetch", "hopper-medium-v2", "--trust")
    assert answer.path == folder
    assert "not the published checksum, overruled by --trust" in answer.err
    assert swgctl("data", "fetch", "hopper-medium-v2").path == folder
    assert f"overruled: {folder}" in swgctl("data", "verify", "hopper-medium-v2").err
    assert list(folder.parent.iterdir()) == [folder]
    folder.write_bytes(OTHER + b"!")
    swgctl("data", "fetch", "hopper-medium-v2").refused(3, "that of the published file")
    folder.write_bytes(BODY)
    assert "published: " in swgctl("data", "verify", "hopper-medium-v2").err


def test_a_wrong_file_in_the_cache_is_refused_until_it_goes(server, cache, publish):
    path = fetch(name=KNOWN, trust=True) if publish(body=OTHER) else None
    assert published.standing(KNOWN, downloads.digest(path)) == published.OVERRULED
    (cache / f"{KNOWN}.trusted").unlink()
    with pytest.raises(InputError, match="that of the published file") as raised:
        fetch(name=KNOWN)
    assert raised.value.help[0].startswith(f"rm {path} {path}.sha256 && swgctl data fetch hopper-medium-v2")


def test_verify_says_of_each_file_how_it_stands(server, cache, publish):
    publish()
    known, pinned = fetch(name=KNOWN), fetch(name=NAME)
    answer = swgctl("data", "verify")
    assert answer.lines == [str(known), str(pinned)]
    assert f"published: {known}" in answer.err
    assert f"pinned: {pinned}" in answer.err
    assert swgctl("task", "show", "maze2d-umaze-v1", "--json").json["checksum"] == "no published checksum"
    assert swgctl("task", "show", "hopper-medium-v2", "--json").json["checksum"] == "the published checksum"


# -- a look at the sources ---------------------------------------------------------------------------------------------


def test_sources_asks_each_without_a_download(mirror, server, publish):
    publish()
    mirror.body = BODY[:9]
    answer = swgctl("data", "sources", "hopper-medium-v2")
    assert answer.lines == [f"{server.url}/{KNOWN}"]
    assert f"{mirror.url}/{KNOWN}: 9 bytes, the published file has {len(BODY):,}" in answer.err
    assert f"{server.url}/{KNOWN}: {len(BODY):,} bytes" in answer.err
    assert [asked for asked, *_ in (*mirror.log, *server.log)] == ["HEAD", "HEAD"]
    path = fetch(name=KNOWN)
    assert swgctl("data", "sources", "hopper-medium-v2").path == path


def test_a_redirected_source_is_asked_for_its_head_alone(mirror, server, publish):
    publish()
    mirror.to = f"{server.url}/{KNOWN}"
    answer = swgctl("data", "sources", "hopper-medium-v2")
    assert answer.lines == [f"{mirror.url}/{KNOWN}"]
    assert [asked for asked, *_ in (*mirror.log, *server.log)] == ["HEAD", "HEAD", "HEAD"]


def test_a_wrong_file_that_is_here_is_no_source(mirror, server, publish, tmp_path, monkeypatch):
    publish()
    wrong = tmp_path / "hopper_medium-v2.hdf5"
    wrong.write_bytes(b"another")
    monkeypatch.setenv("SWGCTL_DATA", str(tmp_path))
    answer = swgctl("data", "sources", "hopper-medium-v2")
    assert answer.lines == [f"{mirror.url}/{KNOWN}"]
    assert f"{wrong}: here, not the published one" in answer.err


def test_sources_that_have_nothing(mirror, server):
    dead(mirror)
    server.status = 403
    answer = swgctl("data", "sources", "hopper-medium-v2")
    answer.refused(3, "no source has hopper_medium-v2.hdf5")
    assert "HTTP 403" in answer.err
    assert "Connection refused" in answer.err
    swgctl("data", "sources", "demo").refused(2, "made here")


# -- names are data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../outside.hdf5", "a/../../outside.hdf5", "/etc/passwd", "a//b", ".", "a\nb", ""])
def test_no_path_of_a_record_leaves_the_cache(tmp_path, path):
    (tmp_path / "outside.hdf5").write_bytes(BODY)
    for use in (SHIPPED["d4rl"].find, lambda where: SHIPPED["d4rl"].locate(where, print, None)):
        with pytest.raises(CorruptError, match="is no path of a data file") as raised:
            use(path)
        assert "\n" not in str(raised.value)


def test_what_a_server_says_does_not_steer_a_terminal(publish):
    """Its reason and where it redirects to."""
    publish()
    steering = b"\x1b]0;owned\x07\x9b2J"
    for reply in (
        b"HTTP/1.1 403 " + steering + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: " + steering + b"://x\r\n\r\n",
        b"HTTP/1.1 " + steering + b"\r\n\r\n",
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
            patch.setenv("SWGCTL_D4RL_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
            patch.setattr(downloads, "PATIENCE", 1)
            with raw(listener, reply):
                answer = swgctl("data", "sources", "hopper-medium-v2")
        assert not set(answer.err) & {"\x1b", "\x07", "\x9b"}
        assert answer.code == 0  # the second source has it


@contextlib.contextmanager
def raw(listener, reply):
    """Answers one connection with these bytes."""
    import threading

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    thread.join(10)
