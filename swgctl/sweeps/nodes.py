"""The nodes of a sweep: each with the runs that need it, its state by the store, and the command that builds it."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from swgctl import config, tasks
from swgctl.config import AGENT, EVAL, GUIDE
from swgctl.errors import SwgError
from swgctl.files import CHECKPOINT, open_regular
from swgctl.seeds import ranges
from swgctl.stages import run
from swgctl.stages.graph import Node
from swgctl.stages.job import Job
from swgctl.store import Artifact, Store
from swgctl.store.artifacts import UNREADABLE
from swgctl.sweeps.plan import Run

ENVIRONMENT = (EVAL, AGENT)  # stages that make their task's environment, whatever they start from
DONE = ("cached", "built")
ENDED = (*DONE, "failed", "skipped", "unfinished")


@dataclass(eq=False)
class Item:
    """A node of the graph of all runs.

    place   its number, after its inputs'
    runs    how many of the runs need it
    state   waiting: for its inputs; ready; running; elsewhere: another process builds it; and those of ENDED
    environment  what --env was typed for its run
    job     its job, once its inputs exist and its data is on this machine; gives its key
    why     the reason for the state, in words; code: the exit code of a failure, help: what mends it
    tries   processes that were started for it
    """

    node: Node
    place: int
    inputs: dict[str, "Item"]
    environment: str | None = None
    runs: int = 0
    after: list["Item"] = field(default_factory=list)
    state: str = "waiting"
    job: Job | None = None
    artifact: Artifact | None = None
    why: str = ""
    code: int = 0
    help: list[str] = field(default_factory=list)
    tries: int = 0
    log: Path | None = None

    @property
    def name(self) -> str:
        """Stage, task and seeds; of a known key also the id."""
        text = f"{self.node.stage.name} {self.node.task.name}, seeds {ranges(self.node.seeds)}"
        return f"{text}, {self.job.key[:16]}" if self.job else text

    @property
    def order(self) -> tuple[int, int]:
        """What most runs need comes first."""
        return -self.runs, self.place

    def fail(self, error: SwgError) -> None:
        self.state, self.why, self.code, self.help = "failed", str(error), error.code, error.helps

    def row(self) -> dict[str, Any]:
        """Its line of `swgctl sweep --json`."""
        record = {
            "stage": self.node.stage.name,
            "task": self.node.task.name,
            "seeds": self.node.seeds,
            "state": self.state,
            "why": self.why,
            "key": self.job and self.job.key,
            "path": self.artifact and str(self.artifact.path),
        }
        return record | ({"digest": self.artifact.digest} if self.artifact else {})


def items_of(runs: Sequence[Run]) -> tuple[list[Item], list[Item]]:
    """The nodes of all runs, each once and after its inputs; and those with which a run ends."""
    items: dict[str, Item] = {}
    ends: dict[str, Item] = {}
    for one in runs:
        for node in one.node.walk():
            if node.identity not in items:
                inputs = {role: items[parent.identity] for role, parent in node.inputs.items()}
                item = items[node.identity] = Item(node, len(items), inputs, one.environment)
                for parent in dict.fromkeys(inputs.values()):
                    parent.after.append(item)
            items[node.identity].runs += 1
        ends.setdefault(one.node.identity, items[one.node.identity])
    return list(items.values()), list(ends.values())


def look(item: Item, store: Store, fetch: bool = False) -> None:
    """Set the state of an item whose inputs exist: cached, ready, or failed where its inputs or data do not serve.

    fetch  bring data that is not on this machine, whose checksum the key needs
    """
    try:
        if not (item.inputs or fetch or tasks.at_hand(item.node.task)):
            item.state, item.why = "ready", "its data is not on this machine yet"
            return
        built = {one.node.identity: one.artifact for one in item.inputs.values() if one.artifact}
        item.job = run.prepare_node(item.node, built)
        item.artifact = store.find(item.node.stage.name, item.node.task.name, item.job.key)
    except SwgError as error:
        item.fail(error)
        return
    begun = (store.work(item.job.key) / CHECKPOINT).exists()
    item.state = "cached" if item.artifact else "ready"
    item.why = item.artifact.id if item.artifact else "goes on from its checkpoint" if begun else "to be built"


def survey(items: Sequence[Item], store: Store) -> None:
    """Set the state of every item by what the store holds; what follows one to be built stays waiting."""
    with tasks.located_once():
        for item in items:
            if missing := next((one for one in item.inputs.values() if one.state not in DONE), None):
                item.state, item.why = "waiting", f"its input is to be built: {missing.node.stage.name}"
                if missing.state in ("failed", "skipped"):
                    skip(item, missing)
            else:
                look(item, store)


def skip(item: Item, cause: Item) -> None:
    """Mark an item whose input cannot be built."""
    item.state = "skipped"
    item.why = cause.why if cause.state == "skipped" else f"because {cause.name} failed"


def command(item: Item, store: Store, device: str, mode: str) -> list[str]:
    """The arguments of `swgctl` that build the artifact of a node whose inputs exist; its key is the node's."""
    node, row = item.node, item.node.stage
    words = [row.name, *([str(node.settings.model_dump()["method"])] if row is GUIDE else [])]
    if not row.filled(node.inputs):
        words += [*shlex.split(tasks.argument(node.task)), "--seeds", ranges(node.seeds)]
    for role, one in item.inputs.items():
        assert one.artifact
        words += ["--from", f"{role}={one.artifact.path}"]
    for name, value in changed(node).items():
        words += ["--set", f"{row.name}.{name}={json.dumps(value)}"]
    if item.environment and "--env" not in words and (row in ENVIRONMENT or not row.filled(node.inputs)):
        words += ["--env", item.environment]  # whoever swept the task has named its module
    words += ["--device", device] if device != "auto" else []
    words += ["--mode", mode] if mode != "auto" else []
    return [*words, "--store", str(store.root), "--no-wait"]


def changed(node: Node) -> dict[str, Any]:
    """The settings of a node that are not those of its task's own recipe, without those that it does not read."""
    unread = run.unread(node.stage, node.settings, node.inputs)
    usual = _usual(node.task.name, node.task.recipe)[node.stage.name].model_dump()
    positional = {"method"} if node.stage is GUIDE else set()
    return {
        name: value
        for name, value in node.settings.model_dump().items()
        if value != usual[name] and name not in positional and name not in unread
    }


@cache
def _usual(task: str, recipe: str) -> config.Resolved:
    return config.resolve(task, recipe)


def progress_of(item: Item, store: Store) -> tuple[int, int, float] | None:
    """(steps done, steps of all, seconds left) of one that trains, from its metrics.jsonl; None where none is known."""
    if not (item.job and item.job.steps):
        return None
    steps = item.job.steps
    with contextlib.suppress(*UNREADABLE), open_regular(store.work(item.job.key) / "metrics.jsonl") as file:
        last = json.loads(file.read().splitlines()[-1])
        done = int(last["step"])
        return done, steps, (steps - done) * last["train_s"] / done
    return None


def last_words(log: Path) -> tuple[str, list[str]]:
    """The error line of a command that failed, without "error: ", and its help lines, from the end of its log."""
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-20_000:].decode(errors="replace").splitlines()
        start = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("error: ")), None)
        if start is not None:
            helps = [line.removeprefix("help: ") for line in lines[start:] if line.startswith("help: ")]
            return lines[start].removeprefix("error: "), helps
        return next((line for line in reversed(lines) if line.strip()), ""), []
    return "", []
