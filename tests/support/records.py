"""Records of artifacts, changed and signed again, as whoever writes into a store could."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from swgctl.store import Artifact, record_checksum


class Bare(SimpleNamespace):
    """Some fields of an artifact whose files are not compared with a record."""

    reading = Artifact.reading

    def _again(self) -> str:
        return "swgctl verify"


def rewrite(artifact: Path, change: Callable[[dict], object], signed: bool = True) -> Path:
    """Let `change` act on an artifact's record, and sign it, or take its checksum away; returns the record's path."""
    file = artifact / "artifact.json"
    record = json.loads(file.read_text())
    change(record)
    record.pop("sha256", None)
    if signed:
        record["sha256"] = record_checksum(record)
    file.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return file


def moved(artifact: Path) -> None:
    """The artifact's inputs are no longer where they were made."""
    rewrite(artifact, lambda record: [given.update(path="/gone") for given in record["inputs"].values()])
