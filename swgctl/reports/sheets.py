"""Reports for people: tables of text, for the terminal, LaTeX and HTML alike."""

from dataclasses import dataclass, field
from typing import Any

from swgctl import console
from swgctl.evaluation.families import Average, Family
from swgctl.evaluation.groups import STATISTICS, Group
from swgctl.evaluation.protocols import devices, learnt_rows, standings
from swgctl.seeds import ranges
from swgctl.tasks import quoted
from swgctl.tasks.fidelity import fidelity
from swgctl.tasks.published import unpublished

MISSING = "missing"
SPREAD = {"sd": "standard deviation", "se": "standard error"}
CONVENTIONS = (
    "Episodes are averaged per seed, then seeds; the policy is the last checkpoint.",
    "95 %: percentile bootstrap over the seeds, or over the episodes where there is one seed; for a family, the seeds "
    "are drawn task by task. With few seeds it is too narrow: with three, whose range it is, it holds the mean 75 "
    "times in 100, with five 83, with ten 90.",
    "T: sampling temperature, the factor of the sampling noise; 0 is deterministic, as the official code evaluates.",
    "IQM: interquartile mean, which leaves out the floor(n / 4) lowest and highest of the n seeds' means; for a "
    "family, n counts the seeds of all its tasks.",
    "Selected online: the best of the cells beside it, chosen by the same episodes as its score.",
    "Quoted: as printed, not measured here; sd is the standard deviation over seeds.",
)
D4RL = "Scores are D4RL's: 100 (R - random) / (expert - random)."
SUCCESS = (
    "Of OGBench's and other tasks of success the score is no D4RL score: it is the share of successes, in per cent."
)
STANDARD_ERROR = "se: the standard error over seeds, as printed where the paper has no standard deviation."


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    marks    the kind of each row: "", "paper", "missing", "online", "quoted" or "average"
    quoted   number of quoted columns, at the right; source: their paper; citations: column -> authors
    group    the group whose cells it shows; None for a family and for agents
    agents   the groups of the agents that it shows
    terms    what it says that other sheets do not, for the conventions
    """

    title: str
    notes: list[str]
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    quoted: int = 0
    source: str = ""
    citations: dict[str, str] = field(default_factory=dict)
    group: Group | None = None
    agents: list[Group] = field(default_factory=list)
    terms: list[str] = field(default_factory=list)

    def add(self, row: list[str], mark: str = "") -> None:
        self.rows.append(row)
        self.marks.append(mark)

    def turns(self, i: int) -> bool:
        """Whether row i is the first of a kind that a rule sets apart."""
        return i > 0 and self.marks[i] != self.marks[i - 1] and self.marks[i] in ("online", "quoted", "average")


def number(value: float | None, measure: str = "score") -> str:
    """A score to one decimal; a return to none, or to two below 100."""
    if value is None:
        return ""
    return f"{value:z.1f}" if measure == "score" else f"{value:,.0f}" if abs(value) >= 100 else f"{value:z.2f}"


def interval(bounds: list[float] | None, measure: str = "score") -> str:
    return f"[{number(bounds[0], measure)}, {number(bounds[1], measure)}]" if bounds else ""


def choice(value: float | None) -> str:
    """A cell's temperature, M or rho; "-" for an agent, which has none."""
    return "-" if value is None else f"{value:g}"


def conventions(sheets: list[Sheet]) -> list[str]:
    """What the words in sheets mean: what a score is, CONVENTIONS, and the terms of each sheet."""
    score = [] if all(SUCCESS in sheet.terms for sheet in sheets) else [D4RL]
    return [*score, *CONVENTIONS, *dict.fromkeys(term for sheet in sheets for term in sheet.terms)]


def tasks(groups: list[Group], families: list[Family], paper: str | None = None) -> list[Sheet]:
    """A sheet for each group of diffusion policies: every cell, then the best of them, then the paper's numbers."""
    sheets = {group: _task(group, paper) for group in groups if not group.agent}
    for family in families:
        if _alone(family) and not family.agent:
            (group,) = family.groups.values()
            note = f"no average of {family.name}: 1 of {len(family.tasks)} tasks by this protocol"
            sheets[group].notes.append(note)
    return list(sheets.values())


def _task(group: Group, paper: str | None) -> Sheet:
    measure, episodes = group.measure, plural(group.settings["eval.episodes"], "episode")
    title = f"{group.task.name}: {plural(len(group.seeds), 'seed')} ({ranges(group.seeds)}) x {episodes}"
    about = [group.task.environment, group.settings["eval.sampler"]]
    about += [f"K = {group.settings[name]}" for name in ("diffuse.K", "behaviour.K") if name in group.settings][:1]
    evaluations = ", ".join(f"eval {artifact.id}" for artifact in group.evaluations)
    notes = [f"{', '.join(about)}; from {evaluations}", *circumstances(group), *differences(group)]
    home = quoted.home(group.task.name, paper)
    terms = [SUCCESS] if group.task.score == "success" else []
    sheet = Sheet(title, notes, columns(measure), group=group, terms=terms)
    for cell in group.cells:
        sheet.add(cell_row(cell, group, measure), mark(cell))
    for best in group.choices():
        row = cell_row(best, group, measure)
        row[0] = f"{best['policy']}, selected online (best of {best['choices']})"
        sheet.add(row, "online")
    if home:
        add_quoted(sheet, group.task.name, home[0])
    return sheet


