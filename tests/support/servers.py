"""Servers on loopback for stores that travel: S3 by moto, SFTP by the system's sshd, and the Hub's answers."""

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def await_port(port: int, process: subprocess.Popen | None = None) -> None:
    """Until somebody listens there; skips where the server has ended."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process and process.poll() is not None:
            pytest.skip(f"the server ended: {process.stderr.read() if process.stderr else process.returncode}")
        time.sleep(0.05)
    pytest.fail("the server does not listen")


# -- S3 ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """An S3 server; yields its endpoint."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def bucket(endpoint: str, name: str) -> None:
    """Make a bucket that keeps every version of an object."""
    one = client(endpoint)
    one.create_bucket(Bucket=name)
    one.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def client(endpoint: str | None = None):
    """A client of the server, by default of the one in AWS_ENDPOINT_URL."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint or os.environ["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def keys_are_checked(endpoint: str, wanted: bool) -> None:
    """Let the server refuse access keys that nobody has given out, or accept any."""
    body = b"0" if wanted else b"inf"
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", body, {"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()


# -- SFTP --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sftp(home: Path) -> Iterator[tuple[str, Path]]:
    """The system's sshd as an unprivileged user; yields `sftp://USER@HOST:PORT` and a folder that it can write to.

    home  gets an `.ssh` with the key that may log in and the server's key
    """
    pytest.importorskip("paramiko")
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if not sshd or not shutil.which("ssh-keygen"):
        pytest.skip("there is no sshd")
    root = os.geteuid() == 0
    user = "daemon" if root else getpass.getuser()
    folder, port = Path(tempfile.mkdtemp(prefix="swgctl-sshd-")), free_port()
    process = None
    try:
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        for key in (folder / "host", home / ".ssh/id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        shutil.copy(home / ".ssh/id_ed25519.pub", folder / "authorized")
        host = (folder / "host.pub").read_text()
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
            "MaxStartups 50\n"
        )
        (folder / "data").mkdir()
        for path in (folder, *folder.rglob("*")) if root else ():
            shutil.chown(path, user)
        other = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if root else {}
        command = [sshd, "-D", "-e", "-f", folder / "config"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **other)
        await_port(port, process)
        yield f"sftp://{user}@127.0.0.1:{port}", folder / "data"
    finally:
        if process:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
