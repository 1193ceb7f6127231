"""Evaluations brought together by task and protocol: which seeds may be pooled.

Evaluations of one task and one protocol are a group.  A protocol is everything that an evaluation's numbers come from
but its seeds and its cells (temperature, M, rho): the settings of all four stages, the environment, the data.  What
differs in any of that is another group, and groups are never averaged with each other.
"""

import csv
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from swgctl.config import EVAL, Method, a, methods, stages
from swgctl.errors import InputError, closest, nearest
from swgctl.evaluation import scores
from swgctl.store import Artifact, Store
from swgctl.tasks import Task, names, quoted

STATISTICS = ("mean", "ci95", "iqm", "sd")
CELLS = ("eval.rho", "eval.resample", "eval.temperature")
WHOLE = {"episode": int, "seed": int, "candidates": int, "length": int}  # columns of episodes.csv; the others are real


def select(store: Store, refs: Iterable[str] = (), task: str | None = None) -> list[Artifact]:
    """The evaluations that REFs name, or all of the store; of a task only, where one is named; oldest first.

    Raises InputError where a REF is no evaluation, or none is left.
    """
    found = store.resolve_all(refs)
    for artifact in found:
        if artifact.stage != "eval":
            raise InputError(
                f"{artifact.id} is {a(artifact.stage)}, and a report is made of evaluations",
                f"swgctl eval --from {artifact.id}" if artifact.stage == "diffuse" else "swgctl ls --stage eval",
            )
    chosen = [one for one in found or store.artifacts("eval", task) if task in (None, one.task)]
    if found and not chosen:
        theirs = ", ".join(dict.fromkeys(one.task for one in found))
        raise InputError(f"the REFs are of {theirs}, not of '{task}'", f"leave out --task {task}")
    if not chosen:
        known = () if task in names() else {path.parent.name for path in store.directories("eval")}
        of = f" of '{task}'{nearest(task, known)}" if task else ""
        meant = task and closest(task, known)
        way = f"--task {meant}" if meant else f"swgctl run {task or 'demo'}   # or name a --store"
        raise InputError(f"{store.root} has no evaluation{of}", way)
    distinct = {(one.task, one.key, one.digest): one for one in chosen}  # of one file under two names all but the task
    return sorted(distinct.values(), key=lambda one: (one.meta["made"]["at"], one.key))


def protocol(evaluation: Artifact) -> dict:
    """Everything that an evaluation's numbers come from but seeds and cells, by dotted name.

    The settings of what the evaluation descends from by each stage's primary input have their stage's name.  Those of
    another input, such as a critic that ranks candidates, have the name of its role (`Input.apart`): only what differs
    from the stage of that name is said.  A parent that is not in the store is named by its key: nothing else is known
    of it.
    """
    named = {name: value for name, value in _settings(evaluation).items() if name not in CELLS}
    line, others = {evaluation.stage: evaluation}, []
    node = evaluation
    while (row := stages().get(node.stage)) and row.primary:
        others += [(node, role) for role in sorted(node.meta["inputs"]) if role != row.primary]
        try:
            node = node.parent(row.primary)
        except InputError:
            given = node.meta["inputs"][row.primary]
            return named | {given["stage"]: f"{given['key'][:16]}, which is gone"}
        line[node.stage] = node
        named |= _settings(node)
    for child, role in others:
        given = child.meta["inputs"][role]
        if given["digest"] in (one.digest for one in line.values()):
            continue
        input = stages()[child.stage].inputs.get(role.partition(".")[0])
        name = (input and input.apart) or role
        try:
            own = _settings(line[given["stage"]], name) if given["stage"] in line else {}
            named |= {k: v for k, v in _settings(child.parent(role), name).items() if v != own.get(k)}
        except InputError:
            named[name] = f"{given['key'][:16]}, which is gone"
    return named | {"data": node.meta["source"]["sha256"]}


def method_of(settings: dict) -> Method:
    """The method of a protocol; SWG's where no setting says so."""
    return methods()[settings.get("eval.method", "swg")]


def _settings(artifact: Artifact, name: str | None = None) -> dict:
    given = artifact.params | {"revision": artifact.meta["revision"]}
    return {f"{name or artifact.stage}.{key}": value for key, value in given.items()}