def columns(measure: str) -> list[str]:
    """The columns of a task's sheet."""
    return ["policy", "rho", "M", "T", measure, "95 %", "IQM", "seeds", "episodes"]


def mark(cell: dict) -> str:
    """The kind of a cell's row."""
    return "missing" if not cell["seeds"] else "paper" if cell["paper_rho"] else ""


def add_quoted(sheet: Sheet, task: str, paper: str) -> None:
    """Add what a paper prints for a task to the task's sheet, or else for the mean of its family."""
    if not quoted.scores(task, paper):
        means = ", ".join(f"{method} {number(mean)}" for method, mean in quoted.averages(task, paper).items())
        sheet.notes.append(f"quoted from {quoted.paper(paper)['source']}, the mean of the family's tasks: {means}")
        return
    sheet.notes.append(f"quoted from {quoted.paper(paper)['source']}")
    if quoted.spread(paper) == "se":
        sheet.terms.append(STANDARD_ERROR)
    for method, (score, spread) in quoted.scores(task, paper).items():
        rho = quoted.guidance_scale(task) if method == quoted.ours("swg")[0] else None
        name = f"quoted: {method}" + (f" ({who})" if (who := _citations(paper).get(method)) else "")
        printed = "" if spread is None else f"{quoted.spread(paper)} {number(spread)}"
        sheet.add([name, "" if rho is None else f"{rho:g}", "", "", number(score), printed, "", "", ""], "quoted")


def cell_row(cell: dict, group: Group, measure: str) -> list[str]:
    """A cell as a row of `columns`."""
    values = {name: cell[f"{measure}_{name}"] for name in STATISTICS}
    seeds = str(cell["seeds"]) if cell["seeds"] == len(group.seeds) else f"{cell['seeds']} of {len(group.seeds)}"
    return [
        cell["policy"] + (", the paper's rho" if cell["paper_rho"] else ""),
        *(choice(cell[name]) for name in ("rho", "candidates", "temperature")),
        number(values["mean"], measure) if cell["seeds"] else MISSING,
        interval(values["ci95"], measure),
        number(values["iqm"], measure),
        seeds,
        str(cell["episodes"] or ""),
    ]


def circumstances(group: Group) -> list[str]:
    """Notes on data without the published checksum, on devices where there are several, and on how near the environment
    is to the benchmark's."""
    stands = (one for evaluation in group.evaluations for one in standings(evaluation))
    notes = [f"data: {text}" for text in unpublished(stands)]
    if group.task.score == "success":
        rows = sorted({count for evaluation in group.evaluations for count in learnt_rows(evaluation)})
        notes += [f"learnt from {' and '.join(f'{count:,}' for count in rows)} rows"] if rows else []
    where = sorted(set().union(*map(devices, group.evaluations)))
    notes += [f"devices: {'; '.join(where)}, which draw different numbers for the same seed"] if len(where) > 1 else []
    like = fidelity(group.task.environment)
    return notes + ([f"environment: {like}"] if like else [])


def differences(part: Group | Family) -> list[str]:
    """Notes on how a group differs from the others of its task, or a family from the others of its name."""
    notes = [f"where these groups' protocols differ: {described(part.differs)}"] if part.differs else []
    if part.again:
        notes.append("the settings of a group above, evaluated again with other results")
    return notes


