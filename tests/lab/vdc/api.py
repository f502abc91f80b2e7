"""What does the master's HTTP API say about itself and its nodes?"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from typing import Any

from .errors import LabError
from .namespace import Namespace

# Stage names in the order in which a node reaches them (src/model/node.rs).
STAGES = ("seen", "addressed", "loader", "kernel", "agent", "collected", "stored", "off", "up")
Json = dict[str, Any]
_BODY_LIMIT = 64 << 20


class ApiError(LabError):
    """The master did not answer, or not as it should."""


class _Inside(http.client.HTTPConnection):
    """An HTTP connection whose socket is made inside a network namespace."""

    def __init__(self, namespace: Namespace, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._namespace = namespace
        self._limit = timeout

    def connect(self) -> None:
        self.sock = self._namespace.connect(self.host, self.port, self._limit)


class Api:
    """HTTP client of one master."""

    def __init__(self, namespace: Namespace, address: str = "192.168.219.1", port: int = 80) -> None:
        self._namespace = namespace
        self.address = address
        self.port = port

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        timeout: float = 5.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body."""
        connection = _Inside(self._namespace, self.address, self.port, timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            data = answer.read(_BODY_LIMIT)
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{method} http://{self.address}:{self.port}{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def get_json(self, path: str, timeout: float = 5.0) -> Any:
        status, _, body = self.request("GET", path, timeout=timeout)
        if status != 200:
            raise ApiError(f"GET {path}: status {status}: {body[:200]!r}")
        try:
            return json.loads(body)
        except ValueError as error:
            raise ApiError(f"GET {path}: not JSON: {body[:200]!r}") from error

    def status(self, timeout: float = 5.0) -> Json:
        found = self.get_json("/api/v1/status", timeout)
        if not isinstance(found, dict):
            raise ApiError("/api/v1/status is not an object")
        return found

    def nodes(self) -> list[Json]:
        found = self.get_json("/api/v1/nodes")
        # A bare list, or an object with the list inside: both are read, so that the API may grow fields.
        if isinstance(found, dict):
            found = found.get("nodes")
        if not isinstance(found, list):
            raise ApiError("/api/v1/nodes holds no list of nodes")
        return found

    def node(self, uuid: str, mac: str) -> Json | None:
        """The entry of one machine, by its UUID once the agent spoke, by its MAC before that."""
        entries = self.nodes()
        by_id = [n for n in entries if n.get("id") == uuid]
        return next(iter(by_id + [n for n in entries if mac in n.get("macs", [])]), None)


def content_digest(body: bytes) -> str:
    """Value of the Content-Digest field of an upload (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def digest_header(body: bytes) -> str:
    """The same as a line of a request's head."""
    return f"Content-Digest: {content_digest(body)}"


def rank(stage: str) -> int:
    """Position of a stage in that order; -1 for a name that is not in it."""
    return STAGES.index(stage) if stage in STAGES else -1


def reached(node: Json | None, stage: str) -> bool:
    return node is not None and rank(str(node.get("stage"))) >= rank(stage)


def stage_seconds(node: Json) -> dict[str, float]:
    """When each stage was first reached, in seconds since the master started."""
    return {str(s["stage"]): float(s["at_seconds"]) for s in node.get("stages", [])}
