"""Remote file systems by fsspec: one set of verbs, and one kind of error whatever a library raises.

A URL is `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `sftp://[USER@]HOST[:PORT]/PATH`, `hf://OWNER/NAME`, `file:///PATH` or
a folder's path.  The libraries' own settings give credentials and endpoints: AWS_PROFILE and AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS, the SSH agent and ~/.ssh, HF_TOKEN and HF_ENDPOINT.
"""

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from swgctl.console import quoted, shown, without_password
from swgctl.errors import InputError, SwgError, UsageError, nearest
from swgctl.files import open_regular
from swgctl.store.schema import MOST

PATIENCE = 10  # seconds until a remote must have answered
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Scheme:
    """The package of a kind of remote, the extra of swgctl that installs it, and a command that tries the access."""

    package: str
    extra: str
    access: str


SCHEMES = {
    "s3": Scheme("s3fs", "s3", "aws s3 ls {url}   # credentials: AWS_PROFILE; another server: AWS_ENDPOINT_URL"),
    "gs": Scheme("gcsfs", "gs", "gcloud storage ls {url}   # credentials: gcloud auth application-default login"),
    "sftp": Scheme("paramiko", "sftp", "sftp {url}   # credentials: the SSH agent and ~/.ssh"),
    "hf": Scheme(
        "huggingface_hub",
        "hf",
        "hf auth whoami   # credentials: hf auth login, or HF_TOKEN; another server: HF_ENDPOINT",
    ),
    "file": Scheme("fsspec", "", "ls -ld {path}"),
}


def scheme_of(url: str) -> str:
    """The scheme of a URL; "file" for a path.  Raises UsageError for one that is not in SCHEMES."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        if not url:
            raise UsageError("an empty URL names no store", "swgctl push REF s3://BUCKET/PATH")
        return "file"
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(
            f"'{shown(url)}' is of no kind that a store can travel by{nearest(scheme, SCHEMES)}", f"{known} or a folder"
        )
    if "#" in rest:
        raise UsageError(
            f"'{shown(url)}' has an id, and a store is meant", quoted(without_password(url.partition("#")[0]))
        )
    if not rest.strip("/"):
        raise UsageError(f"'{shown(url)}' names no place", f"swgctl push REF {scheme}://...   # {_example(scheme)}")
    if scheme == "hf" and not re.fullmatch(r"((datasets|spaces)/)?\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", rest.strip("/")):
        raise UsageError(f"'{shown(url)}' is not {_example('hf')}", "swgctl push REF hf://OWNER/NAME")
    return scheme


def _example(scheme: str) -> str:
    place = {"sftp": "USER@HOST/PATH", "hf": "OWNER/NAME", "file": "/PATH"}.get(scheme, "BUCKET/PATH")
    return f"{scheme}://{place}"


def _no_host(url: str) -> str | None:
    """Why a URL names no server; None where it does."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # a bracket that is not closed, a port beyond 65535, or a password with a /
        return "its host or its port is malformed"
    return None if re.fullmatch(r"[\w.:-]*\w[\w.:-]*", parts.hostname or "") else "it names no host"


