"""How does a program take whole frames off a link?"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct

_ETH_ALL = 0x0003
# What a packet socket says of a frame that this machine sends itself (PACKET_OUTGOING).
OUTGOING = 4
_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO: the kernel then sends whole frames of wire size with their checksums in them.
_OFFLOADS = (0x17, 0x19, 0x1F, 0x24)


def tap(link: str) -> socket.socket:
    """Sends and receives whole frames on a link; waits for none."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
    end.bind((link, 0))
    end.setblocking(False)
    return end


def whole_frames(link: str) -> None:
    """Switches off what lets the kernel hand over frames larger than the wire's, or without checksums."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS:
            value = bytearray(struct.pack("II", command, 0))
            buffer = (ctypes.c_char * len(value)).from_buffer(value)
            request = struct.pack("16sP", link.encode(), ctypes.addressof(buffer))
            with contextlib.suppress(OSError):  # the link has no such offload
                fcntl.ioctl(control, _SIOCETHTOOL, request + bytes(16))
