"""Which kinds of machines does the virtual data center have?"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A type of peer: its firmware, port, disks, and how it boots."""

    firmware: str
    nic: str
    disks: tuple[tuple[str, str], ...]  # (bus, content)
    memory_mib: int = 1024
    liveboot: bool = False
    bmc: bool = True
    # OVMF with Microsoft's keys enrolled, as servers are delivered.
    secure: bool = False
    # Settings of the firmware (QEMU fw_cfg), as name=value.
    settings: tuple[str, ...] = ()
    ipv6_only: bool = False
    # QEMU's machine type.
    machine: str = "q35"


_NO_PXE_6 = "opt/org.tianocore/IPv6PXESupport=no"
_NO_PXE_4 = "opt/org.tianocore/IPv4PXESupport=no"

# Buses, contents and ports differ on purpose, so that one round meets every driver and every temptation.
KINDS = {
    "uefi": Kind("uefi", "virtio-net-pci", (("virtio", "ext4"), ("nvme", "lvm"))),
    "bios": Kind("bios", "e1000", (("sata", "raid"), ("sata", "random"))),
    # The live image is loaded into memory and unpacked beside it.
    "liveboot": Kind("uefi", "virtio-net-pci", (("nvme", "ext4"), ("virtio", "raid")), memory_mib=3072, liveboot=True),
    # PXE is switched off in its firmware: what is left is HTTP Boot.
    "http": Kind("uefi", "virtio-net-pci", (("nvme", "lvm"),), settings=(_NO_PXE_4, _NO_PXE_6)),
    # Without PXE over IPv6 it does not wait for that between its two attempts, PXE and HTTP Boot.
    "secure": Kind("uefi", "virtio-net-pci", (("virtio", "ext4"),), secure=True, settings=(_NO_PXE_6,)),
    "ipv6": Kind("uefi", "virtio-net-pci", (("virtio", "ext4"), ("sata", "raid")), ipv6_only=True),
    # What a peer is sent does not fit, unpacked, into half of it.
    "small-bios": Kind("bios", "e1000", (("sata", "raid"),), memory_mib=128, bmc=False),
    "small-uefi": Kind("uefi", "virtio-net-pci", (("nvme", "lvm"),), memory_mib=128, bmc=False),
    "nobmc": Kind("uefi", "virtio-net-pci", (("sata", "lvm"),), bmc=False),
}


class Identity(NamedTuple):
    """What tells one machine from another."""

    name: str
    mac: str
    uuid: str
    serial: str


def identity(number: int, name: str) -> Identity:
    """The same number is the same machine in every run: logs and captures can be compared."""
    return Identity(
        name, f"52:54:00:1a:b0:{number:02x}", f"1ab00000-0000-4000-8000-{number:012x}", f"LAB{number:04d}"
    )
