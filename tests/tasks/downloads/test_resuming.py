"""Downloads from a server that breaks off, changes its mind or says odd things."""

import contextlib
import hashlib

import pytest
from support.downloads import BODY, NAME, OTHER, break_off, fetch

from swgctl.errors import InputError
from swgctl.tasks import d4rl, downloads


def test_a_download_arrives_whole_and_pinned(server, cache):
    seen, said = [], []
    path = fetch(lambda done, total: seen.append((done, total)), say=said.append)
    assert path == cache / NAME
    assert path.read_bytes() == BODY
    digest = hashlib.sha256(BODY).hexdigest()
    assert (cache / (NAME + ".sha256")).read_text() == f"{digest}  maze2d-umaze-sparse-v1.hdf5\n"
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert said == [f"downloading {server.url}/{NAME}", f"{path.name}: no published checksum"]
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, path.name + ".sha256", path.name + ".lock"}


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
    monkeypatch.setattr(downloads, "MOST", 1 << 20)  # of a server that does not say
    server.length = "unknown"
    with pytest.raises(InputError, match="sent more than the 1,048,576 bytes"):
        fetch()
    assert not part.exists()


@pytest.mark.parametrize("length", ["9" * 5_000, "-5", "1e9", "٣", " "])
def test_an_odd_length_is_none(server, length):
    server.length, server.headers = "unknown", {"Content-Length": length.encode().decode("latin-1")}
    with contextlib.suppress(InputError):  # Python itself takes a negative one for an empty body
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
    monkeypatch.setattr(d4rl, "SERVER", server.url + "/mirror")
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


def test_a_silent_server_times_out(server, monkeypatch, part):
    server.pause = 1
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    monkeypatch.setattr(downloads, "CHUNK", 1 << 16)
    with pytest.raises(InputError, match=f"broke off after 524,288 of {len(BODY):,} bytes: timed out"):
        fetch()
    assert part.stat().st_size == 524_288  # whole chunks
