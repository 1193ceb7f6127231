"""Evaluations side by side."""

import textwrap
from collections import Counter
from pathlib import Path

from swgctl.evaluation.families import varies_by_task
from swgctl.evaluation.groups import Group, gather, select
from swgctl.evaluation.scores import Place, axis, order, place_of
from swgctl.files import canonical
from swgctl.plots.figures import GREY, Picture, panels, publish, style, tag
from swgctl.reports.sheets import SPREAD, described
from swgctl.store import Store
from swgctl.tasks import quoted

COLUMNS = 3
LINE, LEGEND_LINE = 0.24, 0.17  # inches


def compare(store: Store, refs: list[str], task: str | None, out: str | None) -> Path:
    """Draw the cells of evaluations side by side, a panel for each task, with the paper's numbers."""
    groups = gather(select(store, refs, task))
    names = list(dict.fromkeys(group.task.name for group in groups))
    tasks = names[0] if len(names) == 1 else f"{len(names)}-tasks"
    keys = tag(*(evaluation.key for group in groups for evaluation in group.evaluations))
    return publish(store, f"compare-{tasks}-{keys}", out, lambda: draw_comparison(groups))


def draw_comparison(groups: list[Group]) -> Picture:
    """A panel for each task: its cells as dots with intervals, a colour for each protocol; quoted scores hollow."""
    tasks: dict[str, list[Group]] = {}
    for group in groups:
        tasks.setdefault(group.task.name, []).append(group)
    protocols = _protocols(groups)
    lines = [len(_cells(of_task)) + len(_quoted(of_task)) for of_task in tasks.values()]
    below = [sum(protocols[g][1].count("\n") + 2 for g in of_task if protocols[g][1]) for of_task in tasks.values()]
    tallest, deepest = ([max(n[i : i + COLUMNS]) for i in range(0, len(n), COLUMNS)] for n in (lines, below))
    heights = [1.1 + LINE * tall + LEGEND_LINE * deep for tall, deep in zip(tallest, deepest, strict=True)]
    figure, axes = panels(len(tasks), COLUMNS, 4.8, heights)
    numbers: list[dict] = []
    for i, (panel, (name, of_task)) in enumerate(zip(axes, tasks.items(), strict=True)):
        numbers += _draw(panel, name, of_task, protocols)
        panel.set_ylim(tallest[i // COLUMNS] - 0.4, -0.6)
    legend = ["filled: mean and 95 % interval, over seeds where there are several"]
    papers = [home[0] for name, of_task in tasks.items() if _quoted(of_task) and (home := quoted.home(name))]
    if spreads := dict.fromkeys(SPREAD[quoted.spread(paper)] for paper in papers):
        legend.append(f"hollow: as printed, ± {' or '.join(spreads)}")
    figure.supxlabel("\n".join(legend), x=0.01, ha="left", fontsize="small")
    return figure, numbers


def _cells(groups: list[Group]) -> list[tuple[Place, str | None]]:
    """Every measured cell, a line of a panel: (temperature, M, rho), and the name of the agent that has none."""
    lines = {(place_of(cell), group.agent) for group in groups for cell in group.cells if cell["seeds"]}
    return sorted(lines, key=lambda line: (order(line[0]), line[1] or ""))


def _measure(groups: list[Group]) -> str:
    """The quantity on a task's axis: the score, or the return where one of its groups has no score."""
    return "score" if all(group.measure == "score" for group in groups) else "return"


def _quoted(groups: list[Group]) -> dict[str, tuple[float, float | None]]:
    """The scores that the paper prints for a task; none beside returns, which have another unit."""
    task = groups[0].task.name
    home = quoted.home(task) if _measure(groups) == "score" else None
    return quoted.scores(task, home[0]) if home else {}


def _draw(axes, task: str, groups: list[Group], protocols: dict[Group, tuple[int, str]]) -> list[dict]:
    """Fill a panel; returns the numbers that it shows."""
    from matplotlib.transforms import ScaledTranslation

    measure, measured, printed = _measure(groups), _cells(groups), _quoted(groups)
    labels: list[str] = []
    numbers: list[dict] = []
    for y, (place, agent) in enumerate(measured):
        temperature, m, rho = place
        alike = [group for group in groups if group.agent == agent]
        cells = [(i, group, cell) for i, group in enumerate(alike) if (cell := group.cell(temperature, m, rho))]
        labels.append(_label(cells[0][2]))
        for i, group, cell in cells:
            at = y + 0.22 * (i - (len(alike) - 1) / 2) * min(1, 3 / len(alike))
            mean, (low, high) = cell[f"{measure}_mean"], cell[f"{measure}_ci95"]
            look = style(protocols[group][0])
            axes.plot([low, high], [at, at], color=look["color"], linewidth=2.2, solid_capstyle="butt", alpha=0.55)
            axes.plot(mean, at, linestyle="", **look)
            shown = {"task": task, "group": group.number, "policy": cell["policy"], "rho": rho, "candidates": m}
            shown["temperature"] = temperature
            numbers.append(shown | {"quoted": False, "measure": measure, "mean": mean, "ci95": [low, high], "sd": None})
    for y, (method, (score, sd)) in enumerate(printed.items(), len(measured)):
        labels.append(f"{method}, quoted")
        if sd is not None:
            axes.plot([score - sd, score + sd], [y, y], color=GREY, linewidth=1)
        axes.plot(score, y, marker="o", markerfacecolor="white", markeredgecolor=GREY, linestyle="")
        shown = {"task": task, "group": None, "policy": method, "rho": None, "candidates": None, "temperature": None}
        numbers.append(shown | {"quoted": True, "measure": "score", "mean": score, "ci95": None, "sd": sd})
    if printed:
        axes.axhline(len(measured) - 0.5, color="#c4c8ce", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set(title=task, xlabel=axis(measure, groups[0].task))
    if legend := [protocols[group] for group in groups if protocols[group][1]]:
        for i, text in legend:
            axes.plot([], [], label=text, **style(i))
        below = axes.transAxes + ScaledTranslation(0, -0.5, axes.figure.dpi_scale_trans)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0)
    return numbers


def _protocols(groups: list[Group]) -> dict[Group, tuple[int, str]]:
    """The style number of each group, the same in all panels, and the settings in which it differs from others, an
    agent from those of its name."""
    names: dict[str | None, set[str]] = {}
    for group in groups:
        names.setdefault(group.agent, set()).update(group.differs)
    groups_of = Counter((group.task.name, group.agent) for group in groups)
    repeats: Counter[tuple[str, str | None, str]] = Counter()
    numbers: dict[tuple[str, int], int] = {}
    protocols = {}
    for group in groups:
        line = group.task.name, group.agent
        settings = {
            name: group.settings.get(name, "default") for name in sorted(names[group.agent]) if not varies_by_task(name)
        }
        protocol = canonical(settings)
        repeats[*line, protocol] += 1  # several, where a task was evaluated again or with other data
        number = numbers.setdefault((protocol, repeats[*line, protocol]), len(numbers))
        parts = [described(group.differs or settings), "evaluated again" if group.again else ""]
        text = "; ".join(filter(None, parts)) or ("evaluated first" if groups_of[line] > 1 else "")
        protocols[group] = number, textwrap.fill(text.replace(" = ", "\xa0=\xa0"), 40).replace("\xa0", " ")
    return protocols


def _label(cell: dict) -> str:
    if cell["rho"] is None:  # an agent
        return cell["policy"]
    name = "behaviour model" if cell["rho"] == 0 else cell["policy"]
    whose = " (the paper's)" if cell["paper_rho"] else ""
    rho = f", rho {cell['rho']:g}{whose}" if cell["rho"] else ""
    many = f", M {cell['candidates']}" if cell["candidates"] > 1 else ""
    return f"{name}{rho}{many}, T {cell['temperature']:g}"
