"""What is the USB stick that the master boots from?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from . import exfat, gpt, tools
from .errors import LabError

LABEL = "RECON-DATA"
_FREE = 1 << 30


def make(iso: Path, stick: Path, free: int = _FREE) -> Path:
    """Writes the image to a `stick`: a sparse file that is larger than the image by `free` bytes."""
    if not iso.is_file():
        raise LabError(f"{iso}: no such image")
    tools.run(["cp", "--reflink=auto", "--sparse=always", str(iso), str(stick)], timeout=300)
    size = (iso.stat().st_size + free) // (1 << 20) * (1 << 20)
    os.truncate(stick, size)
    return stick


def add_data_partition(stick: Path, files: dict[str, bytes]) -> gpt.Partition:
    """Prepares the data partition as a person would on a laptop, with settings and the like already on it.

    Only runs that need settings before the first boot do this; otherwise the master makes the partition itself.
    """
    partition = gpt.add(stick, LABEL)
    with tempfile.TemporaryDirectory(dir=stick.parent) as folder:
        image = Path(folder) / "data.img"
        with image.open("wb") as file:
            file.truncate(partition.size)
        tools.run(["mkfs.exfat", "-L", LABEL, str(image)])
        exfat.write_files(image, files)
        tools.run(["fsck.exfat", "-n", str(image)])
        _copy_into(image, stick, partition.offset)
    return partition


def _copy_into(source: Path, target: Path, offset: int) -> None:
    """Copies a sparse file into another at an offset, leaving holes as holes."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        at, size = 0, source.stat().st_size
        while at < size:
            try:
                at = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:
                return  # only a hole is left
            end = os.lseek(reader.fileno(), at, os.SEEK_HOLE)
            reader.seek(at)
            writer.seek(offset + at)
            left = end - at
            while left > 0:
                block = reader.read(min(left, 1 << 20))
                if not block:
                    return
                writer.write(block)
                left -= len(block)
            at = end


def extract_data_partition(stick: Path, target: Path) -> Path:
    """A copy of the data partition, for `fsck.exfat`."""
    partition = gpt.find(stick, LABEL)
    if partition is None:
        raise LabError(f"{stick}: no partition named {LABEL}")
    with stick.open("rb") as reader, target.open("wb") as writer:
        reader.seek(partition.offset)
        left = partition.size
        while left:
            block = reader.read(min(left, 1 << 20))
            if not block:
                break
            left -= len(block)
            if block.strip(b"\0"):
                writer.write(block)
            else:
                writer.seek(len(block), os.SEEK_CUR)
        writer.truncate(partition.size)
    return target
