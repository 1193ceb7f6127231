"""What `swgctl bench scaling` and `swgctl bench inference` measured, as --json has it."""

import json
import sys
from pathlib import Path

from swgctl.errors import InputError
from swgctl.plots.figures import COLOURS, MARKERS, Picture, panels, publish, short
from swgctl.store import Store

HELP = "swgctl bench scaling --json > FILE"
SPAN = 8.0  # of the rates, at least: a log scale makes much of small differences
UNITS = {
    "batch": "rows a step",
    "width": "units of a layer",
    "seeds": "seeds trained as one",
    "rows": "rows of data",
    "depth": "hidden layers",
}


def scaling(store: Store, files: list[str], out: str | None) -> Path:
    """Draws what `swgctl bench scaling --json`, or `inference`, measured; it is in the files (`-`: standard input)."""
    rows = [row for file in files for row in read_measurements(file)]
    if not rows:
        raise InputError(f"nothing was measured in {', '.join(files)}", HELP)
    return publish(store, "scaling", out, lambda: draw_scaling(rows))


def read_measurements(file: str) -> list[dict]:
    """Their lines, each with what, axis, value and steps_per_s.  Raises InputError."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}", HELP
        ) from None
    rows = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rates = [row["value"], row["steps_per_s"], row.get("seed_steps_per_s", row["steps_per_s"])]
            if not (isinstance(row["what"], str) and isinstance(row["axis"], str) and all(rate > 0 for rate in rates)):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(
                f"{file}, line {i}: not what, axis, value and steps_per_s of a measurement", HELP
            ) from None
        rows.append(row)
    return rows


def draw_scaling(rows: list[dict]) -> Picture:
    """Steps a second against each axis that was varied, a panel for each; of the seeds, the steps of all together."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes_of = list(dict.fromkeys(row["axis"] for row in rows))
    figure, axes = panels(len(axes_of), 2)
    told = [name for name in ("what", "mode", "precision", "device") if len({row.get(name) for row in rows}) > 1]

    def label(row: dict) -> str:
        return ", ".join(str(row.get(name)) for name in told or ["what"])

    lines = list(dict.fromkeys(map(label, rows)))
    for place, axis in zip(axes, axes_of, strict=True):
        rate = "seed_steps_per_s" if axis == "seeds" else "steps_per_s"
        values = sorted({row["value"] for row in rows if row["axis"] == axis})
        for i, name in enumerate(lines):
            line = [row for row in rows if row["axis"] == axis and label(row) == name]
            points = sorted((row["value"], row.get(rate, row["steps_per_s"])) for row in line)
            if points:
                style = {"marker": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)]}
                place.plot(*zip(*points, strict=True), label=name, **style)
        place.set(xscale="log", yscale="log", xlabel=UNITS.get(axis, axis))
        place.set_ylabel("seeds x steps / s" if axis == "seeds" else "steps / s")
        place.set_xticks(values, map(short, values))
        place.xaxis.set_minor_locator(NullLocator())
        low, high = place.get_ylim()
        room = max(1.0, (SPAN * low / high) ** 0.5)
        place.set_ylim(low / room, high * room)
        place.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        place.yaxis.set_major_formatter(short)
        place.yaxis.set_minor_locator(NullLocator())
        place.set_title(axis)
        place.legend()
    names = ("what", "axis", "value", "steps_per_s", "seed_steps_per_s", "mode", "precision", "device")
    return figure, [{name: row.get(name) for name in names} for row in rows]
