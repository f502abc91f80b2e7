"""Where is the data partition on a stick's image, and how is one added?

Reads and writes the GUID partition table of an image file (512-byte sectors) itself: isohybrid tables, with their nested
partitions and their end inside a larger file, are what general tools refuse.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

from .errors import LabError

SECTOR = 512
BASIC_DATA = uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_ALIGN = 2048


class Partition(NamedTuple):
    kind: uuid.UUID
    name: str
    first: int
    last: int

    @property
    def offset(self) -> int:
        return self.first * SECTOR

    @property
    def size(self) -> int:
        return (self.last - self.first + 1) * SECTOR


class _Table(NamedTuple):
    header: tuple[int, ...]
    disk_id: bytes
    entries: bytearray
    entry_size: int


def _load(path: Path) -> _Table:
    with path.open("rb") as file:
        file.seek(SECTOR)
        raw = file.read(SECTOR)
        fields = _HEADER.unpack_from(raw)
        if fields[0] != b"EFI PART":
            raise LabError(f"{path}: no GUID partition table")
        count, size = fields[11], fields[12]
        if size < _ENTRY.size or size > 4096 or count > 1024:
            raise LabError(f"{path}: partition table of {count} entries of {size} bytes")
        file.seek(fields[10] * SECTOR)
        entries = bytearray(file.read(count * size))
    if zlib.crc32(bytes(entries)) != fields[13]:
        raise LabError(f"{path}: partition table is damaged")
    return _Table(fields, fields[9], entries, size)


def partitions(path: Path) -> list[Partition]:
    """The partitions of an image."""
    table = _load(path)
    found = []
    for at in range(0, len(table.entries), table.entry_size):
        kind, _, first, last, _, name = _ENTRY.unpack_from(table.entries, at)
        if kind != bytes(16):
            text = name.decode("utf-16-le", "replace").split("\0")[0]
            found.append(Partition(uuid.UUID(bytes_le=kind), text, first, last))
    return found


def find(path: Path, name: str) -> Partition | None:
    """The partition of that name."""
    return next((p for p in partitions(path) if p.name == name), None)


def add(path: Path, name: str, kind: uuid.UUID = BASIC_DATA) -> Partition:
    """Adds a partition that takes the free space behind the last one, and moves the table's copy to the file's end."""
    table = _load(path)
    sectors = path.stat().st_size // SECTOR
    entry_sectors = (len(table.entries) + SECTOR - 1) // SECTOR
    last_usable = sectors - 2 - entry_sectors
    used = [p.last for p in partitions(path)]
    # An isohybrid's own length is where its old table copy ended; nothing may overlap that either.
    used.append(table.header[6])
    first = (max(used) + _ALIGN) // _ALIGN * _ALIGN
    if first + _ALIGN > last_usable:
        raise LabError(f"{path}: no free space behind the image")
    last = last_usable // _ALIGN * _ALIGN - 1
    slot = next(
        (at for at in range(0, len(table.entries), table.entry_size) if table.entries[at : at + 16] == bytes(16)), None
    )
    if slot is None:
        raise LabError(f"{path}: partition table is full")
    _ENTRY.pack_into(
        table.entries, slot, kind.bytes_le, uuid.uuid4().bytes_le, first, last, 0, name.encode("utf-16-le").ljust(72, b"\0")
    )
    # xorriso chooses where the entries of the first copy are; they stay there.
    _store(path, table, table.header[10], sectors, entry_sectors, last_usable)
    return Partition(kind, name, first, last)


def _store(path: Path, table: _Table, entries_at: int, sectors: int, entry_sectors: int, last_usable: int) -> None:
    with path.open("r+b") as file:
        for own, other, at in ((1, sectors - 1, entries_at), (sectors - 1, 1, sectors - 1 - entry_sectors)):
            crc_entries = zlib.crc32(bytes(table.entries))
            head = [
                b"EFI PART", table.header[1], 92, 0, 0, own, other, table.header[7], last_usable, table.disk_id, at,
                table.header[11], table.entry_size, crc_entries,
            ]
            head[3] = zlib.crc32(_HEADER.pack(*head))
            file.seek(own * SECTOR)
            file.write(_HEADER.pack(*head).ljust(SECTOR, b"\0"))
            file.seek(at * SECTOR)
            file.write(table.entries)
        file.flush()
        os.fsync(file.fileno())
