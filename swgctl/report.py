"""Tables, intervals, plots."""

from pathlib import Path

import numpy as np

from swgctl import console
from swgctl.errors import InputError, UsageError
from swgctl.store import Artifact, Store
from swgctl.tasks import Task, normalized_score

RESAMPLES = 10_000


def interval(groups: list[np.ndarray]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean: over groups (seeds), or within the only one (episodes)."""
    values = np.array([g.mean() for g in groups]) if len(groups) > 1 else groups[0]
    picks = np.random.Generator(np.random.PCG64(0)).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return float(low), float(high)


def ancestor(artifact: Artifact, stage: str) -> Artifact | None:
    """The artifact of that stage that another was made from; None where it is not in the store."""
    try:
        return artifact.ancestors().get(stage)
    except InputError:
        return None


def add_scores(episodes: list[dict], task: Task) -> None:
    """Adds D4RL's normalised score to each row, None where the task has no references."""
    for row in episodes:
        row["score"] = normalized_score(task, row["return"])


def cells(episodes: list[dict], sampler: str, temperature: float) -> list[dict]:
    """One entry for each (rho, candidates), in the order of the table."""
    found = []
    for rho, m in dict.fromkeys((row["rho"], row["candidates"]) for row in episodes):
        rows = [row for row in episodes if (row["rho"], row["candidates"]) == (rho, m)]
        seeds = list(dict.fromkeys(row["seed"] for row in rows))
        cell = {
            "rho": rho,
            "candidates": m,
            "sampler": sampler,
            "temperature": temperature,
            "episodes": len(rows) // len(seeds),
            "seeds": len(seeds),
            "interval_over": "seeds" if len(seeds) > 1 else "episodes",
            "clamped_share": float(np.mean([row["clamped"] for row in rows])),
        }
        for name in ("return", "score"):
            groups = [np.array([r[name] for r in rows if r["seed"] == seed]) for seed in seeds]
            missing = rows[0][name] is None
            cell[f"{name}_mean"] = None if missing else float(np.mean([g.mean() for g in groups]))
            cell[f"{name}_ci95"] = None if missing else list(interval(groups))
        found.append(cell)
    return found


def label(cell: dict) -> str:
    if cell["rho"] == 0:
        return "behaviour model" + (", resampled" if cell["candidates"] > 1 else "")
    return "SWG-R" if cell["candidates"] > 1 else "SWG"


def print_evaluation(evaluation: Artifact, critic: Artifact | None) -> None:
    """The table that an evaluation ends with, on stderr: every cell, never the best one alone."""
    task = Task.from_json(evaluation.meta["task"])
    rows = []
    if critic:
        data = critic.meta["metrics"]["data"]
        for name, value in (("data, mean episode", "return_mean"), ("data, best episode", "return_best")):
            rows.append([name, "", "", f"{data[value]:,.0f}", "", *_score(normalized_score(task, data[value]), None)])
    found = evaluation.meta["metrics"]["cells"]
    for cell in found:
        low, high = cell["return_ci95"]
        rows.append(
            [
                label(cell),
                f"{cell['rho']:g}",
                str(cell["candidates"]),
                f"{cell['return_mean']:,.0f}",
                f"[{low:,.0f}, {high:,.0f}]",
                *_score(cell["score_mean"], cell["score_ci95"]),
            ]
        )
    cell = found[0]
    title = (
        f"{task.name} in {task.environment}: {cell['seeds']} seed(s) x {cell['episodes']} episodes, "
        f"intervals over the {cell['interval_over']}"
    )
    columns = ["policy", "rho", "M", "return", "95 %", "score", "95 %"]
    shown = len(columns) if task.references else columns.index("score")
    console.table(title, columns[:shown], [row[:shown] for row in rows])


def print_result(artifact: Artifact) -> None:
    """What a stage has to say to people beside its artifact's path."""
    if artifact.stage == "eval":
        print_evaluation(artifact, ancestor(artifact, "critic"))
    elif artifact.stage == "toy":
        print_toy(artifact)


def print_toy(artifact: Artifact) -> None:
    """Each distance beside its floor, for people."""
    rows = []
    cells = artifact.meta["metrics"]["cells"]
    modes = "total_variation" in cells[0]
    for cell in cells:
        row = [f"{cell['beta']:g}", cell["method"]]
        row += [f"{cell['sliced_wasserstein']:.4f}", f"{cell['floor']:.4f}", f"{cell['ratio']:.2f}"]
        row += [f"{cell['energy_distance']:.5f}", f"{cell['energy_floor']:.5f}"]
        row += [f"{cell['total_variation']:.4f}", f"{cell['total_variation_floor']:.4f}"] if modes else []
        rows.append(row)
    columns = ["beta", "samples", "sliced W1", "floor", "ratio", "energy distance", "floor"]
    console.table(f"{artifact.task}: distance from the ground truth", columns + ["modes' TV", "floor"] * modes, rows)


def _score(mean: float | None, bounds: list[float] | None) -> list[str]:
    if mean is None:
        return ["", ""]
    return [f"{mean:.1f}", f"[{bounds[0]:.1f}, {bounds[1]:.1f}]" if bounds else ""]


# -- plots -------------------------------------------------------------------------------------------------------------


def plot(store: Store, kind: str, stage: str, ref: str | None, out: Path | None) -> Path:
    """Draws a picture of an artifact, or of its ancestor of that stage; returns the picture's path.

    ref  None: the artifact of that stage that this shell made last.
    """
    artifact = store.resolve(ref) if ref else store.current(stage)
    if artifact is None:
        raise InputError(f"this shell has made no {stage} artifact", f"swgctl plot {kind} REF")
    found = ancestor(artifact, stage)
    if found is None:
        raise InputError(
            f"{artifact.id} is a {artifact.stage} artifact, made from no {stage}",
            f"swgctl ls --stage {stage}",
        )
    path = out or store.root / "plots" / f"{kind}-{found.task}-{found.id}.png"
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"'{path}' is neither a .png nor a .svg", f"--out {path.stem}.png")
    draw = {"rho": plot_rho, "weights": plot_weights}[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(found, path)
    return path.absolute()


def plot_rho(evaluation: Artifact, path: Path) -> None:
    """Return (and score, where there is one) against the guidance scale, a line for each number of candidates."""
    plt = _pyplot()
    found = evaluation.meta["metrics"]["cells"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for i, m in enumerate(sorted({cell["candidates"] for cell in found})):
        line = sorted((cell for cell in found if cell["candidates"] == m), key=lambda cell: cell["rho"])
        rho = [cell["rho"] for cell in line]
        low, high = zip(*(cell["return_ci95"] for cell in line), strict=True)
        name = "SWG, M = 1" if m == 1 else f"SWG-R, M = {m}"
        axes.plot(rho, [cell["return_mean"] for cell in line], marker="o", color=f"C{i}", label=name)
        axes.fill_between(rho, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
    critic = ancestor(evaluation, "critic")
    if critic:
        data = critic.meta["metrics"]["data"]
        axes.axhline(data["return_mean"], color="0.5", linestyle=":", label="data, mean episode")
        axes.axhline(data["return_best"], color="0.5", linestyle="--", label="data, best episode")
    over = found[0]["interval_over"]
    axes.set(
        xlabel=r"guidance scale $\rho$",
        ylabel="return",
        title=f"{evaluation.task}: mean and 95 % interval over {over}",
    )
    if task_references := evaluation.meta["task"]["references"]:
        random, expert = task_references
        axes.secondary_yaxis(
            "right",
            functions=(
                lambda r: 100 * (r - random) / (expert - random),
                lambda s: random + s * (expert - random) / 100,
            ),
        ).set_ylabel("normalised score")
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_weights(augmented: Artifact, path: Path) -> None:
    """Histogram of the weights, a line for each seed."""
    import h5py

    plt = _pyplot()
    with h5py.File(augmented.file("data.hdf5")) as file:
        weights = file["weights"][()]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    low, high = np.quantile(weights, [0, 1])
    edges = np.linspace(low, high if high > low else low + 1, 61)
    for seed, row in zip(augmented.seeds, weights, strict=True):
        share = np.histogram(row, edges)[0] / row.size
        axes.stairs(share, edges, label=f"seed {seed}", fill=False)
    metrics = augmented.meta["metrics"]
    axes.axvline(metrics["mean"], color="0.5", linestyle=":", label="mean")
    axes.set(
        xlabel="weight w(s, a)",
        ylabel="share of rows",
        title=f"{augmented.task}: {augmented.params['weight']}, effective sample size {metrics['ess']:.1%}",
    )
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_toys(samples: dict[str, dict], path: Path) -> None:
    """For each density guided samples above and ground truth below, a column for each beta (Figures 2, 3 and 6)."""
    plt = _pyplot()
    columns = len(next(iter(samples.values())))
    size = {"figsize": (2 * columns, 4.2 * len(samples)), "layout": "constrained"}
    figure, axes = plt.subplots(2 * len(samples), columns, squeeze=False, **size)
    for i, (name, by_beta) in enumerate(samples.items()):
        for row, kind, colour in ((2 * i, "guided", "#1f77b4"), (2 * i + 1, "truth", "#555555")):
            axes[row, 0].set_ylabel(f"{name}, {'samples' if kind == 'guided' else kind}")
            for place, (beta, arrays) in zip(axes[row], by_beta.items(), strict=True):
                place.scatter(*np.asarray(arrays[kind])[0, :2000].T, s=1.2, linewidths=0, color=colour)
                place.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), xticks=[], yticks=[], aspect="equal")
                if kind == "guided":
                    place.set_title(f"$\\beta$ = {beta:g}")
    figure.savefig(path, dpi=120)
    plt.close(figure)


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


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
