"""Averages over the families of tasks that the papers average: of a whole family by one protocol, or none at all."""

import itertools
from dataclasses import dataclass, field

from swgctl.config import Method
from swgctl.evaluation import scores
from swgctl.evaluation.groups import Group, method_of, tell_apart
from swgctl.tasks import quoted

OF_TASK = {"data", "critic.task", *(f"{s}.{x}" for s in ("critic", "eval") for x in ("environment", "horizon"))}
OF_TASK |= {"eval.references"}  # with these, what tasks of one family differ in anyway


@dataclass(frozen=True)
class Average:
    """One cell of each task of a family, by one rule, and the mean over the tasks.

    rho, candidates, temperature  None where the rule takes others in each task
    cells       of each task, None where there is none
    statistics  `scores.statistics` of the scores; None unless every task has its cell
    """

    policy: str
    rho: float | None
    candidates: int | None
    temperature: float | None
    cells: list[dict | None]
    statistics: dict | None

    @property
    def paper_rho(self) -> bool:
        return self.rho is None and self.candidates is not None

    @property
    def tasks(self) -> int:
        """In how many there is a cell."""
        return sum(cell is not None for cell in self.cells)

    @property
    def runs(self) -> int:
        """The seeds of all its cells."""
        return sum(cell["seeds"] for cell in self.cells if cell)


@dataclass(eq=False)
class Family:
    """Tasks whose average a paper prints, by one protocol; `settings` are those that the tasks share.

    `differs` and `again` are those of `Group`; where a task has other groups, of other data or another environment,
    `differs` has those of this one as "data of TASK".
    """

    paper: str
    name: str
    settings: dict
    number: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    differs: dict = field(default_factory=dict)
    again: bool = False

    @property
    def method(self) -> Method:
        return method_of(self.settings)

    @property
    def tasks(self) -> list[str]:
        return quoted.paper(self.paper)["scores"][self.name]["tasks"]

    @property
    def missing(self) -> list[str]:
        return [task for task in self.tasks if task not in self.groups]

    def averages(self) -> list[Average]:
        """At each task's rho of the paper, for each temperature and M; then of each task's best cell, where there was a
        choice."""
        groups, found = self.groups.values(), []
        for t, m in sorted({place for group in groups for place in group.settled}):
            policy = self.method.resampled if m > 1 else self.method.label
            average = self._average(policy, None, m, t, lambda group, t=t, m=m: group.at_paper_rho(t, m))
            found += [average] if average.tasks else []
        for policy in (self.method.label, self.method.resampled):
            if any(cell and cell["choices"] > 1 for cell in (group.selected(policy) for group in groups)):
                found.append(self._average(policy, None, None, None, lambda group, p=policy: group.selected(p)))
        return found

    def fixed(self) -> list[Average]:
        """With one (temperature, M, rho) for all tasks (Tables 4 and 5)."""
        found = []
        for t, m, rho in sorted({place[:3] for group in self.groups.values() for place in group.rows}):
            policy = self.method.policy({"rho": rho, "candidates": m})
            found.append(self._average(policy, rho, m, t, lambda group, t=t, m=m, rho=rho: group.cell(t, m, rho)))
        return found

    def _average(self, policy: str, rho: float | None, m: int | None, temperature: float | None, choose) -> Average:
        cells = [choose(self.groups[task]) if task in self.groups else None for task in self.tasks]
        statistics = None
        if None not in cells:
            runs = [self.groups[task].runs(cell) for task, cell in zip(self.tasks, cells, strict=True)]
            statistics = scores.statistics(*runs)
        return Average(policy, rho, m, temperature, cells, statistics)


def families(groups: list[Group], paper: str | None = None) -> list[Family]:
    """The families of the papers that the groups' tasks are in: of SWG's, else of the first that has a task.

    Where several groups of a task have the settings of one family, those with most seeds make the first.
    """
    places = [place for group in groups if (place := quoted.home(group.task.name, paper))]
    found: list[Family] = []
    for place in dict.fromkeys(places):
        here: list[Family] = []
        for group in sorted(groups, key=lambda group: -len(group.seeds)):
            task = group.task.name
            shared = {name: value for name, value in group.settings.items() if name not in OF_TASK}
            if task not in quoted.paper(place[0])["scores"][place[1]]["tasks"]:
                continue
            alike = [family for family in here if family.settings == shared]
            taken = list(itertools.takewhile(lambda family, task=task: task in family.groups, alike))
            if len(taken) == len(alike):
                alike.append(Family(*place, shared))
                here.append(alike[-1])
            family = alike[len(taken)]
            family.groups[task] = group
            family.again |= any(one.groups[task].settings == group.settings for one in taken)
        tell_apart(here)
        for family in here:
            for task, group in family.groups.items():
                own = {name: value for name, value in group.differs.items() if name in OF_TASK}
                family.differs |= {f"{name} of {task}": value for name, value in own.items()}
        found += here
    for number, family in enumerate(found, 1):
        family.number = number
    return found
