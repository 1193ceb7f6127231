"""Transitions in memory, read from a D4RL HDF5 file and checked."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from swgctl.errors import CorruptError, InputError, UsageError, closest, nearest
from swgctl.files import unreadable
from swgctl.seeds import ranges
from swgctl.tasks import hdf5
from swgctl.tasks.layout import FLAGS, OPTIONAL, REQUIRED, SEED

LAYOUT = "D4RL's layout is needed: observations (N, O), actions (N, A), rewards (N,), terminals (N,)"
NOTHING = "no row has a known next observation, so a critic has nothing to learn from"
ROUNDING = 1e-6  # by which |a| may exceed 1
BLOCK = 65_536  # rows read at once, about


@dataclass
class Transitions:
    """N transitions in the order in which they were collected, with O observation and A action dimensions.

    observations       (N, O) float32, in the environment's units
    actions            (N, A) float32, in [-1, 1]
    rewards            (N,)   float32, as collected
    next_observations  (N, O) float32; a copy of the row's observation where neither the file nor the row that
                              follows holds the next one
    terminals          (N,)   bool: the episode ended in a state of value 0
    timeouts           (N,)   bool: the episode was cut, and its last state has a value
    known_next         (N,)   bool: rows that a critic learns from; the denoiser takes every row.  A terminal
                              row counts as known: the critic's target ignores the state that follows it.
    source             the file, for messages
    seeds              (N,) int64: the seed whose member a row belongs to, of a synthetic set; None: all rows are
                       everyone's
    imitated           (least, mean, greatest) return of an episode of the data that a synthetic set imitates
    table              (N, 2 O + A + 2) float32, where these arrays are views of one: see `packed`
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray
    known_next: np.ndarray
    source: str = "the data set"
    seeds: np.ndarray | None = None
    imitated: tuple[float, float, float] | None = None
    table: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    def episodes(self) -> np.ndarray:
        """First and one past the last row of each episode, (E, 2); the last one may be unfinished."""
        ends = self.terminals | self.timeouts
        ends[-1] = True
        stops = np.flatnonzero(ends) + 1
        return np.stack([np.append(0, stops[:-1]), stops], axis=1)

    def episode_returns(self) -> np.ndarray:
        """Sum of the rewards of each episode, (E,) float64."""
        return np.add.reduceat(self.rewards, self.episodes()[:, 0], dtype=np.float64)

    def rows_of(self, seeds: list[int]) -> np.ndarray:
        """Rows that a critic learns from: (n,), or (S, n), each member's own, of a synthetic set.  Raises InputError
        where the set lacks a seed."""
        if self.seeds is None:
            return np.flatnonzero(self.known_next)
        missing = sorted(set(seeds) - set(self.seeds.tolist()))
        if missing:
            raise InputError(
                f"{self.source} has no rows of seed {', '.join(map(str, missing))}",
                f"swgctl synth --from REF   # of a trajectory model with the seeds {ranges(seeds)}",
            )
        rows = [np.flatnonzero(self.known_next & (self.seeds == seed)) for seed in seeds]
        if len({len(one) for one in rows}) > 1:
            counts = ", ".join(f"{seed}: {len(one):,}" for seed, one in zip(seeds, rows, strict=True))
            raise InputError(f"{self.source}: seeds differ in their number of rows ({counts})", LAYOUT)
        return np.stack(rows)

    def transformed_rewards(self, rule: str) -> np.ndarray:
        """The rewards that the critic learns from, (N,) float32.

        none          r
        minus_one     r - 1 (AntMaze: every step before the goal costs one)
        return_range  1000 r / (largest - smallest return of an episode).  The paper divides by the range; the
                      1000 is from IQL's code and the official one, and without it the advantages would be so
                      small that sigmoid(A) is flat.

        Raises InputError where all returns are equal, UsageError for an unknown rule.
        """
        if rule == "none":
            return self.rewards
        if rule == "minus_one":
            return self.rewards - np.float32(1)
        if rule != "return_range":
            rules = ("none", "minus_one", "return_range")
            name = closest(rule, rules) or "none"
            raise UsageError(
                f"no reward transform is called '{rule}'{nearest(rule, rules)}",
                f"swgctl critic TASK --set critic.rewards={name}   # one of {', '.join(rules)}",
            )
        low, _, high = self.returns()
        span = high - low
        if not span > 0:
            raise InputError(
                f"{self.source}: rewards cannot be scaled by the range of returns: "
                f"{len(self.episodes())} episode(s), all of return {low:g}",
                "swgctl critic TASK --set critic.rewards=none   # or add episodes with another return",
            )
        return self.rewards * np.float32(1000 / span)

    def returns(self) -> tuple[float, float, float]:
        """(least, mean, greatest) return of an episode; for a synthetic set, of the data that it imitates."""
        if self.imitated:
            return self.imitated
        returns = self.episode_returns()
        return float(returns.min()), float(returns.mean()), float(returns.max())

    def fields(self) -> dict[str, np.ndarray]:
        """The arrays by their names in D4RL's layout, those of a synthetic set with the rows' seeds."""
        arrays = {
            "observations": self.observations,
            "actions": self.actions,
            "rewards": self.rewards,
            "next_observations": self.next_observations,
            "terminals": self.terminals,
            "timeouts": self.timeouts,
            "infos/next_observation_valid": self.known_next,
        }
        return arrays if self.seeds is None else arrays | {SEED: self.seeds}

    def packed(self, rule: str) -> np.ndarray:
        """All that a critic learns from, (N, 2 O + A + 2) float32, a row for each transition.

        The columns are the observation, the action, the transformed reward, 1 where terminal, and the next observation.
        For data from a file this is `table` itself, which holds the observations, rather than a copy: call it once.
        """
        rewards, terminals = self.transformed_rewards(rule)[:, None], self.terminals[:, None]
        if self.table is None:
            columns = (self.observations, self.actions, rewards, terminals, self.next_observations)
            return np.concatenate(columns, axis=1, dtype=np.float32)
        width = self.observations.shape[1] + self.actions.shape[1]
        self.table[:, width : width + 1], self.table[:, width + 1 : width + 2] = rewards, terminals
        return self.table


