"""What lies on the disks of a guest, and is it still the same afterwards?

The disks hold what a careless live system would touch: an ext4 file system whose journal wants replay, a RAID member
and an LVM volume that want to be assembled, a swap area, and plain data. A master or a peer must leave every byte alone.
"""

from __future__ import annotations

import hashlib
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from . import tools
from .errors import LabError

_MIB = 1 << 20
SIZE = 64 * _MIB


def sha256(path: Path) -> str:
    """Hash of a whole disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(4 * _MIB), b""):
            digest.update(block)
    return digest.hexdigest()


def make(kind: str, path: Path, seed: int) -> None:
    """Makes a disk with content of a kind; the seed makes disks differ from each other and runs agree."""
    maker = _MAKERS.get(kind)
    if maker is None:
        raise LabError(f"unknown disk content {kind!r}; there are {', '.join(sorted(_MAKERS))}")
    with path.open("wb") as file:
        file.truncate(SIZE)
    maker(path, random.Random(seed))


def _noise(file: BinaryIO, at: int, size: int, dice: random.Random) -> None:
    file.seek(at)
    file.write(dice.getrandbits(8 * size).to_bytes(size, "little"))


def _uuid(dice: random.Random) -> bytes:
    return dice.getrandbits(128).to_bytes(16, "little")


def _random(path: Path, dice: random.Random) -> None:
    """No table, no signature: bytes of an application that uses the raw device."""
    with path.open("r+b") as file:
        _noise(file, 0, 2 * _MIB, dice)
        _noise(file, SIZE - _MIB, _MIB, dice)


def _ext4(path: Path, dice: random.Random) -> None:
    """GUID table with an ext4 partition, marked as not cleanly unmounted, and a swap partition."""
    tools.run([
        "sgdisk", "-n", "1:2048:98303", "-t", "1:8300", "-c", "1:data", "-n", "2:98304:120831", "-t", "2:8200",
        "-c", "2:swap", str(path),
    ])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / "payroll.bin").write_bytes(dice.getrandbits(8 * _MIB).to_bytes(_MIB, "little"))
        tools.run([
            "mkfs.ext4", "-q", "-F", "-L", "data", "-d", folder, "-E", "offset=1048576", str(path), "46M",
        ])
    with path.open("r+b") as file:
        # The superblock's incompatible features: 0x4 says that the journal must be replayed before use.
        file.seek(_MIB + 1024 + 0x60)
        flags = struct.unpack("<I", file.read(4))[0] | 0x4
        file.seek(_MIB + 1024 + 0x60)
        file.write(struct.pack("<I", flags))
        swap = 98304 * 512
        file.seek(swap + 1024)
        file.write(struct.pack("<III", 1, 22528 * 512 // 4096 - 1, 0) + _uuid(dice))
        file.seek(swap + 4086)
        file.write(b"SWAPSPACE2")


def _raid(path: Path, dice: random.Random) -> None:
    """The only member of a RAID 1 array (metadata 1.2): a system that assembles arrays starts it at once and writes."""
    sectors = SIZE // 512
    data_offset = 2048
    block = bytearray(4096)
    struct.pack_into(
        "<IIII16s32sQiIQIII", block, 0, 0xA92B4EFC, 1, 0, 0, _uuid(dice), b"lab:0", 1767225600, 1, 0,
        sectors - data_offset, 0, 1, 0,
    )
    struct.pack_into("<QQQQII16s", block, 128, data_offset, sectors - data_offset, 8, 0, 0, 0, _uuid(dice))
    struct.pack_into("<QQQII", block, 192, 1767225600, 17, 0xFFFFFFFFFFFFFFFF, 0, 1)
    total = sum(struct.unpack("<64I", block[:256])) + struct.unpack("<H", block[256:258])[0]
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(block)
        _noise(file, data_offset * 512, _MIB, dice)


def _lvm_crc(data: bytes) -> int:
    """LVM's CRC: the usual polynomial with another start value and no final inversion."""
    return ~zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) & 0xFFFFFFFF


def _lvm_id(dice: random.Random) -> str:
    return "".join(dice.choice("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(32))


def _dashed(identity: str) -> str:
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(identity[a:b] for a, b in pairwise(cuts))


def _lvm_metadata(volume: str, group: str, logical: str, name: str) -> bytes:
    """LVM's description of a volume group of one physical and one logical volume."""
    extents = (SIZE - _MIB) // (4 * _MIB)
    return f"""{name} {{
id = "{_dashed(group)}"
seqno = 2
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {{
pv0 {{
id = "{_dashed(volume)}"
device = "/dev/sda"
status = ["ALLOCATABLE"]
flags = []
dev_size = {SIZE // 512}
pe_start = 2048
pe_count = {extents}
}}
}}
logical_volumes {{
data {{
id = "{_dashed(logical)}"
status = ["READ", "WRITE", "VISIBLE"]
flags = []
segment_count = 1
segment1 {{
start_extent = 0
extent_count = 4
type = "striped"
stripe_count = 1
stripes = ["pv0", 0]
}}
}}
}}
}}
contents = "Text Format Volume Group"
version = 1
description = ""
creation_host = "lab"
creation_time = 1767225600
""".encode() + b"\n\0"


def _lvm(path: Path, dice: random.Random) -> None:
    """A physical volume with a volume group and one logical volume that wants activation."""
    volume, group, logical = _lvm_id(dice), _lvm_id(dice), _lvm_id(dice)
    name = f"vg{dice.getrandbits(16):04x}"
    text = _lvm_metadata(volume, group, logical, name)
    area, area_size = 4096, _MIB - 4096
    header = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, area, area_size)
    header += struct.pack("<QQII", 512, len(text), _lvm_crc(text), 0)
    header = header.ljust(508, b"\0")
    header = struct.pack("<I", _lvm_crc(header)) + header
    body = volume.encode() + struct.pack("<Q", SIZE)
    body += struct.pack("<QQQQ", _MIB, 0, 0, 0) + struct.pack("<QQQQ", area, area_size, 0, 0)
    rest = (struct.pack("<I8s", 32, b"LVM2 001") + body).ljust(512 - 20, b"\0")
    label = struct.pack("<8sQI", b"LABELONE", 1, _lvm_crc(rest)) + rest
    with path.open("r+b") as file:
        file.seek(512)
        file.write(label)
        file.seek(area)
        file.write(header)
        file.seek(area + 512)
        file.write(text)
        _noise(file, _MIB, _MIB, dice)


_MAKERS: dict[str, Callable[[Path, random.Random], None]] = {
    "ext4": _ext4, "raid": _raid, "lvm": _lvm, "random": _random,
}
