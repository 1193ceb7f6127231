"""Transitions in memory, read from a D4RL HDF5 file and checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from swgctl.errors import CorruptError, InputError, UsageError, nearest

# Every array that is read, and how many dimensions it has.
REQUIRED = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1}
OPTIONAL = {"next_observations": 2, "timeouts": 1, "infos/next_observation_valid": 1}
FLAGS = {"terminals", "timeouts", "infos/next_observation_valid"}
LAYOUT = "D4RL's layout is needed: observations (N, O), actions (N, A), rewards (N,), terminals (N,)"
ROUNDING = 1e-6


@dataclass
class Transitions:
    """N transitions in the order in which they were collected, O observation and A action dimensions.

    observations       (N, O) float32, in the environment's units
    actions            (N, A) float32, in [-1, 1]
    rewards            (N,)   float32, as they were collected
    next_observations  (N, O) float32; made up, as a copy of the row's own, where neither the file nor the row
                              that follows holds it
    terminals          (N,)   bool: the episode ended in a state of value 0
    timeouts           (N,)   bool: the episode was cut, and its last state has a value
    known_next         (N,)   bool: rows that a critic learns from; the denoiser takes every row.  A terminal
                              row counts as known: the critic's target does not look at what follows it.
    source             the file, for messages
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    known_next: np.ndarray
    source: str = "the data set"

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> np.ndarray:
        """First and one past the last row of each episode, (E, 2); the last one may be unfinished."""
        ends = self.terminals | self.timeouts
        ends[-1] = True
        stops = np.flatnonzero(ends) + 1
        return np.stack([np.append(0, stops[:-1]), stops], axis=1)

    def episode_returns(self) -> np.ndarray:
        """Sum of rewards of each episode, (E,) float64."""
        return np.add.reduceat(self.rewards, self.episodes()[:, 0], dtype=np.float64)

    def transformed_rewards(self, rule: str) -> np.ndarray:
        """What the critic learns from, (N,) float32.

        none          r
        minus_one     r - 1 (AntMaze: every step before the goal costs one)
        return_range  1000 r / (largest - smallest return of an episode).  The paper divides by the range; the
                      1000 is from IQL's code and the official one, and without it the advantages would be so
                      small that sigmoid(A) is flat.

        Raises InputError where the returns have no range.
        """
        if rule == "none":
            return self.rewards
        if rule == "minus_one":
            return self.rewards - np.float32(1)
        if rule != "return_range":
            rules = ("none", "minus_one", "return_range")
            raise UsageError(f"no reward transform is called '{rule}'{nearest(rule, rules)}", " | ".join(rules))
        returns = self.episode_returns()
        span = returns.max() - returns.min()
        if not span > 0:
            raise InputError(
                f"{self.source}: rewards cannot be scaled by the range of returns: "
                f"{len(returns)} episode(s), all of return {returns[0]:g}",
                "add episodes of another return",
            )
        return self.rewards * np.float32(1000 / span)


def read(path: Path | str, *, clip_actions: bool = False, horizon: int | None = None) -> Transitions:
    """Every row of a D4RL HDF5 file, checked.

    `known_next` follows d4rl.qlearning_dataset, which however drops every timeout and the last row even where
    they are terminal or the file says what followed:

    * A file without `next_observations` gets them from the row that follows, so that they are not known at a
      timeout or in the last row.  None is ever taken across the end of an episode.
    * A file with them may say where they hold, in `infos/next_observation_valid`.  One that does not is read
      as d4rl does: not known at a timeout.

    A file without `timeouts` has one after every `horizon` steps of an episode, or none if `horizon` is None.
    Actions outside [-1, 1] are refused, or clipped if `clip_actions`.

    Raises InputError, with every problem of the file in one message, and CorruptError if bytes are damaged.
    """
    arrays, problems = _load(Path(path))
    helps = [LAYOUT] if problems else []
    if "actions" in arrays and not clip_actions and (outside := _outside(arrays["actions"])):
        problems.append(outside)
        helps.append("add --clip-actions")
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}", "; ".join(helps))
    return _assemble(arrays, horizon, str(path))


