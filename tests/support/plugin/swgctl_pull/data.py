"""A data set of Pendulum's dimensions, made once in the cache."""

import hashlib

import h5py
import numpy as np

from swgctl.tasks.cache import cache_folder


def make(where):
    path = cache_folder() / f"spring-{where}.hdf5"
    if not path.exists():
        random, rows = np.random.default_rng(int(where)), 300
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["observations"] = random.normal(size=(rows, 3)).astype(np.float32)
            file["actions"] = random.uniform(-1, 1, (rows, 1)).astype(np.float32)
            file["rewards"] = random.normal(size=rows).astype(np.float32)
            file["terminals"] = np.zeros(rows, bool)
            file["timeouts"] = np.arange(rows) % 100 == 99
    return path, hashlib.sha256(path.read_bytes()).hexdigest()
