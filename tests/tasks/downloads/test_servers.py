"""Servers, passwords and mirrors: who is asked for a download, and what is said of it."""

import base64
import json
import re

import pytest
from support.downloads import BODY, NAME, fetch, serving

from swgctl.errors import InputError
from swgctl.tasks import d4rl


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x/y", "//["])
def test_a_redirect_leads_to_http_alone(server, to):
    server.to = to
    with pytest.raises(InputError) as raised:
        fetch()
    assert raised.value.code == 3


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1", "data:,x"])
def test_a_mirror_speaks_http(monkeypatch, url):
    monkeypatch.setattr(d4rl, "SERVER", url)
    with pytest.raises(InputError, match="unknown url type"):
        fetch()


def test_a_password_is_used_and_neither_printed_nor_kept(server, part, monkeypatch):
    monkeypatch.setattr(d4rl, "SERVER", server.url.replace("//", "//me:p%40ss@"))
    said = []
    server.break_after = 700_000
    with pytest.raises(InputError) as raised:
        fetch(say=said.append)
    kept = part.with_name(part.name + ".json").read_text()
    assert json.loads(kept)["url"] == f"{server.url}/{NAME}"
    for text in (str(raised.value), raised.value.help, kept, *said):
        assert "me" not in re.split(r"\W", text)
        assert "ss" not in re.split(r"\W", text)
    assert server.authorizations == ["Basic " + base64.b64encode(b"me:p@ss").decode()]


def test_a_password_goes_to_its_own_host_alone(server, monkeypatch):
    with serving() as other:
        server.to = f"{other.url}/{NAME}"
        monkeypatch.setattr(d4rl, "SERVER", server.url.replace("//", "//me:secret@"))
        assert fetch().read_bytes() == BODY
    assert other.authorizations == [None]


@pytest.mark.parametrize(
    "url",
    ["http://me:secret@127.0.0.1:9", "http://me:sec/ret@h", "me:secret@h", "http://a:b:secret@h:x", "//me:secret@["],
)
def test_no_error_has_a_password(monkeypatch, url):
    monkeypatch.setattr(d4rl, "SERVER", url)
    with pytest.raises(InputError) as raised:
        fetch()
    assert not re.search("secret|sec|ret@", f"{raised.value} {raised.value.help}")


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
    monkeypatch.setattr(d4rl, "SERVER", url)
    with pytest.raises(InputError, match=re.escape(url)) as caught:
        fetch()
    assert "SWGCTL_DATA" in caught.value.help
