"""Does the image of target `bootloader` start on every firmware, and is it left as it was?

The image is made from the ISO that is tried, as `make-recipe-target … bootloader` makes it. Each machine starts from a copy of its own,
has as little memory as a small guest of a cloud, and no other disk.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from . import disks, tools
from .environment import Environment
from .errors import LabError
from .machine import Disk, Machine, Port, Spec
from .nodes import identity
from .suite import Scenario, expect

_CALL = Path(__file__).resolve().parents[3] / "tools" / "call.sh"
_FIRST_STAGE = re.compile(r"first stage of recon")
# An address of documentation (RFC 5737): nobody answers there.
_SETTINGS = '[boot]\r\nurl = "http://192.0.2.1/boot.ipxe"\r\n'
_MEMORY_MIB = 512
# A stick is larger than the image, which leaves the second copy of the partition table in its middle.
_STICK_BYTES = 1 << 30


class BootImages(Environment):
    """Makes the image once."""

    def set_up(self) -> None:
        folder = self.lab.folder
        settings = folder / "boot-settings.toml"
        settings.write_text(_SETTINGS)
        self.image = folder / "boot-image.raw"
        self.before: dict[str, str] = {}
        tools.run([str(_CALL), "boot_image_of", str(self.lab.options.iso), str(self.image), str(settings)], timeout=self.lab.seconds(300.0))

    def start(self, number: int, name: str, firmware: str, bus: str, secure: bool = False) -> Machine:
        """A machine whose only disk is a copy of the image, powered on."""
        lab = self.lab
        copy = lab.folder / f"{name}.disk0.raw"
        tools.run(["cp", "--sparse=always", str(self.image), str(copy)])
        if bus == "usb":
            os.truncate(copy, _STICK_BYTES)
        self.before[name] = disks.sha256(copy)
        who = identity(number, name)
        machine = lab.machine(Spec(
            name=name, uuid=who.uuid, serial=who.serial, firmware=firmware, memory_mib=_MEMORY_MIB, bmc=False, secure=secure,
            ports=[Port(who.mac)], disks=[Disk(copy, bus, f"{who.serial}D0", boot_index=0)],
        ))
        self._stack.enter_context(machine)
        machine.start()
        return machine


def _starts(site: BootImages, machine: Machine) -> None:
    """Process 1 says who it is, and nothing was written to the disk that it came from."""
    # A kernel that panics over QEMU's timers starts anew by itself after half a minute.
    seconds = site.lab.seconds(300.0)
    line = machine.console.wait_for(_FIRST_STAGE, time.monotonic() + seconds)
    if line is None:
        raise LabError(f"{machine.spec.name}: no first stage within {seconds:.0f} s:\n{machine.console.tail()}")
    machine.kill()
    disk = machine.spec.disks[0].path
    expect(disks.sha256(disk) == site.before[machine.spec.name], f"{machine.spec.name} wrote to its image")
    disk.unlink()


def boot_image_bios(site: BootImages) -> None:
    _starts(site, site.start(0x68, "boot-image-bios", "bios", "virtio"))


def boot_image_uefi(site: BootImages) -> None:
    _starts(site, site.start(0x69, "boot-image-uefi", "uefi", "usb"))


def boot_image_secure(site: BootImages) -> None:
    _starts(site, site.start(0x6a, "boot-image-secure", "uefi", "usb", secure=True))


SCENARIOS: list[Scenario[BootImages]] = [
    Scenario("boot-image-bios", "the image of target bootloader on a disk, by BIOS: the first stage runs, the disk stays as it was", boot_image_bios),
    Scenario("boot-image-uefi", "the same on a USB stick, by UEFI", boot_image_uefi),
    Scenario("boot-image-secure", "the same with Secure Boot on, by shim and signed GRUB", boot_image_secure),
]
