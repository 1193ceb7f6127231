"""Servers on loopback, started once, and an empty place on each for every test."""

import itertools

import pytest
from support import hub as hubs
from support import servers

KINDS = ("folder", "s3", "sftp", pytest.param("hf", marks=pytest.mark.slow))  # a hub takes seconds for each
NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3():
    """The endpoint of an S3 server."""
    with servers.s3() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def sftp(tmp_path_factory):
    """The URL of an SSH server, a folder that it can write to, and the home of who may log in."""
    home = tmp_path_factory.mktemp("home")
    with servers.sftp(home) as (url, folder):
        yield url, folder, home


@pytest.fixture(scope="session")
def hub():
    """A hub and its address."""
    with hubs.serving() as both:
        yield both


@pytest.fixture
def make_url(request, tmp_path, monkeypatch):
    """make_url(kind) -> the URL of an empty place on a server."""

    def make(kind: str) -> str:
        name = f"place-{next(NUMBERS)}"
        if kind == "folder":
            return str(tmp_path / "remote")
        if kind == "s3":
            endpoint = request.getfixturevalue("s3")
            for variable, value in (
                ("AWS_ENDPOINT_URL", endpoint),
                ("AWS_ACCESS_KEY_ID", "key"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
            ):
                monkeypatch.setenv(variable, value)
            servers.bucket(endpoint, name)
            return f"s3://{name}/store"
        if kind == "hf":
            server, address = request.getfixturevalue("hub")
            monkeypatch.setenv("HF_ENDPOINT", address)
            monkeypatch.setenv("HF_TOKEN", "hf_token")
            server.repositories[f"me/{name}"] = {}
            return f"hf://me/{name}"
        url, folder, home = request.getfixturevalue("sftp")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return f"{url}{folder}/{name}"

    return make


@pytest.fixture(params=KINDS)
def url(request, make_url):
    return make_url(request.param)


@pytest.fixture
def ours(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def theirs(tmp_path):
    """The store that it is pulled to."""
    return tmp_path / "theirs"
