"""A Minari of the test's own; `minari_sets` has what is in it."""

import os
import shutil
from pathlib import Path

import pytest
from support.minari_sets import record

from swgctl.tasks import minari_data


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Minari's folder with four sets in it, not to be written to, and what was played for them."""
    root = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        return root, record()


@pytest.fixture
def played(recorded) -> dict:
    """{id: [(buffer, single observations)]}"""
    return recorded[1]


@pytest.fixture
def folder(recorded, world, monkeypatch) -> Path:
    """A folder of Minari's of the test's own, with the four sets in it; no remote answers."""
    for name in ("HF_ENDPOINT", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(recorded[0], os.environ["MINARI_DATASETS_PATH"]))


@pytest.fixture
def said() -> list:
    return []


@pytest.fixture
def convert(folder, tmp_path, said):
    """convert(id) -> Path"""
    return lambda id, cache="converted": minari_data.build(id, tmp_path / cache, said.append)[0]
