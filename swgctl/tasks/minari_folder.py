"""The data sets in Minari's folder on this machine, and Minari's own downloads into it.

A dead remote is reported in seconds, nothing is written to standard output, and every error has its line to type.
"""

import contextlib
import http.client
import json
import os
import re
import ssl
import sys
import threading
import time
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path

import gymnasium

from swgctl.errors import CorruptError, InputError, SwgError, UsageError, nearest
from swgctl.tasks import web
from swgctl.tasks.cache import Say, cache_folder, locked, make_parent, read_plain

REMOTE = "hf://farama-minari"  # Minari's default
# The host of each kind of remote, and the environment variable that overrides it.
HOSTS = {
    "hf": ("HF_ENDPOINT", "https://huggingface.co"),
    "gcp": ("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com"),
}
LARGEST = 1 << 26  # bytes of a set's metadata
PATIENCE = 10  # seconds until a remote must have answered
SILENCE = 60  # seconds without a byte of a set after which a download is given up


def library():
    """The package minari.  Raises InputError where it is missing."""
    try:
        import minari
    except ImportError as error:
        help = "pip install 'minari[hdf5,hf]'"
        raise InputError(f"Minari's data sets need the package minari: {error}", help) from None
    return minari


def root() -> Path:
    """$MINARI_DATASETS_PATH, else ~/.minari/datasets."""
    from minari.storage import get_dataset_path

    try:
        return get_dataset_path()
    except OSError as error:
        raise InputError(
            f"{error.filename}: Minari's folder cannot be used: {error.strerror}",
            "set MINARI_DATASETS_PATH to a folder that can be written to",
        ) from None


def folder(id: str) -> Path:
    """The folder of a data set, whether or not it has been downloaded.  Raises UsageError for a malformed id."""
    library()
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(id)
    except (ValueError, TypeError):  # TypeError: it has no version
        raise UsageError(
            f"'{id}' is not an id of a Minari data set, such as D4RL/pen/human-v2{_like(id)}",
            "minari list local   # or: minari list remote",
        ) from None
    return root() / id


def local(id: str):
    """The data set of an id; None where it is missing or incomplete.

    Raises UsageError for a malformed id, InputError for a set that this version of Minari cannot load, CorruptError
    where its metadata are damaged.
    """
    path = folder(id)
    _check_metadata(id, path / "data" / "metadata.json")
    try:
        return library().load_dataset(id)
    except FileNotFoundError:
        return None
    except ImportError as error:
        raise _extra(id, error) from None
    except (
        *(OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError),
        gymnasium.error.Error,
    ) as error:
        if "No data found" in str(error):  # a download that broke off
            return None
        raise InputError(
            f"minari:{id} cannot be loaded from {path}: {error or type(error).__name__}",
            f"pip install --upgrade minari   # or: minari download --force {id}",
        ) from None


def _check_metadata(id: str, path: Path) -> None:
    """Check what Minari is about to read, where it is there.

    Of a set without its spaces Minari would make the environment, by whatever `entry_point` the set names.
    Raises InputError for such a set, and where its metadata may not be read, CorruptError for damaged ones.
    """
    again = f"minari download --force {id}"
    try:
        metadata = json.loads(read_plain(path, LARGEST, links=True))
    except OSError:
        return  # it is missing, or Minari meets the same
    except (ValueError, RecursionError):
        raise CorruptError(f"minari:{id}: {path} is not JSON", again) from None
    if not isinstance(metadata, dict):
        raise CorruptError(f"minari:{id}: {path} is not the metadata of a set", again)
    if not isinstance(recorded := metadata.get("dataset_id"), str) or not re.fullmatch(r"[\w/-]+", recorded):
        raise CorruptError(f"minari:{id}: {path}: dataset_id is not the id of a set", again)
    for name in ("total_steps", "total_episodes"):
        if type(number := metadata.get(name)) is not int or not 0 <= number < 1 << 53:
            raise CorruptError(f"minari:{id}: {path}: {name} is not a number of them", again)
    if not all(isinstance(metadata.get(name), str) for name in ("observation_space", "action_space")):
        raise InputError(f"minari:{id} does not say of which spaces its observations and its actions are", again)


