"""Agents of one algorithm that differ by the data that they learnt from (PGD, arXiv 2404.06356, Table 2)."""

from collections.abc import Iterable
from dataclasses import dataclass

from swgctl.evaluation.groups import Group
from swgctl.evaluation.permutation import p_value
from swgctl.evaluation.protocols import ALGORITHMS, CONTINUOUS, DATA, GUIDED, UNGUIDED, learnt_from

KINDS = (DATA, UNGUIDED, GUIDED, CONTINUOUS)


@dataclass(frozen=True)
class Agents:
    """The agents of one task and one algorithm.

    algorithm   its name in reports
    groups      by kind, one of KINDS, that which has most seeds
    others      number of further groups of these kinds, by other protocols
    """

    task: str
    algorithm: str
    groups: dict[str, Group]
    others: int = 0

    def against_data(self, kind: str) -> tuple[float, float | None] | None:
        """The difference of a kind's mean over seeds from that of DATA, and its p (`p_value`); None without both."""
        if kind == DATA or not {kind, DATA} <= set(self.groups):
            return None
        group, data = self.groups[kind], self.groups[DATA]
        if group.measure != data.measure:
            return None
        ours, theirs = group.seed_means(group.cells[0]), data.seed_means(data.cells[0])
        return sum(ours) / len(ours) - sum(theirs) / len(theirs), p_value(ours, theirs)


def by_data(groups: Iterable[Group]) -> list[Agents]:
    """The agents of each task and algorithm of which there are at least two kinds, in the order of the groups."""
    sets: dict[tuple[str, str], dict[str, list[Group]]] = {}
    for group in groups:
        if group.agent and len(kinds := learnt_from(group.settings)) == 1 and kinds[0] in KINDS:
            place = group.task.name, ALGORITHMS[group.settings["agent.algo"]]
            sets.setdefault(place, {}).setdefault(kinds[0], []).append(group)
    tasks = list(dict.fromkeys(task for task, _ in sets))
    order = list(ALGORITHMS.values())
    agents = []
    for task, algorithm in sorted(sets, key=lambda place: (tasks.index(place[0]), order.index(place[1]))):
        by_kind = sets[task, algorithm]
        if len(by_kind) > 1:
            fullest = {kind: max(by_kind[kind], key=lambda one: len(one.seeds)) for kind in KINDS if kind in by_kind}
            others = sum(map(len, by_kind.values())) - len(fullest)
            agents.append(Agents(task, algorithm, fullest, others))
    return agents
