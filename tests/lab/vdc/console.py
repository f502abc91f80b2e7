"""What is printed on a guest's serial line, and when?"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from re import Pattern
from typing import IO, NamedTuple

# Colour, cursor and charset sequences: firmware paints its screen on the serial line too.
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?=!$ ]*[A-Za-z@`]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Za-z0-9]|[=>78cDEHM])")
_LINE_LIMIT = 4096
_KEPT_LINES = 20000


class Line(NamedTuple):
    """One line, with seconds since the guest was started."""

    at: float
    text: str


class Console:
    """Reads a guest's serial line into a log with a time on each line; callers wait for lines that match."""

    def __init__(
        self, stream: IO[bytes], log: Path, name: str, start: float, echo: Callable[[str], None] | None = None,
    ) -> None:
        self._stream = stream
        self._echo = echo
        self._log = log
        self._start = start
        self._lines: list[Line] = []
        self._partial = b""
        self._partial_at = 0.0
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"serial-{name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._log.open("ab") as log:
            while True:
                try:
                    block = self._stream.read1(4096)  # type: ignore[attr-defined]
                except (OSError, ValueError):
                    block = b""
                if not block:
                    break
                self._take(block, log)
            with self._changed:
                if self._partial:
                    self._finish_line(log)
                self._ended = True
                self._changed.notify_all()

    def _take(self, block: bytes, log: IO[bytes]) -> None:
        now = time.monotonic() - self._start
        with self._changed:
            for piece in block.splitlines(keepends=True):
                if not self._partial:
                    self._partial_at = now
                self._partial += piece
                if piece.endswith((b"\n", b"\r")) or len(self._partial) > _LINE_LIMIT:
                    self._finish_line(log)
            log.flush()
            self._changed.notify_all()

    def _finish_line(self, log: IO[bytes]) -> None:
        text = clean(self._partial)
        self._partial = b""
        if text and len(self._lines) < _KEPT_LINES:
            self._lines.append(Line(self._partial_at, text))
            log.write(f"[{self._partial_at:8.2f}] {text}\n".encode())
            if self._echo is not None:
                self._echo(text)

    def lines(self) -> list[Line]:
        """All lines so far; a line still being written counts, since prompts never end theirs."""
        with self._changed:
            return self._all()

    def _all(self) -> list[Line]:
        tail = clean(self._partial)
        return self._lines + ([Line(self._partial_at, tail)] if tail else [])

    def find(self, pattern: Pattern[str], since: float = 0.0) -> Line | None:
        """The first line that matches."""
        return _first(self.lines(), pattern, since)

    def wait_for(self, pattern: Pattern[str], deadline: float, since: float = 0.0) -> Line | None:
        """Waits until a line matches; None when the deadline passed or the guest ended without it."""
        with self._changed:
            while True:
                hit = _first(self._all(), pattern, since)
                left = deadline - time.monotonic()
                if hit is not None or self._ended or left <= 0:
                    return hit
                self._changed.wait(left)

    def tail(self, count: int = 12) -> str:
        """The last lines, for a failure message."""
        return "\n".join(f"    [{line.at:8.2f}] {line.text}" for line in self.lines()[-count:])

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)


def clean(raw: bytes) -> str:
    """Text of a line without terminal control."""
    text = _ESCAPES.sub(b"", raw).decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable()).strip()


def _first(lines: list[Line], pattern: Pattern[str], since: float) -> Line | None:
    for line in lines:
        if line.at >= since and pattern.search(line.text):
            return line
    return None
