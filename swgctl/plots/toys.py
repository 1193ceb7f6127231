"""The toy experiments: samples above the ground truth (SWG, Figures 2, 3 and 6)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.plots.figures import COLOURS, GREY, Picture, publish, tag
from swgctl.store import Artifact, Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_toys(samples: dict[str, dict]) -> "Figure":
    """Guided samples above, ground truth below for each density; a column for each beta (SWG, Figures 2, 3 and 6)."""
    from matplotlib.figure import Figure

    columns = len(next(iter(samples.values())))
    figure = Figure(figsize=(2 * columns, 4.2 * len(samples)), layout="constrained")
    axes = figure.subplots(2 * len(samples), columns, squeeze=False)
    for i, (name, by_beta) in enumerate(samples.items()):
        for row, kind, colour in ((2 * i, "guided", COLOURS[0]), (2 * i + 1, "truth", GREY)):
            axes[row, 0].set_ylabel(f"{name}, {'samples' if kind == 'guided' else kind}")
            for panel, (beta, arrays) in zip(axes[row], by_beta.items(), strict=True):
                panel.scatter(*np.asarray(arrays[kind])[0, :2000].T, s=1.2, linewidths=0, color=colour)
                panel.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), xticks=[], yticks=[], aspect="equal")
                panel.spines[:].set_visible(True)
                if kind == "guided":
                    panel.set_title(f"$\\beta$ = {beta:g}", loc="center")
    return figure


def all_toys(store: Store, artifacts: list[Artifact]) -> Path:
    """Draw the densities of several toy artifacts in one picture, their distances beside it; returns its path."""
    name = f"toys-{tag(*(artifact.key for artifact in artifacts))}"
    return publish(store, name, None, lambda: _draw_all(artifacts))


def _draw_all(artifacts: list[Artifact]) -> Picture:
    import h5py

    samples, cells = {}, []
    for artifact in artifacts:
        with h5py.File(artifact.file("samples.hdf5")) as file:
            groups = sorted((float(name.removeprefix("beta=")), group) for name, group in file.items())
            samples[artifact.task] = {
                beta: {kind: group[kind][:1] for kind in ("guided", "truth")} for beta, group in groups
            }
        cells += [{"density": artifact.task, **cell} for cell in artifact.meta["metrics"]["cells"]]
    names = list(dict.fromkeys(name for cell in cells for name in cell))
    return draw_toys(samples), [{name: cell.get(name) for name in names} for cell in cells]
