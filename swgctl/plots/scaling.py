"""What `swgctl bench scaling` and `swgctl bench inference` measured, as --json has it."""

import json
import math
import sys
from pathlib import Path

from swgctl.errors import InputError
from swgctl.files import canonical
from swgctl.plots.figures import Picture, panels, publish, short, style, tag
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
TOLD = ("what", "mode", "guidance", "precision", "device")  # in a line's label, where they differ
COLUMNS = (
    *("what", "axis", "value", "steps_per_s", "seed_steps_per_s", "seconds_mean", "seconds_sd", "runs", "parameters"),
    *("mode", "guidance", "precision", "device"),
)


def scaling(store: Store, files: list[str], out: str | None) -> Path:
    """Draws what `swgctl bench scaling --json`, or `inference`, measured; it is in the files (`-`: standard input)."""
    rows = [row for file in files for row in read_measurements(file)]
    if not rows:
        raise InputError(f"nothing was measured in {', '.join(files)}", HELP)
    return publish(store, f"scaling-{tag(*rows)}", out, lambda: draw_scaling(rows))


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
            canonical(row)  # refuses what is not finite
            rates = [row["value"], row["steps_per_s"], row.get("seed_steps_per_s", row["steps_per_s"])]
            if timed(row):
                rates += [row["seconds_mean"], 1 + row["seconds_sd"]]
            named = isinstance(row["what"], str) and isinstance(row["axis"], str)
            if not (named and all(rate > 0 for rate in rates)):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(
                f"{file}, line {i}: not what, axis, value and steps_per_s of a measurement", HELP
            ) from None
        rows.append(row)
    return rows


def timed(row: dict) -> bool:
    """Whether it has the time of one action, and not only a rate."""
    return "seconds_mean" in row


def draw_scaling(rows: list[dict]) -> Picture:
    """A panel for each axis that was varied: steps a second, of the seeds those of all together; or, with a band of
    two standard deviations, the time of an action (SWG, Figures 4 and 5)."""
    shown = list(dict.fromkeys((row["axis"], timed(row)) for row in rows))
    figure, axes = panels(len(shown), 2)
    told = [name for name in TOLD if len({row.get(name) for row in rows}) > 1]

    def label(row: dict) -> str:
        return ", ".join(str(row[name]) for name in told or ["what"] if row.get(name))

    lines = list(dict.fromkeys(map(label, rows)))
    for place, (axis, of_time) in zip(axes, shown, strict=True):
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
            place.plot(x, y, label=name, **style(i))
            if of_time:
                band = [2e3 * row["seconds_sd"] for row in line]
                low, high = ([mean + sign * b for mean, b in zip(y, band, strict=True)] for sign in (-1, 1))
                place.fill_between(x, low, high, color=style(i)["color"], alpha=0.2, linewidth=0)
        if of_time:
            place.set_ylabel("ms / action, mean ± 2 sd")
        else:
            place.set_ylabel("seeds x steps / s" if axis == "seeds" else "steps / s")
        place.set(title=axis, xlabel=UNITS.get(axis, axis))
        place.legend(title=", ".join(told) or None, title_fontsize="small", alignment="left")
        _scale(place, axis, sorted({row["value"] for row in here}))
    return figure, [{name: row.get(name) for name in COLUMNS if any(name in row for row in rows)} for row in rows]


def _scale(place, axis: str, values: list[float]) -> None:
    """Logarithmic both ways; of depth neither, so that a line is straight where each layer adds the same."""
    from matplotlib.ticker import LogLocator, NullLocator

    if axis == "depth":
        place.set_xticks(values)
        place.set_ylim(bottom=0)
        return
    place.set(xscale="log", yscale="log")
    place.set_xticks(values, map(short, values))
    place.xaxis.set_minor_locator(NullLocator())
    low, high = place.get_ylim()
    room = max(1.0, (SPAN * low / high) ** 0.5)
    place.set_ylim(low / room, high * room)
    decades = math.log10(high / low * room**2)
    ticks = (1, 1.5, 2, 3, 5, 7) if decades < 1.5 else (1, 2, 5) if decades < 3 else (1,)
    place.yaxis.set_major_locator(LogLocator(subs=ticks))
    place.yaxis.set_major_formatter(short)
    place.yaxis.set_minor_locator(NullLocator())
