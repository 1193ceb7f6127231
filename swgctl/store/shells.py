"""Each shell's latest artifacts: notes in a store's current/, which hold the artifacts' places below the root."""

import contextlib
import os
import re
from pathlib import Path

from swgctl.console import say
from swgctl.files import read_regular, write_text
from swgctl.store.disk import children, untouched
from swgctl.store.processes import dead, here, scope

MOST = 10_000  # bytes of a note
DRAFT = re.compile(r"\..*\.([0-9]{1,9})\.[0-9a-f]{8}", re.DOTALL)  # `files.write_atomically` writes into one


def note(root: Path, stage: str, artifact: Path) -> None:
    """Note an artifact as this shell's latest of its stage.  A read-only store still serves what it holds."""
    try:
        write_text(root / "current" / scope() / stage, f"{artifact.relative_to(root)}\n", links=False)
    except OSError as error:
        say(f"not remembered for this shell: {error.strerror}")


def latest(root: Path, *stages: str) -> Path | None:
    """The directory of the latest artifact of these stages in this shell (SWGCTL_SCOPE, else the parent process)."""
    # `bash -c 'a && b'` replaces itself by b, which so becomes the process that was a's parent.
    for name in dict.fromkeys((scope(), scope(os.getpid()))):
        notes = [one for stage in stages if os.path.isfile(one := root / "current" / name / stage)]
        if not notes:
            continue
        with contextlib.suppress(OSError):  # another process has just removed it
            newest = max(notes, key=lambda one: one.stat().st_mtime_ns)
            path = root / os.fsdecode(read_regular(newest, MOST)).strip()
            # An early version noted the whole path, which in a copied store is the original's.
            inside = path.is_relative_to(root) and ".." not in path.parts
            return path if inside and os.path.isdir(path) else None
    return None


def ended(root: Path) -> list[Path]:
    """The folders of shells that have ended, and what killed processes left in the others."""
    folders = children(root / "current")
    gone = [path for path in folders if path.name.startswith("shell-") and dead(path.name[6:], 1)]
    drafts = [path for folder in folders if folder not in gone for path in children(folder) if _dead_draft(path)]
    return gone + drafts


def _dead_draft(path: Path) -> bool:
    writer = DRAFT.fullmatch(path.name)
    return writer is not None and (dead(here(int(writer[1])), 0) or untouched(path))
