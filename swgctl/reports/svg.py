"""Scores against the guidance scale as an SVG within a page, in the colours of the page (`pages.STYLE`)."""

import math
from html import escape

from swgctl.evaluation.groups import Group
from swgctl.reports.sheets import number
from swgctl.tasks import quoted

WIDTH, HEIGHT = 440, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 4, 28, 40  # margins
INSET = 10  # of the first and the last rho
APART = 26  # of the labels under the axis, at least
COLOURS = 5  # --c0, --c1 ... of the page


def figure(group: Group) -> str:
    """A line and its interval for each temperature and M, and the score of SWG's own paper as a ring; empty where there
    is one rho."""
    measure, cells = group.measure, [cell for cell in group.cells if cell["seeds"]]
    scales = sorted({cell["rho"] for cell in cells})
    if len(scales) < 2:
        return ""
    printed = quoted.scores(group.task.name).get(quoted.ours("swg")[0])
    ring = [(quoted.guidance_scale(group.task.name), printed[0])] if printed and measure == "score" else []
    values = [value for cell in cells for value in cell[f"{measure}_ci95"]] + [value for _, value in ring]
    x = _scale([*scales, *(rho for rho, _ in ring)], LEFT + INSET, WIDTH - RIGHT - INSET)
    y = _scale(values, HEIGHT - BOTTOM, TOP)
    name = "normalised score" if measure == "score" else "return"
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
            told = f"M = {m}, T = {t:g}, rho = {cell['rho']:g}: {number(cell[f'{measure}_mean'], measure)}"
            dot = f'<circle cx="{at}" cy="{value}" r="3.5" style="fill:{colour}">'
            drawn.append(f"{dot}<title>{told}</title></circle>")
        legend.append(f'<span><i style="background:{colour}"></i>M = {m}, T = {t:g}</span>')
    for rho, value in ring:
        drawn.append(f'<circle class="ring" cx="{x(rho)}" cy="{y(value)}" r="5"/>')
        told = f"quoted: SWG ({quoted.paper('swg')['source']}), {number(value)} at rho = {rho:g}"
        legend.append(f'<span><i class="ring"></i>{escape(told)}</span>')
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(group.task.name)}: {name} against rho">'
    below = f'<figcaption class="legend">{"".join(legend)}</figcaption>'
    return "\n".join(["<figure>", head, *drawn, "</svg>", below, "</figure>", ""])


def _scale(values: list[float], start: float, end: float):
    """From a value to its place between start and end, to a tenth."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return lambda value: round(start + (end - start) * (value - low) / span, 1)


def _rulers(scales: list[float], marks: list[float], x, y, name: str) -> list[str]:
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
    """At most that many round numbers in [low, high], 1, 2 or 5 times a power of ten apart; of one value itself."""
    if low == high:
        return [float(f"{low:.3g}")]
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= most - 1)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
