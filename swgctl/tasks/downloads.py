"""Downloads: a file on this machine or from the first of several servers that sends the right one, resumable.

Servers go away, answer 403 and swap the bytes behind a name (D4RL's issues 244, 19 and 76), and copies under the same
name hold other bytes.  Hence several sources, published checksums, and a checksum beside each file from its first use.
"""

import http.client
import json
import os
import re
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import h5py

from swgctl.console import shown
from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.files import is_component, write_text
from swgctl.tasks import published, web
from swgctl.tasks.cache import Say, cache_folder, cached, digest, open_plain, read_plain, refuse_link

TIMEOUT = 60  # seconds without a byte
PATIENCE = 10  # seconds until a server must have answered a request without a body
CHUNK = 1 << 20  # bytes
MOST = 1 << 36  # bytes of a file whose server does not say how long it is: ten times D4RL's largest

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Download:
    """A file that servers offer.

    path      its place below the cache folder, and in the table of published checksums
    urls      where it is to be had, in the order in which they are asked
    task      a task whose data it is
    variable  the setting that names further servers
    """

    path: str
    urls: tuple[str, ...]
    task: str
    variable: str

    def __post_init__(self):
        """A path may be that of somebody's record.  Raises CorruptError for one that might lead out of the cache."""
        if not all(map(is_component, self.path.split("/"))):
            raise CorruptError(f"'{shown(self.path)}' is no path of a data file", "swgctl task ls")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class _Failure(Exception):
    """Why a source does not give the file; `resumable` where another try may go on."""

    def __init__(self, reason: object, resumable: bool = False):
        super().__init__(str(reason))
        self.resumable = resumable


def from_setting(variable: str, path: str) -> list[str]:
    """The URLs of a file that an environment variable's templates, separated by spaces, give.

    `{path}` and `{name}` stand for the file's path on its server and its last part; a URL without either is the folder
    that holds the paths.  Raises UsageError for another word in braces.
    """
    names, urls = {"{path}": path, "{name}": path.rpartition("/")[2]}, []
    for template in os.environ.get(variable, "").split():
        for word in re.findall(r"{[^{}]*}", template):
            if word not in names:
                raise UsageError(
                    f"{variable}: {shown(word)} is neither {{path}} nor {{name}}", f"export {variable}=URL/{{path}}"
                )
        filled = re.sub("|".join(names), lambda match: names[match[0]], template)
        urls.append(filled if filled != template else f"{template.rstrip('/')}/{path}")
    return urls


def fetch(download: Download, say: Say, progress: Progress | None = None, trust: bool = False) -> tuple[Path, str]:
    """The file on this machine, and its sha256.

    One in the folder $SWGCTL_DATA, by its path or its bare name, is used where it lies; else the one in the cache
    folder, from the first source that sends the published bytes.  A source that is dead, refuses, or sends other bytes
    is named and left for the next; what arrived is kept where the same source may go on.  A user and a password in a
    URL are used, and neither printed nor kept.

    progress  gets (bytes done, total bytes or None where the server does not say)
    trust     takes another file than the published one, and records that

    Raises InputError where no source has the file or one that is here is not the published one, CorruptError where it
    differs from what was pinned, SwgError where the cache cannot be written.
    """
    if path := _in_local_folder(download.path):
        sum_of, elsewhere = digest(path), True
    else:
        if folder := os.environ.get("SWGCTL_DATA"):
            say(f"SWGCTL_DATA: {folder} does not hold {download.name}")
        path, elsewhere = cache_folder() / download.path, False
        sum_of = cached(path, say, lambda: _download(download, path, say, progress, trust))
    if trust:
        published.trust(download.path, sum_of)
    published.check(download.path, path, sum_of, published.advice(download.task, path, elsewhere))
    if (stands := published.standing(download.path, sum_of)) != published.PUBLISHED:
        say(f"{download.name}: {published.MEANS[stands or published.PINNED]}")
    return path, sum_of


def find(download: Download) -> Path | None:
    """The file that `fetch` would give without a download, unchecked; None where it would download."""
    cached_here = cache_folder() / download.path
    return _in_local_folder(download.path) or (cached_here if os.path.exists(cached_here) else None)


def sources(download: Download) -> Iterator[tuple[str, str, bool]]:
    """For each source its URL, what it answers to a request without a body, and whether `fetch` would try its file."""
    known = published.of(download.path)
    for url in download.urls:
        try:
            with web.open(url, PATIENCE, {"User-Agent": "swgctl"}, method="HEAD") as response:
                size = _count(response.headers.get("Content-Length", ""))
        except (OSError, http.client.HTTPException, ValueError) as error:
            yield web.shown(url), _reason(error), False
            continue
        fits = known is None or size in (None, known.size)
        says = "says no size" if size is None else f"{size:,} bytes"
        yield web.shown(url), says if fits or not known else f"{says}, the published file has {known.size:,}", fits


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _in_local_folder(path: str) -> Path | None:
    folder = os.environ.get("SWGCTL_DATA")
    candidates = (Path(folder, path), Path(folder, Path(path).name)) if folder else ()
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)


