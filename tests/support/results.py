"""The tables of results in READMEs, built from the packed reports of `recipes/results`.

A file is what `swgctl report --format json` or `swgctl compare --json` printed: the fields that its table shows, and
those that say where a row comes from.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


@cache
def read(stem: str) -> tuple[dict, ...]:
    """The rows of a packed report, `differs` of a row's group in each, or of a comparison."""
    text = (RESULTS / f"{stem}.json").read_text()
    report = json.loads(text.splitlines()[0])
    if "rows" not in report:
        return tuple(map(json.loads, text.splitlines()))
    differs = {group["group"]: group["differs"] for group in report["groups"]}
    return tuple(row | {"differs": differs[row["group"]]} for row in report["rows"])


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


def succeeded(row: dict | None) -> str:
    """A success rate in per cent with its interval: 80 [75, 85]."""
    return f"{row['score_mean']:.0f} [{', '.join(f'{end:.0f}' for end in row['score_ci95'])}]" if row else ""
