"""Agents by the data that they learnt from: scores by environment and by behaviour policy (PGD, arXiv 2404.06356,
Figure 4)."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from swgctl.errors import InputError
from swgctl.evaluation.groups import Group, gather, select
from swgctl.evaluation.protocols import ALGORITHMS, CONTINUOUS, DATA, GUIDED, UNGUIDED, learnt_from
from swgctl.plots.figures import COLOURS, GREY, Picture, panels, publish, tag
from swgctl.store import Store

BARS = {DATA: "", UNGUIDED: "//", GUIDED: "..", CONTINUOUS: "xx"}  # and their hatches
WIDTH = 0.2  # of a bar; a place is 1 wide

Cells = dict[tuple[str, str], dict[str, Group]]  # (task, algorithm) -> kind of data -> group


def synthetic(store: Store, refs: list[str], task: str | None, out: str | None) -> Path:
    """Draw the scores of agents by the data that they learnt from; returns the picture's path.

    Raises InputError for a REF that is no evaluation, and where none is of an agent whose task has scores.
    """
    evaluations = select(store, refs, task)
    cells = by_kind(gather(evaluations))
    if not cells:
        raise InputError(
            f"none of the {len(evaluations)} evaluations is of an agent, TD3+BC or IQL, in a task with scores",
            "swgctl agent TASK --algo td3bc, then swgctl eval",
        )
    keys = tag(*(one.key for kinds in cells.values() for group in kinds.values() for one in group.evaluations))
    return publish(store, f"synthetic-{keys}", out, lambda: draw_synthetic(cells))


def by_kind(groups: Iterable[Group]) -> Cells:
    """The agents of each task and algorithm by kind of data, a key of BARS; of several groups that of most seeds.

    An agent is left out if its task has no scores, or if it learnt from several kinds, or from another one.
    """
    cells: Cells = {}
    for group in groups:
        if not group.agent or group.measure != "score":
            continue
        kinds = learnt_from(group.settings)
        if len(kinds) == 1 and kinds[0] in BARS:
            place = cells.setdefault((group.task.name, ALGORITHMS[group.settings["agent.algo"]]), {})
            place[kinds[0]] = max(place.get(kinds[0], group), group, key=lambda one: len(one.seeds))
    return cells


def draw_synthetic(cells: Cells) -> Picture:
    """A panel by environment and one by behaviour policy: bars of the mean score over tasks and algorithms, for each
    kind of data, with the standard error over seeds.

    Bars of one place are means over the same tasks and algorithms: where a kind lacks one of them, the place of its bar
    says how many it has.
    """
    kinds = [kind for kind in BARS if any(kind in of for of in cells.values())]
    environments = {task: group.task.environment for (task, _), of in cells.items() for group in of.values()}
    divisions: dict[str, Callable[[str], str]] = {
        "environment": lambda task: re.sub(r"^swgctl/|-v\d+$", "", environments[task]),
        "behaviour policy": behaviour_of,
    }
    most = max(len({name(task) for task, _ in cells}) for name in divisions.values())
    figure, axes = panels(2, 2, max(4.6, 1.25 * most), 4.0)
    numbers: list[dict] = []
    for panel, (division, name) in zip(axes, divisions.items(), strict=True):
        places = list(dict.fromkeys(name(task) for task, _ in cells))
        for x, place in enumerate(places):
            inside = [of for (task, _), of in cells.items() if name(task) == place]
            for i, kind in enumerate(kinds):
                at = x + WIDTH * (i - (len(kinds) - 1) / 2)
                measured = [of[kind] for of in inside if kind in of]
                row: dict[str, Any] = {
                    "by": division,
                    "place": place,
                    "learnt_from": kind,
                    "score_mean": None,
                    "score_se": None,
                }
                row |= {"cells": len(measured), "of": len(inside)}
                numbers.append(row)
                if len(measured) < len(inside):
                    text = f"{len(measured)} of {len(inside)}"
                    panel.text(at, 0, f" {text}", rotation=90, ha="center", va="bottom", fontsize="x-small", color=GREY)
                    continue
                row["score_mean"], row["score_se"] = mean_and_error(measured)
                panel.bar(at, row["score_mean"], 0.9 * WIDTH, **_look(kind))
                if row["score_se"] is not None:
                    panel.errorbar(at, row["score_mean"], row["score_se"], color="black", elinewidth=1, capsize=2.5)
        panel.set_xticks(range(len(places)), places, rotation=20 if len(places) > 3 else 0)
        panel.grid(axis="x", visible=False)
        panel.axhline(0, color=GREY, linewidth=0.8)
        panel.set(title=f"by {division}", ylabel="normalised score", xlim=(-0.6, len(places) - 0.4))
    for kind in kinds:
        axes[0].bar(0, 0, 0, label=kind, **_look(kind))
    note = "mean over tasks and algorithms, standard error over seeds; text: cells that are measured, where not all are"
    figure.legend(loc="outside lower left", ncols=4, title=note, title_fontsize="small", alignment="left")
    return figure, numbers


def _look(kind: str) -> dict[str, Any]:
    return {"color": COLOURS[list(BARS).index(kind)], "hatch": BARS[kind], "edgecolor": "white", "linewidth": 0}


def behaviour_of(task: str) -> str:
    """The part of a task's name that is about the data: halfcheetah-medium-replay-v2 -> medium-replay; the whole name
    where it has one part alone."""
    name = re.sub(r"^local-|-v\d+$", "", task)
    return name.partition("-")[2] or name


def mean_and_error(groups: list[Group]) -> tuple[float, float | None]:
    """The mean score of several cells of equal weight, and its standard error over seeds; None where a cell has one
    seed.

    Tasks are independent.  The algorithms of one are not, which share with a seed what they learnt from and the starts
    of episodes: they are added up seed by seed.
    """
    means = [group.seed_means(group.cells[0]) for group in groups]
    mean = fmean(fmean(one) for one in means)
    if min(map(len, means)) < 2:
        return mean, None
    alike: dict[tuple, list[list[float]]] = {}
    for group, one in zip(groups, means, strict=True):
        alike.setdefault((group.task.name, *group.seeds), []).append(one)
    sums = [[sum(values) for values in zip(*cells, strict=True)] for cells in alike.values()]
    return mean, math.sqrt(sum(variance(one) / len(one) for one in sums)) / len(means)
