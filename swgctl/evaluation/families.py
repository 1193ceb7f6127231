"""Averages over the papers' families of tasks: of a whole family measured by one protocol, or none at all."""

from dataclasses import dataclass, field, replace

from swgctl.config import Method
from swgctl.evaluation import scores
from swgctl.evaluation.groups import Group, tell_apart
from swgctl.evaluation.protocols import agent_label, method_of, policy_label
from swgctl.tasks import quoted

OF_TASK = {"task", "environment", "horizon", "references", "data"}  # of evaluations, and of stages that read its data


def varies_by_task(name: str) -> bool:
    """Whether tasks of one family differ in a setting anyway, that of an input too, by its path of roles."""
    return name.rpartition(".")[2] in OF_TASK


@dataclass(frozen=True)
class Average:
    """One cell of each task of a family, by one rule, and the mean over the tasks.

    rho, candidates, temperature  None where the rule picks them for each task, and for an agent
    cells       one for each task, None where nothing was measured
    statistics  `scores.statistics` of the scores; None unless every task has its cell
    online      whether the cells are each task's best
    """

    policy: str
    rho: float | None
    candidates: int | None
    temperature: float | None
    cells: list[dict | None]
    statistics: dict | None
    online: bool = False

    @property
    def paper_rho(self) -> bool:
        return self.rho is None and self.candidates is not None

    @property
    def tasks(self) -> int:
        """Number of tasks with a cell."""
        return sum(cell is not None for cell in self.cells)

    @property
    def runs(self) -> int:
        """Number of seeds, summed over the cells."""
        return sum(cell["seeds"] for cell in self.cells if cell)


@dataclass(eq=False)
class Family:
    """Tasks whose average a paper prints, by one protocol; `settings` are those that the tasks share.

    `differs` and `again` as in `Group`; if a task has several groups, of other data or another environment, `differs`
    also names this one's, as "data of TASK".
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
    def agent(self) -> str | None:
        """Name of the agent in reports; None for a diffusion policy."""
        return agent_label(self.settings)

    @property
    def tasks(self) -> list[str]:
        return quoted.paper(self.paper)["scores"][self.name]["tasks"]

    @property
    def missing(self) -> list[str]:
        return [task for task in self.tasks if task not in self.groups]

    def averages(self) -> list[Average]:
        """Averages at each task's rho of the paper, for each temperature and M; then of the best cells, if there was a
        choice."""
        averages: list[Average] = []
        for t, m in sorted({pair for group in self.groups.values() for pair in group.settled}):
            policy = self.method.resampled if m > 1 else self.method.label
            average = self._average(
                policy, None, m, t, {task: group.at_paper_rho(t, m) for task, group in self.groups.items()}
            )
            averages += [average] if average.tasks else []
        for policy in (self.method.label, self.method.resampled):
            selected = {task: group.selected(policy) for task, group in self.groups.items()}
            if any(cell and cell["choices"] > 1 for cell in selected.values()):
                averages.append(replace(self._average(policy, None, None, None, selected), online=True))
        return averages

    def fixed(self) -> list[Average]:
        """Averages with one (temperature, M, rho) for all tasks (Tables 4 and 5)."""
        averages = []
        for t, m, rho in sorted({cell[:3] for group in self.groups.values() for cell in group.rows}, key=scores.order):
            policy = policy_label(self.settings, {"rho": rho, "candidates": m})
            averages.append(
                self._average(policy, rho, m, t, {task: group.cell(t, m, rho) for task, group in self.groups.items()})
            )
        return averages

    def _average(
        self, policy: str, rho: float | None, m: int | None, t: float | None, measured: dict[str, dict | None]
    ) -> Average:
        cells = [measured.get(task) for task in self.tasks]
        runs = [self.groups[task].runs(cell) for task, cell in zip(self.tasks, cells, strict=True) if cell]
        statistics = scores.statistics(*runs) if len(runs) == len(cells) else None
        return Average(policy, rho, m, t, cells, statistics)


def families(groups: list[Group], paper: str | None = None) -> list[Family]:
    """The papers' families to which the groups' tasks belong: those of the first paper that has a task.

    A diffusion policy is in its task's alone, an agent in all of these that have its task, since tables of agents are
    another paper's.  If several groups of a task have the settings of one family, the group with most seeds joins the
    first one.
    """
    homes = {group: quoted.home(group.task.name, paper) for group in groups}
    numbered: list[Family] = []
    for home in dict.fromkeys(home for home in homes.values() if home):
        tasks = quoted.paper(home[0])["scores"][home[1]]["tasks"]
        siblings: list[Family] = []
        for group in sorted(groups, key=lambda group: -len(group.seeds)):
            if homes[group] == home or (group.agent and group.task.name in tasks):
                _join(siblings, home, group)
        tell_apart(siblings)
        for family in siblings:
            for task, group in family.groups.items():
                differs = {name: value for name, value in group.differs.items() if varies_by_task(name)}
                family.differs |= {f"{name} of {task}": value for name, value in differs.items()}
        numbered += siblings
    for number, family in enumerate(numbered, 1):
        family.number = number
    return numbered


def _join(siblings: list[Family], home: tuple[str, str], group: Group) -> None:
    """Put a group into the first family of its settings that lacks its task, or into a new one."""
    task = group.task.name
    shared = {name: value for name, value in group.settings.items() if not varies_by_task(name)}
    alike = [family for family in siblings if family.settings == shared]
    full = [family for family in alike if task in family.groups]
    family = next((family for family in alike if task not in family.groups), None)
    if family is None:
        family = Family(*home, shared)
        siblings.append(family)
    family.groups[task] = group
    family.again |= any(one.groups[task].settings == group.settings for one in full)
