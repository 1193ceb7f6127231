"""A server of downloads, and a cache of the test's own that asks it."""

import pytest
from support.downloads import NAME, serving


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, server):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWGCTL_D4RL_URL", server.url)
    return tmp_path / "cache"


@pytest.fixture
def part(cache):
    return cache / (NAME + ".part")
