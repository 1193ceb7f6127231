"""Artifacts on disk.  Importing this package is cheap: no PyTorch, no NumPy."""

from swgctl.store.artifacts import Artifact, Store
from swgctl.store.schema import KEY_LENGTH, make_key, record_checksum

__all__ = ["KEY_LENGTH", "Artifact", "Store", "make_key", "record_checksum"]
