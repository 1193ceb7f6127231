"""Guidances side by side: the score of each against its scale."""

from pathlib import Path

from swgctl import tasks
from swgctl.evaluation.comparison import NONE, RESAMPLE
from swgctl.evaluation.scores import axis
from swgctl.plots.figures import GREY, Picture, panels, publish, style, tag
from swgctl.reports.guidances import lines_of, measure_of
from swgctl.store import Store

DASHES = {"data": "-", "posterior mean": ":"}  # by where Q is asked; others ask at actions that were drawn
APART = 0.012  # of the intervals of two lines, as a share of the axis


def compare(store: Store, rows: list[dict]) -> Path:
    """Draw the rows of `comparison.rows`, of one task; returns the picture's path."""
    names = dict.fromkeys(row["evaluation"] for row in rows)
    return publish(store, f"guidances-{rows[0]['task']}-{tag(*names)}", None, lambda: draw_guidances(rows))


def draw_guidances(rows: list[dict]) -> Picture:
    """A panel for each temperature, a line with intervals for each guided policy; without guidance a level."""
    measure = measure_of(rows)
    temperatures = sorted({row["temperature"] for row in rows})
    scales = sorted({row["rho"] for row in rows if row["rho"] > 0})
    methods = list(dict.fromkeys(row["method"] for row in rows if row["rho"] > 0))
    policies = list(dict.fromkeys((row["method"], row["candidates"]) for row in rows if row["rho"] > 0))
    width = 8.0 if len(temperatures) == 1 else 5.2  # the legend is as wide as one panel, or two
    figure, axes = panels(len(temperatures), 2, width, 4.6)
    labels: dict[str, None] = {}
    for panel, temperature in zip(axes, temperatures, strict=True):
        lines = lines_of([row for row in rows if row["temperature"] == temperature])
        for (method, candidates, _), line in lines.items():
            label = f"{line[0]['policy']}, M = {candidates}" if candidates > 1 else line[0]["policy"]
            means = [row[f"{measure}_mean"] for row in line]
            shown = None if label in labels else label
            labels[label] = None
            if method in (NONE, RESAMPLE):
                panel.axhline(means[0], color=GREY, linestyle="-" if method == NONE else "--", label=shown)
                continue
            intervals = [row[f"{measure}_ci95"] for row in line]
            errors = [
                [abs(mean - bounds[end]) for mean, bounds in zip(means, intervals, strict=True)] for end in (0, 1)
            ]
            shift = APART * scales[-1] * (policies.index((method, candidates)) - (len(policies) - 1) / 2)
            at = [row["rho"] + shift for row in line]
            look = style(methods.index(method)) | {"linestyle": DASHES.get(line[0]["asks"], "--")}
            look |= {"markerfacecolor": "white"} if candidates > 1 else {}
            panel.errorbar(at, means, errors, label=shown, elinewidth=0.9, capsize=1.5, **look)
        panel.set(xlabel=r"guidance scale $\rho$", ylabel=axis(measure, tasks.named(rows[0]["task"])))
        panel.set_title(f"{rows[0]['task']}, T = {temperature:g}")
        panel.set_xticks(scales, [f"{rho:g}" for rho in scales])
    note = "Q is asked at the data's actions (solid), at the posterior mean (dotted), or at drawn actions (dashed)"
    figure.legend(loc="outside lower left", ncols=3, title=note, title_fontsize="small", alignment="left")
    return figure, rows
