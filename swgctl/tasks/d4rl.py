"""D4RL's files: found on this machine or downloaded, resumable, and pinned by checksum.

The server has answered 403 and has swapped the bytes behind a name (D4RL's issues 244, 19 and 76): hence the
settings for a mirror and a folder, and a checksum beside each file from its first use on.
"""

import http.client
import json
import os
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path

import h5py

from swgctl.errors import InputError
from swgctl.files import write_text
from swgctl.tasks import web
from swgctl.tasks.cache import Say, cache_folder, cached, digest, open_plain, read_plain, refuse_link

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20  # bytes
MOST = 1 << 36  # bytes of a file whose server does not say how long it is: ten times D4RL's largest

Progress = Callable[[int, int | None], None]


def fetch(relative_path: str, say: Say, progress: Progress | None = None) -> tuple[Path, str]:
    """The file `relative_path` of D4RL's server (`gym_mujoco_v2/hopper_medium-v2.hdf5`) on this machine; its sha256.

    A file in the folder $SWGCTL_DATA, by its path or its bare name, is used as it is; else the one in the cache
    folder, downloaded there from $SWGCTL_D4RL_URL or D4RL's own server.  A download that broke off is resumed where the
    server vouches for its file being the same.  A user and a password in that URL are used, and neither printed nor
    kept.  `progress` gets (bytes done, total bytes or None where the server does not say).

    Raises InputError where the file is unavailable, CorruptError where it differs from the one that was pinned,
    SwgError where the cache cannot be written.
    """
    if os.environ.get("SWGCTL_DATA"):
        if path := _in_local_folder(relative_path):
            return path, digest(path)
        say(f"SWGCTL_DATA: {os.environ['SWGCTL_DATA']} does not hold {Path(relative_path).name}")
    target = cache_folder() / relative_path
    return target, cached(target, say, lambda: _download(relative_path, target, say, progress))


def find(relative_path: str) -> Path | None:
    """The file that `fetch` would give without a download, unchecked; None where it would download."""
    fetched = cache_folder() / relative_path
    return _in_local_folder(relative_path) or (fetched if os.path.exists(fetched) else None)


def _in_local_folder(relative_path: str) -> Path | None:
    folder = os.environ.get("SWGCTL_DATA")
    candidates = (Path(folder, relative_path), Path(folder, Path(relative_path).name)) if folder else ()
    return next((path for path in candidates if os.path.isfile(path)), None)


def _download(relative_path: str, target: Path, say: Say, progress: Progress | None) -> None:
    url = f"{(os.environ.get('SWGCTL_D4RL_URL') or SERVER).rstrip('/')}/{relative_path}"
    named = web.shown(url)
    advice = f"set SWGCTL_D4RL_URL to a mirror, or SWGCTL_DATA to a folder that holds {target.name}"
    part = target.with_name(target.name + ".part")
    origin = part.with_name(part.name + ".json")
    try:
        response, start = _open(url, *_resumable(named, part, origin))
    except urllib.error.HTTPError as error:
        raise InputError(f"{named}: HTTP {error.code} {error.reason}", advice) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"{named}: {getattr(error, 'reason', error)}", advice) from None

    with response:
        if start:
            say(f"resuming {named} at byte {start:,}")
        else:
            say(f"downloading {named}")
            part.unlink(missing_ok=True)  # before its origin changes: old bytes must not pass for new ones
        refuse_link(origin)
        write_text(origin, json.dumps({"url": named, "validator": _validator(response.headers)}), durable=False)
        broken = _receive(response, part, start, progress) or _cut_off(part)
    if broken:
        raise InputError(f"{named}: {broken}", f"run the same command again: it resumes; or {advice}")
    if not h5py.is_hdf5(part):  # a server may answer 200 with a web page
        part.unlink()
        raise InputError(f"{named}: what was sent is not an HDF5 file", advice)
    os.replace(part, target)
    origin.unlink()


def _receive(response: http.client.HTTPResponse, part: Path, start: int, progress: Progress | None) -> str | None:
    """Write the body to `part` from byte `start` on.  Returns how it fell short, or None if it is whole.

    A body that is longer than the server said leaves no `part`.
    """
    whole = _count(response.headers.get("Content-Range", "").rpartition("/")[2]) if start else None
    length = _count(response.headers.get("Content-Length", ""))
    total = whole if whole is not None else None if length is None else start + length
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
            if done + len(chunk) > (MOST if total is None else total):
                part.unlink()
                return f"sent more than the {MOST if total is None else total:,} bytes that it may have"
            file.write(chunk)
            done += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if cause or total not in (None, done):
        return f"broke off after {done:,} of {'unknown' if total is None else f'{total:,}'} bytes{cause}"
    return None


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


def _cut_off(part: Path) -> str | None:
    """How an HDF5 file is shorter than its header says, for servers that send no length; None where it is whole."""
    try:
        with h5py.File(part):
            return None
    except OSError as error:
        return f"broke off after {part.stat().st_size:,} bytes" if "truncated" in str(error) else None


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """A strong ETag, else Last-Modified.  A weak ETag vouches for no bytes (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
