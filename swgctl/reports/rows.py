"""Reports for programs: one row a number, for CSV and JSON."""

import csv
import io
import json
from typing import Any

from swgctl.evaluation.agents import by_data
from swgctl.evaluation.families import Family
from swgctl.evaluation.groups import STATISTICS, Group
from swgctl.evaluation.protocols import learnt_rows, standings
from swgctl.files import SCHEMA
from swgctl.tasks import quoted
from swgctl.tasks.fidelity import fidelity
from swgctl.tasks.published import unpublished

NUMBERS = [f"{measure}_{name}" for measure in ("score", "return") for name in STATISTICS]
CELL = (
    "guidance",
    "rho",
    "candidates",
    "temperature",
    "paper_rho",
    *NUMBERS,
    "seeds",
    "episodes",
    "interval_over",
    "choices",
)
FIELDS = ("row", "family", "task", "group", "policy", *CELL, "tasks", "of", "source")
FURTHER = ("score_se", "difference", "p_value", "data", "fidelity")  # fields of a report that has any such value


def rows(groups: list[Group], families: list[Family], paper: str | None = None) -> list[dict]:
    """Every number of a report, each row with all FIELDS, None where one does not apply.

    row      cell, missing, selected online, quoted; for a family: average, "average, selected online", quoted average;
             for an agent: "against data", the `difference` from the same algorithm's on the data, with its `p_value`
    group    number of the group, or of the family
    seeds    for an average, the number of its tasks' seeds in all
    data, fidelity  what there is to say of the data's checksum, and of an environment that is not quite the benchmark's
    choices  number of cells among which this one was selected; for an average, the largest over its tasks
    tasks    number of the family's tasks (`of`) that were measured; the mean is None unless all were
    """
    table: list[dict[str, Any]] = []
    for group in groups:
        head: dict[str, Any] = {"task": group.task.name, "group": group.number}
        ours = head | _circumstances(group)
        for cell in group.cells:
            table.append({"row": "cell" if cell["seeds"] else "missing"} | ours | _part(cell))
        table += [{"row": "selected online"} | ours | _part(cell) for cell in group.choices()]
        if home := quoted.home(group.task.name, paper, agent=bool(group.agent)):
            for method, (score, spread) in quoted.scores(group.task.name, home[0]).items():
                table.append({"row": "quoted"} | head | _quoted(home[0], method, score, spread))
    for family in families:
        head = {"family": family.name, "group": family.number}
        for average in [*family.averages(), *family.fixed()]:
            row: dict[str, Any] = {"row": "average, selected online" if average.online else "average"}
            row |= {"policy": average.policy, "rho": average.rho, "candidates": average.candidates}
            row |= {"temperature": average.temperature, "paper_rho": average.paper_rho}
            row |= {"seeds": average.runs if average.statistics else None}
            row |= {f"score_{name}": value for name, value in (average.statistics or {}).items()}
            row |= {"choices": max((cell.get("choices", 0) for cell in average.cells if cell), default=0) or None}
            table.append(row | head | {"tasks": average.tasks, "of": len(family.tasks)})
        for method, score in quoted.paper(family.paper)["scores"][family.name]["averages"].items():
            table.append({"row": "quoted average"} | head | _quoted(family.paper, method, score))
    for agents in by_data(groups):
        for kind, group in agents.groups.items():
            if compared := agents.against_data(kind):
                row = {"row": "against data", "task": agents.task, "group": group.number, "policy": group.agent}
                row |= {"seeds": len(group.seeds), "difference": compared[0], "p_value": compared[1]}
                table.append(row)
    fields = (*FIELDS, *(name for name in FURTHER if any(name in row for row in table)))
    return [{name: row.get(name) for name in fields} for row in table]


def _circumstances(group: Group) -> dict[str, str]:
    data = ", ".join(unpublished(one for evaluation in group.evaluations for one in standings(evaluation)))
    said = {"data": data, "fidelity": fidelity(group.task.environment)}
    return {name: text for name, text in said.items() if text}


def _part(cell: dict) -> dict:
    return {name: cell.get(name) for name in ("policy", *CELL)}


def _quoted(paper: str, method: str, score: float, spread: float | None = None) -> dict:
    row = {"policy": method, "score_mean": score, "source": quoted.paper(paper)["source"]}
    return row | {f"score_{quoted.spread(paper)}": spread}


def as_csv(table: list[dict]) -> str:
    """A header and a line a row; an interval is two columns, `_low` and `_high`."""
    flat: list[dict[str, Any]] = []
    for row in table:
        flat.append({})
        for name, value in row.items():
            if name.endswith("ci95"):
                flat[-1] |= dict(zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True))
            else:
                flat[-1][name] = value
    text = io.StringIO()
    writer = csv.DictWriter(text, flat[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def as_json(groups: list[Group], families: list[Family], table: list[dict]) -> str:
    """One JSON object on one line: the composition of the groups and families, and the rows."""
    group_records = [
        {
            "group": group.number,
            "task": group.task.name,
            "seeds": group.seeds,
            "settings": group.settings,
            "differs": group.differs,
            "data": sorted({one for evaluation in group.evaluations for one in standings(evaluation)}),
            "learnt_rows": sorted({count for evaluation in group.evaluations for count in learnt_rows(evaluation)}),
            "fidelity": fidelity(group.task.environment),
            "evaluations": [{"path": str(e.path), "key": e.key, "digest": e.digest} for e in group.evaluations],
        }
        for group in groups
    ]
    family_records = [
        {
            "group": family.number,
            "family": family.name,
            "paper": family.paper,
            "differs": family.differs,
            "groups": [group.number for group in family.groups.values()],
            "missing": family.missing,
        }
        for family in families
    ]
    return json.dumps({"schema": SCHEMA, "groups": group_records, "families": family_records, "rows": table}) + "\n"
