"""A program that is the switch's side of link aggregation on a bridge: python3 -m vdc.lacp_partner BRIDGE

Every tap of the bridge from which a LACPDU comes is a port of one aggregation (IEEE 802.1AX-2020 §6.4.2.3): it is answered there, and what
comes from one of them does not go out of another, as a switch would have it. It says which machine aggregates on which tap, by the bits of
the machine's own kernel.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from . import frames

_GROUP = bytes.fromhex("0180c2000002")
_SLOW_PROTOCOLS = 0x8809
_HEAD = struct.Struct("!6s6sHBB")
# Kind and length, then the system's priority and address, key, the port's priority and number, state.
_INFORMATION = struct.Struct("!BBH6sHHHB3x")
_COLLECTOR = struct.Struct("!BBH12x")
_REST = bytes(2 + 50)
_LACP, _VERSION = 1, 1
_ACTOR, _PARTNER, _COLLECTING = 1, 2, 3
# Bits of a state: that all of an aggregation has.
SYNCHRONIZATION, COLLECTS, DISTRIBUTES = 0x08, 0x10, 0x20
_WHOLE = SYNCHRONIZATION | COLLECTS | DISTRIBUTES
# Active, with short time-outs, one of several.
_OURS = 0x01 | 0x02 | 0x04 | _WHOLE

SYSTEM = bytes.fromhex("5254001aac01")
KEY = 1
PRIORITY = 0x8000


class Information(NamedTuple):
    """What one side says of itself, or of the other."""

    system_priority: int
    system: bytes
    key: int
    port_priority: int
    port: int
    state: int

    def encode(self, kind: int) -> bytes:
        return _INFORMATION.pack(kind, _INFORMATION.size, *self)

    def distributes(self) -> bool:
        return self.state & _WHOLE == _WHOLE


def read(frame: bytes) -> tuple[Information, Information] | None:
    """What the sender says of itself and of us; None of other frames."""
    if len(frame) < _HEAD.size + 2 * _INFORMATION.size:
        return None
    to, _, protocol, kind, _ = _HEAD.unpack_from(frame)
    if (to, protocol, kind) != (_GROUP, _SLOW_PROTOCOLS, _LACP):
        return None
    said: list[Information] = []
    for number, wanted in enumerate((_ACTOR, _PARTNER)):
        own, length, *rest = _INFORMATION.unpack_from(frame, _HEAD.size + number * _INFORMATION.size)
        if (own, length) != (wanted, _INFORMATION.size):
            return None
        said.append(Information(*rest))
    return said[0], said[1]


def answer(port: int, sender: Information) -> bytes:
    """What goes back on the port with this number."""
    head = _HEAD.pack(_GROUP, SYSTEM[:5] + bytes([port]), _SLOW_PROTOCOLS, _LACP, _VERSION)
    ours = Information(PRIORITY, SYSTEM, KEY, PRIORITY, port, _OURS).encode(_ACTOR)
    return head + ours + sender.encode(_PARTNER) + _COLLECTOR.pack(_COLLECTING, _COLLECTOR.size, 0) + _REST


def _isolate(tap: str) -> None:
    # It may be gone by now.
    with contextlib.suppress(OSError):
        Path(f"/sys/class/net/{tap}/brport/isolated").write_text("1")


def _taps(bridge: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(name.name for name in Path(f"/sys/class/net/{bridge}/brif").iterdir() if name.name.startswith("tap"))
    return []


class Partner:
    """The ports of the switch, each with its socket."""

    def __init__(self, bridge: str) -> None:
        self._bridge = bridge
        self._ports: dict[str, socket.socket] = {}
        self._said: set[tuple[str, bytes]] = set()

    def look(self) -> None:
        """Listens on taps that have come."""
        taps = _taps(self._bridge)
        for gone in set(self._ports) - set(taps):
            self._ports.pop(gone).close()
        for tap in taps:
            if tap not in self._ports:
                with contextlib.suppress(OSError):
                    self._ports[tap] = frames.tap(tap)

    def serve(self) -> None:
        """Answers for half a second."""
        ready, _, _ = select.select(list(self._ports.values()), [], [], 0.5)
        for tap, end in self._ports.items():
            if end in ready:
                with contextlib.suppress(OSError):
                    self._answer_all(tap, end)

    def _answer_all(self, tap: str, end: socket.socket) -> None:
        for _ in range(64):
            frame, source = end.recvfrom(65536)
            said = None if source[2] == frames.OUTGOING else read(frame)
            if said is None:
                continue
            actor, partner = said
            _isolate(tap)
            # The number stays a port's own, whichever others come and go.
            end.send(answer(1 + int(tap.removeprefix("tap")), actor))
            if actor.distributes() and partner.system == SYSTEM and (tap, actor.system) not in self._said:
                self._said.add((tap, actor.system))
                print(f"{tap}: {actor.system.hex(':')} aggregates with key {actor.key}", flush=True)


def main(bridge: str) -> None:
    """Is the switch until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    partner = Partner(bridge)
    while not stop:
        partner.look()
        partner.serve()


if __name__ == "__main__":
    main(sys.argv[1])
