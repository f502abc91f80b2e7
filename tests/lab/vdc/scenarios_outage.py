"""Does a fresh stick keep every acknowledged upload when its master loses power?

The stick is fresh, the master a BIOS machine: it makes the data partition, takes two uploads and loses its power while
a third peer is on its way; it boots again, and that peer finishes.
"""

from __future__ import annotations

import re
import shutil
import time

from . import collect, gpt, stick
from .environment import Environment
from .errors import LabError
from .master import Master
from .nodes import identity
from .nvram_seed import seed_peers
from .peer import Peer
from .suite import Scenario, expect, expect_none

_NUMBERS = {"early-1": 0x20, "early-2": 0x21, "late": 0x22}
_KINDS = {"early-1": "uefi", "early-2": "bios", "late": "uefi"}
# iPXE has fetched everything (under UEFI its console is the serial line), or a later line is there already: the kernel itself is
# started with `quiet`.
_ON_ITS_WAY = re.compile(r"/(initrd|first/\S+\.img)\b.*\bok$|Linux version |peer of ")

_WAITS = re.compile(r"waiting for the master")
# With the boot of a master, more than a minute.
_AWAY = 20.0


class Outage(Environment):
    """A fresh stick, its master, and peers that are affected by its power cut."""

    def set_up(self) -> None:
        lab = self.lab
        self.acknowledged: set[str] = set()
        peers = {name: Peer(lab, _KINDS[name], identity(number, name)) for name, number in _NUMBERS.items()}
        seed_peers(list(peers.values()), lab.folder, lab.options.accel, lab.seconds(90))
        self.stick = stick.make(lab.options.iso, lab.folder / "outage-stick.raw")
        self.master = self.own_master(Master(lab, self.stick, name="outage-master", number=2, firmware="bios"))
        self.first_status = self.master.boot()
        self.early = self.own_peers(self.master, [peers["early-1"], peers["early-2"]], at_once=2)
        self.late = self.own_peers(self.master, [peers["late"]])

    @property
    def peers(self) -> list[Peer]:
        return self.early.peers + self.late.peers

    def collect_copy(self, name: str) -> collect.InventoryTarball:
        """Collects from a copy: what `recon collect` does must not be what the next boot finds."""
        copy = self.lab.folder / f"{name}.raw"
        shutil.copyfile(self.stick, copy)
        try:
            return collect.collect(self.lab.options.recon, copy, self.lab.folder / f"{name}.tar.gz")
        finally:
            copy.unlink()


def fresh_stick(outage: Outage) -> None:
    storage = outage.first_status["storage"]
    expect(storage["durable"], f"uploads are not durable: {storage.get('problem')}")
    part = gpt.find(outage.stick, stick.LABEL)
    expect(part is not None, f"no {stick.LABEL} on the stick: {gpt.partitions(outage.stick)}")
    assert part is not None
    expect(part.kind == gpt.BASIC_DATA, f"type of {stick.LABEL} is {part.kind}")
    expect(part.size > 500 << 20, f"{stick.LABEL} takes only {part.size >> 20} MiB of the free GiB")


def power_cut(outage: Outage) -> None:
    for peer in outage.early.peers:
        outage.early.wait_stored(peer.name)
    for peer in outage.early.peers:
        outage.early.wait_off(peer.name)
    outage.late.start_next()
    late = outage.late["late"]

    def on_its_way(_: Peer) -> bool | None:
        if not late.machine.running:
            raise LabError(f"{late.name} ended early:\n{late.machine.console.tail()}")
        return True if late.machine.console.find(_ON_ITS_WAY) else None

    outage.late.wait("late", "has kernel and initrd", on_its_way, 120.0)
    outage.master.cut_power()
    outage.acknowledged = {peer.identity.uuid for peer in outage.early.peers}
    collected = outage.collect_copy("after-power-cut")
    expect(
        collected.nodes == outage.acknowledged,
        f"acknowledged: {sorted(outage.acknowledged)}; on the stick: {sorted(collected.nodes)}",
    )


def waiting_peer(outage: Outage) -> None:
    if outage.master.machine.running:
        raise LabError("the master was not cut off before: power-cut has to run first")
    late = outage.late["late"].machine
    expect(late.running, "no peer is waiting for the master")
    line = late.console.wait_for(_WAITS, time.monotonic() + outage.lab.seconds(60))
    expect(line is not None, f"the peer does not say that it waits:\n{late.console.tail()}")
    # Longer than it waits for drivers of a master that is there.
    time.sleep(_AWAY)
    outage.master.boot()
    outage.late.wait_stored_and_off("late", 300.0)


def second_boot(outage: Outage) -> None:
    outage.master.shut_down()
    collected = outage.collect_copy("after-second-boot")
    wanted = {peer.identity.uuid for peer in outage.peers}
    expect(collected.nodes == wanted, f"wanted {sorted(wanted)}; on the stick: {sorted(collected.nodes)}")
    names = [p.name for p in gpt.partitions(outage.stick)]
    expect(names.count(stick.LABEL) == 1, f"partitions after two boots: {names}")


def unharmed(outage: Outage) -> None:
    outage.master.machine.kill()
    outage.late.power_off_all()
    outage.early.power_off_all()
    changes = outage.master.changes()
    for peer in outage.peers:
        changes += peer.changes()
    expect_none(changes)


_ALL = ("early", "late")
SCENARIOS: list[Scenario[Outage]] = [
    Scenario("fresh-stick", "first boot (BIOS) makes RECON-DATA in the free space", fresh_stick),
    Scenario("power-cut", "master killed after two acknowledged uploads: exactly those, whole", power_cut, _ALL),
    Scenario("waiting-peer", "master boots again: the peer that waited finishes", waiting_peer, _ALL),
    Scenario("second-boot", "second boot keeps the data of the first", second_boot, _ALL),
    Scenario("outage-unharmed", "disks and NVRAM are as before, also across the outage", unharmed, _ALL),
]
