"""Pictures of one artifact: its scores, its weights, its training, its posterior variances."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config import a, stages
from swgctl.console import shown
from swgctl.errors import InputError
from swgctl.evaluation.scores import PLACE, axis
from swgctl.plots.figures import COLOURS, GREY, Picture, named_or_only, panels, publish, short, style, tag
from swgctl.reports.results import ancestor
from swgctl.store import Artifact, Store
from swgctl.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = "metrics.jsonl"
DATA = "data"  # its lines stand last in a legend
MOST_COLUMNS = 100  # of numbers a seed in metrics.jsonl: each is a panel
TRAINED = ["diffuse", "behaviour", "guide", "critic", "toy", "trajectories", "dynamics", "agent"]
KINDS: dict[str, list[str]] = {
    "rho": ["eval"],
    "weights": ["augment", "guide"],
    "training": TRAINED,
    "posterior": ["guide"],
}  # stages that have it


def plot(store: Store, kind: str, ref: str | None, out: str | None) -> Path:
    """Draw a picture of an artifact, or of an ancestor of it; returns the picture's path.

    kind  "weights" for an augmented data set, "training" for any trained model, "posterior" for a guide of AEPO
    ref   None: the artifact that this shell made last, else the only one
    """
    draw = {"weights": draw_weights, "training": draw_training, "posterior": draw_posterior}[kind]
    shown = _shown(store, kind, ref)
    return publish(store, f"{kind}-{shown.task}-{shown.id}", out, lambda: draw(shown))


def rho(store: Store, refs: Sequence[str], out: str | None) -> Path:
    """Draw returns against the guidance scale, a panel for each evaluation; returns the picture's path.

    refs  none: the evaluation that this shell made last, else the only one
    """
    shown = [_shown(store, "rho", ref) for ref in refs or (None,)]
    name = f"{shown[0].task}-{shown[0].id}" if len(shown) == 1 else tag([one.key for one in shown])
    return publish(store, f"rho-{name}", out, lambda: draw_rho(*shown))


def _shown(store: Store, kind: str, ref: str | None) -> Artifact:
    """The artifact that a picture shows: that of the REF or an ancestor of it."""
    fit = KINDS[kind]
    artifact = named_or_only(store, kind, ref, *fit)
    ancestors = (ancestor(artifact, stage) for stage in fit)
    shown = artifact if artifact.stage in fit else next(filter(None, ancestors), None)
    if shown is None:
        raise InputError(f"{artifact.id} is {a(artifact.stage)}, made from no {fit[0]}", f"swgctl ls --stage {fit[0]}")
    return artifact if kind == "training" else shown  # a training picture includes all ancestors


def draw_rho(*evaluations: Artifact) -> Picture:
    """Return (and normalised score, where the task has references), or successes of a task of success, against the
    guidance scale: a panel for each evaluation, a line for each temperature and number of candidates."""
    for evaluation in evaluations:
        if evaluation.meta["metrics"]["cells"][0]["rho"] is None:
            raise InputError(
                f"{evaluation.id} is an evaluation of an agent, which has no guidance scale",
                f"swgctl plot compare {evaluation.id}",
            )
    cells = [evaluation.meta["metrics"]["cells"] for evaluation in evaluations]
    lines = sorted({(cell["temperature"], cell["candidates"]) for cell in chain(*cells)})
    figure, axes = panels(len(evaluations), 3, *((6, 4) if len(evaluations) == 1 else ()))
    for panel, evaluation in zip(axes, evaluations, strict=True):
        _draw_rho(panel, evaluation, {line: style(i) for i, line in enumerate(lines)})
    labelled = {label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = sorted(labelled, key=lambda label: label.startswith(DATA))
    figure.legend([labelled[label] for label in labels], labels, loc="outside lower left", ncols=4)
    names = (*PLACE, "return_mean", "return_ci95", "score_mean", "score_ci95", "interval_over", "seeds", "episodes")
    numbers = [
        {"task": evaluation.task} | {name: cell[name] for name in names}
        for evaluation, table in zip(evaluations, cells, strict=True)
        for cell in table
    ]
    return figure, numbers


def _draw_rho(axes: "Axes", evaluation: Artifact, looks: dict[tuple[float, int], dict]) -> None:
    """One evaluation's panel; `looks` are the colours and markers by temperature and number of candidates."""
    cells, task = evaluation.meta["metrics"]["cells"], Task.from_json(evaluation.meta["task"])
    measure = "score" if task.score == "success" else "return"
    for (t, m), look in looks.items():
        line = [cell for cell in cells if (cell["temperature"], cell["candidates"]) == (t, m)]
        if not line:
            continue
        line.sort(key=lambda cell: cell["rho"])
        rho = [cell["rho"] for cell in line]
        low, high = zip(*(cell[f"{measure}_ci95"] for cell in line), strict=True)
        axes.plot(rho, [cell[f"{measure}_mean"] for cell in line], **look, label=f"M = {m}, T = {t:g}")
        axes.fill_between(rho, low, high, color=look["color"], alpha=0.18, linewidth=0)
    if (critic := ancestor(evaluation, "critic")) and measure == "return":
        data = critic.meta["metrics"]["data"]
        axes.axhline(data["return_mean"], color=GREY, linewidth=1.2, linestyle=":", label=f"{DATA}, mean episode")
        axes.axhline(data["return_best"], color=GREY, linewidth=1.2, linestyle="--", label=f"{DATA}, best episode")
    axes.set(xlabel=r"guidance scale $\rho$", ylabel=axis(measure, task))
    axes.set_title(f"{evaluation.task}\nmean and 95 % interval over {cells[0]['interval_over']}")
    axes.yaxis.set_major_formatter("{x:,.6g}")
    if len(scales := {cell["rho"] for cell in cells}) <= 12:
        axes.set_xticks(sorted(scales), [f"{rho:g}" for rho in sorted(scales)])
    if task.references and measure == "return":
        random, expert = task.references
        to_score = (lambda r: 100 * (r - random) / (expert - random), lambda s: random + s * (expert - random) / 100)
        axes.secondary_yaxis("right", functions=to_score).set_ylabel(axis("score", task))


