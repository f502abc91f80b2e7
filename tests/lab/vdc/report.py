"""How is the progress of a run printed?"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence


class Report:
    """Lines with the time since the run began; safe to call from any thread."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        with self._lock:
            print(f"[{time.monotonic() - self._start:7.1f}] {text}", flush=True)

    def plain(self, text: str = "") -> None:
        """A line without a time: results, tables."""
        with self._lock:
            print(text, flush=True)

    def error(self, text: str) -> None:
        with self._lock:
            print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Columns as wide as they need to be; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row in rows:
        lines.append(indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def size(count: float) -> str:
    """Bytes for people, in decimal units as network figures are given."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
