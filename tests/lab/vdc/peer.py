"""What is one peer expected to do, and are its disks and NVRAM unchanged?"""

from __future__ import annotations

import time
from pathlib import Path

from . import disks, nvram
from .errors import LabError
from .lab import Lab
from .machine import BRIDGE, Disk, Port, Spec
from .nodes import KINDS, Identity, Kind


def spec_of(kind: Kind, who: Identity, folder: Path, cpus: int = 2, bridge: str = BRIDGE) -> Spec:
    """The guest of a kind of peer. It boots from the network first, as the operator would set it."""
    return Spec(
        name=who.name, uuid=who.uuid, serial=who.serial, firmware=kind.firmware, cpus=cpus, memory_mib=kind.memory_mib,
        machine=kind.machine, bmc=kind.bmc, ipv6_only=kind.ipv6_only, secure=kind.secure, settings=kind.settings,
        ports=[Port(who.mac, kind.nic, boot_index=0, bridge=bridge)],
        disks=[
            # The peer's disks are only read; host flushes would only cost time.
            Disk(folder / f"{who.name}.disk{number}.raw", bus, f"{who.serial}D{number}", cache="unsafe")
            for number, (bus, _) in enumerate(kind.disks)
        ],
    )


class Peer:
    """One peer: its guest, its disks and what is expected of it."""

    def __init__(self, lab: Lab, kind: str | Kind, who: Identity, bridge: str = BRIDGE) -> None:
        self.kind = kind if isinstance(kind, Kind) else KINDS[kind]
        self.identity = who
        self.lab = lab
        self.spec = spec_of(self.kind, who, lab.folder, bridge=bridge)
        self.machine = lab.machine(self.spec)
        self._before: dict[Path, str] = {}
        self.variables: dict[nvram.Key, nvram.Variable] | None = None
        self.stored_at: float | None = None  # wall clock, when the harness first read it

    @property
    def name(self) -> str:
        return self.identity.name

    def make_disks(self) -> None:
        """Makes the disks and takes their hashes."""
        for number, (disk, (_, content)) in enumerate(zip(self.spec.disks, self.kind.disks, strict=True)):
            if not disk.path.exists():
                disks.make(content, disk.path, seed=int(self.identity.uuid[-4:], 16) * 16 + number)
            self._before.setdefault(disk.path, disks.sha256(disk.path))

    def start(self) -> None:
        """Power on. NVRAM that the firmware has already filled is what it will be compared with."""
        self.make_disks()
        if self.spec.firmware == "uefi" and self.variables is None and self.machine.nvram.exists():
            self.variables = nvram.read(self.machine.nvram)
        self.machine.start()
        self.lab.report.line(f"{self.name}: power on ({self.spec.firmware}, {self.kind.nic})")

    def changes(self) -> list[str]:
        """Everything about its disks and NVRAM that is not as before. The guest must be off."""
        if self.machine.running:
            raise LabError(f"{self.name} still runs")
        said = [
            f"{self.name}: {path.name} changed" for path, digest in self._before.items() if disks.sha256(path) != digest
        ]
        if self.variables is not None:
            own = nvram.FIRMWARE_ONLY | (nvram.ip6_config(self.identity.mac) if self.spec.ipv6_only else frozenset())
            changed = nvram.differences(self.variables, nvram.read(self.machine.nvram), ignore=own)
            said += [f"{self.name}: NVRAM: {change}" for change in changed]
        return said

    def must_be_off(self, seconds: float) -> None:
        """Waits until the guest cut its own power."""
        if not self.machine.wait_off(time.monotonic() + seconds):
            raise LabError(
                f"{self.name} is still on {seconds:.0f} s after its upload was stored; its last console lines:\n"
                + self.machine.console.tail()
            )
        if self.machine.off_reason != "guest-shutdown":
            raise LabError(f"{self.name} ended by {self.machine.off_reason}, not by switching itself off")
        after = self.machine.off_after
        self.lab.report.line(f"{self.name}: off, {after or 0.0:.1f} s after power on")

    def remove_disks(self) -> None:
        for disk in self.spec.disks:
            disk.path.unlink(missing_ok=True)