@dataclass
class Remote:
    """A folder in a remote file system; paths are relative to it and have '/' between their components."""

    url: str
    scheme: str = field(init=False)
    root: str = field(init=False)

    def __post_init__(self) -> None:
        self.scheme = scheme_of(self.url)
        if self.scheme == "file":
            path = self.url.removeprefix("file://")
            self.root = str(Path(path).absolute())
            self.url = self.root
            return
        self.url = self.url.rstrip("/")
        self.root = self.url.partition("://")[2]
        if self.scheme == "sftp":
            self.root = f"/{self.root.partition('/')[2]}"
            if why := _no_host(self.url) or ("it names no folder" if not self.root.strip("/") else None):
                raise UsageError(f"'{shown(self.url)}': {why}", f"swgctl push REF {_example('sftp')}")

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it is; None where it is none."""
        return Path(self.root) if self.scheme == "file" else None

    @property
    def name(self) -> str:
        """The URL without a password."""
        return without_password(self.url)

    @cached_property
    def fs(self) -> Any:
        """The file system.  Raises InputError where its package is missing, or nobody answers."""
        scheme = SCHEMES[self.scheme]
        try:
            importlib.import_module(scheme.package)
        except ImportError:
            install = f"'swgctl[{scheme.extra}]'" if scheme.extra else scheme.package
            message = f"{self.name}: {self.scheme}:// needs the package {scheme.package}"
            raise InputError(message, f"pip install {install}") from None
        with self._answering():
            return {"s3": _s3, "gs": _gs, "sftp": _sftp, "hf": _hf, "file": _file}[self.scheme](self.url)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn whatever a library raises into one InputError; FileNotFoundError stays."""
        try:
            yield
        except (SwgError, FileNotFoundError, KeyboardInterrupt):
            raise
        except PermissionError as error:
            reason = str(error) or "permission denied"
            raise InputError(f"{self.name}: no permission: {reason}", self._access) from None
        except Exception as error:  # the exceptions differ from library to library
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            kind = "no permission: " if _forbidden(error, reason) else ""
            raise InputError(f"{self.name}: {kind}{reason}", self._access) from None

    @property
    def _access(self) -> str:
        return SCHEMES[self.scheme].access.format(url=quoted(self.name), path=quoted(self.root))

    def path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    # -- reading -------------------------------------------------------------------------------------------------------

    def sizes(self, name: str) -> dict[str, int | None]:
        """The entries of a folder and the size of each, None for a folder; empty where the folder does not exist."""
        with self._answering():
            try:
                self.fs.dircache.clear()
                entries = self.fs.ls(self.path(name), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        listed = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        return {
            one: None if entry["type"] == "directory" else entry["size"]
            for one, entry in listed.items()
            if entry["name"].rstrip("/") != self.path(name).rstrip("/")
        }

    def folders(self, name: str) -> list[str]:
        """The folders in a folder, by name; none where it does not exist."""
        return sorted(one for one, size in self.sizes(name).items() if size is None)

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None where it does not exist."""
        return self.read_all([name])[0]

    def read_all(self, names: list[str]) -> list[bytes | None]:
        """The bytes of several small files, at once where the file system can; None for one that does not exist."""
        if not names:
            return []
        paths = [self.path(name) for name in names]
        with self._answering():
            if self.fs.async_impl:
                contents = self.fs.cat(paths, on_error="return")
                values = [contents[path] for path in paths]
            else:
                values = [self._content(path) for path in paths]
            if failed := next((v for v in values if isinstance(v, Exception) and not _missing(v)), None):
                raise failed
        return [None if isinstance(value, Exception) else value for value in values]

    def _content(self, path: str) -> bytes | Exception:
        """The bytes of a small file; of a folder's at most MOST + 1, which tell that there are too many."""
        try:
            if self.folder:
                with open_regular(path) as file:
                    return file.read(MOST + 1)
            return self.fs.cat_file(path)
        except OSError as error:
            return error

    def blocks(self, name: str) -> Generator[bytes, None, None]:
        """The bytes of a file, block by block.  Raises InputError where it does not exist."""
        try:
            with self._answering():
                file = self.fs.open(self.path(name), "rb")
            with contextlib.closing(file):
                while True:
                    with self._answering():
                        block = file.read(BLOCK)
                    if not block:
                        return
                    yield block
        except FileNotFoundError:
            raise InputError(f"{self.name} has no {name}", f"swgctl ls {quoted(self.name)}") from None

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, file: Path, name: str) -> None:
        """Copy a file of this machine there, in place of what is there.  Folders above it appear."""
        _ = self.fs
        try:
            with self._answering():
                self.fs.put_file(str(file), self.path(name))
        except FileNotFoundError as error:
            raise InputError(f"{self.name} does not exist: {error}", self._access) from None

    def rename(self, old: str, new: str) -> None:
        """Rename a folder of an SFTP server.  Raises InputError where the new name is taken."""
        fs = self.fs
        try:
            with self._answering():
                fs.makedirs(self.path(new).rpartition("/")[0], exist_ok=True)
                fs.ftp.posix_rename(self.path(old), self.path(new))
        except FileNotFoundError as error:
            raise InputError(f"{self.name}: {new} cannot be made: {error}", self._access) from None

    def remove(self, name: str) -> None:
        """Remove a file or a folder; what cannot be removed stays."""
        with contextlib.suppress(Exception):
            self.fs.rm(self.path(name), recursive=True)

    def commit(self, files: dict[str, Path], message: str) -> None:
        """Copy files to a repository of the Hugging Face Hub in one commit; a repository that is new is private."""
        from huggingface_hub import CommitOperationAdd

        at = self.fs.resolve_path(self.root)
        with self._answering():
            operations = [CommitOperationAdd(name, str(file)) for name, file in files.items()]
            self.hub.create_commit(
                at.repo_id, operations, commit_message=message, repo_type=at.repo_type, revision=at.revision
            )
            self.fs.dircache.clear()

    def create(self) -> bool:
        """Make the repository of a `hf://` URL, private; False where it exists."""
        kind, _, rest = self.root.partition("/") if self.root.startswith(("datasets/", "spaces/")) else ("", "", "")
        with self._answering():
            repository, kind = (rest or self.root).partition("@")[0], (kind or "models").removesuffix("s")
            if self.hub.repo_exists(repository, repo_type=kind):
                return False
            self.hub.create_repo(repository, repo_type=kind, private=True, exist_ok=True)
            self.fs.invalidate_cache()
        return True

    @cached_property
    def hub(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def _missing(error: Exception) -> bool:
    """True where there is no such file, or a folder, a pipe or a circle of links in its place."""
    absent = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    return absent or getattr(error, "errno", None) in (errno.EINVAL, errno.ELOOP)


def _forbidden(error: Exception, reason: str) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (401, 403) or bool(re.search(r"access ?denied|forbidden|credentials|authentication", reason, re.I))


# -- one of each kind --------------------------------------------------------------------------------------------------
# Without caches: others write to the remote meanwhile.


def _s3(_: str) -> Any:
    import s3fs

    waits = {"connect_timeout": PATIENCE, "retries": {"mode": "standard", "max_attempts": 3}}
    return s3fs.S3FileSystem(config_kwargs=waits, use_listings_cache=False, skip_instance_cache=True)


def _gs(_: str) -> Any:
    import gcsfs

    return gcsfs.GCSFileSystem(use_listings_cache=False, skip_instance_cache=True)


def _hf(_: str) -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"), skip_instance_cache=True)


def _file(_: str) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(skip_instance_cache=True)


def _sftp(url: str) -> Any:
    """An SFTP server whose key is in ~/.ssh/known_hosts, where others make folders at the same time.

    fsspec would trust any key of any server, and fail where another is quicker.
    """
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class Known(SFTPFileSystem):
        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()

        def makedirs(self, path: str, exist_ok: bool = False, mode: int = 0o777) -> None:
            folders = [path[:end] for end in range(1, len(path)) if path[end] == "/"] + [path]
            for folder in folders:
                if not self.exists(folder):
                    try:
                        self.ftp.mkdir(folder, mode)
                    except OSError:
                        if not self.exists(folder):  # else another has made it meanwhile
                            raise

    parts = urlsplit(url)
    login: dict[str, Any] = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), PATIENCE)
    for name, value in (("port", parts.port), ("username", parts.username), ("password", parts.password)):
        if value:
            login[name] = unquote(value) if isinstance(value, str) else value
    try:
        return Known(parts.hostname, skip_instance_cache=True, **login)
    except paramiko.BadHostKeyException as error:
        raise InputError(
            f"{parts.hostname} has another host key than it had: {error}", f"ssh {parts.hostname}"
        ) from None
    except paramiko.SSHException as error:
        if "not found in known_hosts" not in str(error):
            raise
        port = f" -p {parts.port}" if parts.port else ""
        raise InputError(
            f"the host key of {parts.hostname} is not in ~/.ssh/known_hosts",
            f"ssh{port} {parts.hostname}   # once, and compare the key that it shows",
        ) from None
