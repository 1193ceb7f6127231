"""What a report says to programs: every number as one row, for CSV and JSON."""

import csv
import io
import json

from swgctl.evaluation.families import Family
from swgctl.evaluation.groups import STATISTICS, Group
from swgctl.files import SCHEMA
from swgctl.tasks import quoted

NUMBERS = [f"{measure}_{name}" for measure in ("score", "return") for name in STATISTICS]
CELL = ("rho", "candidates", "temperature", "paper_rho", *NUMBERS, "seeds", "episodes", "interval_over", "choices")
FIELDS = ("row", "family", "task", "group", "policy", *CELL, "tasks", "of", "source")


def rows(groups: list[Group], families: list[Family], paper: str | None = None) -> list[dict]:
    """Each with all FIELDS, None where one does not apply.

    row    cell, missing, selected online, quoted; of a family: average, "average, selected online", quoted average
    group  the number of the group, or of the family
    seeds  of an average, those of all its tasks together
    choices  among how many cells it was selected; of an average, at most
    tasks  of how many of the family's tasks (`of`) there is a cell; there is no mean unless of all
    """
    found: list[dict] = []
    for group in groups:
        own = {"task": group.task.name, "group": group.number}
        for cell in group.cells:
            found.append({"row": "cell" if cell["seeds"] else "missing"} | own | _part(cell))
        found += [{"row": "selected online"} | own | _part(cell) for cell in group.choices()]
        if place := quoted.home(group.task.name, paper):
            for method, (score, sd) in quoted.scores(group.task.name, place[0]).items():
                found.append({"row": "quoted"} | own | _quoted(place[0], method, score, sd))
    for family in families:
        own = {"family": family.name, "group": family.number}
        for average in [*family.averages(), *family.fixed()]:
            one = {"row": "average" if average.candidates else "average, selected online", "policy": average.policy}
            one |= {"rho": average.rho, "candidates": average.candidates}
            one |= {"temperature": average.temperature, "paper_rho": average.paper_rho}
            one |= {f"score_{name}": value for name, value in (average.statistics or {}).items()}
            one |= {"seeds": average.runs if average.statistics else None}
            one |= {"choices": max((cell.get("choices", 0) for cell in average.cells if cell), default=0) or None}
            found.append(one | own | {"tasks": average.tasks, "of": len(family.tasks)})
        for method, score in quoted.paper(family.paper)["scores"][family.name]["averages"].items():
            found.append({"row": "quoted average"} | own | _quoted(family.paper, method, score))
    return [{name: row.get(name) for name in FIELDS} for row in found]


def _part(cell: dict) -> dict:
    return {name: cell.get(name) for name in ("policy", *CELL)}


def _quoted(paper: str, method: str, score: float, sd: float | None = None) -> dict:
    return {"policy": method, "score_mean": score, "score_sd": sd, "source": quoted.paper(paper)["source"]}


def as_csv(table: list[dict]) -> str:
    """A header and a line a row; an interval is two columns, `_low` and `_high`."""
    flat = []
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
    """One object on one line: what the groups and families are made of, and the rows."""
    made = [
        {
            "group": group.number,
            "task": group.task.name,
            "seeds": group.seeds,
            "settings": group.settings,
            "differs": group.differs,
            "evaluations": [{"path": str(e.path), "key": e.key, "digest": e.digest} for e in group.evaluations],
        }
        for group in groups
    ]
    printed = [
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
    return json.dumps({"schema": SCHEMA, "groups": made, "families": printed, "rows": table}) + "\n"
