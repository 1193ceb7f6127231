"""Sheets of agents: beside a task's diffusion policies, and by the data that they learnt from."""

from swgctl.evaluation import agents
from swgctl.evaluation.agents import KINDS, Agents
from swgctl.evaluation.groups import Group
from swgctl.evaluation.protocols import ALGORITHMS, DATA, DYNAMICS, learnt_from
from swgctl.reports.sheets import (
    MISSING,
    SPREAD,
    Sheet,
    add_quoted,
    cell_row,
    circumstances,
    columns,
    differences,
    interval,
    least_to_most,
    mark,
    number,
    plural,
)
from swgctl.seeds import ranges
from swgctl.tasks import quoted

KIND = (
    "An agent without further words learnt from the task's data; unguided and guided ones from synthetic data of a "
    "trajectory model, dynamics model from roll-outs of an ensemble. It has no rho, M and T."
)
TEST = (
    "p: exact two-sided permutation test over the seeds of the difference from the same algorithm on the task's data. "
    "With three seeds against three it is at least 0.1, with four against four 0.029."
)


def tasks(groups: list[Group], paper: str | None = None) -> list[Sheet]:
    """A sheet for each task that has agents: every measured cell of its diffusion policies, then the agents, then the
    paper's numbers."""
    of_task: dict[str, list[Group]] = {}
    for group in groups:
        of_task.setdefault(group.task.name, []).append(group)
    return [_task(task, of, paper) for task, of in of_task.items() if any(group.agent for group in of)]


def _task(task: str, groups: list[Group], paper: str | None) -> Sheet:
    learnt = sorted((group for group in groups if group.agent), key=_order)
    diffusion = [group for group in groups if not group.agent]
    measure = "score" if all(group.measure == "score" for group in groups) else "return"
    title = f"{task}: agents" + (" beside diffusion policies" if diffusion else "")
    notes = list(dict.fromkeys(note for group in groups for note in circumstances(group)))
    sheet = Sheet(title, [learnt[0].task.environment, *notes], columns(measure), agents=learnt, terms=[KIND])
    for group in (*diffusion, *learnt):
        several = bool(group.differs or group.again)  # groups of the same policies, by other protocols
        for cell in (cell for cell in group.cells if cell["seeds"]):
            row = cell_row(cell, group, measure)
            row[0] += f" (group {group.number})" if several else ""
            sheet.add(row, mark(cell))
        sheet.notes.extend(f"group {group.number}: {note}" for note in differences(group))
        if group.agent:
            seeds = f"{plural(len(group.seeds), 'seed')} ({ranges(group.seeds)})"
            evaluations = ", ".join(f"eval {evaluation.id}" for evaluation in group.evaluations)
            sheet.notes.append(f"{group.agent}: {seeds}, from {evaluations}")
    if home := quoted.home(task, paper, agent=True):
        add_quoted(sheet, task, home[0])
    return sheet


def _order(group: Group) -> tuple[int, ...]:
    """A key to sort agents by: the algorithm, then the data that they learnt from."""
    kinds = (*KINDS, DYNAMICS)
    learnt = (kinds.index(kind) if kind in kinds else len(kinds) for kind in learnt_from(group.settings))
    return list(ALGORITHMS).index(group.settings["agent.algo"]), *learnt


def by_data(groups: list[Group], paper: str | None = None) -> list[Sheet]:
    """A sheet of tasks by algorithm and data, with the permutation test against `data`, beside what the named paper
    prints for the same algorithms; none where no task has two kinds of agents."""
    rows = agents.by_data(groups)
    if not rows:
        return []
    algorithms = [name for name in ALGORITHMS.values() if any(row.algorithm == name for row in rows)]
    tasks = list(dict.fromkeys(row.task for row in rows))
    printed = {task: quoted.scores(task, paper) for task in tasks} if paper else {}
    listed = dict.fromkeys(method for scores in printed.values() for method in scores)
    methods = [name for name in listed if name.partition(", ")[0] in algorithms]
    heads: list[str] = []
    notes: list[str] = []
    for algorithm in algorithms:
        for kind in KINDS:
            heads += [f"{algorithm}, {kind}"] + ([] if kind == DATA else [f"p, {algorithm}, {kind}"])
    if methods and paper:
        notes.append(f"quoted from {quoted.paper(paper)['source']}, ± {SPREAD[quoted.spread(paper)]} over the seeds")
    for row in rows:
        if row.others:
            left = "one more group is" if row.others == 1 else f"{row.others} more groups are"
            which = "the group of most seeds for each kind"
            notes.append(f"{row.task}, {row.algorithm}: {which}; {left} in the task's table")
    sheet = Sheet(
        f"agents by the data that they learnt from: {plural(len(tasks), 'task')}",
        notes,
        ["task", "seeds", *heads, *methods],
        quoted=len(methods),
        source=quoted.paper(paper)["source"] if methods and paper else "",
        citations=quoted.paper(paper).get("citations", {}) if methods and paper else {},
        terms=[KIND, TEST],
    )
    for task in tasks:
        of_task = {row.algorithm: row for row in rows if row.task == task}
        counts = sorted({len(group.seeds) for row in of_task.values() for group in row.groups.values()})
        cells = [text for name in algorithms for text in _cells(of_task.get(name))]
        quotes = [_printed(printed.get(task, {}).get(method)) for method in methods]
        sheet.add([task, least_to_most(counts), *cells, *quotes])
    return [sheet]


def _cells(row: Agents | None) -> list[str]:
    """The scores of one task and algorithm by kind, with p behind each but that of `data`."""
    texts = []
    for kind in KINDS:
        group = row and row.groups.get(kind)
        if group:
            (cell,) = group.cells
            mean, bounds = (cell[f"{group.measure}_{name}"] for name in ("mean", "ci95"))
            texts.append(f"{number(mean, group.measure)} {interval(bounds, group.measure)}")
        else:
            texts.append(MISSING)
        if kind != DATA:
            compared = row.against_data(kind) if row else None
            texts.append("-" if compared is None or compared[1] is None else f"{compared[1]:.3f}")
    return texts


def _printed(score: tuple[float, float | None] | None) -> str:
    if score is None:
        return "-"
    mean, spread = score
    return number(mean) + ("" if spread is None else f" ± {number(spread)}")
