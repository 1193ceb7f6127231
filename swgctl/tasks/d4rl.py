"""D4RL's files: found on this machine or downloaded, resumable, and pinned by checksum.

The server has answered 403 and has swapped the bytes behind a name (D4RL's issues 244, 19 and 76): hence the
settings for a mirror and a folder, and a checksum beside each file from its first use on.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import h5py

from swgctl.errors import InputError
from swgctl.files import sha256
from swgctl.tasks.cache import Say, cache_folder, cached

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
TIMEOUT = 60  # seconds without a byte
CHUNK = 1 << 20  # bytes

Progress = Callable[[int, int | None], None]


def fetch(relative_path: str, say: Say, progress: Progress | None = None) -> tuple[Path, str]:
    """The file `relative_path` of D4RL's server (`gym_mujoco_v2/hopper_medium-v2.hdf5`) on this machine; its sha256.

    A file in the folder $SWGCTL_DATA, by its path or its bare name, is used as it is; else the one in the cache
    folder, downloaded there from $SWGCTL_D4RL_URL or D4RL's own server.  A download that broke off is resumed.
    `progress` gets (bytes done, total bytes or None where the server does not say).

    Raises InputError where the file is unavailable, CorruptError where it differs from the one that was pinned,
    SwgError where the cache cannot be written.
    """
    if os.environ.get("SWGCTL_DATA"):
        if path := _in_local_folder(relative_path):
            return path, sha256(path)
        say(f"SWGCTL_DATA: {os.environ['SWGCTL_DATA']} does not hold {Path(relative_path).name}")
    target = cache_folder() / relative_path
    return target, cached(target, say, lambda: _download(relative_path, target, say, progress))


def find(relative_path: str) -> Path | None:
    """The file that `fetch` would give without a download, unchecked; None where it would download."""
    fetched = cache_folder() / relative_path
    return _in_local_folder(relative_path) or (fetched if fetched.exists() else None)


def _in_local_folder(relative_path: str) -> Path | None:
    folder = os.environ.get("SWGCTL_DATA")
    candidates = (Path(folder, relative_path), Path(folder, Path(relative_path).name)) if folder else ()
    return next((path for path in candidates if path.is_file()), None)


def _download(relative_path: str, target: Path, say: Say, progress: Progress | None) -> None:
    url = f"{(os.environ.get('SWGCTL_D4RL_URL') or SERVER).rstrip('/')}/{relative_path}"
    advice = f"set SWGCTL_D4RL_URL to a mirror, or SWGCTL_DATA to a folder that holds {target.name}"
    part = target.with_name(target.name + ".part")
    origin = part.with_name(part.name + ".json")
    try:
        response, start = _open(url, *_resumable(url, part, origin))
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: HTTP {error.code} {error.reason}", advice) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"{url}: {getattr(error, 'reason', error)}", advice) from None

    with response:
        if start:
            say(f"resuming {url} at byte {start:,}")
        else:
            say(f"downloading {url}")
            part.unlink(missing_ok=True)  # before its origin changes: old bytes must not pass for new ones
        origin.write_text(json.dumps({"url": url, "validator": _validator(response.headers)}))
        broken = _receive(response, part, start, progress) or _cut_off(part)
    if broken:
        raise InputError(f"{url}: {broken}", f"run the same command again: it resumes; or {advice}")
    if not h5py.is_hdf5(part):  # a server may answer 200 with a web page
        part.unlink()
        raise InputError(f"{url}: what was sent is not an HDF5 file", advice)
    os.replace(part, target)
    origin.unlink()


def _receive(response: http.client.HTTPResponse, part: Path, start: int, progress: Progress | None) -> str | None:
    """Write the body to `part` from byte `start` on.  Returns how it fell short, or None if it is whole."""
    whole = response.headers.get("Content-Range", "").rpartition("/")[2] if start else ""
    length = response.headers.get("Content-Length", "")
    total = int(whole) if whole.isdecimal() else start + int(length) if length.isdecimal() else None
    done, cause = start, ""
    with open(part, "ab" if start else "wb") as file:
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
            file.write(chunk)
            done += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if cause or total not in (None, done):
        return f"broke off after {done:,} of {'unknown' if total is None else f'{total:,}'} bytes{cause}"
    return None


def _resumable(url: str, part: Path, origin: Path) -> tuple[int, str | None]:
    """The number of bytes of `url` that are here already, and the validator of the version that they belong to."""
    try:
        record = json.loads(origin.read_text())
        if record["url"] == url:
            return part.stat().st_size, record["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return 0, None


def _open(url: str, start: int, validator: str | None) -> tuple[http.client.HTTPResponse, int]:
    """The response and the byte that it begins with: `start`, or 0 where the server sends the whole file.

    That happens where it does not support ranges, and where by If-Range its file has changed since.
    """
    headers = {"User-Agent": "swgctl"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return _open(url, 0, None)
        raise
    if response.status != http.client.PARTIAL_CONTENT:
        return response, 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        response.close()
        return _open(url, 0, None)
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
