"""What is sent of a finished artifact, after its rows: numbers of each seed, figures and a report in Markdown."""

import contextlib
import csv
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swgctl.errors import SwgError
from swgctl.reports.sheets import choice, interval, number
from swgctl.seeds import ranges
from swgctl.store import Artifact
from swgctl.tasks import published
from swgctl.trackers.subject import METRICS

EPISODES = "episodes.csv"


@dataclass(frozen=True)
class Ending:
    """Numbers of one seed by name; figures, PNG, by name; a report."""

    numbers: dict[str, float]
    figures: dict[str, bytes]
    report: str


def endings(artifact: Artifact) -> list[Ending]:
    """The ending of each seed's run: figures and report are of all seeds.  Raises CorruptError."""
    figures, text = dict(_figures(artifact)), report(artifact)
    return [Ending(numbers, figures, text) for numbers in _numbers(artifact)]


# -- numbers -----------------------------------------------------------------------------------------------------------


def _numbers(artifact: Artifact) -> list[dict[str, float]]:
    """The recorded metrics of each seed; of an evaluation, the mean return and score of its episodes, cell by cell."""
    if EPISODES in artifact.meta["files"]:
        return [_cells(artifact, seed) for seed in artifact.seeds]
    leaves = dict(_leaves(artifact.meta["metrics"]))
    seeds = len(artifact.seeds)
    return [
        {
            f"{artifact.stage}/final/{name}": float(value[s] if isinstance(value, list) else value)
            for name, value in leaves.items()
            if not isinstance(value, list) or (len(value) == seeds and all(map(_is_number, value)))
        }
        for s in range(seeds)
    ]


def _cells(evaluation: Artifact, seed: int) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    with evaluation.reading(EPISODES) as path, open(path, newline="") as file:
        for row in csv.DictReader(file):
            if int(row["seed"]) == seed:
                place = [
                    f"{name}_{float(row[name]):g}" for name in ("rho", "candidates", "temperature") if row.get(name)
                ]
                for measure in ("return", "score"):
                    if row.get(measure):
                        name = "/".join([evaluation.stage, measure, *(["_".join(place)] if place else [])])
                        groups.setdefault(name, []).append(float(row[measure]))
    return {name: sum(values) / len(values) for name, values in groups.items()}


def _leaves(value: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, and lists, of nested dicts by dotted name."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{name}.")
        elif _is_number(inner) or isinstance(inner, list):
            yield f"{prefix}{name}", inner


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """The pictures of `swgctl plot` that show this artifact alone, PNG by name."""
    from swgctl.plots import artifacts, figures

    cells = artifact.meta["metrics"].get("cells") or [{}]
    kinds: dict[str, tuple[bool, Callable[[Artifact], figures.Picture]]] = {
        "training": (METRICS in artifact.meta["files"], artifacts.draw_training),
        "rho": (artifact.stage == "eval" and cells[0].get("rho") is not None, artifacts.draw_rho),
        "weights": (artifact.stage == "augment", artifacts.draw_weights),
    }
    with figures.styled(), tempfile.TemporaryDirectory() as folder:
        for name, (fits, draw) in kinds.items():
            if fits:
                with contextlib.suppress(SwgError):  # an ancestor is gone, or a file is damaged: `verify` tells
                    figure, _ = draw(artifact)
                    figures.save(figure, path := Path(folder) / "figure.png", "png")
                    yield name, path.read_bytes()


# -- report ------------------------------------------------------------------------------------------------------------


def report(artifact: Artifact) -> str:
    """The record of an artifact in Markdown: an evaluation's cells or the metrics, inputs, parameters."""
    meta = artifact.meta
    parts = [
        f"# {artifact.stage} {artifact.id} of {artifact.task}, seeds {ranges(artifact.seeds)}",
        f"key `{artifact.key}`, digest `{artifact.digest}`; made {meta['made']['at']} on {meta['made']['device']}",
    ]
    cells = meta["metrics"].get("cells")
    if artifact.stage == "eval" and cells:
        parts.append(_scores(cells))
    else:
        rows = [[name, f"{value:.6g}"] for name, value in _leaves(meta["metrics"]) if not isinstance(value, list)]
        parts += [_table(["metric", "value"], rows)] if rows else []
    made_from = [[role, f"{one['stage']} {one['key'][: len(artifact.id)]}"] for role, one in meta["inputs"].items()]
    if meta["source"]:
        source = meta["source"]
        made_from.append(["data", f"sha256 {source['sha256'][: len(artifact.id)]}{published.remark(source)}"])
    parts += [_table(["made from", ""], made_from)] if made_from else []
    parts.append(_table(["parameter", "value"], [[name, str(value)] for name, value in meta["params"].items()]))
    return "\n\n".join(parts) + "\n"


def _scores(cells: list[dict]) -> str:
    measures = ("return", "score") if cells[0]["score_mean"] is not None else ("return",)
    rows = []
    for cell in cells:
        row = [choice(cell[name]) for name in ("rho", "candidates", "temperature")]
        for measure in measures:
            row += [number(cell[f"{measure}_mean"], measure), interval(cell[f"{measure}_ci95"], measure)]
        rows.append(row)
    first = cells[0]
    protocol = f"{first['seeds']} seed(s) x {first['episodes']} episodes, intervals over the {first['interval_over']}"
    heads = ["rho", "M", "T", *(head for measure in measures for head in (measure, "95 %"))]
    return f"{protocol}\n\n{_table(heads, rows)}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
