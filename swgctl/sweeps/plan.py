"""Plans: the runs of a grid, which of their stages are cached and which would be built."""

import itertools
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swgctl import config, tasks
from swgctl.console import say, shown
from swgctl.errors import SwgError, UsageError, closest, nearest
from swgctl.files import CHECKPOINT
from swgctl.stages import run
from swgctl.stages.graph import Node
from swgctl.store import Artifact, Store

FORMATS = ("table", "commands", "json", "slurm")  # the last one is written by `slurm.script`
MOST = 10_000  # runs of a plan


@dataclass(frozen=True)
class Run:
    """One chain of stages, as arguments of `swgctl run`.  Paths are absolute: it may run in any directory."""

    task: str
    seeds: str | None
    assignments: tuple[str, ...]
    recipe: str | None
    environment: str | None
    store: str
    until: str | None

    def command(self) -> str:
        """A line for a shell, with the settings of this chain only: runs with the same artifacts read the same."""
        words = ["swgctl", "run", self.task]
        for option, value in (
            ("--env", self.environment),
            ("--seeds", self.seeds),
            ("--recipe", self.recipe),
            ("--store", self.store),
            ("--until", self.until),
        ):
            words += [option, value] if value else []
        for text in self.assignments:
            # a run that ends before its evaluation still has the method's chain
            read = run.owner(text) in {"seeds", *self.stages} or text.partition("=")[0].strip() == "eval.method"
            words += ["--set", text] if read else []
        return shlex.join(words)

    @cached_property
    def node(self) -> Node:
        """The node with which the run ends.

        Raises UsageError for an invalid setting of any stage, InputError for a task without a horizon.
        """
        task = tasks.get(self.task, self.environment)
        resolved = run.resolve_run(task, self.recipe, self.assignments, {"seeds": self.seeds})
        return run.chain(task, resolved, self.until)

    @property
    def stages(self) -> list[str]:
        return [node.stage.name for node in self.node.walk()]

    def identity(self, stage: str) -> str:
        """A text that is equal for two runs with the same artifact of a stage, however they are written; "" for a stage
        outside the run."""
        return next((node.identity for node in self.node.walk() if node.stage.name == stage), "")


def expand(
    names: Iterable[str],
    seed_lists: Sequence[str],
    grid: Iterable[str],
    assignments: tuple[str, ...],
    recipe: str | None,
    environment: str | None,
    store: Store,
    until: str | None = None,
    methods: str | None = None,
) -> list[Run]:
    """All runs: every task, every --seeds, every point of the grid; one run for each artifact at the end.

    methods  values of eval.method as in `grid`, "swg,dps"
    Points with temperature 0 and several candidates alone are left out, with a word.  Raises UsageError where nothing
    else is left, for a malformed grid, one that varies a setting twice, or more than 10,000 runs.
    """
    if recipe and recipe not in config.recipe_names():
        recipe = str(Path(recipe).absolute())
    root = str(store.root.absolute())
    axes: dict[str, list[str]] = {}
    for text in [*grid, *([f"eval.method={methods}"] if methods else [])]:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values):
            raise UsageError(
                f"--grid '{shown(text)}' is not NAME=VALUE,VALUE", "swgctl plan TASK --grid diffuse.lr=1e-4,3e-4"
            )
        if name in axes:
            raise UsageError(
                f"two --grid of {name}", f"swgctl plan TASK --grid {name}={','.join([*axes[name], values])}"
            )
        axes[name] = [value.strip() for value in _COMMA.split(values)]
    names = list(names)
    count = len(names) * max(1, len(seed_lists)) * math.prod(map(len, axes.values()))
    if count > MOST:
        raise UsageError(
            f"the grid has {count:,} runs, of at most {MOST:,}", "swgctl plan TASK --grid diffuse.lr=1e-4,3e-4"
        )
    points = itertools.product(*([f"{name}={value}" for value in values] for name, values in axes.items()))
    distinct: dict[str, Run] = {}
    refused: list[UsageError] = []
    seed_axis: Sequence[str | None] = seed_lists or [None]
    for task, seeds, point in itertools.product(names, seed_axis, points):
        candidate = Run(_absolute(task, environment), seeds, (*assignments, *point), recipe, environment, root, until)
        try:
            distinct.setdefault(candidate.node.identity, candidate)
        except UsageError as error:
            if config.EQUAL_CANDIDATES not in str(error):
                raise
            refused.append(error)
    if refused and not distinct:
        raise refused[0]
    if refused:
        say(f"{len(refused)} run(s) left out: at temperature 0 all candidates are equal")
    return list(distinct.values())


