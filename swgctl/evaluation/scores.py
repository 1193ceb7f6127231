"""Scores: what is told of the episodes of an evaluation's cells."""

from functools import lru_cache

import numpy as np

from swgctl.tasks import Task, score

RESAMPLES = 10_000
LOCATION = ("mean", "ci95")
COLUMNS = ("seed", "rho", "candidates", "episode", "return", "length", "score")  # of every evaluation


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


def cells(episodes: list[dict], sampler: str, temperature: float, shown: tuple = LOCATION) -> list[dict]:
    """One entry for each (rho, candidates), in the order of the table, with the `statistics` that are to be shown and
    the mean of every other column of the episodes as its share."""
    shares = [name for name in episodes[0] if name not in COLUMNS]
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
            **{f"{name}_share": float(np.mean([row[name] for row in rows])) for name in shares},
        }
        for name in ("return", "score"):
            known = rows[0][name] is not None
            groups = [np.array([r[name] for r in rows if r["seed"] == seed]) for seed in seeds]
            values = statistics(groups) if known else {}
            cell |= {f"{name}_{which}": values.get(which) for which in shown}
        found.append(cell)
    return found
