"""The sizes and checksums that others published for data files, and how a file here stands to them.

A file is known by its path below the cache folder, which for D4RL is that on its server.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from swgctl.console import quoted
from swgctl.errors import InputError
from swgctl.files import write_text
from swgctl.tasks.cache import cache_folder, read_plain, refuse_link

TABLES = ("d4rl-files.tsv", "ogbench-files.tsv")  # beside this module; each says in its head where its rows are from
PUBLISHED, PINNED, OVERRULED = "published", "pinned", "overruled"
MEANS = {  # how a file stands -> how reports say it
    PUBLISHED: "the published checksum",
    PINNED: "no published checksum",
    OVERRULED: "not the published checksum, overruled by --trust",
}


@dataclass(frozen=True)
class Published:
    """What was published of a file: its bytes, its sha256, who said so, and whether the public copy has it too."""

    size: int
    sha256: str
    source: str
    copied: bool


@cache
def table() -> dict[str, Published]:
    """Every published file by its path."""
    rows = {}
    for name in TABLES:
        lines = (Path(__file__).parent / name).read_text().splitlines()
        for path, size, sha256, source, copy in csv.reader(filter(_is_row, lines), delimiter="\t"):
            rows[path] = Published(int(size), sha256, source, copy == "yes")
    return rows


def _is_row(line: str) -> bool:
    return not line.startswith("#")


def of(path: str) -> Published | None:
    """What was published of the file of that path; None where nothing was."""
    return table().get(path)


def standing(path: str, digest: str | None) -> str | None:
    """PUBLISHED, PINNED (nothing was published) or OVERRULED: how a file of sha256 `digest` stands.

    None where it is neither the published file nor one that --trust let pass.
    """
    if (known := of(path)) is None:
        return PINNED
    if digest == known.sha256:
        return PUBLISHED
    return OVERRULED if digest in trusted(path) else None


def text(path: str, digest: str | None) -> str:
    """One line on the checksum of a file; `digest` is None for a file that is not here."""
    known, stands = of(path), standing(path, digest)
    if stands is None and known:
        return f"published: {known.sha256}" if digest is None else f"not the published one, {known.sha256}"
    return MEANS[stands or PINNED]


def remark(source: dict) -> str:
    """How a record's data file stands, to follow its sha256: ", no published checksum"; "" where it does not say."""
    means = MEANS.get(source.get("checksum", ""))
    return f", {means}" if means else ""


def unpublished(standings: Iterable[str]) -> list[str]:
    """What a report says of data files that stand so: one text for each standing but PUBLISHED."""
    return [MEANS[one] for one in sorted(set(standings) - {PUBLISHED}) if one in MEANS]


def check(path: str, file: Path, digest: str, help: list[str]) -> None:
    """Raise InputError for a `file` of another sha256 than the published one, unless --trust let it pass."""
    if standing(path, digest) is None and (known := of(path)):
        raise InputError(f"{file}: its sha256 is {digest}, that of the published file {known.sha256}", help)


def trust(path: str, digest: str) -> None:
    """Record that a file of sha256 `digest` passes for the published one.  Raises InputError for a link in the way."""
    if standing(path, digest) is None:
        refuse_link(record := _record(path))
        write_text(record, "".join(f"{one}  {Path(path).name}\n" for one in (*trusted(path), digest)), durable=False)


def trusted(path: str) -> tuple[str, ...]:
    """The sha256 of the files that --trust let pass for the published one."""
    try:
        return tuple(line.partition(" ")[0] for line in read_plain(_record(path)).splitlines())
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _record(path: str) -> Path:
    return cache_folder() / f"{path}.trusted"


def advice(task: str, file: Path, elsewhere: bool) -> list[str]:
    """Lines to paste about a file that is not the published one; `elsewhere`: it lies in $SWGCTL_DATA."""
    fetch = f"swgctl data fetch {quoted(task)}"
    first = f"SWGCTL_DATA= {fetch}" if elsewhere else f"rm {quoted(file)} {quoted(file)}.sha256 && {fetch}"
    return [f"{first}   # to download the published one", f"{fetch} --trust   # to take this one, recorded as such"]
