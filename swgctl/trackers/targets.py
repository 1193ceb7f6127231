"""Names of trackers: tensorboard:DIR, trackio[:PROJECT], wandb[:[ENTITY/]PROJECT]."""

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swgctl.console import quoted, shown
from swgctl.errors import InputError, UsageError, closest, nearest
from swgctl.files import is_component

PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb"}  # kind -> the module that it needs
PROJECT = "swgctl"  # where no project is named


@dataclass(frozen=True)
class Target:
    """Where to log.

    kind   a key of PACKAGES; also the name of the extra that installs it
    where  TensorBoard's directory, absolute; the project of the others
    """

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}"

    @property
    def install(self) -> str:
        return f"pip install 'swgctl[{self.kind}]'"

    def installed(self) -> bool:
        return importlib.util.find_spec(PACKAGES[self.kind]) is not None

    def check(self) -> None:
        """Raise InputError where its package is missing."""
        if not self.installed():
            raise InputError(f"{self.kind} needs the package {PACKAGES[self.kind]}, which is missing", self.install)


def chosen(texts: Iterable[str] = ()) -> list[Target]:
    """Where a stage logs: the trackers of --log, else of $SWGCTL_LOG.  Raises UsageError."""
    return named(texts) or named([os.environ.get("SWGCTL_LOG", "")])


def named(texts: Iterable[str]) -> list[Target]:
    """The trackers that are named, each once; one text may name several, with commas between.  Raises UsageError."""
    words = [word.strip() for text in texts for word in text.split(",")]
    return list(dict.fromkeys(_parse(word) for word in words if word))


def _parse(text: str) -> Target:
    kind, _, where = text.partition(":")
    if kind not in PACKAGES:
        raise UsageError(
            f"no tracker '{shown(kind)}'{nearest(kind, PACKAGES)}",
            f"swgctl log REF --to {closest(kind, PACKAGES) or 'tensorboard'}:runs   # or {', '.join(PACKAGES)}",
        )
    if kind == "tensorboard":
        if not where:
            raise UsageError("tensorboard needs a directory", "swgctl log REF --to tensorboard:runs")
        if Path(where).exists() and not Path(where).is_dir():
            raise UsageError(
                f"{where} is not a directory", f"swgctl log REF --to {quoted(f'tensorboard:{where}.runs')}"
            )
        return Target(kind, str(Path(where).absolute()))
    parts = (where or PROJECT).split("/")
    if not all(map(is_component, parts)) or len(parts) > (2 if kind == "wandb" else 1):
        raise UsageError(
            f"'{shown(where)}' is no name of a project: letters, digits, '.', '_' and '-'",
            f"swgctl log REF --to {kind}:{PROJECT}",
        )
    return Target(kind, "/".join(parts))
