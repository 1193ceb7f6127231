"""Windows: sub-trajectories of L consecutive rows of one episode, on which a trajectory model is trained."""

import numpy as np

from swgctl.errors import InputError
from swgctl.tasks.transitions import Transitions


def starts(data: Transitions, length: int, stride: int) -> np.ndarray:
    """First rows of the windows of `length` rows, (W,) int64, ascending, by the published rules of PGD
    (arXiv 2404.06356; github.com/EmptyJackson/policy-guided-diffusion).

    A start is valid where no row of its window but the last ends an episode.  Of the valid ones are taken: every
    `stride`-th, those that end in a terminal row and those that begin an episode, but none that ends in a timeout.
    A row with both flags is terminal, and a last episode without an end has windows as any other.

    Raises InputError where no window fits.
    """
    episodes = data.episodes()
    cut = data.timeouts & ~data.terminals
    longest = int((np.diff(episodes)[:, 0] - cut[episodes[:, 1] - 1]).max())
    if longest < length:
        raise InputError(
            f"{data.source}: no window of {length} rows fits; the longest episode, "
            f"without a last row that is a timeout, has {longest}",
            f"--set trajectories.length={longest}" if longest > 1 else "a data set of episodes, not of single rows",
        )
    ends = np.flatnonzero(data.terminals | data.timeouts)
    first = np.arange(len(data) - length + 1)
    valid = np.searchsorted(ends, first) == np.searchsorted(ends, first + length - 1)  # no end in [i, i + L - 1)
    taken = np.zeros(len(first), bool)
    taken[np.flatnonzero(valid)[::stride]] = True
    taken |= data.terminals[length - 1 :]
    begins = episodes[:, 0]
    taken[begins[begins < len(first)]] = True
    return np.flatnonzero(taken & valid & ~cut[length - 1 :])


def counts(starts: np.ndarray, length: int, rows: int) -> np.ndarray:
    """Number of the windows at `starts` (W,) that hold each of the `rows` rows of the data, (N,) int64."""
    begun = np.cumsum(np.bincount(starts, minlength=rows))
    return begun - np.concatenate([np.zeros(length, np.int64), begun])[:rows]


def transitions_of(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    seeds: list[int],
    returns: tuple[float, float, float],
) -> Transitions:
    """Transitions of S members' W windows of L rows: a synthetic set.

    observations (S, W, L, O), actions (S, W, L, A), rewards and terminals (S, W, L), the members' seeds (S,), and the
    least, mean and greatest return of the data that the windows imitate.

    The N = S W (L - 1) rows are those of the members one after another.  A window gives its rows but the last, whose
    observation is the next one of the row before, so that every next observation is known.  The last of them is a
    timeout unless terminal; rows after a terminal one are kept.
    """
    shape = (*rewards.shape[:2], rewards.shape[2] - 1)
    flags = terminals[:, :, :-1].astype(bool)
    timeouts = np.zeros(shape, bool)
    timeouts[:, :, -1] = ~flags[:, :, -1]
    owners = np.broadcast_to(np.array(seeds, np.int64)[:, None, None], shape)

    def flat(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *array.shape[3:])

    return Transitions(
        observations=flat(observations[:, :, :-1].astype(np.float32)),
        actions=flat(actions[:, :, :-1].astype(np.float32)),
        rewards=flat(rewards[:, :, :-1].astype(np.float32)),
        next_observations=flat(observations[:, :, 1:].astype(np.float32)),
        terminals=flat(flags),
        timeouts=flat(timeouts),
        known_next=np.ones(flags.size, bool),
        source="the synthetic set",
        seeds=flat(owners),
        imitated=returns,
    )
