"""How long does the laboratory wait for something it cannot be told of?

Everything else waits on conditions (serial lines, QMP events). The master's API is asked again and again until a deadline.
"""

from __future__ import annotations

import time
from typing import TypeVar
from collections.abc import Callable

from .errors import Timeout

T = TypeVar("T")


def until(look: Callable[[], T | None], seconds: float, what: str, every: float = 0.25) -> T:
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
