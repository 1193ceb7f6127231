"""Artifacts on disk.  Importing this package is cheap: no PyTorch, no NumPy."""

from swgctl.store.artifacts import KEY_LENGTH, Artifact, Store, make_key, record_checksum

__all__ = ["KEY_LENGTH", "Artifact", "Store", "make_key", "record_checksum"]
