"""Minari's sets that are not here: what is downloaded, and what is answered where that fails."""

import http.server
import shutil
import socket
import sys
import threading
import time

import minari
import pytest
from support.minari_sets import PENDULUM, amend

from swgctl.errors import Interrupted, SwgError
from swgctl.tasks import minari_folder

pytestmark = pytest.mark.usefixtures("folder")


def refused(id="test/pendulum-v1", say=lambda _: None):
    with pytest.raises(SwgError) as caught:
        minari_folder.load(id, say)
    return caught.value


@pytest.fixture
def download(monkeypatch):
    """Stands in for Minari's download: `download.then(id)` is what it does, `download.forced` how it was called."""

    def download(id, force_download):
        print("Downloading from Farama servers")
        download.forced.append(force_download)
        download.then(id)

    download.forced = []
    monkeypatch.setattr(minari, "download_dataset", download)
    monkeypatch.setattr(minari_folder, "_knock", lambda host: None)
    return download


@pytest.fixture
def refusing(monkeypatch):
    """A remote that answers every request with 403."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        # read when the library is imported, which an earlier test may have done
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        yield
        server.shutdown()
        thread.join()


# ---- ids, and what is here


@pytest.mark.parametrize("id", ["", "test/pendulum", "../etc/passwd-v0", "test/pend ulum-v0", "hf://x/pendulum-v0"])
def test_a_malformed_id_is_refused(id):
    error = refused(id)
    assert (error.code, "is not an id of a Minari data set" in str(error)) == (2, True)
    assert ("(did you mean 'test/pendulum-v0'?)" in str(error)) == ("pend" in id)


def test_a_set_of_another_minari_says_what_to_update(folder):
    amend(folder, minari_version="9.0.0")
    error = refused(PENDULUM)
    assert (error.code, "9.0.0" in str(error)) == (3, True)
    assert error.help.startswith("pip install --upgrade minari")


def test_without_minari_there_is_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    error = refused()
    assert (error.code, error.help) == (3, "pip install 'minari[hdf5,hf]'")


# ---- downloads


def test_a_set_is_downloaded_once_and_standard_output_stays_empty(download, folder, tmp_path, said, capsys):
    shutil.move(folder / PENDULUM, tmp_path / "remote")
    download.then = lambda id: shutil.copytree(tmp_path / "remote", folder / id)
    assert minari_folder.local(PENDULUM) is None
    for _ in range(2):
        assert minari_folder.load(PENDULUM, said.append).total_steps == 36
    assert download.forced == [False]
    assert said == [
        f"minari:{PENDULUM} is not in {folder}: downloading it from hf://farama-minari at http://127.0.0.1:9"
    ]
    assert capsys.readouterr() == ("", "Downloading from Farama servers\n")


@pytest.mark.parametrize("missing", ["main_data.hdf5", "metadata.json"])
def test_a_download_that_broke_off_is_resumed(download, folder, said, missing):
    path = folder / PENDULUM / "data" / missing
    content = path.read_bytes()
    path.unlink()
    download.then = lambda id: path.write_bytes(content)
    assert minari_folder.load(PENDULUM, said.append).total_steps == 36
    assert download.forced == [True]
    path.unlink()
    download.then = lambda id: None
    assert "is incomplete" in str(refused(PENDULUM))


def test_a_signal_stops_a_download(download):
    def stop(_):
        raise Interrupted("stopped by SIGINT")

    download.then = stop
    assert isinstance(refused(), Interrupted)


# ---- remotes


@pytest.mark.parametrize("remote", ["nonsense", "s3://bucket", "hf://"])
def test_a_malformed_remote_is_refused(monkeypatch, remote):
    monkeypatch.setenv("MINARI_REMOTE", remote)
    error = refused()
    assert (error.code, f"'{remote}'" in str(error)) == (2, True)


@pytest.mark.timing
@pytest.mark.parametrize("remote", ["hf://farama-minari", "gcp://minari-remote"])
def test_a_dead_remote_is_answered_at_once(monkeypatch, remote, said):
    monkeypatch.setenv("MINARI_REMOTE", remote)
    started = time.monotonic()
    error = refused(say=said.append)
    assert time.monotonic() - started < 5
    assert error.code == 3
    assert "test/pendulum-v1 (did you mean 'test/pendulum-v0'?) cannot be downloaded" in str(error)
    assert f"{remote} at http://127.0.0.1:9: " in str(error)
    assert "Connection refused" in str(error)
    assert error.help.startswith("minari download test/pendulum-v1 ")
    assert "MINARI_REMOTE" in error.help
    assert "MINARI_DATASETS_PATH" in error.help
    assert len(said) == 1


def test_a_silent_remote_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(minari_folder, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "timed out" in str(refused())


def impatient() -> None:
    minari_folder.SILENCE = 0.4


def test_a_remote_that_falls_silent_is_left(start, tmp_path):
    """It answers that it is there, and nothing after that.  The process ends, whatever a library still waits for."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def do_GET(self):
            over.wait(60)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        env = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
        env["MINARI_DATASETS_PATH"] = str(tmp_path / "minari")
        answer = start("critic", "minari:test/pendulum-v1", env=env, setup=impatient).answer()
        over.set()
        server.shutdown()
        thread.join()
    answer.refused(3, "it has sent nothing for 0.4 seconds")


@pytest.mark.parametrize("host", ["http://no-such-host.invalid", "no url"])
def test_a_remote_that_is_nowhere_is_named(monkeypatch, host):
    monkeypatch.setenv("HF_ENDPOINT", host)
    error = refused()
    assert (error.code, host in str(error)) == (3, True)


def test_a_refusing_remote_is_quoted(refusing):
    error = refused()
    assert (error.code, "403" in str(error)) == (3, True)


def test_a_missing_extra_is_the_line_to_type(monkeypatch, refusing):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "minari.storage.remotes.huggingface", raising=False)
    error = refused()
    assert (error.code, error.help) == (3, 'pip install "minari[hf]"')
    assert str(error) == "minari:test/pendulum-v1: huggingface_hub is not installed"
