"""What does a guest's NVRAM look like once its firmware has booted, with nothing else involved?

A new variable store is empty, and OVMF fills it on its first boots. A server in a rack has done that long ago. So each
UEFI guest boots once, against a DHCP server whose boot file does not exist, before the run that is judged.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from . import nvram, polling
from .errors import LabError, Timeout
from .foreign_dhcp import ForeignDhcpServer
from .machine import BRIDGE, Machine, Spec
from .namespace import Namespace
from .peer import Peer

# What the firmware says when the boot file was not there: by then it has tried the network, and written what it writes.
_GAVE_UP = re.compile(r"PXE-E[0-9]+")
_AT_ONCE = 2


def seed_nvram(specs: list[Spec], folder: Path, accel: str, seconds: float) -> dict[str, dict[nvram.Key, nvram.Variable]]:
    """Boots the firmware of each UEFI guest once; returns each guest's variables."""
    waiting = [spec for spec in specs if spec.firmware == "uefi"]
    found: dict[str, dict[nvram.Key, nvram.Variable]] = {}
    if not waiting:
        return found
    with Namespace("control") as wire:
        wire.add_bridge(BRIDGE)
        with ForeignDhcpServer(wire, BRIDGE, folder, boot_file="no-such-loader"):
            while waiting:
                batch, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
                found.update(_boot(batch, wire, folder, accel, seconds))
    return found


def seed_peers(peers: list[Peer], folder: Path, accel: str, seconds: float) -> None:
    """The same for peers, with the disks they will have."""
    for peer in peers:
        peer.make_disks()
    seed_nvram([peer.spec for peer in peers], folder, accel, seconds)


def stop_between_writes(machine: Machine, seconds: float) -> None:
    """Stops a guest while its firmware is not in the middle of writing a variable: after that line it goes on to its next boot device."""
    def look() -> bool | None:
        machine.qmp.command("stop")
        try:
            nvram.read(machine.nvram)
        except LabError:
            machine.qmp.command("cont")
            return None
        return True

    polling.wait_until(look, seconds, f"{machine.spec.name}: no variable is being written")


def _boot(
    batch: list[Spec], wire: Namespace, folder: Path, accel: str, seconds: float,
) -> dict[str, dict[nvram.Key, nvram.Variable]]:
    machines = [Machine(spec, wire, folder, accel, purpose="control") for spec in batch]
    try:
        for machine in machines:
            machine.start()
        for machine in machines:
            if machine.console.wait_for(_GAVE_UP, time.monotonic() + seconds) is None:
                raise Timeout(f"{machine.spec.name}: firmware alone did not try the network:\n{machine.console.tail()}")
            stop_between_writes(machine, seconds)
    finally:
        for machine in machines:
            machine.kill()
    return {machine.spec.name: nvram.read(machine.nvram) for machine in machines}
