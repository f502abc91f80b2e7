"""How is a tar.gz made in memory?"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable


def tar_gz(members: Iterable[tuple[str, bytes]], mode: int = 0o644, level: int = 9) -> bytes:
    """The bytes of an archive of regular files, (name, content) each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=level) as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
