"""How do tools that the live image does not have get into a guest?

As the site's own workload: a post.tgz with the host's programs, each with the libraries and the loader it needs, so that
they run whatever the guest's own libraries are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from . import tools
from .archive import tar_gz
from .errors import LabError

_LIBRARY = re.compile(r"(/\S+)\s+\(0x")
# Files the programs look things up in.
_DATA = (
    "/usr/share/misc/pci.ids", "/usr/share/misc/usb.ids", "/usr/share/misc/enterprise-numbers.txt",
    "/usr/share/hwdata/pci.ids", "/usr/share/hwdata/usb.ids",
)


def libraries(program: str) -> list[Path]:
    """Everything a dynamic program is linked with, its loader included."""
    text = tools.run(["ldd", program])
    found = [Path(path) for path in _LIBRARY.findall(text)]
    if not found:
        raise LabError(f"{program}: ldd names no libraries")
    return found


def pack(programs: Iterable[str], script: str) -> bytes:
    """A post.tgz: `post.sh`, and for each program a wrapper `bin/<name>`."""
    members = [("post.sh", script.encode())]
    packed: set[str] = set()
    for name in programs:
        program = tools.path_of(name)
        loader = ""
        for library in libraries(program):
            if library.name.startswith("ld-linux"):
                loader = library.name
            if library.name not in packed:
                packed.add(library.name)
                members.append((f"lib/{library.name}", library.resolve().read_bytes()))
        members.append((f"exe/{name}", Path(program).resolve().read_bytes()))
        wrapper = f'#!/bin/sh\nB=${{0%/bin/*}}\nexec "$B/lib/{loader}" --library-path "$B/lib" "$B/exe/{name}" "$@"\n'
        members.append((f"bin/{name}", wrapper.encode()))
    members += [(f"share/{data.name}", data.resolve().read_bytes()) for data in map(Path, _DATA) if data.exists()]
    return tar_gz(members, mode=0o755, level=6)
