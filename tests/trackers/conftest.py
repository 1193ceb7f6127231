"""Artifacts that measure without training, finished or being built, and trackers that write into the test's folder."""

import pytest
from support.trackers import Training, record

import swgctl.cli.log  # noqa: F401 - registers the command
from swgctl.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def train(store):
    """train(**params) -> Training; ended with the test."""
    running: list[Training] = []

    def train(**params) -> Training:
        running.append(Training(store, record(**params)))
        return running[-1]

    yield train
    for one in running:
        if one._thread.is_alive():
            one.die()


@pytest.fixture
def finished(train):
    """finished(steps, **params) -> an artifact."""
    return lambda steps=50, **params: train(**params).finish(steps)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch) -> None:
    """No tracker reaches a server, or a folder outside the test's."""
    monkeypatch.delenv("SWGCTL_LOG", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
