"""A program that joins a link with one on which everything stands in a VLAN as well: python3 -m vdc.trunk_relay NEAR FAR VLAN

What comes from FAR with the tag loses it, and what comes without passes; other VLANs end here. What comes from NEAR goes to who was last heard
with the tag with one, to who was heard without one without, and to all others both ways. It says now and then how many came from FAR.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import struct
import sys
import time

from . import frames

# packet(7), include/uapi/linux/if_packet.h: the kernel keeps a frame's tag beside it.
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_AUXDATA = struct.Struct("IIIHHHH")
_TP_STATUS_VLAN_VALID = 1 << 4
_TPID = 0x8100
_ID = 0x0FFF
_ADDRESSES = 12


def tag_beside(auxdata: bytes) -> int | None:
    """The VLAN of a frame whose tag the kernel has taken out."""
    status, _, _, _, _, tci, _ = _AUXDATA.unpack(auxdata)
    return tci & _ID if status & _TP_STATUS_VLAN_VALID else None


def untagged(frame: bytes) -> tuple[bytes, int | None]:
    """A frame without the tag that stands in it, and its VLAN."""
    if len(frame) < _ADDRESSES + 4 or frame[_ADDRESSES:_ADDRESSES + 2] != struct.pack(">H", _TPID):
        return frame, None
    (tci,) = struct.unpack_from(">H", frame, _ADDRESSES + 2)
    return frame[:_ADDRESSES] + frame[_ADDRESSES + 4:], tci & _ID


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:_ADDRESSES] + struct.pack(">HH", _TPID, vlan) + frame[_ADDRESSES:]


class Port:
    """Which frames go on, and how."""

    def __init__(self, vlan: int) -> None:
        self._vlan = vlan
        # MAC address -> whether it was last heard with the tag.
        self._heard: dict[bytes, bool] = {}
        self.tagged = self.bare = 0

    def inwards(self, frame: bytes, vlan: int | None) -> list[bytes]:
        """What goes into the network of a frame that came from behind the port."""
        if vlan not in (None, self._vlan):
            return []
        has_tag = vlan is not None
        self._heard[frame[6:_ADDRESSES]] = has_tag
        self.tagged, self.bare = self.tagged + has_tag, self.bare + (not has_tag)
        return [frame]

    def outwards(self, frame: bytes) -> list[bytes]:
        """What goes out of the port of a frame of the network."""
        has_tag = self._heard.get(frame[:6])
        bare, with_tag = [frame], [tagged(frame, self._vlan)]
        return bare + with_tag if has_tag is None else with_tag if has_tag else bare


def _received(end: socket.socket) -> tuple[bytes, int | None] | None:
    """A frame without its tag, and its VLAN; none of those that this machine sends."""
    frame, beside, _, source = end.recvmsg(65536, socket.CMSG_SPACE(_AUXDATA.size))
    if source[2] == frames.OUTGOING:
        return None
    for level, kind, data in beside:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            vlan = tag_beside(data[:_AUXDATA.size])
            if vlan is not None:
                return frame, vlan
    return untagged(frame)


def relay(near: str, far: str, vlan: int) -> None:
    """Passes frames until SIGTERM."""
    ends = {False: frames.tap(near), True: frames.tap(far)}
    for end in ends.values():
        end.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    port = Port(vlan)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    said, next_word = (0, 0), 0.0
    while not stop:
        if (port.tagged, port.bare) != said and time.monotonic() >= next_word:
            said, next_word = (port.tagged, port.bare), time.monotonic() + 0.5
            print(f"tagged {port.tagged}, bare {port.bare}", flush=True)
        ready, _, _ = select.select(list(ends.values()), [], [], 0.5)
        for end in ready:
            is_far = end is ends[True]
            for _ in range(64):
                try:
                    received = _received(end)
                except BlockingIOError:
                    break
                if received is None:
                    continue
                frame, own = received
                passed = port.inwards(frame, own) if is_far else port.outwards(frame)
                for one in passed:
                    with contextlib.suppress(OSError):
                        ends[not is_far].send(one)


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], int(sys.argv[3]))
