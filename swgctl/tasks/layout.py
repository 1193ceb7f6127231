"""D4RL's flat layout: the arrays of a data set, the content and units of each, and their one writer.

The texts are part of a file's bytes, and so of its checksum: for each kind of file they stay as they are.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from swgctl.errors import SwgError

SCHEMA = "swgctl.transitions/1"  # of files in this layout

# Every array that is read, and its number of dimensions.
REQUIRED = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1}
SEED = "infos/seed"  # of a synthetic set: the seed whose member a row belongs to
OPTIONAL = {"next_observations": 2, "timeouts": 1, "infos/next_observation_valid": 1, SEED: 1}
FLAGS = {"terminals", "timeouts", "infos/next_observation_valid"}

Fields = Mapping[str, tuple[str, str]]  # array -> its content, its units

ROLLED_OUT: Fields = {
    "observations": ("state before the action", "m, rad, m/s, rad/s"),
    "actions": ("action, as a share of each actuator's limit", "1"),
    "rewards": ("reward of the step", "1"),
    "next_observations": ("state after the action", "m, rad, m/s, rad/s"),
    "terminals": ("the action led to a terminal state", "bool"),
    "timeouts": ("the clock ended the episode after the action", "bool"),
    "infos/behaviour_policy": ("who acted: an index into the attribute `names`", "1"),
}
CONVERTED: Fields = {
    "observations": ("observation before the action, flattened", "the environment's"),
    "actions": ("action, from the environment's bounds to [-1, 1]", "1"),
    "rewards": ("reward of the step", "1"),
    "next_observations": ("observation after the action, flattened", "the environment's"),
    "terminals": ("the action led to a terminal state", "bool"),
    "timeouts": ("the episode was cut after the action", "bool"),
    "infos/next_observation_valid": ("next_observations holds what followed", "bool"),
}
AUGMENTED: Fields = {
    "observations": ("state s", "environment"),
    "actions": ("action a, rescaled to [-1, 1]", "1"),
    "rewards": ("reward r, as collected", "environment"),
    "next_observations": ("state that followed", "environment"),
    "terminals": ("episode ended in a state of value 0", "bool"),
    "timeouts": ("episode was cut", "bool"),
    "infos/next_observation_valid": ("the state that followed is known, or does not matter", "bool"),
    "weights": ("weight w(s, a) of the advantage, a row for each seed", "1"),
    "q": ("min of the target twins Q(s, a), a row for each seed", "transformed reward"),
    "v": ("V(s), a row for each seed", "transformed reward"),
    "advantages": ("A(s, a) = q - v, a row for each seed", "transformed reward"),
    SEED: ("seed of the member whose row it is", "1"),
    "candidates/rows": ("number of the row at whose state candidates are", "1"),
    "candidates/actions": ("actions of a behaviour model at the state, for each seed its own's", "1"),
    "candidates/weights": ("weight w(s, a) of each, by its seed's critic", "1"),
    "candidates/advantages": ("A(s, a) of each", "transformed reward"),
}
SYNTHETIC: Fields = {
    "observations": ("generated state before the action", "environment"),
    "actions": ("generated action, rescaled to [-1, 1]", "1"),
    "rewards": ("generated reward of the step", "environment"),
    "next_observations": ("generated state after the action", "environment"),
    "terminals": ("the action led to a state of value 0", "bool"),
    "timeouts": ("the generated window ended after the action", "bool"),
    "infos/next_observation_valid": ("next_observations holds what followed", "bool"),
    SEED: ("seed of the model that generated the row", "1"),
}


class Writer:
    """A writer of arrays into an open file, whole or part by part.  Equal arrays give equal bytes."""

    def __init__(self, file: h5py.File, fields: Fields):
        self.file, self.fields = file, fields
        self.written: list[tuple[str, slice, bytes]] = []

    def put(self, name: str, values: np.ndarray, start: int = 0, total: int | None = None) -> None:
        """Write rows `start` and following of an array of `total` rows in the end; None: these are all."""
        rows, first = slice(start, start + len(values)), name not in self.file
        if first:
            shape = (len(values) if total is None else total, *values.shape[1:])
            # Uncompressed: compressed bytes would depend on the zlib that h5py was built with.
            self.file.create_dataset(name, shape, values.dtype, track_times=False)
        array = self.file[name]
        array[rows] = values
        if first:
            array.attrs["long_name"], array.attrs["units"] = self.fields[name]
        self.written.append((name, rows, hashlib.sha256(np.ascontiguousarray(values).data).digest()))

    def check(self, path: Path) -> None:
        """Read a closed file back.  Raises SwgError where its data differs from what was written."""
        with h5py.File(path) as file:
            if any(hashlib.sha256(file[name][rows].data).digest() != digest for name, rows, digest in self.written):
                raise SwgError(f"{path}: reads back as other data than was written", "check the disk")
