"""Scores against the guidance scale as an inline SVG, in the colours of the page (`html.STYLE`)."""

import html
import math
from collections.abc import Callable, Iterable

from swgctl.console import printable
from swgctl.evaluation.groups import Group
from swgctl.evaluation.scores import axis
from swgctl.reports.sheets import number
from swgctl.tasks import quoted

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 4, 28, 40  # margins
INSET = 10  # of the first and the last rho from the margins
APART = 26  # least distance of the labels under the axis
COLOURS = 5  # the page's --c0, --c1 ...

Scale = Callable[[float], float]


def escape(text: str) -> str:
    """Text as HTML: markup is text, and control and bidi characters are escaped as on a terminal."""
    return html.escape(printable(text))


def figure(group: Group) -> str:
    """A line and its interval for each temperature and M, and the score that SWG's paper prints as a ring; empty for a
    single rho."""
    measure, cells = group.measure, [cell for cell in group.cells if cell["seeds"]]
    scales = sorted({cell["rho"] for cell in cells})
    if len(scales) < 2:
        return ""
    printed = quoted.scores(group.task.name).get(quoted.ours("swg")[0])
    paper_rho = group.paper_rho
    ring = [(paper_rho, printed[0])] if printed and paper_rho is not None and measure == "score" else []
    values = [value for cell in cells for value in cell[f"{measure}_ci95"]] + [value for _, value in ring]
    x = _scale([*scales, *(rho for rho, _ in ring)], LEFT + INSET, WIDTH - RIGHT - INSET)
    y = _scale(values, HEIGHT - BOTTOM, TOP)
    name = axis(measure, group.task)
    drawn, legend = [*_rulers(scales, ticks(min(values), max(values)), x, y, name)], []
    for i, (t, m) in enumerate(group.settled):
        line = [cell for cell in cells if (cell["temperature"], cell["candidates"]) == (t, m)]
        colour = f"var(--c{i % COLOURS})"
        high, low = ([f"{x(c['rho'])},{y(c[f'{measure}_ci95'][end])}" for c in line] for end in (1, 0))
        middle = [(x(cell["rho"]), y(cell[f"{measure}_mean"])) for cell in line]
        drawn.append(f'<polygon class="band" style="fill:{colour}" points="{" ".join([*high, *low[::-1]])}"/>')
        path = " ".join(f"{at},{value}" for at, value in middle)
        drawn.append(f'<polyline class="line" style="stroke:{colour}" points="{path}"/>')
        for (at, value), cell in zip(middle, line, strict=True):
            tip = f"M = {m}, T = {t:g}, rho = {cell['rho']:g}: {number(cell[f'{measure}_mean'], measure)}"
            dot = f'<circle cx="{at}" cy="{value}" r="3.5" style="fill:{colour}">'
            drawn.append(f"{dot}<title>{tip}</title></circle>")
        legend.append(f'<span><i style="background:{colour}"></i>M = {m}, T = {t:g}</span>')
    for rho, value in ring:
        drawn.append(f'<circle class="ring" cx="{x(rho)}" cy="{y(value)}" r="5"/>')
        label = f"quoted: SWG ({quoted.paper('swg')['source']}), {number(value)} at rho = {rho:g}"
        legend.append(f'<span><i class="ring"></i>{escape(label)}</span>')
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(group.task.name)}: {name} against rho">'
    below = f'<figcaption class="legend">{"".join(legend)}</figcaption>'
    return "\n".join(["<figure>", head, *drawn, "</svg>", below, "</figure>", ""])


def _scale(values: Iterable[float], start: float, end: float) -> Scale:
    """The map from the range of `values` to [start, end], rounded to a tenth."""
    values = list(values)
    low, span = min(values), (max(values) - min(values)) or 1.0
    return lambda value: round(start + (end - start) * (value - low) / span, 1)


def _rulers(scales: list[float], marks: list[float], x: Scale, y: Scale, name: str) -> list[str]:
    """The grid and the labels of both axes."""
    drawn = [f'<text x="0" y="12">{name}</text>']
    for value in marks:
        drawn.append(f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.10g}</text>')
    last = -math.inf
    for rho in scales:
        if x(rho) - last >= APART:
            last = x(rho)
            drawn.append(f'<text x="{last}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{rho:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*drawn, f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">guidance scale rho</text>']


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers in [low, high], 1, 2 or 5 times a power of ten apart; the value itself if equal."""
    if low == high:
        return [float(f"{low:.3g}")]
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= most - 1)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
