"""What does the build fetch, and what does it meet when the mirror is at fault?

An HTTP server on loopback for the folder of the repository, with a log of what was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vdc.errors import LabError

# Why a request is answered other than a mirror would.
MISSING = "missing"
ALTERED_INDEX = "altered index"
STRANGERS_KEY = "stranger's key"
STALLING = "stalling"
# An index whose checksums are right for the altered package would not be signed; so the package alone is altered.
ALTERED_PACKAGE = "altered package"
# How long a stalling server holds a connection at most; it ends with the fault.
_STALL_SECONDS = 600.0


@dataclass(frozen=True)
class Request:
    """One request and how it was answered."""

    method: str
    path: str
    status: int
    sent: int


class Mirror:
    """The server; `with` starts and ends it."""

    def __init__(self, top: Path) -> None:
        self.top = top.resolve()
        self.requests: list[Request] = []
        self.fault: str | None = None
        self.fault_package = ""
        self._lock = threading.Lock()
        self._healed = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mirror.answer(self, True)

            def do_HEAD(self) -> None:
                mirror.answer(self, False)

            def log_message(self, format: str, *args: object) -> None:
                """The list of requests is the log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="mirror", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._healed.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def at_fault(self, fault: str, package: str = "") -> Iterator[None]:
        """For the block, the mirror has that fault; `package` names the altered one."""
        self.fault, self.fault_package = fault, package
        self._healed.clear()
        try:
            yield
        finally:
            self.fault = None
            self._healed.set()

    def since(self, mark: int) -> list[Request]:
        """Requests after a mark that `len(requests)` gave earlier."""
        with self._lock:
            return self.requests[mark:]

    def answer(self, handler: BaseHTTPRequestHandler, with_body: bool) -> None:
        path = unquote(urlsplit(handler.path).path).lstrip("/")
        file = (self.top / path).resolve()
        body: bytes | None = None
        if self.fault == STALLING:
            self._healed.wait(_STALL_SECONDS)
        if self.fault != MISSING and (file == self.top or self.top in file.parents) and file.is_file():
            body = self._body(path, file)
        status = 404 if body is None else 200
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body or b"")))
        handler.send_header("Content-Type", "application/octet-stream")
        if body is not None:
            handler.send_header("Last-Modified", handler.date_time_string(int(file.stat().st_mtime)))
        sent = len(body or b"") if with_body else 0
        try:
            handler.end_headers()
            if with_body and body:
                handler.wfile.write(body)
        except OSError:
            sent = 0
            handler.close_connection = True
        with self._lock:
            self.requests.append(Request(handler.command, path, status, sent))

    def _body(self, path: str, file: Path) -> bytes:
        name = path.rsplit("/", 1)[-1]
        if self.fault == STRANGERS_KEY and name in ("repomd.xml.asc", "repomd.xml.key"):
            return file.with_name(f"{name}.stranger").read_bytes()
        data = file.read_bytes()
        if self.fault == ALTERED_INDEX and name == "repomd.xml":
            return data.replace(b"<revision>", b"<revision>1", 1)
        if self.fault == ALTERED_PACKAGE and name.startswith(f"{self.fault_package}-") and name.endswith(".rpm"):
            # Near the end, in the compressed files: the header stays whole.
            at = len(data) * 9 // 10
            return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:]
        return data


def packages(requests: list[Request]) -> list[str]:
    """Names of the packages that were fetched."""
    got = [request.path for request in requests if request.method == "GET" and request.status == 200]
    return [path.rsplit("/", 1)[-1] for path in got if path.endswith(".rpm")]


def folders(requests: list[Request]) -> dict[str, int]:
    """How many requests each repository had; for the log of a failure."""
    counted: dict[str, int] = {}
    for request in requests:
        folder = "/".join(request.path.split("/")[:5])
        counted[folder] = counted.get(folder, 0) + 1
    return counted


def require_altered(data: bytes) -> None:
    """The switch for an altered index must alter it."""
    if b"<revision>" not in data:
        raise LabError("repomd.xml has no <revision> to alter")
