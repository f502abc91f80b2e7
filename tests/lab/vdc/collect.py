"""Is the inventory that `recon collect` makes of a stick whole?

`recon collect` is asked, as the user would; its tarball is then judged here without trusting it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import zlib
from pathlib import Path
from typing import Any

from .errors import LabError

_MEMBER_LIMIT = 64 << 20
_MEMBERS = 100_000
_TARBALL_LIMIT = 1 << 30


class InventoryTarball:
    """Content of an inventory tarball whose sums were all checked."""

    def __init__(self, files: dict[str, bytes], printed: str, tarball: Path) -> None:
        self.files = files
        self.printed = printed
        self.tarball = tarball

    @property
    def nodes(self) -> set[str]:
        """Ids of the nodes whose inventory is there."""
        return {n.split("/")[1] for n in self.files if n.startswith("nodes/") and n.endswith("/inventory.json")}

    def inventory(self, node: str) -> Any:
        return json.loads(self.file(node, "inventory.json"))

    def file(self, node: str, name: str) -> bytes:
        try:
            return self.files[f"nodes/{node}/{name}"]
        except KeyError as error:
            raise LabError(f"{self.tarball}: no nodes/{node}/{name}") from error

    def under(self, node: str, folder: str) -> dict[str, bytes]:
        head = f"nodes/{node}/{folder}/"
        return {name[len(head) :]: data for name, data in self.files.items() if name.startswith(head)}


def collect(recon: Path, source: Path, tarball: Path, damaged: bool = False) -> InventoryTarball:
    """Runs `recon collect` on a stick's file and reads what it made. It has to fail where something came home damaged."""
    tarball.unlink(missing_ok=True)  # it rightly refuses to overwrite
    done = subprocess.run(
        [str(recon), "collect", str(source), "-o", str(tarball)], stdin=subprocess.DEVNULL, capture_output=True,
        timeout=300, check=False,
    )
    printed = done.stdout.decode("utf-8", "replace")
    if done.returncode != (1 if damaged else 0):
        said = done.stderr.decode("utf-8", "replace").strip()[-600:]
        raise LabError(f"recon collect {source}: exit {done.returncode}: {said}")
    return read(tarball, printed)


def read(tarball: Path, printed: str = "") -> InventoryTarball:
    """Reads a tarball and checks every file against SHA256SUMS, in both directions."""
    files: dict[str, bytes] = {}
    try:
        # tarfile stops at the end mark and would not miss the checksum behind it.
        with gzip.open(tarball) as packed:
            plain = packed.read(_TARBALL_LIMIT)
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                if member.size > _MEMBER_LIMIT or len(files) >= _MEMBERS:
                    raise LabError(f"{tarball}: {member.name}: more than an inventory holds")
                reader = archive.extractfile(member)
                assert reader is not None
                name = member.name[2:] if member.name.startswith("./") else member.name
                files[name] = reader.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise LabError(f"{tarball}: not a whole tar.gz: {error}") from error
    sums = files.get("SHA256SUMS")
    if sums is None:
        raise LabError(f"{tarball}: no SHA256SUMS")
    listed = {}
    for line in sums.decode().split("\n")[:-1]:
        # As sha256sum(1) writes them: a backslash in front says that those in the name stand for something.
        escaped = line.startswith("\\")
        digest, _, name = line[escaped:].partition("  ")
        if escaped:
            name = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        listed[name] = digest
    for name, data in files.items():
        if name != "SHA256SUMS" and listed.get(name) != hashlib.sha256(data).hexdigest():
            raise LabError(f"{tarball}: {name} is not what SHA256SUMS says")
    missing = sorted(set(listed) - set(files))
    if missing:
        raise LabError(f"{tarball}: listed but absent: {', '.join(missing[:5])}")
    return InventoryTarball(files, printed, tarball)
