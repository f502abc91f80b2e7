"""What does a switch send on each cable?

Switches send LLDP (IEEE 802.1AB) and, some of them, CDP by themselves, every 30 to 60 seconds; this one every second, so that
peers which wait for it are done soon. Each guest port hears its own port name, as at a real switch: frames leave
through the guest's own tap, not over the bridge.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from .checksum import internet_checksum
from .namespace import Namespace

MANAGEMENT = "192.0.2.10"
VLAN = 100
SYSTEM = "lab-switch"
DESCRIPTION = "Recon Lab virtual switch"
_PAUSE = 1.0
_LLDP_GROUP = bytes.fromhex("0180c200000e")
_CDP_GROUP = bytes.fromhex("01000ccccccc")
CHASSIS = bytes.fromhex("0200005a0001")


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">H", kind << 9 | len(value)) + value


def lldp(port: str) -> bytes:
    """One LLDPDU for a port of this name."""
    management = bytes([5, 1]) + socket.inet_aton(MANAGEMENT) + bytes([2]) + struct.pack(">I", 7) + b"\0"
    return (
        _LLDP_GROUP + CHASSIS + b"\x88\xcc"
        + _tlv(1, b"\x04" + CHASSIS) + _tlv(2, b"\x05" + port.encode()) + _tlv(3, struct.pack(">H", 120))
        + _tlv(4, f"to guest {port}".encode()) + _tlv(5, SYSTEM.encode()) + _tlv(6, DESCRIPTION.encode())
        + _tlv(7, struct.pack(">HH", 0x14, 0x04)) + _tlv(8, management)
        + _tlv(127, bytes.fromhex("0080c201") + struct.pack(">H", VLAN)) + _tlv(0, b"")
    )


def _field(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, 4 + len(value)) + value


def cdp(port: str) -> bytes:
    """One CDPv2 packet for a port of this name, in its 802.3 frame with SNAP."""
    address = struct.pack(">I", 1) + b"\x01\x01\xcc" + struct.pack(">H", 4) + socket.inet_aton(MANAGEMENT)
    fields = (
        _field(1, SYSTEM.encode()) + _field(2, address) + _field(3, port.encode()) + _field(4, struct.pack(">I", 0x28))
        + _field(5, DESCRIPTION.encode()) + _field(6, b"Lab") + _field(10, struct.pack(">H", VLAN))
    )
    body = b"\x02\xb4\0\0" + fields
    body = body[:2] + struct.pack(">H", internet_checksum(body)) + body[4:]
    snap = bytes.fromhex("aaaa0300000c2000") + body
    return _CDP_GROUP + CHASSIS + struct.pack(">H", len(snap)) + snap


class Switch:
    """Sends LLDP to every guest port of a namespace until the block ends. Ports of the bridge `cdp_on` get CDP instead."""

    def __init__(self, namespace: Namespace, cdp_on: str = "lab1") -> None:
        self._namespace = namespace
        self._cdp_on = cdp_on
        # Bridges on which nothing is sent, as behind an unmanaged switch.
        self.silent: set[str] = set()
        self._stop = threading.Event()
        self._sockets: dict[str, socket.socket] = {}
        self._thread = threading.Thread(target=self._send, name="switch", daemon=True)

    def __enter__(self) -> Switch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10.0)
        for made in self._sockets.values():
            made.close()

    def _send(self) -> None:
        while not self._stop.wait(_PAUSE):
            taps = self._namespace.taps()
            for gone in set(self._sockets) - set(taps):
                self._sockets.pop(gone).close()
            for tap, bridge in taps.items():
                if bridge in self.silent:
                    continue
                frame = cdp(tap) if bridge == self._cdp_on else lldp(tap)
                made = self._port_socket(tap)
                # A guest that is just going takes its tap with it.
                with contextlib.suppress(OSError):
                    if made is not None:
                        made.send(frame)

    def _port_socket(self, tap: str) -> socket.socket | None:
        if tap not in self._sockets:
            try:
                self._sockets[tap] = self._namespace.packet_socket(tap)
            except OSError:
                return None
        return self._sockets[tap]
