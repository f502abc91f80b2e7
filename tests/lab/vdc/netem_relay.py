"""A program that joins two links and loses, delays, duplicates and reorders frames: python3 -m vdc.netem_relay LINK LINK LOSS DELAY_MS DUPLICATE REORDER SEED

A process does this instead of the kernel's netem queueing discipline: not every kernel has netem, and a seed makes a failure come back.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import signal
import sys
import time
from typing import NamedTuple

from . import frames

_MAX_FRAME = 1600
# Frames in flight; more than these are lost as well.
_MAX_IN_FLIGHT = 20_000


class Impairments(NamedTuple):
    """Probabilities from 0 to 1, and the delay of each direction. A reordered frame is one that has no delay."""

    loss: float = 0.05
    delay_ms: float = 50.0
    duplicate: float = 0.01
    reorder: float = 0.05
    seed: int = 1


def delays(impairments: Impairments, dice: random.Random) -> list[float]:
    """Seconds until each copy of one frame is sent on; an empty list is a lost frame."""
    if dice.random() < impairments.loss:
        return []
    late = 0.0 if dice.random() < impairments.reorder else impairments.delay_ms / 1000
    return [late, late] if dice.random() < impairments.duplicate else [late]


def relay(links: tuple[str, str], impairments: Impairments) -> None:
    """Passes frames until SIGTERM."""
    ends = [frames.tap(link) for link in links]
    dice = random.Random(impairments.seed)
    in_flight: list[tuple[float, int, int, bytes]] = []
    count = passed = lost = 0
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    while not stop:
        now = time.monotonic()
        while in_flight and in_flight[0][0] <= now:
            _, _, way, frame = heapq.heappop(in_flight)
            with contextlib.suppress(OSError):
                ends[1 - way].send(frame)
        wait: float | None = max(0.0, in_flight[0][0] - now) if in_flight else 1.0
        ready, _, _ = select.select(ends, [], [], wait)
        for end in ready:
            way = ends.index(end)
            for _ in range(64):
                try:
                    frame, source = end.recvfrom(65536)
                except BlockingIOError:
                    break
                if source[2] == frames.OUTGOING:
                    continue
                when = delays(impairments, dice) if len(frame) <= _MAX_FRAME and len(in_flight) < _MAX_IN_FLIGHT else []
                passed, lost = passed + bool(when), lost + (not when)
                for late in when:
                    count += 1
                    heapq.heappush(in_flight, (time.monotonic() + late, count, way, frame))
    print(f"{passed} frames passed, {lost} lost", flush=True)


if __name__ == "__main__":
    loss, delay, duplicate, reorder, seed = sys.argv[3:8]
    relay((sys.argv[1], sys.argv[2]), Impairments(float(loss), float(delay), float(duplicate), float(reorder), int(seed)))
