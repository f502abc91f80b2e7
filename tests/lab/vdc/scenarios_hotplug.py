"""Does a peer find disks that are hot-plugged while it takes its inventory?

The wire is an unmanaged switch here: nobody speaks LLDP, so the peer listens its full time, as at many a real port, and disks
that come until then are in its last upload.
"""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

from . import collect, disks, stick, stick_files
from .environment import Environment
from .errors import LabError
from .machine import BRIDGE
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect, expect_none

_NAME = "late"
# recon's first line on the guest's console, of the process that is the peer.
_STARTED = re.compile(r"\[recon +[\d.]+s\] peer of ")
_NAMED = re.compile(r"disks that came late: ")


class Plug(NamedTuple):
    """A disk that is plugged in so many seconds after recon began in the guest."""

    after: float
    driver: str
    bus: str


PLUGS = (Plug(2.0, "scsi-hd", "scsi0.0"), Plug(10.0, "nvme", "late-port0"), Plug(25.0, "virtio-blk-pci", "late-port1"))


def _slots() -> list[str]:
    """A SCSI adapter without disks and two slots without cards."""
    made = ["-device", "virtio-scsi-pci,id=scsi0"]
    for number in range(2):
        made += ["-device", f"pcie-root-port,id=late-port{number},chassis={number + 40},slot={number + 40}"]
    return made


class HotplugSite(Environment):
    """A master and one peer whose disks are plugged in one by one, stored and off."""

    def set_up(self) -> None:
        lab = self.lab
        self.plugged: list[float] = []
        lab.switch.silent.add(BRIDGE)
        medium = stick.make(lab.options.iso, lab.folder / "late-stick.raw")
        stick.add_data_partition(medium, {"recon.toml": stick_files.recon_toml("Late", {})})
        self.peer = Peer(lab, "uefi", identity(0x0D, _NAME))
        self.peer.spec.extra.extend(_slots())
        self.paths = [lab.folder / f"{_NAME}.disk{number + 7}.raw" for number in range(len(PLUGS))]
        for number, path in enumerate(self.paths):
            disks.make("ext4", path, seed=4000 + number)
        self.before = [disks.sha256(path) for path in self.paths]
        master = self.own_master(Master(lab, medium))
        master.boot()
        group = self.own_peers(master, [self.peer])
        group.start_next()
        self._plug_in()
        group.wait_stored_and_off(_NAME, 120.0, 120.0)
        master.shut_down()
        collected = collect.collect(lab.options.recon, medium, lab.folder / "late-inventory.tar.gz")
        part = collected.inventory(self.peer.identity.uuid)["disks"]
        expect(part["status"] == "ok", f"disks are {part['status']}: {part['reason']}")
        self.found: dict[str, dict[str, Any]] = {disk["serial"]: disk for disk in part["value"]}

    def serial(self, number: int) -> str:
        return f"{self.peer.identity.serial}L{number}"

    def _plug_in(self) -> None:
        machine = self.peer.machine
        line = machine.console.wait_for(_STARTED, time.monotonic() + self.lab.seconds(240))
        if line is None:
            raise LabError(f"{_NAME}: recon did not start; its last console lines:\n{machine.console.tail()}")
        start = machine.started_at + line.at
        for number, (plug, path) in enumerate(zip(PLUGS, self.paths, strict=True)):
            time.sleep(max(0.0, start + plug.after - time.monotonic()))
            node = f"late{number}"
            machine.qmp.command("blockdev-add", {
                "driver": "raw", "node-name": node, "file": {"driver": "file", "filename": str(path)},
            })
            machine.qmp.command("device_add", {
                "driver": plug.driver, "id": node, "bus": plug.bus, "drive": node, "serial": self.serial(number),
            })
            self.plugged.append(time.monotonic() - start)
            self.lab.report.line(f"{_NAME}: {plug.driver} plugged in, {self.plugged[-1]:.1f} s after recon began")


def late_disks(site: HotplugSite) -> None:
    wanted = {disk.serial for disk in site.peer.spec.disks} | {site.serial(number) for number in range(len(PLUGS))}
    expect(set(site.found) == wanted, f"plugged in: {sorted(wanted)}; stored: {sorted(site.found)}")
    for disk in site.peer.spec.disks:
        found = site.found[disk.serial]
        expect("appeared_after_ms" not in found, f"{disk.serial} was there from the start, and is called late")
    # The list is made when udev is done with what is there, so the first may be in it, and nothing late about that.
    late = [site.found[site.serial(number)].get("appeared_after_ms") for number in range(len(PLUGS))]
    expect(late[-1] is not None, f"the last disk is not called late: {late}")
    told = [value for value in late if value is not None]
    expect(told == sorted(told), f"times do not follow the order: {late}")
    # recon's first line and the start of collecting are a moment apart, and a guest notices a card some time after it was plugged in.
    seen, plugged = told[-1] / 1000, site.plugged[-1]
    expect(abs(seen - plugged) < 8.0, f"seen after {seen:.1f} s, plugged in after {plugged:.1f} s")
    content = [site.found[site.serial(number)]["partitions"] for number in range(len(PLUGS))]
    expect(all(content), f"late disks were not looked at: {content}")
    expect(site.peer.machine.console.find(_NAMED), "the console does not name the late disks")


def late_unharmed(site: HotplugSite) -> None:
    after = [disks.sha256(path) for path in site.paths]
    expect(after == site.before, "a disk that came late was written to")
    read_only = [site.found[site.serial(number)]["read_only"] for number in range(len(PLUGS))]
    expect(read_only == [True] * len(PLUGS), f"late disks are not read-only: {read_only}")
    expect_none(site.peer.changes())


SCENARIOS: list[Scenario[HotplugSite]] = [
    Scenario("late-disks", "disks plugged in 2, 10 and 25 s after a peer's start are stored, late ones named", late_disks, long=True),
    Scenario("late-unharmed", "they were read-only before anything looked at them", late_unharmed, long=True),
]
