"""Artifacts for stores that travel, and swgctl in processes of its own."""

import subprocess
import sys
from pathlib import Path

from swgctl.store import Artifact, Store, make_key
from swgctl.store.filesystems import Remote

TASK = {
    "name": "demo",
    "environment": "Pendulum-v1",
    "source": "local:demo",
    "rewards": "none",
    "recipe": "demo",
    "references": None,
    "horizon": 200,
}


def artifact(
    store: Path, stage: str, files: dict[str, str], parent: Artifact | None = None, number: int = 0, log: str = "a log"
) -> Artifact:
    """An artifact of these files and a log, which its digest leaves out.

    number  a parameter, so that its key can be another
    """
    inputs = {parent.stage: parent} if parent else {}
    digests, source = {role: one.digest for role, one in inputs.items()}, None if parent else "d" * 64
    params = {"number": number}
    record = {
        "stage": stage,
        "revision": 1,
        "task": TASK,
        "key": make_key(stage, 1, params, [0], digests, source),
        "params": params,
        "seeds": [0],
        "inputs": {
            role: {"stage": one.stage, "task": one.task, "key": one.key, "digest": one.digest, "path": str(one.path)}
            for role, one in inputs.items()
        },
        "source": source and {"path": "demo.hdf5", "sha256": source},
        "origin": {},
        "chosen": None,
    }

    def make(directory: Path, _) -> dict:
        for name, text in (files | {"log.txt": log}).items():
            (directory / name).write_text(text)
        return {"metrics": {}, "made": {"at": f"2026-01-01T00:00:0{number % 10}Z", "device": "cpu", "versions": {}}}

    return Store(store).build(record, make)[0]


def chain(store: Path, log: str = "a log") -> Artifact:
    """A diffuse artifact, and the augment and critic that it was made from."""
    critic = artifact(store, "critic", {"critic.txt": "Q and V " * 1000, "config.yaml": "tau: 0.7"}, log=log)
    augment = artifact(store, "augment", {"data.txt": "weights " * 5000}, critic, log=log)
    return artifact(store, "diffuse", {"policy.txt": "a denoiser " * 3000}, augment, log=log)


def many_files(store: Path, url: str) -> Artifact:
    """A critic of so many files that its transfer takes a while, also from folder to folder on a fast disk."""
    count = 24 if "://" in url and not url.startswith("file:") else 480
    return artifact(store, "critic", {f"file{i:03}.txt": f"content {i} " * 2000 for i in range(count)})


def process(*args, store: Path) -> subprocess.Popen:
    """A command in a process of its own."""
    program = "import swgctl.cli.remote, swgctl.cli; swgctl.cli.main()"
    command = [sys.executable, "-c", program, *map(str, args), "--store", str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all finished artifacts of a store, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "objects").rglob("*")) if p.is_file()}


def write(url: str, name: str, content: bytes) -> None:
    """Put bytes at a remote without swgctl."""
    place = Remote(url)
    if place.scheme in ("file", "sftp"):
        place.fs.makedirs(place.path(name).rpartition("/")[0], exist_ok=True)
    with place.fs.open(place.path(name), "wb") as file:
        file.write(content)
