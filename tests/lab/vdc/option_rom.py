"""How does a card get a boot program that was built for a card of another name?

QEMU has iPXE as an option ROM for some of its cards only. A ROM whose driver knows more cards than its header names serves them, too,
once the header names them: PCI Firmware Specification 3.0, §5.1.2 (data structure `PCIR`).
"""

from __future__ import annotations

import struct
from pathlib import Path

from .errors import LabError, MissingTool

_FOLDERS = ("/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", "/usr/share/qemu", "/usr/share/ipxe")
# Of iPXE's header; nothing else reads it.
_SPARE = 6


def find(name: str) -> Path:
    """QEMU's ROM of a name."""
    for folder in _FOLDERS:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise MissingTool(f"missing option ROM {name} (package ipxe-qemu on Debian, qemu-ipxe on openSUSE)")


def renamed(rom: bytes, vendor: int, device: int) -> bytes:
    """The ROM for another card; its sum stays zero."""
    if rom[:2] != b"\x55\xaa" or len(rom) < 0x1A:
        raise LabError("not an option ROM")
    at = struct.unpack_from("<H", rom, 0x18)[0]
    if rom[at : at + 4] != b"PCIR" or len(rom) < at + 8:
        raise LabError("an option ROM without PCI data")
    made = bytearray(rom)
    struct.pack_into("<HH", made, at + 4, vendor, device)
    made[_SPARE] = (made[_SPARE] + sum(rom[at + 4 : at + 8]) - sum(made[at + 4 : at + 8])) & 0xFF
    return bytes(made)
