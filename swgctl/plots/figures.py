"""How pictures look and are written: PNG or SVG, the numbers beside them as CSV, from the same input the same bytes."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from swgctl.console import say
from swgctl.errors import SwgError, UsageError
from swgctl.files import canonical, write_atomically
from swgctl.reports.rows import as_csv
from swgctl.store import Store

if TYPE_CHECKING:  # imported where a picture is drawn: it takes half a second
    from matplotlib.figure import Figure

Picture = tuple["Figure", list[dict]]  # what is drawn, and the numbers that it shows

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito's, for the colour-blind
MARKERS = "osD^vP"
GREY = "#6b7280"
STYLE = {
    "svg.hashsalt": "swgctl",
    "axes.prop_cycle": f"cycler('color', {COLOURS})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "grid.color": "#e5e7eb",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def tag(*what) -> str:
    """Eight characters that differ where what is drawn does, for the name of a picture of several things."""
    return hashlib.sha256(canonical(what).encode()).hexdigest()[:8]


def style(i: int) -> dict:
    """Colour and marker of line i: one of 36 pairs."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}


def styled():
    """While inside, figures are made in the house's style, whatever this user's settings are."""
    import matplotlib.style

    return matplotlib.style.context(["default", STYLE])


def save(figure: "Figure", path: Path, form: str) -> None:
    """form "png" or "svg": the same bytes each time."""
    meta = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(path, format=form, dpi=150, metadata=meta)


def publish(store: Store, name: str, out: str | None, draw: Callable[[], Picture]) -> Path:
    """Writes what is drawn to `out`, else into the store's plots/, its numbers beside it; returns the picture's path.

    Raises UsageError for a suffix that is neither .png nor .svg, SwgError for a file that cannot be written.
    """
    path = Path(out) if out else store.root / "plots" / f"{name}.png"
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"'{path}' is neither a .png nor a .svg", f"--out {path.stem}.png")
    with styled():
        figure, numbers = draw()
        beside = path.with_name(f"{path.name}.csv")  # a name that is nobody else's
        for file, write in (
            (beside, lambda draft: draft.write_text(as_csv(numbers))),
            (path, lambda draft: save(figure, draft, path.suffix[1:])),
        ):
            try:
                write_atomically(file, write)
            except OSError as error:
                raise SwgError(f"{file} cannot be written: {error.strerror}", "--out of another place") from None
    say(f"its numbers: {beside.absolute()}")
    return path.absolute()


def panels(count: int, columns: int, width: float = 4.2, height: float | list[float] = 3.0) -> tuple["Figure", list]:
    """A figure with as many axes, row by row; sizes of each in inches, `height` of all rows or of each."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = math.ceil(count / columns)
    heights = height if isinstance(height, list) else [height] * rows
    figure = Figure(figsize=(columns * width, sum(heights)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def short(value: float, _=None) -> str:
    """A tick's label: 1024, 200k, 1.5M."""
    size, unit = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e4 else (1, "")
    return f"{value / size:g}{unit}"
