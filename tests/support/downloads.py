"""A real HTTP server on loopback that misbehaves on demand, and downloads from it."""

import contextlib
import hashlib
import http.server
import io
import re
import threading
from collections.abc import Iterator

import h5py
import numpy as np
import pytest

from swgctl.errors import InputError
from swgctl.tasks import d4rl, downloads

NAME = "maze2d/maze2d-umaze-sparse-v1.hdf5"  # nobody published a checksum of it
KNOWN = "gym_mujoco_v2/hopper_medium-v2.hdf5"  # of this one somebody did


def _hdf5(fill: int) -> bytes:
    """A file of a little more than 1 MiB."""
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        file.create_dataset("observations", data=np.full((512, 512), fill, np.float32), track_times=False)
    return whole.getvalue()


BODY, OTHER = _hdf5(1), _hdf5(2)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` to any path.  `log` has (Range, If-Range, status, bytes sent) of each request.

    In the middle of a body it waits until `going` is set, or for `pause` seconds.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.headers, self.log = BODY, {"ETag": '"one"'}, []
        self.ranges, self.status, self.length, self.break_after, self.most = True, 200, None, None, None
        self.conditional, self.to, self.authorizations = True, None, []
        self.going, self.pause = threading.Event(), 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.log.append(("HEAD", None, self.server.status, 0))
        self.send_response(302 if self.server.to else self.server.status)
        self.send_header("Content-Length", str(self.server.length or len(self.server.body)))
        if self.server.to:
            self.send_header("Location", self.server.to)
        self.end_headers()

    def do_GET(self):
        server, wanted, condition = self.server, self.headers["Range"], self.headers["If-Range"]
        start, status = 0, server.status
        fresh = not server.conditional or condition in (None, *server.headers.values())
        server.authorizations.append(self.headers["Authorization"])
        if server.to:
            self.send_response(302)
            self.send_header("Location", server.to)
            self.end_headers()
            return
        if status == 200 and wanted and server.ranges and fresh:
            start, status = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]), 206
            if start >= len(server.body):
                status = 416
        part = server.body[start:][: server.most if status == 206 else None] if status < 300 else b""
        self.send_response(status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(server.body)}")
        if server.length is None:
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        sent = part[: server.break_after]
        server.log.append((wanted, condition, status, len(sent)))
        half = len(sent) // 2
        self.wfile.write(sent[:half])
        server.going.wait(server.pause)
        self.wfile.write(sent[half:])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(progress=None, name=NAME, say=lambda line: None, trust=False):
    path, digest = downloads.fetch(d4rl.download(name), say, progress, trust)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def break_off(server, after):
    server.break_after = after
    with pytest.raises(InputError, match=f"broke off after {after:,} ") as caught:
        fetch()
    assert "same command" in caught.value.help
    server.break_after = None
