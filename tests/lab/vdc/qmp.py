"""How is one guest controlled over QMP, and which events does it send?"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from .errors import LabError, Timeout

Event = dict[str, Any]


class Qmp:
    """Client of one QEMU's control socket: a thread reads, callers wait on a condition."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self._socket = connection
        self._name = name
        self._changed = threading.Condition()
        self._replies: dict[int, dict[str, Any]] = {}
        self._closed = False
        self._next = 0
        self.on_event: Callable[[Event], None] | None = None
        self._thread = threading.Thread(target=self._read, name=f"qmp-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.command("qmp_capabilities")

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            pass  # the guest is gone; waiters are told below
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "id" in message:
                self._replies[int(message["id"])] = message
            self._changed.notify_all()
        if "event" in message and self.on_event is not None:
            self.on_event(message)

    def command(self, execute: str, arguments: dict[str, Any] | None = None, timeout: float = 20.0) -> Any:
        """Sends one command and returns what QEMU answers."""
        with self._changed:
            self._next += 1
            number = self._next
        message: dict[str, Any] = {"execute": execute, "id": number}
        if arguments:
            message["arguments"] = arguments
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LabError(f"{self._name}: QEMU no longer listens ({execute})") from error
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._replies or self._closed, timeout):
                raise Timeout(f"{self._name}: QEMU did not answer {execute} in {timeout:.0f} s")
            reply = self._replies.pop(number, None)
        if reply is None:
            raise LabError(f"{self._name}: QEMU ended before it answered {execute}")
        if "error" in reply:
            raise LabError(f"{self._name}: {execute}: {reply['error'].get('desc')}")
        return reply.get("return")

    def wait_closed(self, timeout: float) -> bool:
        """True once QEMU closed the socket, which it does when it ends."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, max(0.0, timeout))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(2.0)
        self._socket.close()


def event_time(event: Event) -> float:
    """Wall-clock time of an event, from QEMU's own stamp."""
    stamp = event.get("timestamp", {})
    seconds = stamp.get("seconds")
    return time.time() if seconds is None else float(seconds) + float(stamp.get("microseconds", 0)) / 1e6
