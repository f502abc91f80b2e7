"""Where does this host keep the firmware that guests start with?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence, Tuple

from .errors import MissingTool

# Code and its matching variable store; the store is copied for each guest. Debian first, then openSUSE, then Fedora.
_UEFI: Sequence[Tuple[str, str]] = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
)


class Uefi(NamedTuple):
    code: Path
    variables: Path


def uefi() -> Uefi:
    """The UEFI firmware of this host."""
    for code, variables in _UEFI:
        if Path(code).is_file() and Path(variables).is_file():
            return Uefi(Path(code), Path(variables))
    raise MissingTool("missing firmware: OVMF (package ovmf on Debian, qemu-ovmf-x86_64 on openSUSE)")
