"""How do files get into, and out of, the root folder of an exFAT image without a driver in the kernel?

Writes what the exFAT specification asks of a plain file in the root directory: contiguous clusters, an entry set with its
checksum, the allocation bitmap. `fsck.exfat` judges the result. Only ASCII names, only the root folder.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .errors import LabError

# 2026-01-01 00:00:00 UTC in exFAT's packed form: a lab stick's files need a date, not the true one.
_STAMP = (2026 - 1980) << 25 | 1 << 21 | 1 << 16
_UTC = 0x80


class _Volume(NamedTuple):
    base: int
    fat: int
    heap: int
    clusters: int
    root: int
    cluster_size: int


def _open_volume(file: BinaryIO, base: int) -> _Volume:
    file.seek(base)
    boot = file.read(512)
    if boot[3:11] != b"EXFAT   ":
        raise LabError(f"no exFAT file system at byte {base}")
    fat, _, heap, clusters, root = struct.unpack_from("<IIIII", boot, 80)
    sector, per_cluster = 1 << boot[108], 1 << boot[109]
    return _Volume(base, base + fat * sector, base + heap * sector, clusters, root, sector * per_cluster)


def _chain(file: BinaryIO, volume: _Volume, cluster: int) -> list[int]:
    found: list[int] = []
    while 2 <= cluster < volume.clusters + 2 and len(found) < volume.clusters:
        found.append(cluster)
        file.seek(volume.fat + 4 * cluster)
        cluster = struct.unpack("<I", file.read(4))[0]
    return found


def _offset_of(volume: _Volume, cluster: int) -> int:
    return volume.heap + (cluster - 2) * volume.cluster_size


def _read_root(file: BinaryIO, volume: _Volume) -> bytes:
    blocks = []
    for cluster in _chain(file, volume, volume.root):
        file.seek(_offset_of(volume, cluster))
        blocks.append(file.read(volume.cluster_size))
    return b"".join(blocks)


def _entry_set(name: str, cluster: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le")
    parts = [encoded[at : at + 30].ljust(30, b"\0") for at in range(0, len(encoded), 30)]
    name_hash = 0
    for byte in name.upper().encode("utf-16-le"):
        name_hash = ((name_hash >> 1) | (name_hash << 15 & 0x8000)) + byte & 0xFFFF
    file_entry = struct.pack(
        "<BBHHHIIIBBBBB7s", 0x85, 1 + len(parts), 0, 0x20, 0, _STAMP, _STAMP, _STAMP, 0, 0, _UTC, _UTC, _UTC, b""
    )
    # Flags: allocation possible, and no FAT chain because the clusters are contiguous.
    flags = 0x03 if size else 0x01
    stream = struct.pack("<BBBBHHQIIQ", 0xC0, flags, 0, len(name), name_hash, 0, size, 0, cluster if size else 0, size)
    entries = bytearray(file_entry + stream + b"".join(b"\xc1\0" + part for part in parts))
    checksum = 0
    for at, byte in enumerate(entries):
        if at not in (2, 3):
            checksum = ((checksum >> 1) | (checksum << 15 & 0x8000)) + byte & 0xFFFF
    struct.pack_into("<H", entries, 2, checksum)
    return bytes(entries)


def write_files(image: Path, files: dict[str, bytes], base: int = 0) -> None:
    """Adds files to the root folder of the freshly made file system that starts at byte `base` of the image."""
    with image.open("r+b") as file:
        volume = _open_volume(file, base)
        root = _read_root(file, volume)
        bitmap_at, bitmap = _bitmap(file, volume, root)
        used = next(at for at in range(0, len(root), 32) if root[at] == 0)
        entries = b""
        for name, data in sorted(files.items()):
            if not name.isascii() or "/" in name or not 0 < len(name) < 256:
                raise LabError(f"{name!r}: only plain ASCII names in the root folder")
            count = -(-len(data) // volume.cluster_size)
            cluster = _allocate(bitmap, volume.clusters, count) if count else 0
            if count:
                file.seek(_offset_of(volume, cluster))
                file.write(data)
            entries += _entry_set(name, cluster, len(data))
        if used + len(entries) > volume.cluster_size:
            raise LabError("more files than one cluster of the root folder holds")
        file.seek(_offset_of(volume, volume.root) + used)
        file.write(entries)
        file.seek(bitmap_at)
        file.write(bitmap)


def _bitmap(file: BinaryIO, volume: _Volume, root: bytes) -> tuple[int, bytearray]:
    for at in range(0, len(root), 32):
        if root[at] == 0x81:
            cluster, size = struct.unpack_from("<IQ", root, at + 20)
            start = _offset_of(volume, cluster)
            file.seek(start)
            return start, bytearray(file.read(size))
    raise LabError("no allocation bitmap")


def _allocate(bitmap: bytearray, clusters: int, count: int) -> int:
    """First run of free clusters that is long enough; marks it used."""
    run = 0
    for index in range(clusters):
        run = 0 if bitmap[index // 8] >> (index % 8) & 1 else run + 1
        if run == count:
            for used in range(index - count + 1, index + 1):
                bitmap[used // 8] |= 1 << (used % 8)
            return index - count + 3
    raise LabError(f"no {count} free clusters in a row")
