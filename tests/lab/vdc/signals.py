"""How does Ctrl-C or SIGTERM end a run without leaving anything behind?"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception: no handler for failures may swallow it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raises Interrupted on the first SIGTERM, SIGHUP or SIGINT, so that every `with` block cleans up; further ones are ignored."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C must not cut the cleaning up short
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
