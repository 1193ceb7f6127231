"""A server of OGBench's files."""

import pytest
from support.downloads import serving

from swgctl.tasks import ogbench


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setattr(ogbench, "SERVER", server.url)
        monkeypatch.setattr(ogbench, "COPY", "http://127.0.0.1:9")
        yield server
