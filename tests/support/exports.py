"""Exports of policies, and what they say of themselves."""

import json
from pathlib import Path

from safetensors import safe_open

from support.harness import swgctl


def export(ref, directory, *more) -> Path:
    return swgctl("export", ref, "--policy", directory, *more).path


def metadata(directory: Path) -> dict:
    with safe_open(directory / "policy.safetensors", "pt") as file:
        assert list(file.metadata()) == ["swg"]
        return json.loads(file.metadata()["swg"])
