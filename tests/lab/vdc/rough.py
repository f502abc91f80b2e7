"""How does a bad cable behave? Frames lost, late, doubled and out of order, both ways, the same in every run.

Frames pass through a process instead of a queueing discipline of the kernel: not every kernel has netem, and a seed makes a failure
come back. Run as a program it joins two links: `rough.py LINK LINK LOSS DELAY_MS DUPLICATE REORDER SEED`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

_ETH_ALL = 0x0003
_OUTGOING = 4
_MAX_FRAME = 1600
# Frames on their way; a bad cable has an end, and what does not fit is lost as well.
_MAX_UNDER_WAY = 20_000
_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO: the kernel then sends whole frames of wire size with their checksums in them.
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24)


class Faults(NamedTuple):
    """What happens to a frame, as chances from 0 to 1; the delay is of each way, a reordered frame has none."""

    loss: float = 0.05
    delay_ms: float = 50.0
    duplicate: float = 0.01
    reorder: float = 0.05
    seed: int = 1


def fates(faults: Faults, dice: random.Random) -> list[float]:
    """When the copies of one frame come out, in seconds from now; none: it is lost."""
    if dice.random() < faults.loss:
        return []
    late = 0.0 if dice.random() < faults.reorder else faults.delay_ms / 1000
    return [late, late] if dice.random() < faults.duplicate else [late]


class Rough:
    """A bad cable between a bridge of the laboratory and a bridge of its own, for the guests that are to suffer."""

    def __init__(self, wire: object, bridge: str, far: str, faults: Faults, log: Path) -> None:
        self._wire = wire
        self._near, self._far, self._faults, self._log = bridge, far, faults, log
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Rough:
        from .namespace import Namespace

        wire = self._wire
        assert isinstance(wire, Namespace)
        wire.add_bridge(self._far)
        ends: list[tuple[str, str]] = []
        for number, bridge in enumerate((self._near, self._far)):
            ours, theirs = f"rough{number}a", f"rough{number}b"
            wire.ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
            for name in (ours, theirs):
                wire.popen(["sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1"]).wait(10)
            wire.ip("link", "set", theirs, "master", bridge, "up")
            wire.ip("link", "set", ours, "up", "promisc", "on")
            ends.append((ours, theirs))
        wire.call(lambda: [whole_frames(name) for pair in ends for name in pair] and None)
        faults = self._faults
        with self._log.open("ab") as log:
            process = wire.popen(
                [sys.executable, str(Path(__file__).resolve()), ends[0][0], ends[1][0],
                 *(str(value) for value in faults)],
                stdout=log, stderr=log,
            )

        def end() -> None:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                process.wait(10)

        self._stack.callback(end)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def whole_frames(link: str) -> None:
    """Switches off what lets the kernel hand over frames larger than the wire's, or without checksums."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS:
            value = bytearray(struct.pack("II", command, 0))
            buffer = (ctypes.c_char * len(value)).from_buffer(value)
            request = struct.pack("16sP", link.encode(), ctypes.addressof(buffer))
            with contextlib.suppress(OSError):  # a link that has no such offload need not lose it
                fcntl.ioctl(control, _SIOCETHTOOL, request + bytes(16))


def relay(links: tuple[str, str], faults: Faults) -> None:
    """Passes frames until SIGTERM."""
    ends = []
    for link in links:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
        end.bind((link, 0))
        end.setblocking(False)
        ends.append(end)
    dice = random.Random(faults.seed)
    under_way: list[tuple[float, int, int, bytes]] = []
    count = passed = lost = 0
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    while not stop:
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, way, frame = heapq.heappop(under_way)
            with contextlib.suppress(OSError):
                ends[1 - way].send(frame)
        wait: float | None = max(0.0, under_way[0][0] - now) if under_way else 1.0
        ready, _, _ = select.select(ends, [], [], wait)
        for end in ready:
            way = ends.index(end)
            for _ in range(64):
                try:
                    frame, source = end.recvfrom(65536)
                except BlockingIOError:
                    break
                if source[2] == _OUTGOING:
                    continue
                when = fates(faults, dice) if len(frame) <= _MAX_FRAME and len(under_way) < _MAX_UNDER_WAY else []
                passed, lost = passed + bool(when), lost + (not when)
                for late in when:
                    count += 1
                    heapq.heappush(under_way, (time.monotonic() + late, count, way, frame))
    print(f"{passed} frames passed, {lost} lost", flush=True)


if __name__ == "__main__":
    loss, delay, duplicate, reorder, seed = sys.argv[3:8]
    relay((sys.argv[1], sys.argv[2]), Faults(float(loss), float(delay), float(duplicate), float(reorder), int(seed)))
