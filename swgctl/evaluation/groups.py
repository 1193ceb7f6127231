"""Evaluations grouped by task and protocol, so that their seeds may be pooled.

A protocol is everything that determines an evaluation's numbers except its seeds and its cells (temperature, M, rho):
the settings of all stages, the environment, the data.  Evaluations of one task and one protocol form a group; groups
are never averaged with each other.
"""

import csv
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from swgctl.config import EVAL, Method, a
from swgctl.errors import InputError, closest, nearest
from swgctl.evaluation import scores
from swgctl.evaluation.protocols import agent_label, method_of, policy_label, primary_role, protocol
from swgctl.evaluation.scores import COLUMNS, Place
from swgctl.store import Artifact, Store
from swgctl.tasks import Task, names, quoted

STATISTICS = ("mean", "ci95", "iqm", "sd")
MEASURED = ("return", "length")  # columns that every row has
WHOLE = {"episode": int, "seed": int, "candidates": int, "length": int}  # integer columns of episodes.csv


def select(store: Store, refs: Iterable[str] = (), task: str | None = None) -> list[Artifact]:
    """The evaluations of REFs, or all of the store, oldest first; of one task only, where one is named.

    Raises InputError for a REF of another stage, and where no evaluation is left.
    """
    artifacts = store.resolve_all(refs)
    for artifact in artifacts:
        if artifact.stage != "eval":
            raise InputError(
                f"{artifact.id} is {a(artifact.stage)}, but a report needs evaluations",
                f"swgctl eval --from {artifact.id}" if artifact.stage in EVAL.primaries else "swgctl ls --stage eval",
            )
    chosen = [one for one in artifacts or store.artifacts("eval", task) if task in (None, one.task)]
    if artifacts and not chosen:
        theirs = ", ".join(dict.fromkeys(one.task for one in artifacts))
        raise InputError(f"the REFs are of {theirs}, not of '{task}'", f"leave out --task {task}")
    if not chosen:
        evaluated = () if task in names() else {path.parent.name for path in store.directories("eval")}
        of_task = f" of '{task}'{nearest(task, evaluated)}" if task else ""
        meant = task and closest(task, evaluated)
        help = f"--task {meant}" if meant else f"swgctl run {task or 'demo'}   # or name a --store"
        raise InputError(f"{store.root} has no evaluation{of_task}", help)
    distinct = {(one.task, one.key, one.digest): one for one in chosen}  # a file under two names is two tasks
    return sorted(distinct.values(), key=lambda one: (one.meta["made"]["at"], one.key))


