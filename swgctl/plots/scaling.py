"""Pictures of speed, from the measurements of `swgctl bench scaling --json` and `swgctl bench inference --json`."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.errors import InputError
from swgctl.files import canonical
from swgctl.plots.figures import Picture, panels, publish, short, style, tag
from swgctl.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELP = "swgctl bench scaling --json > FILE"
MOST = 16_000_000  # characters of a file
SPAN = 8.0  # least ratio of an axis of rates: a log scale exaggerates small differences
UNITS = {
    "batch": "rows a step",
    "width": "units of a layer",
    "seeds": "seeds trained as one",
    "rows": "rows of data",
    "depth": "hidden layers",
}
LABELS = ("what", "mode", "guidance", "precision", "device")  # in a line's label, where they differ
COLUMNS = (
    *("what", "axis", "value", "steps_per_s", "seed_steps_per_s", "seconds_mean", "seconds_sd", "runs", "parameters"),
    *("mode", "guidance", "precision", "device"),
)


def scaling(store: Store, files: list[str], out: str | None) -> Path:
    """Draw the measurements in files (`-`: standard input) of `swgctl bench scaling --json`, or `inference`."""
    rows = [row for file in files for row in read_measurements(file)]
    if not rows:
        raise InputError(f"{', '.join(files)}: no measurements", HELP)
    return publish(store, f"scaling-{tag(*rows)}", out, lambda: draw_scaling(rows))


def read_measurements(file: str) -> list[dict]:
    """The rows of a file, each with at least what, axis, value and steps_per_s.  Raises InputError."""
    try:
        if file == "-":
            text = sys.stdin.read(MOST + 1)
        else:
            with open(file, encoding="utf-8") as lines:
                text = lines.read(MOST + 1)
        if len(text) > MOST:
            raise InputError(f"{file} has more than {MOST:,} characters", HELP)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}", HELP
        ) from None
    rows = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            canonical(row)  # raises ValueError for a number that is not finite
            rates = [row["value"], row["steps_per_s"], row.get("seed_steps_per_s", row["steps_per_s"])]
            if timed(row):
                rates += [row["seconds_mean"], 1 + row["seconds_sd"]]
            named = isinstance(row["what"], str) and isinstance(row["axis"], str)
            if not (named and all(rate > 0 for rate in rates)):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(
                f"{file}, line {i}: not a measurement, with what, axis, value and steps_per_s", HELP
            ) from None
        rows.append(row)
    return rows


def timed(row: dict) -> bool:
    """Tell rows with the time of one action from those with a rate alone."""
    return "seconds_mean" in row


def draw_scaling(rows: list[dict]) -> Picture:
    """A panel for each axis that was varied: steps a second, those of all seeds together on the axis `seeds`; or the
    time of an action, with a band of two standard deviations (SWG, Figures 4 and 5)."""
    shown = list(dict.fromkeys((row["axis"], timed(row)) for row in rows))
    figure, axes = panels(len(shown), 2)
    varied = [name for name in LABELS if len({row.get(name) for row in rows}) > 1]

    def label(row: dict) -> str:
        return ", ".join(str(row[name]) for name in varied or ["what"] if row.get(name))

    lines = list(dict.fromkeys(map(label, rows)))
    for panel, (axis, of_time) in zip(axes, shown, strict=True):
        here = sorted(
            (row for row in rows if (row["axis"], timed(row)) == (axis, of_time)), key=lambda row: row["value"]
        )
        rate = "seed_steps_per_s" if axis == "seeds" else "steps_per_s"
        for i, name in enumerate(lines):
            line = [row for row in here if label(row) == name]
            if not line:
                continue
            x = [row["value"] for row in line]
            y = [1e3 * row["seconds_mean"] if of_time else row.get(rate, row["steps_per_s"]) for row in line]
            panel.plot(x, y, label=name, **style(i))
            if of_time:
                band = [2e3 * row["seconds_sd"] for row in line]
                low, high = ([mean + sign * b for mean, b in zip(y, band, strict=True)] for sign in (-1, 1))
                panel.fill_between(x, low, high, color=style(i)["color"], alpha=0.2, linewidth=0)
        if of_time:
            panel.set_ylabel("ms / action, mean ± 2 sd")
        else:
            panel.set_ylabel("seeds x steps / s" if axis == "seeds" else "steps / s")
        panel.set(title=axis, xlabel=UNITS.get(axis, axis))
        panel.legend(title=", ".join(varied) or None, title_fontsize="small", alignment="left")
        _scale(panel, axis, sorted({row["value"] for row in here}))
    return figure, [{name: row.get(name) for name in COLUMNS if any(name in row for row in rows)} for row in rows]


def _scale(panel: "Axes", axis: str, values: list[float]) -> None:
    """Set both scales: logarithmic, but linear for depth, where a constant cost a layer makes a straight line."""
    from matplotlib.ticker import LogLocator, NullLocator

    if axis == "depth":
        panel.set_xticks(values)
        panel.set_ylim(bottom=0)
        return
    panel.set(xscale="log", yscale="log")
    panel.set_xticks(values, map(short, values))
    panel.xaxis.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    room = max(1.0, (SPAN * low / high) ** 0.5)
    panel.set_ylim(low / room, high * room)
    decades = math.log10(high / low * room**2)
    ticks = (1, 1.5, 2, 3, 5, 7) if decades < 1.5 else (1, 2, 5) if decades < 3 else (1,)
    panel.yaxis.set_major_locator(LogLocator(subs=ticks))
    panel.yaxis.set_major_formatter(short)
    panel.yaxis.set_minor_locator(NullLocator())
