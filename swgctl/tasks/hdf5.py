"""What an HDF5 file may hold before it is read: its own bytes and no other file's, and no more than they can expand to.

HDF5 follows external links, virtual data sets and external storage into any file that can be read, which the checksum
of the file itself does not cover; and a header of a few bytes may declare 2^62 rows.
"""

import math
import os
from pathlib import Path
from typing import Any

import h5py

HOPS = 16  # soft links in a row
FREE = 1 << 30  # bytes that any file may declare: arrays that were never written take no space in it
EXPANSION = 1100  # times its size that a file may hold beyond: deflate's greatest ratio is 1032


class Elsewhere(ValueError):
    """A path that leads out of the file, or in a circle."""


def member(group: h5py.Group, path: str, hops: int = HOPS) -> Any:
    """The object of a path, like `group.get(path)`, opening no other file; None where there is none.

    Raises Elsewhere for a path over an external link, or over more than `hops` soft ones.
    """
    for name in filter(None, path.split("/")):
        link = _link(group, name)
        if isinstance(link, h5py.ExternalLink):
            raise Elsewhere(f"{name} is a link to another file, {link.filename}")
        if isinstance(link, h5py.SoftLink):
            if not hops:
                raise Elsewhere(f"{name} is one of too many links")
            start = group.file if link.path.startswith("/") else group
            group = member(start, link.path, hops - 1)
        else:
            group = None if link is None else group[name]
        if group is None:
            return None
    return group


def _link(group: Any, name: str) -> Any:
    try:
        return group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
    except RuntimeError:  # a name, such as ".", that cannot be one
        return None


def outside(item: h5py.Dataset) -> str | None:
    """How an array takes its values from other files; None where it holds them itself."""
    if item.is_virtual:
        return "is a virtual data set, over other files"
    return f"is stored in another file, {item.external[0][0]}" if item.external else None


def oversize(declared: int, path: Path, needed: int = 0) -> str | None:
    """How arrays of `declared` bytes are more than their file can hold, or `needed` bytes more than this machine has.

    None where neither holds.
    """
    size, memory = path.stat().st_size, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if declared > max(FREE, EXPANSION * size):
        return f"its arrays declare {declared:,} bytes, more than a file of {size:,} bytes can hold"
    return f"its arrays take {needed:,} bytes, and this machine has {memory:,}" if needed > memory else None


def problem(path: Path) -> str | None:
    """Why the arrays of a file are not all its own, or are too large; None where they are sound.

    Raises OSError, RuntimeError, KeyError, ValueError or TypeError for a damaged file.
    """
    names: list[bytes] = []

    def visit(name: bytes, link: Any) -> bytes | None:
        names.append(name)
        return None if link.type == h5py.h5l.TYPE_HARD else name

    with h5py.File(path) as file:
        if link := file.id.links.visit(visit, info=True):
            return f"{link.decode(errors='replace')} is a link, perhaps to another file"
        declared = 0
        for name in names:  # below h5py's objects, which take twice as long for the arrays of many episodes
            item = h5py.h5o.open(file.id, name)
            if isinstance(item, h5py.h5d.DatasetID):
                plan = item.get_create_plist()
                if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
                    return f"{name.decode(errors='replace')} takes its values from other files"
                declared += math.prod(item.shape) * item.get_type().get_size()
        return oversize(declared, path)
