"""A server that answers as the Hugging Face Hub does, as far as `hf://` asks: repositories of small files."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

OID = "0" * 40  # of every commit and file


class Hub(ThreadingHTTPServer):
    """Repositories by name, each of files by path; `private` are those that were made so, `commits` their messages."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits: list[str] = []
        self.refuses = False  # every request, with 403


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def _send(self, value, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _host(self) -> str:
        return f"http://{self.headers['Host']}"

    def _missing(self, code: str) -> None:
        self._send({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        if self.server.refuses:
            self._send({"error": "forbidden"}, 403, X_Error_Message="forbidden")
        elif path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.repositories.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(name)
            self._send({"url": f"{self._host}/{name}", "id": name})
        elif path == "api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        else:
            api = path.startswith("api/models/")
            words = path.removeprefix("api/models/").split("/")
            name, verb, rest = "/".join(words[:2]), words[2] if len(words) > 2 else "", "/".join(words[4:])
            files = self.server.repositories.get(name)
            if files is None:
                self._missing("RepoNotFound")
            elif api:
                self._api(name, files, verb, rest, body)
            elif rest in files:
                self._file(files[rest])
            else:
                self._missing("EntryNotFound")

    def _api(self, name: str, files: dict[str, bytes], verb: str, rest: str, body: bytes) -> None:
        if verb in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            self._send({"id": name, "modelId": name, "sha": OID, "private": False, "tags": [], "siblings": siblings})
        elif verb == "preupload":
            asked = json.loads(body)["files"]
            answers = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in asked]
            self._send({"files": answers, "commitOid": OID})
        elif verb == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files |= {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.server.commits.append(lines[0]["value"]["summary"])
            self._send({"success": True, "commitUrl": f"{self._host}/{name}/commit/{OID}", "commitOid": OID})
        elif verb == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            self._send([one for path in asked for one in (_info(files, path),) if one])
        elif verb == "tree":
            names = {path.removeprefix(f"{rest}/" if rest else "") for path in files if not rest or f"{rest}/" in path}
            entries = sorted({"/".join(filter(None, (rest, one.partition("/")[0]))) for one in names})
            recursive = "recursive=true" in self.path.lower()
            paths = sorted(p for p in files if not rest or p.startswith(f"{rest}/")) if recursive else entries
            if not paths:
                self._missing("EntryNotFound")
            else:
                self._send([_info(files, path) for path in paths])
        else:
            self._missing("EntryNotFound")

    def _file(self, content: bytes) -> None:
        start, end, status = 0, len(content), 200
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(int(last or end) + 1, end), 206
        ranges = {"Content_Range": f"bytes {start}-{end - 1}/{len(content)}"} if status == 206 else {}
        self._send(content[start:end], status, ETag=f'"{OID}"', X_Repo_Commit=OID, Accept_Ranges="bytes", **ranges)


def _info(files: dict[str, bytes], path: str) -> dict | None:
    """What the Hub says of a path; None where nothing is there."""
    if path in files:
        return {"type": "file", "path": path, "size": len(files[path]), "oid": OID}
    if any(one.startswith(f"{path}/") for one in files):
        return {"type": "directory", "path": path, "oid": OID}
    return None


@contextlib.contextmanager
def serving() -> Iterator[tuple[Hub, str]]:
    """A hub, and its address for HF_ENDPOINT."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub, f"http://127.0.0.1:{hub.server_address[1]}"
    finally:
        hub.shutdown()
        hub.server_close()