def survey(path: Path | str, horizon: int | None = None) -> dict:
    """What a file holds, also one that `read` refuses: `problems` says why, and what needs sound arrays is left out.

    rows, dimensions (O, A), not_finite {field: values}, ranges {field: (least, greatest)}, problems; and episodes,
    lengths and returns (least, mean, greatest), terminals, timeouts, unknown_next (rows that a critic does not use).
    Raises InputError where there is no file, CorruptError if bytes are damaged.
    """
    arrays, problems = _load(Path(path))
    bad = {name: int((~np.isfinite(array)).sum()) for name, array in arrays.items() if array.dtype.kind == "f"}
    finite = {name: array[np.isfinite(array)] for name, array in arrays.items() if name in bad}
    found = {
        "rows": max((len(array) for array in arrays.values()), default=0),
        "dimensions": tuple(arrays[name].shape[1] for name in ("observations", "actions") if name in arrays),
        "not_finite": bad,
        "ranges": {name: (float(x.min()), float(x.max())) for name, x in finite.items() if x.size},
    }
    whole = not problems
    if "actions" in arrays and (outside := _outside(arrays["actions"])):
        problems.append(outside)
    found["problems"] = problems
    if whole:
        data = _assemble(arrays, horizon, str(path))
        lengths, returns = np.diff(data.episodes())[:, 0], data.episode_returns()
        found["episodes"] = len(returns)
        for name, values in (("lengths", lengths), ("returns", returns)):
            found[name] = tuple(float(x) for x in (values.min(), values.mean(), values.max()))
        found["terminals"], found["timeouts"] = int(data.terminals.sum()), int(data.timeouts.sum())
        found["unknown_next"] = int((~data.known_next).sum())
    return found


def _load(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a file, and everything that is wrong with it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file", "check the path")
    try:
        with h5py.File(path) as file:
            arrays, problems = _arrays(file)
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror}", f"chmod u+r {path}") from None
    except (OSError, RuntimeError, KeyError) as error:  # which one depends on where in the file the damage is
        raise CorruptError(f"{path}: not a whole HDF5 file: {error}", "copy or download it again") from None
    problems += [problem for name, array in arrays.items() for problem in _not_finite(name, array)]
    return arrays, problems + list(_misfits(arrays))


def _arrays(file: h5py.File) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of the right rank and type, as float32 and bool, and what is wrong with the others."""
    arrays, problems = {}, []
    for name, rank in (REQUIRED | OPTIONAL).items():
        item = file.get(name)
        if item is None:
            if name in REQUIRED:
                problems.append(f"{name} is missing{nearest(name, set(file) - REQUIRED.keys())}")
            continue
        shape, dtype = getattr(item, "shape", None), getattr(item, "dtype", None)
        column = rank == 1 and shape is not None and len(shape) == 2 and shape[1] == 1
        if shape is None or (len(shape) != rank and not column):
            problems.append(f"{name} has shape {shape}, not {'(rows,)' if rank == 1 else '(rows, dimensions)'}")
        elif dtype.kind not in "fiub":
            problems.append(f"{name} holds {dtype}, not numbers")
        elif 0 in shape:
            problems.append(f"{name} is empty: shape {shape}")
        else:
            # Converting while reading keeps one float32 copy in memory, never a float64 one beside it.
            array = item[()] if name in FLAGS else item.astype(np.float32)[()]
            arrays[name] = array.reshape(-1) if column else array
    return arrays, problems


def _not_finite(name: str, array: np.ndarray) -> Iterator[str]:
    finite = np.isfinite(array)
    if not finite.all():
        row = np.argwhere(~finite)[0, 0]
        yield f"{name} has {(~finite).sum()} NaN or infinite value(s), the first in row {row}"


def _misfits(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """Arrays that do not fit each other."""
    if len({len(array) for array in arrays.values()}) > 1:
        yield "rows differ: " + ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
    if {"observations", "next_observations"} <= arrays.keys():
        width, following = arrays["observations"].shape[1], arrays["next_observations"].shape[1]
        if width != following:
            yield f"observations have {width} dimensions, next_observations {following}"


def _outside(actions: np.ndarray) -> str | None:
    magnitudes = np.abs(np.nan_to_num(actions, nan=0, posinf=0, neginf=0)).max(axis=1)
    share = (magnitudes > 1 + ROUNDING).mean()
    return f"{share:.2%} of actions leave [-1, 1], by up to |a| = {magnitudes.max():.4g}" if share else None


def _assemble(arrays: dict[str, np.ndarray], horizon: int | None, source: str) -> Transitions:
    observations, actions = arrays["observations"], arrays["actions"]
    np.clip(actions, -1, 1, out=actions)
    terminals = arrays["terminals"].astype(bool)
    timeouts = arrays["timeouts"].astype(bool) if "timeouts" in arrays else _clock(terminals, horizon)
    if "next_observations" in arrays:
        next_observations = arrays["next_observations"]
        known = arrays.get("infos/next_observation_valid", ~timeouts).astype(bool)
    else:
        known = ~(terminals | timeouts)
        known[-1] = False
        next_observations = np.empty_like(observations)
        next_observations[:-1] = observations[1:]
        next_observations[~known] = observations[~known]
    known |= terminals
    return Transitions(observations, actions, arrays["rewards"], next_observations, terminals, timeouts, known, source)


def _clock(terminals: np.ndarray, horizon: int | None) -> np.ndarray:
    """Timeouts of a file that has none: every `horizon` steps since the last terminal or timeout."""
    if horizon is None:
        return np.zeros_like(terminals)
    rows = np.arange(len(terminals))
    starts = np.maximum.accumulate(np.where(np.append(False, terminals[:-1]), rows, 0))
    return ((rows - starts + 1) % horizon == 0) & ~terminals
