"""The tables of results in READMEs, built from the packed reports of `recipes/results`.

`python -m tests.support.results < PRINTED > recipes/results/NAME.json` packs what `swgctl report --format json`,
`swgctl compare --json` or, for synthetic sets, `swgctl ls --json` printed: of each row what tables show and where it
comes from, each column's name once, and what all rows have in common once.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "recipes/results"
PAGE = RESULTS / "README.md"


@dataclass(frozen=True)
class Table:
    """A Markdown table of `page`, which stands there below the comment that names it.

    `files` are the stems of the packed reports that `rows` is called with.
    """

    name: str
    files: tuple[str, ...]
    header: tuple[str, ...]
    rows: Callable[..., list[list[str]]]
    page: Path = PAGE

    @property
    def anchor(self) -> str:
        return f"<!-- table {self.name}: {', '.join(f'{file}.json' for file in self.files)} -->"

    def markdown(self) -> str:
        lines = [list(self.header), *self.rows(*(read(file) for file in self.files))]
        texts = ["| " + " | ".join(line) + " |" for line in lines]
        texts.insert(1, "|" + "---|" * len(self.header))
        return "\n".join(" ".join(text.split()) for text in texts)


FIELDS = (
    *("row", "task", "group", "method", "policy", "guidance", "candidates", "temperature", "rho"),
    *("score_mean", "score_ci95", "return_mean", "return_ci95", "difference", "p_value", "seeds", "episodes"),
    *("exact", "asks", "parameters", "training_s", "action_ratio"),
    *("model", "agent", "likelihood", "on_policy", "one_step", "after", "after_raw"),
    *("critic", "data", "denoiser", "evaluation"),
)
ROWS = ("cell", "against data", "set")  # of a report; a comparison has cells alone


def pack(printed: str) -> str:
    """A printed report, comparison or list of artifacts, packed.

    columns, rows   FIELDS of ROWS, a row a line, floats with seven digits and digests with twelve
    same            fields that are equal in all rows
    groups          of a report or list, by number: digests of its evaluations, or of the set, and its settings that
                    differ from others'
    settings        of a report: those that are equal in all groups
    """
    lines = [json.loads(line) for line in printed.splitlines()]
    report = lines[0] if "rows" in lines[0] else {"rows": lines, "groups": []}
    report = _of_sets(lines) if "stage" in lines[0] else report
    cells = [row for row in report["rows"] if row.get("row", "cell") in ROWS]
    table = [{name: _short(row[name]) for name in FIELDS if row.get(name) is not None} for row in cells]
    same, columns = _shared(table, FIELDS)
    groups = {}
    settings, several = _shared([group["settings"] for group in report["groups"]])
    for group in report["groups"]:
        differs = {name: group["settings"][name] for name in several if name in group["settings"]}
        evaluations = [_short(one["digest"]) for one in group["evaluations"]]
        groups[group["group"]] = {"evaluations": evaluations, "differs": differs}
    head = json.dumps(({"settings": settings, "groups": groups} if groups else {}) | {"same": same, "columns": columns})
    body = ",\n".join(json.dumps([row.get(name) for name in columns]) for row in table)
    return f'{head[:-1]}, "rows": [\n{body}\n]}}\n'


def _of_sets(records: list[dict]) -> dict:
    """A report of the synthetic sets among artifacts: means over the seeds, errors in units of the data's deviation.

    agent             the algorithm of the agent that guided or acted, and its task
    one_step          squared error after one step from every state of a window
    after, after_raw  the same after the last step from its first state, and in the observation's units
    """
    algorithms = {one["key"]: one["params"]["algo"] for one in records if one["stage"] == "agent"}
    rows, groups = [], []
    for number, one in enumerate((one for one in records if one["stage"] == "synth"), 1):
        agent, errors = one["inputs"].get("agent"), one["metrics"]["dynamics"]
        measured = {name: one["metrics"].get(name) for name in ("likelihood", "on_policy")}
        measured |= {"one_step": errors["one_step"], "after": [row[-1] for row in errors["horizon"]]}
        measured["after_raw"] = [row[-1] for row in errors["horizon_raw"]]
        row = {"row": "set", "task": one["task"], "group": number, "seeds": len(one["seeds"])}
        row |= {"model": next(role for role in one["inputs"] if role != "agent")}
        row |= {"agent": agent and f"{algorithms[agent['key']]} of {agent['task']}"}
        rows.append(row | {name: values and fmean(values) for name, values in measured.items()})
        groups.append({"group": number, "settings": one["params"], "evaluations": [{"digest": one["digest"]}]})
    return {"rows": rows, "groups": groups}


def _shared(rows: list[dict], names: tuple[str, ...] = ()) -> tuple[dict, list[str]]:
    """The fields that are equal in all rows, and the names of those that are not, in the order of `names`."""
    names = names or tuple(dict.fromkeys(name for row in rows for name in row))
    same = {name: rows[0][name] for name in names if all(name in row and row[name] == rows[0][name] for row in rows)}
    return same, [name for name in names if name not in same and any(name in row for row in rows)]


def _short(value: object) -> object:
    if isinstance(value, list):
        return [_short(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return value[:12] if isinstance(value, str) and len(value) >= 64 else value


@cache
def read(stem: str) -> tuple[dict, ...]:
    """The rows of a packed file, in each as `differs` the settings in which its group differs from others."""
    packed = json.loads((RESULTS / f"{stem}.json").read_text())
    rows = [packed["same"] | dict(zip(packed["columns"], row, strict=True)) for row in packed["rows"]]
    groups = {int(number): group["differs"] for number, group in packed.get("groups", {}).items()}
    return tuple(row | {"differs": groups[row["group"]]} if groups else row for row in rows)


def one(rows: tuple[dict, ...], **fields: object) -> dict | None:
    """The row with these fields, of cells that were measured; None where there is none."""
    cells = [row for row in rows if row.get("row", "cell") == "cell" and fields.items() <= row.items()]
    assert len(cells) <= 1, f"{len(cells)} rows have {fields}"
    return cells[0] if cells else None


def returned(row: dict | None) -> str:
    """A return with its interval: 485 [322, 670]."""
    return f"{row['return_mean']:,.0f} [{', '.join(f'{end:,.0f}' for end in row['return_ci95'])}]" if row else ""


def scored(row: dict | None) -> str:
    """A score with half of its interval: 26.7 ± 0.6."""
    if not row:
        return ""
    low, high = row["score_ci95"]
    return f"{row['score_mean']:.1f} ± {(high - low) / 2:.1f}"


def within(row: dict | None) -> str:
    """A score with its interval: 23.9 [22.1, 24.9]."""
    return f"{row['score_mean']:.1f} [{', '.join(f'{end:.1f}' for end in row['score_ci95'])}]" if row else ""


def succeeded(row: dict | None) -> str:
    """A success rate in per cent with its interval: 80 [75, 85]."""
    return f"{row['score_mean']:.0f} [{', '.join(f'{end:.0f}' for end in row['score_ci95'])}]" if row else ""


if __name__ == "__main__":
    sys.stdout.write(pack(sys.stdin.read()))
