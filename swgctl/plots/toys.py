"""The toy experiments: samples above the ground truth (SWG, Figures 2, 3 and 6)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config.method import method_named
from swgctl.plots.figures import COLOURS, GREY, Picture, publish, tag
from swgctl.store import Artifact, Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_toys(samples: dict[str, dict[str, dict]]) -> "Figure":
    """Guided samples above, ground truth below for each density; a column for each beta (SWG, Figures 2, 3 and 6).

    samples  density -> label -> beta -> {"guided", "truth"}: a row for each label, and one truth for all
    """
    from matplotlib.figure import Figure

    rows = [
        (f"{density}, {label}", kind, by_beta, colour)
        for density, by_label in samples.items()
        for label, kind, by_beta, colour in (
            *((label, "guided", by_beta, COLOURS[0]) for label, by_beta in by_label.items()),
            ("truth", "truth", next(iter(by_label.values())), GREY),
        )
    ]
    columns = len(rows[0][2])
    figure = Figure(figsize=(2 * columns, 2.1 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, kind, by_beta, colour) in zip(panels, rows, strict=True):
        axes[0].set_ylabel(name)
        for panel, (beta, arrays) in zip(axes, by_beta.items(), strict=True):
            panel.scatter(*np.asarray(arrays[kind])[0, :2000].T, s=1.2, linewidths=0, color=colour)
            panel.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), xticks=[], yticks=[], aspect="equal")
            panel.spines[:].set_visible(True)
            if kind == "guided":
                panel.set_title(f"$\\beta$ = {beta:g}", loc="center")
    return figure


def all_toys(store: Store, artifacts: list[Artifact]) -> Path:
    """Draw toys of several densities or methods in one picture, their distances beside it; returns its path."""
    name = f"toys-{tag(*(artifact.key for artifact in artifacts))}"
    return publish(store, name, None, lambda: _draw_all(artifacts))


def _draw_all(artifacts: list[Artifact]) -> Picture:
    import h5py

    labels = {artifact.key: method_named(artifact.params.get("method", "swg")).label for artifact in artifacts}
    samples: dict[str, dict[str, dict]] = {}
    cells = []
    for artifact in artifacts:
        label = labels[artifact.key] if len(set(labels.values())) > 1 else "samples"
        with artifact.reading("samples.hdf5") as path, h5py.File(path) as file:
            groups = sorted((float(name.removeprefix("beta=")), group) for name, group in file.items())
            samples.setdefault(artifact.task, {})[label] = {
                beta: {kind: group[kind][:1] for kind in ("guided", "truth")} for beta, group in groups
            }
        about = {"density": artifact.task, "guidance": labels[artifact.key]}
        cells += [about | cell for cell in artifact.meta["metrics"]["cells"]]
    names = list(dict.fromkeys(name for cell in cells for name in cell))
    return draw_toys(samples), [{name: cell.get(name) for name in names} for cell in cells]