def draw_weights(artifact: Artifact) -> Picture:
    """Histogram of the weights, a line for each seed; of the candidates' beside them, dashed, where there are any.  A
    calibration (a guide) also has r_k, by step: how much the policy knows of its weight.

    Raises InputError for a guide that descends from no augmented data set.
    """
    import h5py

    augmented = artifact if artifact.stage == "augment" else ancestor(artifact, "augment")
    if augmented is None:
        raise InputError(f"{artifact.id} is {a('guide')}, made from no augment", "swgctl ls --stage augment")
    calibrated = "calibration" in artifact.meta["metrics"]
    with augmented.reading("data.hdf5") as path, h5py.File(path) as file:
        weights = file["weights"][()]
        several = {"data": weights}
        if "candidates" in file:
            several["candidates"] = file["candidates/weights"][()].reshape(len(weights), -1)
        if weights.ndim != 2 or len(weights) != len(augmented.seeds) or not np.isfinite(weights).all():
            raise ValueError("its weights are not a finite row for each seed")
    figure, grid = panels(1 + calibrated, 2, 6, 4)
    axes = grid[0]
    low, high = (bound(list(map(bound, several.values()))) for bound in (np.min, np.max))
    edges = np.linspace(low, high if high > low else low + 1, 61)
    numbers = []
    for of, members in several.items():
        dash, more = ("-", "") if of == "data" else ("--", f", {of}")
        for i, (seed, row) in enumerate(zip(augmented.seeds, members, strict=True)):
            share = np.histogram(row, edges)[0] / row.size
            look = {"color": style(i)["color"], "linestyle": dash, "linewidth": 1.5}
            axes.stairs(share, edges, label=f"seed {seed}{more}", fill=False, **look)
            bars = zip(edges[:-1].tolist(), edges[1:].tolist(), share.tolist(), strict=True)
            numbers += [{"seed": seed, "from": a, "to": b, "share": value, "of": of} for a, b, value in bars]
    metrics = augmented.meta["metrics"]
    axes.axvline(metrics["mean"], color=GREY, linewidth=1.2, linestyle=":", label="mean")
    axes.set(xlabel="weight w(s, a)", ylabel="share of rows")
    subtitle = f"{augmented.params['weight']} weights, effective sample size {metrics['ess']:.1%}"
    axes.set_title(f"{augmented.task}\n{subtitle}")
    axes.legend(ncols=1 + len(weights) // 8)
    if calibrated:
        numbers = [row | {"k": None, "slope": None} for row in numbers] + _draw_calibration(grid[1], artifact)
    return figure, numbers


def _draw_calibration(axes: "Axes", guide: Artifact) -> list[dict]:
    """The slopes r_k of a calibration by step, a line for each seed; returns their numbers."""
    from swgctl.policies.loading import load_calibration

    slopes = load_calibration(guide)[1].tolist()
    for i, (seed, slope) in enumerate(zip(guide.seeds, slopes, strict=True)):
        axes.plot(slope, **style(i), label=f"seed {seed}")
    axes.axhline(1, color=GREY, linewidth=1.2, linestyle=":", label="exact")
    axes.set(xlabel="diffusion step k", ylabel=r"slope $r_k$ of $w$ on $\hat w(z_k)$")
    axes.set_title("what the policy knows of its weight")
    axes.legend()
    bar = dict.fromkeys(("from", "to", "share"))
    return [
        {"seed": seed} | bar | {"of": "calibration", "k": k, "slope": value}
        for seed, slope in zip(guide.seeds, slopes, strict=True)
        for k, value in enumerate(slope)
    ]


def draw_training(artifact: Artifact) -> Picture:
    """Training metrics against steps, a panel for each: mean over the seeds, and the range that they span.

    An artifact that was not trained itself, such as an evaluation, shows the training of its ancestors.
    Raises CorruptError where none of them has a log of it.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    lineage = [artifact] if METRICS in artifact.meta["files"] else artifact.ancestors().values()
    order = list(stages())
    trained = sorted((one for one in lineage if METRICS in one.meta["files"]), key=lambda one: order.index(one.stage))
    logs = {one: _columns(one) for one in trained or [artifact]}
    names = {one: [name for name in columns if name != "step"] for one, columns in logs.items()}
    columns = max(map(len, names.values()))
    figure, grid = panels(columns * len(logs), columns, 3.1, 2.6)
    panel, numbers = iter(grid), []
    for i, (one, table) in enumerate(logs.items()):
        steps = table["step"].tolist()
        for j in range(columns):
            axes = next(panel)
            if j >= len(names[one]):
                axes.set_axis_off()
                continue
            name = names[one][j]
            values = table[name]
            axes.plot(steps, values.mean(1), color=COLOURS[i], linewidth=1.2)
            axes.fill_between(steps, values.min(1), values.max(1), color=COLOURS[i], alpha=0.18, linewidth=0)
            if "loss" in name and values.min() > 0:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(short)
                axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(shown(f"{one.stage}: {name}"), parse_math=False)
            axes.set_xlabel("gradient steps")
            axes.xaxis.set_major_formatter(short)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            for step, row in zip(steps, values.tolist(), strict=True):
                by_seed = zip(one.seeds, row, strict=True)
                numbers += [{"stage": one.stage, "name": name, "step": step, "seed": s, "value": v} for s, v in by_seed]
    over = f", mean and range of {len(artifact.seeds)} seeds" if len(artifact.seeds) > 1 else ""
    figure.suptitle(f"{artifact.task}{over}", x=0.01, ha="left", fontsize="large")
    return figure, numbers


def _columns(trained: Artifact) -> dict[str, np.ndarray]:
    """The columns of metrics.jsonl by name: `step` (N,), and (N, S) for each that has a value a seed.

    Raises CorruptError.
    """
    with trained.reading(METRICS) as path:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        names = [name for name, value in rows[0].items() if isinstance(value, list)]
        columns = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
        if not columns or any(column.shape != (len(rows), len(trained.seeds)) for column in columns.values()):
            raise ValueError("its rows have no column of a number a seed")
        if len(columns) > MOST_COLUMNS or any(np.isinf(column).any() for column in columns.values()):
            raise ValueError(f"its rows have an infinite number, or more than {MOST_COLUMNS} columns")
        return {"step": np.array([row["step"] for row in rows], dtype=int)} | columns


def draw_posterior(guide: Artifact) -> Picture:
    """The posterior variance of the action against the diffusion step: the three estimates (AEPO, equations 22, 24 and
    42) and the one in use, clipped; means over the seeds, and the range that they span.

    Raises InputError for a guide of another method.
    """
    from swgctl.files import load_tensors

    if guide.params["method"] != "aepo":
        raise InputError(
            f"{guide.id} guides by {guide.params['method']}, which has no posterior variance", "swgctl guide aepo"
        )
    with guide.reading("energy.safetensors") as path:
        tensors = load_tensors(path)
        estimates, used = tensors["posterior"].numpy(), tensors["variance"].numpy()  # (S, 3, K), (S, K)
        if used.shape[0] != len(guide.seeds) or estimates.shape != (used.shape[0], 3, used.shape[1]):
            raise ValueError("its variances are not those of its seeds")
    steps = np.arange(used.shape[1])
    figure, (axes,) = panels(1, 1, 6, 4)
    for i, equation in enumerate((22, 24, 42)):
        values = estimates[:, i]
        axes.plot(steps, values.mean(0), **style(i), label=f"posterior {i + 1}, equation {equation}")
        axes.fill_between(steps, values.min(0), values.max(0), color=style(i)["color"], alpha=0.18, linewidth=0)
    label = f"in use: posterior {guide.params['posterior']}, clipped"
    axes.plot(steps, used.mean(0), color="black", linestyle="--", linewidth=1.2, label=label)
    axes.set_yscale("symlog", linthresh=0.1)  # far estimates are negative, or tens of times too large
    axes.set(xlabel="diffusion step k", ylabel="variance of $a_0$ given $a_k$, a coordinate")
    axes.set_title(f"{guide.task}\nposterior variance by AEPO's three estimates")
    figure.legend(loc="outside lower left", ncols=2)
    names = ("posterior_1", "posterior_2", "posterior_3")
    return figure, [
        {"seed": seed, "k": k}
        | dict(zip(names, estimates[s, :, k].tolist(), strict=True))
        | {"in_use": used[s, k].item()}
        for s, seed in enumerate(guide.seeds)
        for k in range(len(steps))
    ]