_COMMA = re.compile(r",(?![^\[]*\])")  # a comma outside a list


def _absolute(task: str, environment: str | None) -> str:
    """A task's name, or the absolute path of a file."""
    source, where = tasks.source_of(tasks.get(task, environment))
    return where if source.kind == "file" else task


def show(runs: list[Run], store: Store, form: str) -> None:
    """Print the runs: as a table on stderr, as lines for a shell, or as JSON, an object a stage.

    Raises UsageError for an unknown form.
    """
    if form not in FORMATS:
        raise UsageError(
            f"unknown format '{form}'{nearest(form, FORMATS)}",
            f"swgctl plan TASK --format {closest(form, FORMATS) or 'commands'}",
        )
    if form == "commands":
        for one in runs:
            print(one.command())
        say(_sharing(runs))
        return
    states: dict[str, str] = {}  # of each distinct node
    for one in runs:
        line = one.command()
        if form == "table":
            say(line)
        for node, state, why in _states(one.node, store):
            states[node.identity], stage = state, node.stage.name
            if form == "json":
                print(json.dumps({"run": line, "stage": stage, "state": state, "why": why}))
            else:
                say(f"  {stage:12} {state:7} {why}")
    if form == "table":
        counts = Counter(states.values())
        say(f"{len(runs)} run(s), {counts['cached']} stage(s) cached, {counts['build']} to build")


def _sharing(runs: list[Run]) -> str:
    """A line with the number of artifacts of each stage, and which to make first where several runs share one."""
    names = [stage for stage in config.stages() if any(stage in one.stages for one in runs)]
    counts = {stage: len({one.identity(stage) for one in runs} - {""}) for stage in names}
    text = f"{len(runs)} run(s): {', '.join(f'{count} {stage}' for stage, count in counts.items())}"
    edges = {edge for one in runs for node in one.node.walk() for edge in _edges(node)}
    waited = {stage for stage, after in edges if counts[stage] < counts[after]}
    shared = [f"--until {stage}" for stage in counts if stage in waited]
    return f"{text}; run the lines of {', then of '.join(shared)} first, and none waits for another" if shared else text


def _edges(node: Node) -> Iterator[tuple[str, str]]:
    """(input, stage) for each input of a node that no other input is made from."""
    for parent in node.inputs.values():
        others = (other for other in node.inputs.values() if other is not parent)
        if not any(parent in other.walk() for other in others):
            yield parent.stage.name, node.stage.name


def _states(last: Node, store: Store) -> Iterator[tuple[Node, str, str]]:
    """(node, "cached" or "build", why) for each stage; a key is known once the inputs before it are cached."""
    built: dict[str, Artifact] = {}
    for node in last.walk():
        if missing := [parent.stage.name for parent in node.inputs.values() if parent.identity not in built]:
            yield node, "build", f"its input is to be built: {missing[0]}"
            continue
        try:
            if not node.inputs and not tasks.at_hand(node.task):
                yield node, "build", "its data is not on this machine yet"
                continue
            job = run.prepare_node(node, built)
        except SwgError as error:
            yield node, "build", str(error)
            continue
        if artifact := store.find(node.stage.name, node.task.name, job.key):
            yield node, "cached", f"{artifact.id}"
            built[node.identity] = artifact
        else:
            resumable = (store.work(job.key) / CHECKPOINT).exists()
            yield node, "build", "unfinished: would be resumed" if resumable else f"no artifact {job.key[:16]}"