def read(path: Path | str, *, clip_actions: bool = False, horizon: int | None = None) -> Transitions:
    """Every row of a D4RL HDF5 file, checked.

    `known_next` follows d4rl.qlearning_dataset, which however drops every timeout and the last row even where
    they are terminal or the file holds the next observation:

    * A file without `next_observations` gets them from the row that follows, so that they are unknown at a
      timeout and in the last row.  None is ever taken across the end of an episode.
    * A file with them may say where they are valid, in `infos/next_observation_valid`.  Without that they are
      unknown at a timeout, as in d4rl.

    A file without `timeouts` has one after every `horizon` steps of an episode, or none if `horizon` is None.
    Actions outside [-1, 1] are refused, or clipped if `clip_actions`.

    Raises InputError, with every problem of the file in one message, and CorruptError if bytes are damaged.
    """
    arrays, table, imitated, problems = _load(Path(path))
    helps = [LAYOUT] if problems else []
    if holes := list(_not_finite(arrays)):
        problems += holes
        helps.append("leave these rows out, or repair the program that wrote them")
    if "actions" in arrays and not clip_actions and (outside := _outside(arrays["actions"])):
        problems.append(outside)
        helps.append("add --clip-actions")
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}", "; ".join(helps))
    data = _assemble(arrays, table, horizon, str(path))
    data.imitated = imitated
    if not data.known_next.any():
        raise InputError(f"{path}: {NOTHING}", LAYOUT)
    return data


