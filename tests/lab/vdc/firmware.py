"""Where does this host keep the firmware that guests start with?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import MissingTool

# Code and its matching variable store; the store is copied for each guest. Debian first, then openSUSE, then Fedora.
_UEFI: Sequence[tuple[str, str]] = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
)

# The same with Microsoft's keys enrolled and Secure Boot on.
_SECURE: Sequence[tuple[str, str]] = (
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
)


class Uefi(NamedTuple):
    code: Path
    variables: Path


def uefi(secure: bool = False) -> Uefi:
    """The UEFI firmware of this host, plain or with Secure Boot on."""
    for code, variables in _SECURE if secure else _UEFI:
        if Path(code).is_file() and Path(variables).is_file():
            return Uefi(Path(code), Path(variables))
    raise MissingTool("missing firmware: OVMF (package ovmf on Debian, qemu-ovmf-x86_64 on openSUSE)")
