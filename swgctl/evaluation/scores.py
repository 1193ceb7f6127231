"""Scores: what is told of the episodes of an evaluation's cells."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from swgctl.tasks import Task, score

RESAMPLES = 10_000
LOCATION = ("mean", "ci95")
PLACE = ("temperature", "candidates", "rho")  # a cell, in the order of tables
COLUMNS = ("seed", "rho", "candidates", "temperature", "episode", "return", "length", "score")  # of every evaluation


def interval(groups: list[np.ndarray]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean: over groups (seeds), or within the only one (episodes)."""
    return _middle(_bootstrap(groups))


def statistics(*tasks: list[np.ndarray]) -> dict:
    """Of the mean over tasks of the mean over groups (seeds), each the values of its episodes.

    mean  the mean of the groups' means, and of those over tasks
    ci95  its `interval`; of several tasks the bootstrap is stratified: each task's groups are drawn by themselves
    iqm   interquartile mean of all groups' means, of n those without the floor(n / 4) least and greatest (Agarwal et
          al., 2021, who take it over runs x tasks)
    sd    their standard deviation over the groups, with n - 1; None of a single group, and of several tasks
    """
    means = [np.array([g.mean() for g in groups]) for groups in tasks]
    runs = np.sort(np.concatenate(means))
    cut = len(runs) // 4
    draws = [_bootstrap(groups, stream) for stream, groups in enumerate(tasks)]
    return {
        "mean": float(np.mean([m.mean() for m in means])),
        "ci95": list(_middle(draws[0] if len(draws) == 1 else np.mean(draws, axis=0))),
        "iqm": float(runs[cut : len(runs) - cut].mean()),
        "sd": float(runs.std(ddof=1)) if len(tasks) == 1 and len(runs) > 1 else None,
    }


def _bootstrap(groups: list[np.ndarray], stream: int = 0) -> np.ndarray:
    """Means of as many draws with replacement: (RESAMPLES,)."""
    values = np.array([g.mean() for g in groups]) if len(groups) > 1 else groups[0]
    return values[_picks(len(values), stream)].mean(1)


@lru_cache(maxsize=2)
def _picks(n: int, stream: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(stream)).integers(n, size=(RESAMPLES, n))


def _middle(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def add_scores(episodes: list[dict], task: Task) -> None:
    """Adds each row's score: D4RL's normalised one, None where the task has no references, or 100 for a success."""
    for row in episodes:
        row["score"] = score(task, row)


def place_of(row: Mapping) -> tuple[float, int, float]:
    """The (temperature, M, rho) of an episode or a cell."""
    temperature, candidates, rho = (row[name] for name in PLACE)
    return temperature, candidates, rho


def cells(episodes: list[dict], sampler: str, shown: tuple = LOCATION) -> list[dict]:
    """One entry for each (temperature, candidates, rho), in the order of the table, with the `statistics` to be
    shown and the mean of every other column of the episodes as its share."""
    shares = [name for name in episodes[0] if name not in COLUMNS]
    found = []
    for place in dict.fromkeys(map(place_of, episodes)):
        rows = [row for row in episodes if place_of(row) == place]
        seeds = list(dict.fromkeys(row["seed"] for row in rows))
        cell = {
            **dict(zip(PLACE, place, strict=True)),
            "sampler": sampler,
            "episodes": len(rows) // len(seeds),
            "seeds": len(seeds),
            "interval_over": "seeds" if len(seeds) > 1 else "episodes",
            **{f"{name}_share": float(np.mean([row[name] for row in rows])) for name in shares},
        }
        for name in ("return", "score"):
            known = rows[0][name] is not None
            groups = [np.array([r[name] for r in rows if r["seed"] == seed]) for seed in seeds]
            values = statistics(groups) if known else {}
            cell |= {f"{name}_{which}": values.get(which) for which in shown}
        found.append(cell)
    return found