def survey(path: Path | str, horizon: int | None = None) -> dict:
    """The contents of a file, even of one that `read` refuses: `problems` says why, and some fields are left out.

    rows, dimensions (O, A), not_finite {field: values}, ranges {field: (least, greatest)}, problems; and, of sound
    arrays, episodes, lengths and returns (least, mean, greatest), terminals, timeouts, unknown_next (rows that a
    critic does not learn from), and `assumed` where timeouts are missing.  Raises InputError for a missing file,
    CorruptError if bytes are damaged.
    """
    arrays, table, _, problems = _load(Path(path))
    not_finite: dict[str, int] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            finite = np.isfinite(array)
            not_finite[name] = int((~finite).sum())
            sound = array if finite.all() else array[finite]
            ranges |= {name: (float(sound.min()), float(sound.max()))} if sound.size else {}
    problems += _not_finite(arrays)
    whole = not problems
    if "actions" in arrays and (outside := _outside(arrays["actions"])):
        problems.append(outside)
    contents: dict[str, Any] = {
        "rows": max((len(array) for array in arrays.values()), default=0),
        "dimensions": tuple(arrays[name].shape[1] for name in ("observations", "actions") if name in arrays),
        "not_finite": not_finite,
        "ranges": ranges,
        "problems": problems,
    }
    if whole:
        data = _assemble(arrays, table, horizon, str(path))
        lengths, returns = np.diff(data.episodes())[:, 0], data.episode_returns()
        contents["episodes"] = len(returns)
        for name, values in (("lengths", lengths), ("returns", returns)):
            contents[name] = tuple(float(x) for x in (values.min(), values.mean(), values.max()))
        contents["terminals"], contents["timeouts"] = int(data.terminals.sum()), int(data.timeouts.sum())
        contents["unknown_next"] = int((~data.known_next).sum())
        contents |= {"assumed": said} if (said := assumed(arrays, data, horizon)) else {}
        problems += [] if data.known_next.any() else [NOTHING]
    return contents


def assumed(arrays: Mapping[str, np.ndarray], data: Transitions, horizon: int | None) -> str | None:
    """Where the episodes of a file without timeouts are taken to end, and how many ends it shows elsewhere."""
    if "timeouts" in arrays:
        return None
    where = f"every {horizon} steps, the environment's limit" if horizon else "nowhere but at terminals"
    text = f"no timeouts: episodes are cut {where}"
    if "next_observations" in arrays:
        going_on = ~(data.terminals | data.timeouts)[:-1]
        broken = going_on & (data.next_observations[:-1] != data.observations[1:]).any(1)
        text += f"; {broken.sum():,} other rows are followed by another observation than their next" * bool(
            broken.any()
        )
    return text


