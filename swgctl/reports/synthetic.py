"""The table with which the generation of a synthetic set ends, on stderr."""

import math

from swgctl import console
from swgctl.store import Artifact


def print_synthetic(artifact: Artifact) -> None:
    """Print a row a member: likelihood under the agent, errors against the simulator, coverage."""
    metrics, seeds = artifact.meta["metrics"], artifact.seeds
    dynamics = metrics.get("dynamics", {})
    columns = {
        "log-likelihood": metrics.get("likelihood"),
        "of the agent's\nown actions": metrics.get("on_policy"),
        "one-step\nerror": dynamics.get("one_step"),
        "error after\n{} steps": [row and row[-1] for row in dynamics.get("horizon", [])] or None,
        "error of\nthe reward": dynamics.get("reward"),
        "share left\nout": dynamics.get("clipped"),
        "least\ncoverage": [min(row) for row in metrics["coverage"]],
        "mean\ncoverage": [sum(row) / len(row) for row in metrics["coverage"]],
    }
    steps = max((len(row) for row in dynamics.get("horizon", []) if row), default=0)
    shown = {name.format(steps): values for name, values in columns.items() if values}
    rows = [
        [str(seed), *(_number(value) for value in values)] for seed, *values in zip(seeds, *shown.values(), strict=True)
    ]
    data = metrics["data"]
    console.table(
        f"{artifact.task}: {data['rows']:,} rows of {len(seeds)} seed(s), {data['windows']:,} windows each; errors are "
        "squared, of observations in units of the data's deviation",
        ["seed", *shown],
        rows,
    )


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"
