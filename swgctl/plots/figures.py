"""The style of pictures, and their files: PNG or SVG, with the numbers as CSV; equal input gives equal bytes."""

import contextlib
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swgctl.console import quoted, say
from swgctl.errors import InputError, SwgError, UsageError
from swgctl.files import canonical, write_atomically
from swgctl.reports.rows import as_csv
from swgctl.store import Artifact, Store

if TYPE_CHECKING:  # at run time imported by the function that draws: it takes half a second
    from matplotlib.figure import Figure

Picture = tuple["Figure", list[dict]]  # a figure, and the numbers that it shows

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


def named_or_only(store: Store, kind: str, ref: str | None, *stages: str) -> Artifact:
    """The artifact of a picture's REF; without one, that of these stages which this shell made last, else the only one.

    Raises InputError where that is not one artifact.
    """
    if ref is not None:
        return store.resolve(ref)
    only = store.only(f"plot {kind} ", *stages)
    if only is None:
        raise InputError(f"{store.root} has no {' or '.join(stages)} artifact", f"swgctl run TASK{store.option}")
    return only[0]


def tag(*content: Any) -> str:
    """A hash of a picture's content, eight characters, for the name of a picture of several things."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:8]


def style(i: int) -> dict:
    """Colour and marker of line i: one of 36 pairs."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]}


def styled() -> contextlib.AbstractContextManager:
    """Make figures in the style of this package, whatever the user's settings, within the block."""
    import matplotlib.style

    return matplotlib.style.context(["default", STYLE])


def save(figure: "Figure", path: Path, form: str) -> None:
    """Write a figure as "png" or "svg", with the same bytes each time."""
    meta = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(path, format=form, dpi=150, metadata=meta)


def publish(store: Store, name: str, out: str | None, draw: Callable[[], Picture]) -> Path:
    """Write a picture to `out`, else into the store's plots/, its numbers beside it; returns the picture's path.

    Raises UsageError for a suffix other than .png and .svg, SwgError where a file cannot be written.
    """
    path = store.root / "plots" / f"{name}.png" if out is None else Path(out)
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"'{out}' is neither a .png nor a .svg", f"--out {name}.png")
    with styled():
        figure, numbers = draw()
        beside = path.with_name(f"{path.name}.csv")  # no other picture's
        writers: dict[Path, Callable[[Path], object]] = {
            beside: lambda draft: draft.write_text(as_csv(numbers)),
            path: lambda draft: save(figure, draft, path.suffix[1:]),
        }
        for file, write in writers.items():
            try:
                write_atomically(file, write)
            except OSError as error:
                raise SwgError(
                    f"{file} cannot be written: {error.strerror}", f"add --out {quoted(path.name)}"
                ) from None
    say(f"its numbers: {beside.absolute()}")
    return path.absolute()


def panels(count: int, columns: int, width: float = 4.2, height: float | list[float] = 3.0) -> tuple["Figure", list]:
    """A figure and `count` axes, row by row; width and height of each in inches, `height` for all rows or for each."""
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = math.ceil(count / columns)
    heights = height if isinstance(height, list) else [height] * rows
    figure = Figure(figsize=(columns * width, sum(heights)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, list(axes[:count])


def short(value: float, _: object = None) -> str:
    """A tick's label: 1024, 200k, 1.5M."""
    size, unit = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e4 else (1, "")
    return f"{value / size:g}{unit}"
