"""Convergence of samplers with exact denoisers: distance of their samples from the target against steps."""

from pathlib import Path

from swgctl import console
from swgctl.diffusion import SAMPLERS, exact
from swgctl.errors import UsageError
from swgctl.plots.figures import GREY, Picture, panels, publish, short, style, tag
from swgctl.store import Store


def convergence(store: Store, beta: float, samples: int, seed: int, out: str | None) -> Path:
    """Draw the results of `diffusion.exact.convergence`, and print them as a table.  Raises UsageError."""
    if not 0 <= beta <= 100:
        raise UsageError(f"beta {beta:g} must lie in [0, 100]", "swgctl plot convergence --beta 3")

    def draw() -> Picture:
        rows = exact.convergence(beta, samples=samples, seed=seed)
        _print(rows, f"a ring of eight modes, beta = {beta:g}, {samples:,} samples of exact denoisers")
        return draw_convergence(rows)

    return publish(store, f"convergence-beta-{beta:g}-{tag(beta, samples, seed)}", out, draw)


def _print(rows: list[dict], title: str) -> None:
    names = [
        "schedule",
        "K",
        *(f"{what}, {sampler}" for what in ("TV", "distance") for sampler in SAMPLERS),
        "TV floor",
    ]
    cells: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        cells.setdefault((row["schedule"], row["K"]), []).append(row)
    lines = [
        [schedule, str(K)]
        + [f"{row[what]:.4f}" for what in ("total_variation", "distance") for row in line]
        + [f"{line[0]['floor']:.4f}"]
        for (schedule, K), line in cells.items()
    ]
    console.table(title, names, lines)


def draw_convergence(rows: list[dict]) -> Picture:
    """Total variation and distance from the modes against K, a column for each schedule."""
    from matplotlib.ticker import NullLocator

    schedules = list(dict.fromkeys(row["schedule"] for row in rows))
    steps = sorted({row["K"] for row in rows})
    measures = {"total_variation": "total variation over modes", "distance": "distance from modes, rms"}
    figure, axes = panels(2 * len(schedules), len(schedules))
    for panel, (what, schedule) in zip(axes, [(w, s) for w in measures for s in schedules], strict=True):
        shown = [row for row in rows if row["schedule"] == schedule]
        for i, sampler in enumerate(SAMPLERS):
            line = [row[what] for row in shown if row["sampler"] == sampler]
            panel.plot(steps, line, label=sampler, **style(i))
        if what == "total_variation":
            floor = [row["floor"] for row in shown if row["sampler"] == shown[0]["sampler"]]
            panel.plot(steps, floor, color=GREY, linestyle="--", label="exact draws")
            panel.set_title(f"{schedule} schedule")
            panel.legend()
        panel.set(xscale="log", xlabel="diffusion steps K", ylabel=measures[what])
        panel.set_ylim(bottom=0)
        panel.set_xticks(steps, map(short, steps))
        panel.xaxis.set_minor_locator(NullLocator())
    return figure, rows
