"""How does the laboratory wait for something that sends no event? By asking again and again until a deadline.

Serial lines and QMP send events and are waited for with conditions; the master's API is polled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import Timeout

T = TypeVar("T")


def wait_until(look: Callable[[], T | None], seconds: float, what: str, every: float = 0.25) -> T:
    """Calls `look` until it returns something; `look` may raise to give up early."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise Timeout(f"{what}: not within {seconds:.0f} s")
        time.sleep(min(every, left))
