"""Downloads from a real HTTP server on loopback that misbehaves on demand."""

import base64
import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import re
import resource
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from support.harness import shell

from swgctl.errors import CorruptError, InputError, SwgError
from swgctl.tasks import d4rl

NAME = "gym_mujoco_v2/hopper_medium-v2.hdf5"


def hdf5(fill: int) -> bytes:
    """A file of a little more than 1 MiB."""
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        file.create_dataset("observations", data=np.full((512, 512), fill, np.float32), track_times=False)
    return whole.getvalue()


BODY, OTHER = hdf5(1), hdf5(2)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` to any path.  `log` has (Range, If-Range, status, bytes sent) of each request.

    In the middle of a body it waits until `going` is set, or for `pause` seconds.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.headers, self.log = BODY, {"ETag": '"one"'}, []
        self.ranges, self.status, self.length, self.break_after, self.most = True, 200, None, None, None
        self.conditional, self.to, self.authorizations = True, None, []
        self.going, self.pause = threading.Event(), 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted, condition = self.server, self.headers["Range"], self.headers["If-Range"]
        start, status = 0, server.status
        fresh = not server.conditional or condition in (None, *server.headers.values())
        server.authorizations.append(self.headers["Authorization"])
        if server.to:
            self.send_response(302)
            self.send_header("Location", server.to)
            self.end_headers()
            return
        if status == 200 and wanted and server.ranges and fresh:
            start, status = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]), 206
            if start >= len(server.body):
                status = 416
        part = server.body[start:][: server.most if status == 206 else None] if status < 300 else b""
        self.send_response(status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(server.body)}")
        if server.length is None:
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        sent = part[: server.break_after]
        server.log.append((wanted, condition, status, len(sent)))
        half = len(sent) // 2
        self.wfile.write(sent[:half])
        server.going.wait(server.pause)
        self.wfile.write(sent[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, server):
    for name in ("SWGCTL_DATA", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWGCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SWGCTL_D4RL_URL", server.url)
    return tmp_path / "cache"


@pytest.fixture
def part(cache):
    return cache / (NAME + ".part")


def fetch(progress=None):
    path, digest = d4rl.fetch(NAME, lambda line: None, progress)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def break_off(server, after):
    server.break_after = after
    with pytest.raises(InputError, match=f"broke off after {after:,} ") as caught:
        fetch()
    assert "same command" in caught.value.help
    server.break_after = None


def test_a_download_arrives_whole_and_pinned(server, cache):
    seen, said = [], []
    path, digest = d4rl.fetch(NAME, said.append, lambda done, total: seen.append((done, total)))
    assert path == cache / NAME
    assert path.read_bytes() == BODY
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert (cache / (NAME + ".sha256")).read_text() == f"{digest}  hopper_medium-v2.hdf5\n"
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert said == [f"downloading {server.url}/{NAME}"]
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, path.name + ".sha256", path.name + ".lock"}


def test_the_second_time_nothing_is_downloaded(server):
    assert fetch() == fetch()
    assert len(server.log) == 1


def test_a_broken_download_resumes_where_it_stopped(server, part):
    break_off(server, 700_000)
    assert part.stat().st_size == 700_000
    seen = []
    assert fetch(lambda done, total: seen.append((done, total))).read_bytes() == BODY
    assert server.log[1] == ("bytes=700000-", '"one"', 206, len(BODY) - 700_000)
    assert seen[0] == (700_000, len(BODY))


def test_a_download_may_break_off_twice(server):
    break_off(server, 300_000)
    server.break_after = 200_000
    with pytest.raises(InputError, match=f"broke off after 500,000 of {len(BODY):,}"):
        fetch()
    server.break_after = None
    assert fetch().read_bytes() == BODY
    assert [sent for *_, sent in server.log] == [300_000, 200_000, len(BODY) - 500_000]


def test_a_server_without_ranges_starts_again(server):
    server.ranges = False
    break_off(server, 700_000)
    assert fetch().read_bytes() == BODY
    assert server.log[1][2:] == (200, len(BODY))


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_a_file_that_changed_in_between_is_not_glued(server, validator):
    server.headers = {validator: '"one"' if validator == "ETag" else "Mon, 01 Jan 2024 00:00:00 GMT"}
    break_off(server, 700_000)
    server.body = OTHER
    server.headers = {validator: '"two"' if validator == "ETag" else "Tue, 02 Jan 2024 00:00:00 GMT"}
    assert fetch().read_bytes() == OTHER
    assert server.log[1][2:] == (200, len(BODY))


@pytest.mark.parametrize(
    "headers", [{"ETag": '"two"'}, {"ETag": 'W/"one"'}, {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}, {}]
)
def test_a_server_that_ignores_the_condition_is_not_believed(server, headers):
    """It sends the rest of another version as that of the one that is here in part."""
    break_off(server, 700_000)
    server.body, server.headers, server.conditional = OTHER, headers, False
    assert fetch().read_bytes() == OTHER
    assert [(asked, status) for asked, _, status, _ in server.log[1:]] == [("bytes=700000-", 206), (None, 200)]


def test_without_a_validator_a_download_starts_again(server):
    server.headers = {}
    break_off(server, 700_000)
    server.body = OTHER
    assert fetch().read_bytes() == OTHER
    assert server.log[1][0] is None


def test_a_part_that_nobody_asked_for_is_refused(server):
    server.status = 206
    with pytest.raises(InputError, match="which nobody asked for"):
        fetch()


def test_a_body_that_is_longer_than_announced_is_dropped(server, part, monkeypatch):
    monkeypatch.setattr(d4rl, "MOST", 1 << 20)  # of a server that does not say
    server.length = "unknown"
    with pytest.raises(InputError, match="sent more than the 1,048,576 bytes"):
        fetch()
    assert not part.exists()


@pytest.mark.parametrize("length", ["9" * 5_000, "-5", "1e9", "٣", " "])
def test_an_odd_length_is_none(server, length):
    server.length, server.headers = "unknown", {"Content-Length": length.encode().decode("latin-1")}
    with contextlib.suppress(InputError):  # Python itself takes a negative one for an empty body
        assert fetch().read_bytes() == BODY


# -- who is asked, and what is said of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x/y", "//["])
def test_a_redirect_leads_to_http_alone(server, to):
    server.to = to
    with pytest.raises(InputError) as raised:
        fetch()
    assert raised.value.code == 3


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1", "data:,x"])
def test_a_mirror_speaks_http(monkeypatch, url):
    monkeypatch.setenv("SWGCTL_D4RL_URL", url)
    with pytest.raises(InputError, match="unknown url type"):
        fetch()


def test_a_password_is_used_and_neither_printed_nor_kept(server, cache, monkeypatch):
    monkeypatch.setenv("SWGCTL_D4RL_URL", server.url.replace("//", "//me:p%40ss@"))
    said = []
    server.break_after = 700_000
    with pytest.raises(InputError) as raised:
        d4rl.fetch(NAME, said.append)
    kept = (cache / (NAME + ".part.json")).read_text()
    assert json.loads(kept)["url"] == f"{server.url}/{NAME}"
    for text in (str(raised.value), raised.value.help, kept, *said):
        assert "me" not in re.split(r"\W", text)
        assert "ss" not in re.split(r"\W", text)
    assert server.authorizations == ["Basic " + base64.b64encode(b"me:p@ss").decode()]


def test_a_password_goes_to_its_own_host_alone(server, monkeypatch):
    other = Server()
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        server.to = f"{other.url}/{NAME}"
        monkeypatch.setenv("SWGCTL_D4RL_URL", server.url.replace("//", "//me:secret@"))
        assert fetch().read_bytes() == BODY
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
    assert other.authorizations == [None]


@pytest.mark.parametrize(
    "url",
    ["http://me:secret@127.0.0.1:9", "http://me:sec/ret@h", "me:secret@h", "http://a:b:secret@h:x", "//me:secret@["],
)
def test_no_error_has_a_password(monkeypatch, url):
    monkeypatch.setenv("SWGCTL_D4RL_URL", url)
    with pytest.raises(InputError) as raised:
        fetch()
    assert not re.search("secret|sec|ret@", f"{raised.value} {raised.value.help}")


# -- what others put into the cache ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".lock", ".part.json", ".sha256"])
@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_a_planted_link_is_not_followed(cache, tmp_path, suffix, kind):
    victim, path = tmp_path / "victim", cache / (NAME + suffix)
    path.parent.mkdir(parents=True)
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


@pytest.mark.parametrize("suffix", ["", ".lock", ".part.json", ".sha256"])
def test_a_pipe_is_not_waited_for(cache, suffix):
    path = cache / (NAME + suffix)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
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


def test_a_weak_etag_vouches_for_nothing(server):
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.headers = {"ETag": 'W/"one"', "Last-Modified": date}
    break_off(server, 700_000)
    fetch()
    assert server.log[1][:2] == ("bytes=700000-", date)


def test_a_part_from_another_server_is_not_continued(server, monkeypatch):
    server.headers = {}
    break_off(server, 700_000)
    monkeypatch.setenv("SWGCTL_D4RL_URL", server.url + "/mirror/")
    assert fetch().read_bytes() == BODY
    assert server.log[1][0] is None


def test_a_part_of_unknown_origin_is_not_continued(server, part):
    part.parent.mkdir(parents=True)
    part.write_bytes(b"left by somebody")
    assert fetch().read_bytes() == BODY
    assert server.log[0][0] is None


def test_a_part_that_is_already_whole_is_fetched_again(server, cache, part):
    break_off(server, 700_000)
    part.write_bytes(BODY)  # killed between the last byte and the rename
    assert fetch().read_bytes() == BODY
    assert [status for *_, status, _ in server.log] == [200, 416, 200]


def test_a_body_of_unknown_length_is_accepted(server):
    server.length = "unknown"
    seen = []
    assert fetch(lambda done, total: seen.append(total)).read_bytes() == BODY
    assert set(seen) == {None}


def test_a_body_of_unknown_length_that_breaks_off_is_resumed(server, cache):
    """What HDF5 says of its own length is all that there is to go by."""
    server.length = "unknown"
    break_off(server, 400_000)
    assert not (cache / NAME).exists()
    assert fetch().read_bytes() == BODY
    assert [start for start, *_ in server.log] == [None, "bytes=400000-"]


def test_a_range_may_be_less_than_what_is_missing(server, cache):
    break_off(server, 400_000)
    server.most = 300_000
    for _ in range(2):
        with pytest.raises(InputError, match=f"of {len(BODY):,} bytes"):
            fetch()
        assert not (cache / NAME).exists()
    assert fetch().read_bytes() == BODY


def test_a_length_that_is_no_number_is_none(server):
    server.length, server.headers = "unknown", {"Content-Length": "abc"}
    assert fetch().read_bytes() == BODY


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_says_what_to_do(server, status):
    server.status = status
    with pytest.raises(InputError, match=f"HTTP {status}") as caught:
        fetch()
    assert caught.value.code == 3
    assert "SWGCTL_D4RL_URL" in caught.value.help
    assert "SWGCTL_DATA" in caught.value.help


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "no url"])
def test_a_dead_server_says_what_to_do(monkeypatch, url):
    monkeypatch.setenv("SWGCTL_D4RL_URL", url)
    with pytest.raises(InputError, match=re.escape(url)) as caught:
        fetch()
    assert "SWGCTL_DATA" in caught.value.help


def test_a_silent_server_times_out(server, monkeypatch, part):
    server.pause = 1
    monkeypatch.setattr(d4rl, "TIMEOUT", 0.2)
    monkeypatch.setattr(d4rl, "CHUNK", 1 << 16)
    with pytest.raises(InputError, match=f"broke off after 524,288 of {len(BODY):,} bytes: timed out"):
        fetch()
    assert part.stat().st_size == 524_288  # whole chunks


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
        with pytest.raises(CorruptError, match=r"hopper_medium-v2\.hdf5\.sha256 says"):
            fetch()
    (cache / (NAME + ".sha256")).unlink()
    assert fetch().read_bytes() == OTHER
    assert len(server.log) == 2


@pytest.mark.parametrize("place", [NAME, "hopper_medium-v2.hdf5"])
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
    assert d4rl.fetch(NAME, said.append)[0].read_bytes() == BODY
    assert said[0] == f"SWGCTL_DATA: {tmp_path} does not hold hopper_medium-v2.hdf5"


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SWGCTL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert d4rl.cache_folder() == tmp_path / "xdg" / "swgctl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert d4rl.cache_folder() == tmp_path / ".cache" / "swgctl"


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
    monkeypatch.setattr(d4rl, "CHUNK", 1 << 16)
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


def test_two_processes_download_once(server):
    server.pause = 60
    code = f"from swgctl.tasks import d4rl; print(d4rl.fetch({NAME!r}, lambda line: print(line, flush=True))[0])"

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
