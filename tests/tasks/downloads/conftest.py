"""A server of downloads, and a cache of the test's own that asks it."""

import hashlib

import pytest
from support.downloads import BODY, KNOWN, NAME, serving

from swgctl.tasks import d4rl, published


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, server):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(d4rl, "SERVER", server.url)
    return tmp_path / "cache"


@pytest.fixture
def part(cache, server):
    return cache / f"{NAME}.{hashlib.sha256(f'{server.url}/{NAME}'.encode()).hexdigest()[:8]}.part"


@pytest.fixture
def publish(monkeypatch):
    """publish(name=KNOWN, body=BODY): these bytes are those that somebody published under that name."""

    def publish(name=KNOWN, body=BODY, copied=False):
        row = published.Published(len(body), hashlib.sha256(body).hexdigest(), "test", copied)
        monkeypatch.setitem(published.table(), name, row)
        return row.sha256

    return publish
