"""What does a DHCP packet say?"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .errors import LabError

_COOKIE = b"\x63\x82\x53\x63"
KINDS = {1: "discover", 2: "offer", 3: "request", 4: "decline", 5: "ack", 6: "nak", 7: "release", 8: "inform"}


class Packet(NamedTuple):
    """The fields that judges and fixtures look at."""

    op: int
    xid: int
    mac: str
    your_address: str
    file: str
    options: dict[int, bytes]

    @property
    def kind(self) -> str:
        value = self.options.get(53, b"\0")
        return KINDS.get(value[0] if value else 0, "bootp")

    @property
    def arch(self) -> int | None:
        """Option 93: the client's firmware."""
        value = self.options.get(93, b"")
        return struct.unpack(">H", value[:2])[0] if len(value) >= 2 else None

    @property
    def vendor_class(self) -> str:
        return self.options.get(60, b"").decode("ascii", "replace")

    @property
    def user_class(self) -> str:
        return self.options.get(77, b"").decode("ascii", "replace")

    @property
    def is_ipxe(self) -> bool:
        return "iPXE" in self.user_class

    @property
    def server(self) -> str | None:
        value = self.options.get(54, b"")
        return ".".join(map(str, value)) if len(value) == 4 else None

    @property
    def boot_file(self) -> str:
        """The `file` field, or option 67 where the field is empty."""
        return self.file or self.options.get(67, b"").rstrip(b"\0").decode("ascii", "replace")


def parse(payload: bytes) -> Packet:
    """Reads a BOOTP/DHCP payload; options that occur twice are joined, as RFC 3396 says."""
    if len(payload) < 240 or payload[236:240] != _COOKIE:
        raise LabError("not a DHCP packet")
    options: dict[int, bytes] = {}
    at = 240
    while at < len(payload) and payload[at] != 255:
        code = payload[at]
        if code == 0:
            at += 1
            continue
        if at + 1 >= len(payload):
            break
        length = payload[at + 1]
        options[code] = options.get(code, b"") + payload[at + 2 : at + 2 + length]
        at += 2 + length
    return Packet(
        payload[0], struct.unpack(">I", payload[4:8])[0], ":".join(f"{b:02x}" for b in payload[28:34]),
        ".".join(map(str, payload[16:20])), payload[108:236].split(b"\0")[0].decode("ascii", "replace"), options,
    )


def build(
    kind: int, mac: str, xid: int, options: dict[int, bytes], client_address: str = "0.0.0.0", broadcast: bool = True,
) -> bytes:
    """A client's packet."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    address = bytes(int(part) for part in client_address.split("."))
    head = struct.pack(">BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000 if broadcast else 0)
    body = head + address + bytes(12) + hardware + bytes(10) + bytes(64) + bytes(128) + _COOKIE
    body += bytes([53, 1, kind])
    for code, value in options.items():
        body += bytes([code, len(value)]) + value
    return (body + b"\xff").ljust(300, b"\0")