def described(settings: dict) -> str:
    """Settings by dotted name as one line for a reader."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value))
    if isinstance(value, float):
        return f"{value:g}"
    return value[:16] if isinstance(value, str) and len(value) == 64 else str(value)  # a checksum


def least_to_most(counts: list[int]) -> str:
    """Of numbers in ascending order: "3 to 5", or "5" where all are equal."""
    return " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _citations(paper: str) -> dict[str, str]:
    return quoted.paper(paper).get("citations", {})


# -- families ----------------------------------------------------------------------------------------------------------


def families(families: list[Family]) -> list[Sheet]:
    """For each family a sheet of its tasks by method, as in the paper's Table 2, and one of fixed guidance scales.

    A family with a single task measured has none: the task's sheet shows everything.
    """
    shown = [family for family in families if not _alone(family)]
    return [sheet for family in shown for sheet in (_family(family), _fixed(family)) if sheet]


def _alone(family: Family) -> bool:
    return len(family.groups) == 1 < len(family.tasks)


def _family(family: Family) -> Sheet:
    tables = quoted.paper(family.paper)
    section, methods = tables["scores"][family.name], quoted.methods(family.paper, family.name)
    averages = family.averages()
    if not any(average.paper_rho for average in averages):
        averages = [*family.fixed(), *averages]
    have = len(family.tasks) - len(family.missing)
    title = f"{family.name}: {have} of {len(family.tasks)} tasks"
    notes = [f"quoted from {tables['source']}", *differences(family)]
    if (weights := tables.get("weights")) and family.name == "locomotion" and not family.agent:
        by_weight = ", ".join(f"{weight} {number(average)}" for weight, average in weights.items())
        here = family.settings.get("augment.weight") or family.settings.get("guide.weight")
        notes.append(f"quoted averages by weight (Table 3): {by_weight}; here {here}")
    columns = ["task", "seeds", *map(rule, averages), *methods]
    source, citations = tables["source"], _citations(family.paper)
    sheet = Sheet(title, notes, columns, quoted=len(methods), source=source, citations=citations)
    for i, task in enumerate(family.tasks):
        cells = [average.cells[i] for average in averages]
        counts = sorted({cell["seeds"] for cell in cells if cell})
        seeds = least_to_most(counts) if counts else MISSING
        printed = [_printed(section["methods"][method][i]) for method in methods]
        sheet.add([task, seeds, *map(_shown, cells), *printed], "" if counts else "missing")
    printed = [_printed(section["averages"].get(method)) for method in methods]
    sheet.add(["average", "", *map(mean, averages), *printed], "average")
    if any(average.statistics for average in averages):
        for name, show in (("ci95", interval), ("iqm", number)):
            ours = [show(average.statistics[name]) if average.statistics else "" for average in averages]
            sheet.add([{"ci95": "95 %", "iqm": "IQM"}[name], "", *ours, *[""] * len(methods)], "average")
        runs = [str(average.runs) if average.statistics else "" for average in averages]
        sheet.add(["n, tasks x seeds", "", *runs, *[""] * len(methods)], "average")
    return sheet


def _shown(cell: dict | None) -> str:
    """A cell's score; for a selected one also its rho and M, and among how many it was selected."""
    if cell is None:
        return MISSING
    if "choices" not in cell:
        return number(cell["score_mean"])
    among = f", M {cell['candidates']}" if cell["candidates"] > 1 else ""
    among += f", T {cell['temperature']:g}"
    return f"{number(cell['score_mean'])} (rho {cell['rho']:g}{among}, of {cell['choices']})"


def _fixed(family: Family) -> Sheet | None:
    """A sheet of averages with one (rho, M) for all tasks; None where no cell was measured in every task, and for an
    agent."""
    averages = [] if family.agent else family.fixed()
    if not any(average.statistics for average in averages):
        return None
    source = quoted.paper(family.paper)["source"]
    scales = quoted.paper(family.paper).get("scales", {})
    printed = dict(zip(scales["rho"], scales[family.name], strict=True)) if family.name in scales else {}
    notes, columns = differences(family), ["policy", "rho", "M", "T", "average", "95 %", "IQM", "n"]
    if printed:
        notes, columns = [*notes, f"quoted from {source}"], [*columns, quoted.ours("swg")[0]]
    title, citations = f"{family.name}: one guidance scale for all tasks", _citations(family.paper)
    sheet = Sheet(title, notes, columns, quoted=1 if printed else 0, source=source, citations=citations)
    for average in averages:
        values = average.statistics or {"ci95": None, "iqm": None}
        row = [average.policy, *(choice(value) for value in (average.rho, average.candidates, average.temperature))]
        row += [mean(average), interval(values["ci95"])]
        row += [number(values["iqm"]), str(average.runs) if average.statistics else ""]
        if printed:
            row.append(_printed(printed.get(average.rho) if average.candidates == 1 else None))
        sheet.add(row, "" if average.statistics else "missing")
    return sheet


def rule(average: Average) -> str:
    """The rule by which the cells of an average were chosen, as a column's name."""
    if average.paper_rho:
        several = f" M={average.candidates}" if average.candidates and average.candidates > 1 else ""
        return f"{average.policy}{several} T={average.temperature:g}, the paper's rho"
    if average.online:
        return f"{average.policy}, selected online"
    if average.rho is None:  # an agent
        return average.policy
    return f"{average.policy}, rho {average.rho:g}, M {average.candidates}, T {average.temperature:g}"


def mean(average: Average) -> str:
    """An average's score; where tasks are missing, their count instead, never a mean over a part of them."""
    if average.statistics:
        return number(average.statistics["mean"])
    return f"{average.tasks} of {plural(len(average.cells), 'task')}"


def _printed(score: float | None) -> str:
    return "-" if score is None else number(score)


# -- as text -----------------------------------------------------------------------------------------------------------


def show(sheets: list[Sheet]) -> None:
    """Print sheets as tables on stderr, then the conventions."""
    for sheet in sheets:
        first = len(sheet.columns) - sheet.quoted
        heads = [c.replace(", ", "\n") if i < first else f"quoted\n{c}" for i, c in enumerate(sheet.columns)]
        console.table("\n  ".join([sheet.title, *sheet.notes]), heads, sheet.rows)
        console.say("")
    for line in conventions(sheets):
        console.say(line)
