"""What unfinished and replaced builds leave behind, and what is put back of it."""

import contextlib
import os
from pathlib import Path

from swgctl.errors import SwgError
from swgctl.store import shells
from swgctl.store.artifacts import REPLACED, Artifact, Store
from swgctl.store.disk import children, untouched
from swgctl.store.processes import dead, ours


def restore(store: Store) -> list[Path]:
    """Put back what a build by --force had moved away when it was killed, where nothing is in its place; returns the
    directories."""
    restored = []
    for draft in _drafts(store):
        if target := _stranded(store, draft):
            with contextlib.suppress(OSError):  # another process may be at it as well
                os.rename(draft, target)
                restored.append(target)
    return restored


def garbage(store: Store) -> list[Path]:
    """Disposable files and directories: of dead writers, of finished or day-old runs, of ended shells."""
    finished = {path.name for path in store.directories()}
    drafts = [p for p in _drafts(store) if not _stranded(store, p)]
    work = [p for p in children(store.root / "work") if p.name in finished or untouched(p)]
    return drafts + [p for p in work if not store.busy(p.name)] + shells.ended(store.root)


def _drafts(store: Store) -> list[Path]:
    """Drafts of writers that have ended; of another machine's, those that nobody has touched for a day."""
    drafts = [p for p in children(store.root / "tmp") if dead(p.name, 2) or (untouched(p) and not ours(p.name, 2))]
    # A process of another container has no number here, and one may train for days without a word: its lock tells.
    return [p for p in drafts if not store.busy(p.name.rsplit("-", 2)[-2:][0])]


def _stranded(store: Store, draft: Path) -> Path | None:
    """The place of a whole artifact that --force had moved away, if nothing is there."""
    if not draft.name.endswith(REPLACED):
        return None
    try:
        artifact = Artifact(draft)
        target = store.place(artifact.stage, artifact.task, artifact.key)
    except SwgError:
        return None
    return None if target.exists() else target
