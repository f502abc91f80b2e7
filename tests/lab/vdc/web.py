"""A web server of the site: a folder of files, by ranges too, and a memory of who asked for what."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .errors import LabError
from .namespace import Namespace
from .resource import Resource

_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")
_PIECE = 1 << 20
# A client that went away, or sleeps for ever.
_PATIENCE = 120.0


class Asked(NamedTuple):
    """One answer: the path, its first byte in the file, and how many were sent."""

    path: str
    start: int
    sent: int


class Web(Resource):
    """Serves `folder` inside the namespace. Of a path in `cut` every connection gets at most so many bytes, and ends."""

    def __init__(self, namespace: Namespace, folder: Path, address: str, port: int = 80, cut: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.url = f"http://{address}:{port}"
        self._place = (address, port)
        self._namespace = namespace
        self._folder = folder
        self._cut = dict(cut or {})
        self._lock = threading.Lock()
        self._asked: list[Asked] = []

    def set_up(self) -> None:
        server = ThreadingHTTPServer(self._place, self._handler(), bind_and_activate=False)
        server.socket.close()
        # A listener stays where it was made, and so does what it accepts.
        server.socket = self._namespace.call(self._listen)
        server.daemon_threads = True
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, name="web", daemon=True).start()

    def _listen(self) -> socket.socket:
        return socket.create_server(self._place, backlog=64)

    def asked(self, path: str) -> list[Asked]:
        """Answers with a body for this path, in order."""
        with self._lock:
            return [asked for asked in self._asked if asked.path == path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = _PATIENCE

            def log_message(self, *_: Any) -> None:
                """The scenarios say what matters of it."""

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                # Dots of a relative name lead to the folder above, never out of the one that is served.
                file = (web._folder / path.lstrip("/")).resolve()
                if not file.is_relative_to(web._folder.resolve()) or not file.is_file():
                    self.send_error(404)
                    return
                size = file.stat().st_size
                wanted = _RANGE.match(self.headers.get("Range", ""))
                start = int(wanted[1]) if wanted else 0
                end = min(int(wanted[2]), size - 1) if wanted and wanted[2] else size - 1
                if start > end:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{size}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", f'"{file.stat().st_mtime_ns}-{size}"')
                self.send_header("Content-Length", str(end - start + 1))
                self.end_headers()
                if body:
                    self._send(path, file, start, end + 1)

            def _send(self, path: str, file: Path, start: int, end: int) -> None:
                stop = min(end, start + web._cut.get(path, end))
                at = start
                try:
                    with file.open("rb") as opened:
                        opened.seek(start)
                        while at < stop and (piece := opened.read(min(_PIECE, stop - at))):
                            self.wfile.write(piece)
                            at += len(piece)
                except OSError:
                    self.close_connection = True
                if at < end:
                    self.close_connection = True
                with web._lock:
                    web._asked.append(Asked(path, start, at - start))

        return Handler


def need(found: list[Asked], what: str) -> list[Asked]:
    """What was asked for, which something must have been."""
    if not found:
        raise LabError(f"nobody asked for {what}")
    return found
