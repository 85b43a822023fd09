"""A server on this machine that answers as the Hugging Face hub does."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server has, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Of the one repository, `owner/model`."""
    fetched: list[tuple[str, str | None]] = field(default_factory=list)
    """File and range of every request for content."""
    cut_after: int | None = None
    """Bytes of a file after which the connection breaks."""
    damaged: bool = False
    """Whether content arrives with a wrong byte."""
    gated: bool = False
    address: str = ""


def described(name: str, data: bytes) -> dict[str, object]:
    """A file in the listing: large ones are stored apart, as at the hub."""
    known = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
    return known | ({"lfs": lfs} if name.endswith((".safetensors", ".bin", ".nemo")) else {})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/owner/model"):
            self._listing()
        elif match := re.fullmatch(rf"/owner/model/resolve/{SHA}/(.+)", path):
            self._file(match[1], body)
        else:
            self._refuse(404, "RepoNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _listing(self) -> None:
        if self.hub.gated:
            return self._refuse(403, "GatedRepo")
        siblings = [described(name, data) for name, data in self.hub.files.items()]
        data = json.dumps({"id": "owner/model", "sha": SHA, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, name: str, body: bool) -> None:
        if name not in self.hub.files:
            return self._refuse(404, "EntryNotFound")
        data = self.hub.files[name]
        if self.hub.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        wanted = self.headers.get("Range") if body else None
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        part = data[start:]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if not body:
            return
        self.hub.fetched.append((name, wanted))
        cut = self.hub.cut_after
        if cut is not None and len(part) > cut:
            self.wfile.write(part[:cut])
            self.wfile.flush()
            self.connection.shutdown(2)
            return
        self.wfile.write(part)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub
    server.shutdown()
    server.server_close()