def _load(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[float, float, float] | None, list[str]]:
    """The arrays of a file, the table that holds the two-dimensional ones, `Transitions.imitated`, and every problem of
    the layout."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file", "check the path")
        with h5py.File(path) as file:
            datasets, problems = _suitable(file)
            if large := _oversize(datasets, path):
                datasets, problems = {}, [*problems, large]
            arrays, table = _arrays(datasets)
            returns = file.attrs.get("returns") if SEED in datasets else None
            imitated = None if returns is None else (float(returns[0]), float(returns[1]), float(returns[2]))
    except PermissionError:
        raise unreadable(path) from None
    # The type depends on the place of the damage.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError) as error:
        raise CorruptError(f"{path}: not a whole HDF5 file: {error}", "copy or download it again") from None
    return arrays, table, imitated, problems + list(_misfits(arrays))


def _suitable(file: h5py.File) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """The datasets of the right rank and type that the file itself holds, and the problems of the others."""
    datasets, problems = {}, []
    for name, rank in (REQUIRED | OPTIONAL).items():
        try:
            item = hdf5.member(file, name)
        except hdf5.Elsewhere as error:
            problems.append(f"{name} is not in the file: {error}")
            continue
        if item is None:
            if name in REQUIRED:
                problems.append(f"{name} is missing{nearest(name, set(file) - REQUIRED.keys())}")
            continue
        if isinstance(item, h5py.Dataset) and (elsewhere := hdf5.outside(item)):
            problems.append(f"{name} {elsewhere}")
            continue
        shape = getattr(item, "shape", None)  # None: a group
        column = rank == 1 and shape is not None and len(shape) == 2 and shape[1] == 1
        if shape is None or (len(shape) != rank and not column):
            problems.append(f"{name} has shape {shape}, not {'(rows,)' if rank == 1 else '(rows, dimensions)'}")
        elif item.dtype.kind not in "fiub":
            problems.append(f"{name} holds {item.dtype}, not numbers")
        elif 0 in shape:
            problems.append(f"{name} is empty: shape {shape}")
        else:
            datasets[name] = item
    return datasets, problems


def _oversize(datasets: dict[str, h5py.Dataset], path: Path) -> str | None:
    """Why the arrays are too large to be what they say, or for this machine; None where they are not."""
    declared = sum(math.prod(item.shape) * item.dtype.itemsize for item in datasets.values())
    rows, width = _table_shape(datasets)
    return hdf5.oversize(declared, path, needed=4 * rows * width)


def _widths(datasets: dict[str, h5py.Dataset]) -> dict[str, int]:
    return {name: item.shape[1] for name, item in datasets.items() if (REQUIRED | OPTIONAL)[name] == 2}


def _table_shape(datasets: dict[str, h5py.Dataset]) -> tuple[int, int]:
    """The shape of the table of `Transitions`."""
    widths = _widths(datasets)
    o, a = widths.get("observations", 0), widths.get("actions", 0)
    rows = max((item.shape[0] for item in datasets.values()), default=0)
    return rows, o + a + 2 + widths.get("next_observations", o)


def _arrays(datasets: dict[str, h5py.Dataset]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays, float32 and bool; the two-dimensional ones are views of the table, in the order of `packed`."""
    widths = _widths(datasets)
    o, a = widths.get("observations", 0), widths.get("actions", 0)
    starts = {"observations": 0, "actions": o, "next_observations": o + a + 2}
    table = np.empty(_table_shape(datasets), np.float32)
    arrays = {}
    for name, item in datasets.items():
        if name in FLAGS or name == SEED:
            arrays[name] = item[()].reshape(-1)
        elif name not in widths:
            arrays[name] = item.astype(np.float32)[()].reshape(-1)
        else:
            arrays[name] = table[: len(item), starts[name] : starts[name] + widths[name]]
            chunk = item.chunks[0] if item.chunks else 1
            step = -(-BLOCK // chunk) * chunk  # whole chunks: a compressed one is read as a whole
            for start in range(0, len(item), step):
                # Converting while reading keeps one float32 copy in memory, never a float64 one beside it.
                arrays[name][start : start + step] = item.astype(np.float32)[start : start + step]
    return arrays, table


def _not_finite(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            row = np.argwhere(~finite)[0, 0]
            yield f"{name} has {(~finite).sum()} NaN or infinite value(s), the first in row {row}"


def _misfits(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """Problems of arrays that do not fit each other."""
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


def _assemble(arrays: dict[str, np.ndarray], table: np.ndarray, horizon: int | None, source: str) -> Transitions:
    observations, actions = arrays["observations"], arrays["actions"]
    np.clip(actions, -1, 1, out=actions)
    terminals = arrays["terminals"].astype(bool)
    timeouts = arrays["timeouts"].astype(bool) if "timeouts" in arrays else _clock(terminals, horizon)
    if "next_observations" in arrays:
        next_observations = arrays["next_observations"]
        known_next = arrays.get("infos/next_observation_valid", ~timeouts).astype(bool)
    else:
        known_next = ~(terminals | timeouts)
        known_next[-1] = False
        next_observations = table[:, -observations.shape[1] :]
        for start in range(0, len(known_next) - 1, BLOCK):  # in blocks, since NumPy copies overlapping parts
            next_observations[start:-1][:BLOCK] = observations[start + 1 :][:BLOCK]
        next_observations[~known_next] = observations[~known_next]
    known_next |= terminals
    return Transitions(
        observations,
        actions,
        arrays["rewards"],
        next_observations,
        terminals,
        timeouts,
        known_next,
        source,
        seeds=arrays.get(SEED),
        table=table,
    )


def _clock(terminals: np.ndarray, horizon: int | None) -> np.ndarray:
    """Timeouts for a file without them: every `horizon` steps since the last terminal or timeout."""
    if horizon is None:
        return np.zeros_like(terminals)
    rows = np.arange(len(terminals))
    starts = np.maximum.accumulate(np.where(np.append(False, terminals[:-1]), rows, 0))
    return ((rows - starts + 1) % horizon == 0) & ~terminals