def load(id: str, say: Say):
    """The data set of an id, downloaded first where it is missing, by one process at a time.

    Raises UsageError for a malformed id or remote, InputError where the set is unavailable.
    """
    if (dataset := local(id)) is not None:
        return dataset
    target = cache_folder() / "minari" / id.replace("/", "-")
    try:
        make_parent(target)
        with locked(target, say):
            return _download(id, say) if (dataset := local(id)) is None else dataset
    except OSError as error:
        help = "set SWGCTL_CACHE to a folder that can be written to"
        raise SwgError(f"{target} cannot be locked: {error.strerror}", help) from None


def _download(id: str, say: Say):
    remote = os.environ.get("MINARI_REMOTE") or REMOTE
    kind, _, name = remote.partition("://")
    if kind not in HOSTS or not name:
        raise UsageError(f"MINARI_REMOTE: '{remote}' is not a remote of Minari", f"export MINARI_REMOTE={REMOTE}")
    setting, host = HOSTS[kind]
    host = os.environ.get(setting) or host
    at = web.shown(host)
    say(f"minari:{id} is not in {root()}: downloading it from {remote} at {at}")
    try:
        _knock(host)
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari, force = library(), folder(id).exists()
            _while_bytes_arrive(
                root() / id.partition("/")[0], lambda: minari.download_dataset(id, force_download=force)
            )
    except SwgError:  # a signal came
        raise
    except ImportError as error:
        raise _extra(id, error) from None
    except Exception as error:  # the exceptions differ from remote to remote
        reason = (str(error) or type(error).__name__).replace(host, at)
        raise InputError(
            f"minari:{id}{_like(id)} cannot be downloaded from {remote} at {at}: {reason}",
            f"minari download {id}   # MINARI_REMOTE: another remote; MINARI_DATASETS_PATH: a folder that has the set",
        ) from None
    if (dataset := local(id)) is None:
        raise InputError(f"minari:{id}: what {remote} sent is incomplete", f"minari download --force {id}")
    return dataset


def _while_bytes_arrive(into: Path, download: Callable[[], object]) -> None:
    """Call `download`, in a thread, and leave it when nothing has arrived in `into` for SILENCE seconds.

    Some requests of the remotes' libraries wait for ever.  Raises OSError then, and what `download` raises.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            download()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)  # a process that ends does not wait for it
    thread.start()
    size, since = _bytes_in(into), time.monotonic()
    while thread.is_alive():
        thread.join(min(1, SILENCE / 4))
        if (now := _bytes_in(into)) != size:
            size, since = now, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > SILENCE:
            raise OSError(f"it has sent nothing for {SILENCE:g} seconds")
    if raised:
        raise raised[0]


def _bytes_in(folder: Path) -> int:
    sizes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a part that is renamed meanwhile
            sizes += path.stat().st_size
    return sizes


def _knock(host: str) -> None:
    """Check that a host answers: the remotes' libraries retry for half a minute, or for ever.  Raises OSError."""
    try:
        web.open(host, PATIENCE, method="HEAD").close()
    except urllib.error.HTTPError:
        pass  # an answer
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # the libraries bring their own certificates
            raise OSError(str(error.reason)) from None
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP server: {error}") from None


def _extra(id: str, error: ImportError) -> InputError:
    """An error for a missing package; Minari's messages end in the line that installs it."""
    line = re.search("`(pip install .*?)`", str(error))
    return InputError(f"minari:{id}: {str(error).partition('. ')[0]}", line[1] if line else "pip install 'minari[all]'")


def _like(id: str) -> str:
    here = root()
    ids = {file.parents[1].relative_to(here).as_posix() for file in here.rglob("data/metadata.json")}
    return nearest(id, ids - {id})  # the set itself may be here in part