def _download(download: Download, target: Path, say: Say, progress: Progress | None, trust: bool) -> None:
    known = None if trust else published.of(download.path)
    failures: dict[str, _Failure] = {}
    for url in download.urls:
        if failures:
            say(f"{'{}: {}'.format(*list(failures.items())[-1])}; asking the next source")
        try:
            part = _from(url, target, say, progress, known)
        except _Failure as failure:
            failures[web.shown(url)] = failure
            continue
        os.replace(part, target)
        for left in target.parent.iterdir():  # parts of other sources
            if left.name.startswith(f"{target.name}.") and left.name.endswith((".part", ".part.json")):
                left.unlink(missing_ok=True)
        return
    reasons = "; ".join(f"{url}: {failure}" for url, failure in failures.items())
    none = "" if len(failures) == 1 else f"no source has {download.name}: "
    help = f"set {download.variable} to a mirror, or SWGCTL_DATA to a folder that holds {download.name}"
    again = "run the same command again: it resumes; or " if any(one.resumable for one in failures.values()) else ""
    raise InputError(f"{none}{reasons}", f"{again}{help}")


def _from(url: str, target: Path, say: Say, progress: Progress | None, known: published.Published | None) -> Path:
    """The whole and right file that `url` sends, beside the target.  Raises _Failure, and OSError of a full disk."""
    named = web.shown(url)
    part = target.with_name(f"{target.name}.{sha256(named.encode()).hexdigest()[:8]}.part")
    origin = part.with_name(part.name + ".json")
    try:
        response, start = _open(url, *_resumable(named, part, origin))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Failure(_reason(error)) from None
    with response:
        total = _total(response, start)
        if known and total not in (None, known.size):
            raise _Failure(f"its file has {total:,} bytes, the published one {known.size:,}")
        if start:
            say(f"resuming {named} at byte {start:,}")
        else:
            say(f"downloading {named}")
            part.unlink(missing_ok=True)  # before its origin changes: old bytes must not pass for new ones
        refuse_link(origin)
        write_text(origin, json.dumps({"url": named, "validator": _validator(response.headers)}), durable=False)
        _receive(response, part, start, progress, known.size if known else total)
    if why := _unlike(part):  # a server may answer 200 with a web page
        part.unlink()
        raise _Failure(why)
    if known and (actual := digest(part)) != known.sha256:
        part.unlink()
        raise _Failure(f"the sha256 of its file is {actual}, that of the published one {known.sha256}")
    return part


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    """The bytes of the whole file, as the server says; None where it does not."""
    whole = _count(response.headers.get("Content-Range", "").rpartition("/")[2]) if start else None
    length = _count(response.headers.get("Content-Length", ""))
    return whole if whole is not None else None if length is None else start + length


def _receive(
    response: http.client.HTTPResponse, part: Path, start: int, progress: Progress | None, total: int | None
) -> None:
    """Write the body to `part` from byte `start` on.  Raises _Failure where it falls short of `total`, or goes beyond,
    which leaves no `part`."""
    done, cause = start, ""
    with os.fdopen(open_plain(part, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if start else os.O_TRUNC)), "wb") as file:
        while True:
            if progress:
                progress(done, total)
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                cause = f": {error or type(error).__name__}"
                break
            if not chunk:
                break
            if done + len(chunk) > (most := MOST if total is None else total):
                part.unlink()
                raise _Failure(f"sent more than the {most:,} bytes that it may have")
            file.write(chunk)
            done += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if cause or total not in (None, done):
        of = "unknown" if total is None else f"{total:,}"
        raise _Failure(f"broke off after {done:,} of {of} bytes{cause}", resumable=True)
    if _cut_off(part):
        raise _Failure(f"broke off after {done:,} bytes", resumable=True)


def _count(text: str) -> int | None:
    """A number of bytes in a header; None where it is none."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _resumable(url: str, part: Path, origin: Path) -> tuple[int, str]:
    """The number of bytes of `url` that are here already, and the validator of the version that they belong to.

    (0, "") without a validator: nothing could tell whether the rest is of that version.
    """
    try:
        record = json.loads(read_plain(origin))
        if record["url"] == url and isinstance(record["validator"], str):
            return part.stat().st_size, record["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return 0, ""


def _open(url: str, start: int, validator: str) -> tuple[http.client.HTTPResponse, int]:
    """The response and the byte that it begins with: `start`, or 0 where the server sends the whole file.

    That happens where it does not support ranges, where by If-Range its file has changed since, and where it ignores
    that and the part that it sends is of another version, or of none that it names.
    """
    headers = {"User-Agent": "swgctl"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    try:
        response = web.open(url, TIMEOUT, headers)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return _open(url, 0, "")
        raise
    if response.status != http.client.PARTIAL_CONTENT:
        return response, 0
    if not start:
        response.close()
        raise ValueError("it sends a part of the file, which nobody asked for")
    from_start = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if not (from_start and _validator(response.headers) == validator):
        response.close()
        return _open(url, 0, "")
    return response, start


def _unlike(part: Path) -> str | None:
    """How a file is not of the kind that its name says, HDF5 or NumPy's npz; None where it is."""
    if ".npz." in part.name:
        return None if zipfile.is_zipfile(part) else "what was sent is not an npz file"
    return None if h5py.is_hdf5(part) else "what was sent is not an HDF5 file"


def _cut_off(part: Path) -> bool:
    """Whether a file is shorter than it says itself, for servers that send no length."""
    if ".npz." in part.name:
        with open(part, "rb") as file:
            return file.read(2) == b"PK" and not zipfile.is_zipfile(part)
    try:
        with h5py.File(part):
            return False
    except OSError as error:
        return "truncated" in str(error)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """A strong ETag, else Last-Modified.  A weak ETag vouches for no bytes (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