def episodes(evaluation: Artifact) -> list[dict]:
    """The rows of episodes.csv; `score` is None where the task has no references.  Raises CorruptError."""
    # Written since there can be several temperatures; before, the settings have the one.
    temperature = {"temperature": evaluation.params["temperature"]}
    with open(evaluation.file("episodes.csv"), newline="") as file:
        return [
            temperature | {name: WHOLE.get(name, float)(text) if text else None for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


@dataclass(eq=False)
class Group:
    """Evaluations of one task and one protocol, their seeds pooled.

    number   of the group, in the order of the report
    rows     (temperature, M, rho, seed) -> the rows of its episodes
    policies seed -> digest of the policy that was evaluated
    differs  the settings in which the task's groups are not all alike; empty where it is the only one
    again    whether a group before it has the same settings: then a seed was evaluated twice, with two results
    """

    task: Task
    settings: dict
    number: int = 0
    evaluations: list[Artifact] = field(default_factory=list)
    rows: dict[tuple[float, int, float, int], list[dict]] = field(default_factory=dict)
    policies: dict[int, str] = field(default_factory=dict)
    differs: dict = field(default_factory=dict)
    again: bool = False

    def add(self, evaluation: Artifact, rows: dict, policies: dict[int, str]) -> bool:
        """Takes an evaluation; False where it has another policy or another result for a seed that is here already."""
        if any(self.policies.get(seed, digest) != digest for seed, digest in policies.items()):
            return False
        if any(self.rows.get(place, found) != found for place, found in rows.items()):
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
        """Whose guidance was evaluated."""
        return method_of(self.settings)

    @property
    def seeds(self) -> list[int]:
        return sorted(self.policies)

    @cached_property
    def cells(self) -> list[dict]:
        """Every rho that was measured, and the paper's, at every (temperature, M) that was: as `scores.cells`, with
        `policy`, `paper_rho` (whether it is the paper's) and, where nothing was measured, 0 seeds and None."""
        paper_rho = quoted.guidance_scale(self.task.name)
        scales = {rho for _, _, rho, _ in self.rows} | ({float(paper_rho)} if paper_rho is not None else set())
        measured: dict[tuple, list[dict]] = {}
        for temperature, m, rho, seed in sorted(self.rows):
            measured.setdefault((temperature, m, rho), []).extend(self.rows[temperature, m, rho, seed])
        sampler = self.settings["eval.sampler"]
        cells = {place: scores.cells(rows, sampler, STATISTICS)[0] for place, rows in measured.items()}
        missing = dict.fromkeys(next(iter(cells.values()))) | {"seeds": 0}
        table = []
        for (temperature, m), rho in itertools.product(self.settled, sorted(scales)):
            cell = cells.get((temperature, m, rho), missing) | {"rho": rho, "candidates": m, "temperature": temperature}
            table.append(cell | {"policy": self.method.policy(cell), "paper_rho": rho == paper_rho})
        return table

    @property
    def settled(self) -> list[tuple[float, int]]:
        """Every (temperature, M) that was measured."""
        return sorted({(temperature, m) for temperature, m, _, _ in self.rows})

    def cell(self, temperature: float, m: int, rho: float | None) -> dict | None:
        """A cell that was measured."""
        return next((c for c in self.cells if scores.place_of(c) == (temperature, m, rho) and c["seeds"]), None)

    def at_paper_rho(self, temperature: float, m: int) -> dict | None:
        """The cell of the paper's rho, where it was measured."""
        return self.cell(temperature, m, quoted.guidance_scale(self.task.name))

    def selected(self, policy: str) -> dict | None:
        """The best cell of a policy (`Method.policy`), chosen by the very episodes that it is shown with; None where
        nothing was measured."""
        found = [cell for cell in self.cells if cell["policy"] == policy and cell["seeds"]]
        best = max(found, key=lambda cell: cell[f"{self.measure}_mean"], default=None)
        return best and {**best, "choices": len(found)}

    def choices(self) -> list[dict]:
        """What was selected online, with one candidate and with several, where there was more than one cell to choose
        from."""
        policies = (self.method.label, self.method.resampled)
        return [best for p in policies if (best := self.selected(p)) and best["choices"] > 1]

    def runs(self, cell: dict) -> list[np.ndarray]:
        """The scores of a cell's episodes, an array for each seed."""
        place = scores.place_of(cell)
        found = (self.rows.get((*place, seed)) for seed in self.seeds)
        return [np.array([row["score"] for row in rows]) for rows in found if rows]


def gather(evaluations: list[Artifact]) -> list[Group]:
    """The groups, tasks in the papers' order, then those of no paper.  Raises CorruptError."""
    groups: list[Group] = []
    for evaluation in evaluations:
        settings, task = protocol(evaluation), Task.from_json(evaluation.meta["task"])
        rows: dict[tuple, list[dict]] = {}
        for row in episodes(evaluation):
            rows.setdefault((*scores.place_of(row), row["seed"]), []).append(row)
        policies = dict.fromkeys(evaluation.seeds, evaluation.meta["inputs"][EVAL.primary]["digest"])
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
    """Sets `differs` of each: the settings in which those that know of them are not alike, and what has gone."""
    settings = [group.settings for group in groups]
    for name in sorted({name for one in settings for name in one}):
        stage, dot, _ = name.partition(".")
        known, absent = f"{stage}.revision", "default"  # of the version that made it
        if stage == "ranking":
            known, absent = "eval.revision", "that of the policy's critic"
        told = {i: one.get(name, absent) for i, one in enumerate(settings) if name in one or (dot and known in one)}
        if (not dot and name != "data") or any(value != next(iter(told.values())) for value in told.values()):
            for i, value in told.items():
                groups[i].differs[name] = value
