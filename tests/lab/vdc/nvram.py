"""Did anything but the firmware itself write to a guest's NVRAM?

A guest's variable store cannot be compared byte by byte: OVMF writes to it on every boot, and the store is a log in which
a changed variable is appended and the old one only marked. So the store is read (EDK2's authenticated variable
format, see MdeModulePkg/Include/Guid/VariableFormat.h) and the live variables are compared by name and vendor GUID.

FIRMWARE_ONLY lists the variables that OVMF changes by itself on each boot. It was learned from control boots without any
operating system or recon (`run.py nvram-control` repeats them): a change outside this list is the peer's doing.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from pathlib import Path
from typing import NamedTuple

from .errors import LabError

_FV_NVRAM = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
_AUTH_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_VARIABLE = 0x55AA
# A variable is live while its state is VAR_ADDED, or VAR_ADDED with an update of it in progress.
_ADDED = 0x3F
_IN_DELETED_TRANSITION = 0x3E
_HEADER = struct.Struct("<HBBIQ16sIII16s")

Key = tuple[str, str]

FIRMWARE_ONLY: frozenset[Key] = frozenset({
    # The high half of the UEFI monotonic counter, which the firmware raises by one on each boot.
    ("eb704011-1402-11d3-8e77-00a0c969723b", "MTC"),
})


def ip6_config(mac: str) -> frozenset[Key]:
    """Where the firmware's IPv6 keeps a port's settings (EDK2, Ip6ConfigDxe); its PXE client writes them when it takes an address."""
    return frozenset({("937fe521-95ae-4d1a-8929-48bcd90ad31a", mac.replace(":", "").upper())})


class Variable(NamedTuple):
    name: str
    vendor: str
    attributes: int
    data: bytes


def read(path: Path) -> dict[Key, Variable]:
    """The live non-volatile variables of a store, by (vendor GUID, name)."""
    blob = path.read_bytes()
    if len(blob) < 0x100 or blob[16:32] != _FV_NVRAM or blob[40:44] != b"_FVH":
        raise LabError(f"{path}: no EDK2 variable store")
    at = struct.unpack("<H", blob[48:50])[0]
    if blob[at : at + 16] != _AUTH_STORE:
        raise LabError(f"{path}: not the authenticated variable format")
    size = struct.unpack("<I", blob[at + 16 : at + 20])[0]
    end = min(len(blob), at + size)
    at += 28
    found: dict[Key, Variable] = {}
    while at + _HEADER.size <= end:
        start, state, _, attributes, _, _, _, name_size, data_size, vendor = _HEADER.unpack_from(blob, at)
        if start != _VARIABLE:
            break
        body = at + _HEADER.size
        if name_size > end - body or data_size > end - body - name_size:
            raise LabError(f"{path}: variable at {at:#x} runs past its store")
        if state in (_ADDED, _IN_DELETED_TRANSITION):
            name = blob[body : body + name_size].decode("utf-16-le", "replace").rstrip("\0")
            guid = str(uuid.UUID(bytes_le=vendor))
            key = (guid, name)
            # Of a variable caught in an update the finished copy wins.
            if state == _ADDED or key not in found:
                found[key] = Variable(name, guid, attributes, blob[body + name_size : body + name_size + data_size])
        at = (body + name_size + data_size + 3) & ~3
    return found


def differences(
    before: dict[Key, Variable], after: dict[Key, Variable], ignore: frozenset[Key] = FIRMWARE_ONLY,
) -> list[str]:
    """One line for each variable that was added, removed or changed, without those that the firmware itself changes."""
    said = []
    for key in sorted((set(before) | set(after)) - ignore):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        what = "new" if old is None else "gone" if new is None else "changed"
        said.append(f"{key[1]}-{key[0]} {what} ({_brief(old)} -> {_brief(new)})")
    return said


def _brief(variable: Variable | None) -> str:
    if variable is None:
        return "none"
    if len(variable.data) <= 16:
        return variable.data.hex()
    return f"{len(variable.data)} bytes {hashlib.sha256(variable.data).hexdigest()[:12]}"