def episodes(evaluation: Artifact) -> list[dict]:
    """The rows of episodes.csv; `score` is None where the task has no references.  Raises CorruptError."""
    # Written since there can be several temperatures; before, the settings have the one.  An agent has none.
    temperature = {name: evaluation.params[name] for name in ("temperature",) if name in evaluation.params}
    with evaluation.reading("episodes.csv") as path, open(path, newline="") as file:
        rows = [
            temperature | {name: WHOLE.get(name, float)(text) if text else None for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
        if {row["seed"] for row in rows} != {*evaluation.seeds}:
            raise ValueError("its episodes are not of its seeds")
        if any(row.keys() != rows[0].keys() or not {*MEASURED} <= row.keys() for row in rows):
            raise ValueError("its rows have not all columns")
        empty = {name for row in rows for name, value in row.items() if value is None}
        if empty - ({"score"} if Task.from_json(evaluation.meta["task"]).references is None else set()):
            raise ValueError("it has empty fields")
        if not all(math.isfinite(row[name] or 0) for row in rows for name in COLUMNS if name in row):
            raise ValueError("it has numbers that are not finite")
        return rows


@dataclass(eq=False)
class Group:
    """Evaluations of one task and one protocol, their seeds pooled.

    number   position in the report
    rows     (temperature, M, rho, seed) -> rows of its episodes; (None, None, None, seed) for an agent
    policies seed -> digest of the evaluated policy
    differs  settings whose values are not the same in all groups of the task, or in those of the same kind of agent;
             empty for a single group
    again    True if an earlier group has the same settings: a seed was evaluated twice, with two results
    """

    task: Task
    settings: dict
    number: int = 0
    evaluations: list[Artifact] = field(default_factory=list)
    rows: dict[tuple[float | None, int | None, float | None, int], list[dict]] = field(default_factory=dict)
    policies: dict[int, str] = field(default_factory=dict)
    differs: dict = field(default_factory=dict)
    again: bool = False

    def add(self, evaluation: Artifact, rows: dict, policies: dict[int, str]) -> bool:
        """Add an evaluation; False if it has another policy or another result for a seed of the group."""
        if any(self.policies.get(seed, digest) != digest for seed, digest in policies.items()):
            return False
        if any(self.rows.get(run, theirs) != theirs for run, theirs in rows.items()):
            return False
        self.evaluations.append(evaluation)
        self.policies |= policies
        self.rows |= rows
        return True

    @property
    def measure(self) -> str:
        return "score" if self.task.references or self.task.score != "return" else "return"

    @property
    def method(self) -> Method:
        """The method whose guidance was evaluated."""
        return method_of(self.settings)

    @property
    def agent(self) -> str | None:
        """Name of the agent in reports; None for a diffusion policy."""
        return agent_label(self.settings)

    @property
    def paper_rho(self) -> float | None:
        """SWG's guidance scale of the task in its paper; None for another method, and where the paper has none."""
        scale = quoted.guidance_scale(self.task.name) if self.method.name == "swg" else None
        return None if scale is None else float(scale)

    @property
    def seeds(self) -> list[int]:
        return sorted(self.policies)

    @cached_property
    def cells(self) -> list[dict]:
        """Every measured rho, and the paper's, at every measured (temperature, M): `scores.cells` with `policy`,
        `guidance` (the method's name, "none" at rho = 0) and `paper_rho` (True at the paper's rho) added; a cell
        without measurements has 0 seeds and None.  An agent has one cell, without temperature, M and rho."""
        paper_rho = self.paper_rho
        measured: dict[Place, list[dict]] = {}
        for temperature, m, rho, seed in sorted(self.rows, key=scores.order):
            measured.setdefault((temperature, m, rho), []).extend(self.rows[temperature, m, rho, seed])
        sampler = self.settings.get("eval.sampler")
        numbers = {place: scores.cells(rows, sampler, STATISTICS)[0] for place, rows in measured.items()}
        empty = dict.fromkeys(next(iter(numbers.values()))) | {"seeds": 0}
        places: list[Place] = list(measured)
        if not self.agent:
            scales = {rho for _, _, rho in measured} | ({paper_rho} if paper_rho is not None else set())
            grid = itertools.product(self.settled, sorted(rho for rho in scales if rho is not None))
            places = [(temperature, m, rho) for (temperature, m), rho in grid]
        cells = []
        for temperature, m, rho in places:
            cell = numbers.get((temperature, m, rho), empty) | {"rho": rho, "candidates": m, "temperature": temperature}
            names = {"policy": policy_label(self.settings, cell), "guidance": self.method.name if rho else "none"}
            cells.append(cell | names | {"paper_rho": rho is not None and rho == paper_rho})
        return cells

    @property
    def settled(self) -> list[tuple[float, int]]:
        """Every (temperature, M) that was measured; none for an agent."""
        return sorted({(t, m) for t, m, _, _ in self.rows if t is not None and m is not None})

    def cell(self, temperature: float | None, m: int | None, rho: float | None) -> dict | None:
        """A measured cell; None if there is none."""
        return next((c for c in self.cells if scores.place_of(c) == (temperature, m, rho) and c["seeds"]), None)

    def at_paper_rho(self, temperature: float, m: int) -> dict | None:
        """The cell at the paper's rho; None if it was not measured."""
        return self.cell(temperature, m, self.paper_rho)

    def selected(self, policy: str) -> dict | None:
        """The best cell of a policy (`policy_label`), selected on the same episodes that its score comes from; None if
        nothing was measured."""
        cells = [cell for cell in self.cells if cell["policy"] == policy and cell["seeds"]]
        best = max(cells, key=lambda cell: cell[f"{self.measure}_mean"], default=None)
        return best and {**best, "choices": len(cells)}

    def choices(self) -> list[dict]:
        """The cells selected online, with one candidate and with several, if there was more than one to choose from."""
        policies = (self.method.label, self.method.resampled)
        return [best for p in policies if (best := self.selected(p)) and best["choices"] > 1]

    def runs(self, cell: dict) -> list[np.ndarray]:
        """Scores of a cell's episodes, or returns where the task has no score, an array for each seed."""
        by_seed = (self.rows.get((*scores.place_of(cell), seed)) for seed in self.seeds)
        return [np.array([row[self.measure] for row in rows]) for rows in by_seed if rows]

    def seed_means(self, cell: dict) -> list[float]:
        """The mean of a cell's episodes by seed: `runs`."""
        return [float(run.mean()) for run in self.runs(cell)]


def gather(evaluations: list[Artifact]) -> list[Group]:
    """Group evaluations; tasks in the papers' order, then those of no paper.  Raises CorruptError."""
    groups: list[Group] = []
    for evaluation in evaluations:
        settings, task = protocol(evaluation), Task.from_json(evaluation.meta["task"])
        rows: dict[tuple, list[dict]] = {}
        for row in episodes(evaluation):
            rows.setdefault((*scores.place_of(row), row["seed"]), []).append(row)
        role = primary_role(evaluation)
        assert role
        policies = dict.fromkeys(evaluation.seeds, evaluation.meta["inputs"][role]["digest"])
        alike = [group for group in groups if (group.task.name, group.settings) == (task.name, settings)]
        if not any(group.add(evaluation, rows, policies) for group in alike):
            groups.append(Group(task, settings, again=bool(alike)))
            groups[-1].add(evaluation, rows, policies)
    groups.sort(key=lambda group: quoted.position(group.task.name))
    for number, group in enumerate(groups, 1):
        group.number = number
    for name in {group.task.name for group in groups}:
        tell_apart([group for group in groups if group.task.name == name])
    return groups


def tell_apart(groups: list) -> None:
    """Set `differs` on each group: settings whose values are not the same in all groups, and parents that are gone.

    Groups with tau = 0.7, 0.7 and 0.9 all get their `critic.tau`.  A setting that an artifact's version does not have
    counts as "default" if the protocol includes its stage, else not at all.  Agents, whose names say from what data
    they learnt, are compared with those of the same name alone.
    """
    kinds: dict[str | None, list] = {}
    for group in groups:
        kinds.setdefault(agent_label(group.settings), []).append(group)
    for alike in kinds.values():
        _tell_apart(alike)


def _tell_apart(groups: list) -> None:
    settings = [group.settings for group in groups]
    for name in sorted({name for one in settings for name in one}):
        stage, dot, _ = name.rpartition(".")
        first, _, nth = stage.partition(".")
        marker, absent = f"{stage}.revision", "default"  # present in a group whose protocol has the stage
        if stage == "ranking":
            marker, absent = "eval.revision", "that of the policy's critic"
        elif nth.isdigit():  # of several inputs of one role
            marker, absent = f"{first}.revision", f"that of the first {first}, or none"
        values = {i: one.get(name, absent) for i, one in enumerate(settings) if name in one or (dot and marker in one)}
        if (not dot and name != "data") or any(value != next(iter(values.values())) for value in values.values()):
            for i, value in values.items():
                groups[i].differs[name] = value
