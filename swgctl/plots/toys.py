"""The toy experiments: samples above the ground truth (SWG, Figures 2, 3 and 6)."""

from pathlib import Path

import numpy as np

from swgctl.store import Artifact


def plot_toys(samples: dict[str, dict], path: Path) -> None:
    """For each density guided samples above and ground truth below, a column for each beta (Figures 2, 3 and 6)."""
    from matplotlib.figure import Figure

    columns = len(next(iter(samples.values())))
    size = {"figsize": (2 * columns, 4.2 * len(samples)), "layout": "constrained"}
    figure = Figure(**size)
    axes = figure.subplots(2 * len(samples), columns, squeeze=False)
    for i, (name, by_beta) in enumerate(samples.items()):
        for row, kind, colour in ((2 * i, "guided", "#1f77b4"), (2 * i + 1, "truth", "#555555")):
            axes[row, 0].set_ylabel(f"{name}, {'samples' if kind == 'guided' else kind}")
            for place, (beta, arrays) in zip(axes[row], by_beta.items(), strict=True):
                place.scatter(*np.asarray(arrays[kind])[0, :2000].T, s=1.2, linewidths=0, color=colour)
                place.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), xticks=[], yticks=[], aspect="equal")
                if kind == "guided":
                    place.set_title(f"$\\beta$ = {beta:g}")
    figure.savefig(path, dpi=120)


def plot_all_toys(artifacts: list[Artifact]) -> Path:
    """The densities of several toy artifacts in one picture, in the store; returns its path."""
    import h5py

    samples = {}
    for artifact in artifacts:
        with h5py.File(artifact.file("samples.hdf5")) as file:
            groups = sorted((float(name.removeprefix("beta=")), group) for name, group in file.items())
            samples[artifact.task] = {
                beta: {kind: group[kind][:1] for kind in ("guided", "truth")} for beta, group in groups
            }
    path = artifacts[0].path.parents[3] / "plots" / "toys.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    plot_toys(samples, path)
    return path
