"""Statistics of the episodes of an evaluation's cells."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from swgctl.tasks import Task, score

RESAMPLES = 10_000
LOCATION = ("mean", "ci95")
PLACE = ("temperature", "candidates", "rho")  # a cell, in the order of tables
Place = tuple[float | None, int | None, float | None]  # (temperature, M, rho); three times None for an agent
COLUMNS = ("seed", "rho", "candidates", "temperature", "episode", "return", "length", "score")  # never shares


def statistics(*tasks: list[np.ndarray]) -> dict:
    """Statistics of a score: episodes are averaged per group (seed), groups per task, then tasks.

    mean  mean over tasks of the mean over groups
    ci95  95 % percentile bootstrap interval of the mean, over groups, or over the episodes of a single one; with
          several tasks it is stratified: groups are drawn within each
    iqm   interquartile mean of all n group means, without the floor(n / 4) least and greatest (Agarwal et al., 2021,
          over runs x tasks)
    sd    standard deviation of the group means, with n - 1; None for a single group and for several tasks
    """
    means = [np.array([g.mean() for g in groups]) for groups in tasks]
    runs = np.sort(np.concatenate(means))
    cut = len(runs) // 4
    draws = [_bootstrap(groups, stream) for stream, groups in enumerate(tasks)]
    return {
        "mean": float(np.mean([m.mean() for m in means])),
        "ci95": np.quantile(draws[0] if len(draws) == 1 else np.mean(draws, axis=0), [0.025, 0.975]).tolist(),
        "iqm": float(runs[cut : len(runs) - cut].mean()),
        "sd": float(runs.std(ddof=1)) if len(tasks) == 1 and len(runs) > 1 else None,
    }


def _bootstrap(groups: list[np.ndarray], stream: int = 0) -> np.ndarray:
    """Means of RESAMPLES bootstrap samples, drawn with replacement."""
    values = np.array([g.mean() for g in groups]) if len(groups) > 1 else groups[0]
    return values[_picks(len(values), stream)].mean(1)


@lru_cache(maxsize=2)
def _picks(n: int, stream: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(stream)).integers(n, size=(RESAMPLES, n))


def axis(measure: str, task: Task | None) -> str:
    """What an axis shows: "success, %", "normalised score" or "return"; None is a task of returns."""
    if measure != "score":
        return "return"
    return "success, %" if task and task.score == "success" else "normalised score"


def add_scores(episodes: list[dict], task: Task) -> None:
    """Add each row's score: D4RL's normalised score, None if the task has no references, or 100 for a success."""
    for row in episodes:
        row["score"] = score(task, row)


def place_of(row: Mapping) -> Place:
    """The (temperature, M, rho) of an episode or a cell; None for what it does not have."""
    temperature, candidates, rho = (row.get(name) for name in PLACE)
    return temperature, candidates, rho


def order(place: Iterable[float | None]) -> tuple:
    """A key to sort places by: by their numbers, None last."""
    return tuple((value is None, value or 0.0) for value in place)


def cells(episodes: list[dict], sampler: str | None, shown: tuple = LOCATION) -> list[dict]:
    """One entry for each (temperature, candidates, rho), in the order of the table, with the `statistics` named in
    `shown`; every further column of the episodes enters as a share, its mean.

    sampler  that of the evaluation; None for an agent, whose cells have none
    """
    shares = [name for name in episodes[0] if name not in COLUMNS]
    entries = []
    for place in dict.fromkeys(map(place_of, episodes)):
        rows = [row for row in episodes if place_of(row) == place]
        seeds = list(dict.fromkeys(row["seed"] for row in rows))
        cell: dict[str, Any] = {
            **dict(zip(PLACE, place, strict=True)),
            **({"sampler": sampler} if sampler else {}),
            "episodes": len(rows) // len(seeds),
            "seeds": len(seeds),
            "interval_over": "seeds" if len(seeds) > 1 else "episodes",
            **{f"{name}_share": float(np.mean([row[name] for row in rows])) for name in shares},
        }
        for name in ("return", "score"):
            groups = [np.array([r[name] for r in rows if r["seed"] == seed]) for seed in seeds]
            values = statistics(groups) if rows[0][name] is not None else {}
            cell |= {f"{name}_{which}": values.get(which) for which in shown}
        entries.append(cell)
    return entries
