"""Does the small initrd find what a machine has: its port, its drivers, their names, in little memory?

One master on a fresh stick. Its peers differ in their ports and disks; what each fetched is read from the heads of HTTP on the wire.
The names that a peer's ports get are compared with those that udev gives in the live image: a twin of the same hardware boots that.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import collect, fetches, report, stick, stick_files
from .environment import Environment
from .errors import LabError
from .fetches import Fetch
from .lab import Lab
from .machine import SCSI, Port
from .master import Master
from .nodes import Kind, identity
from .peer import Peer
from .suite import Scenario, expect, expect_none

_SMALL_MIB = 256
# The aim for a UEFI peer whose port needs no further driver.
_MOST_BYTES = 25_000_000
_DISK = (("sata", "raid"),)


class Model(NamedTuple):
    """A network card: its model in QEMU and its module in Linux."""

    card: str
    module: str


# Firmware boots from these, with iPXE as their option ROM; from virtio and e1000 too, which other peers here have. It does not from
# tulip and usb-net, for which QEMU's ROMs have no driver, and not from igb, where the driver of another ROM finds no link: they are
# further ports in `port-names`.
MODELS = {
    "e1000e": Model("e1000e", "e1000e"),
    "rtl8139": Model("rtl8139", "8139cp"),
    "vmxnet3": Model("vmxnet3", "vmxnet3"),
}
# With QEMU 10, iPXE hears nothing any more on pcnet and i82559c once more than a few packets come, so no machine boots from them there.
RARE_MODELS = {
    "ne2k": Model("ne2k_pci", "ne2k_pci"),
}
_ALL_MODELS = {**MODELS, **RARE_MODELS}

# One disk behind each kind of adapter. An SD card has no serial number of its own choice.
_KINDS_OF_DISKS = (
    ("sata", "ext4"), ("nvme", "lvm"), ("virtio", "raid"), *((bus, "random") for bus in SCSI), ("usb", "lvm"), ("sdhci", "ext4"),
)
# Drivers as the PCI functions name them.
_STORAGE_DRIVERS = {
    "ahci", "nvme", "virtio-pci", "megaraid_sas", "mptsas", "sym53c8xx", "vmw_pvscsi", "xhci_hcd", "sdhci-pci",
}

# Number of each peer, in the order of starting: the slow live twins early, beside quick ones.
_NUMBERS = {
    "small-stage-uefi": 0x90, "names-q35-live": 0x91, "small-stage-bios": 0x92, "names-q35": 0x93, "storage": 0x94, "dark": 0x95,
    "e1000e": 0x96, "rtl8139": 0x97, "vmxnet3": 0x98, "names-pc-live": 0x9A, "names-pc": 0x9B, "ne2k": 0x9D,
}
_LIVE_MIB = 3072


class FirstStage(Environment):
    """A master and the peers that the chosen scenarios need."""

    def set_up(self) -> None:
        lab = self.lab
        names = sorted(self.names, key=list(_NUMBERS).index)
        peers = [_peer(lab, name) for name in names]
        live = {peer.identity.mac: {"post-action": "liveboot", "poweroff": "acpi"} for peer in peers if peer.kind.liveboot}
        self.stick = stick.make(lab.options.iso, lab.folder / "first-stage-stick.raw")
        # The live image asks for an address on every port, and waits two minutes where there is none to have.
        settings = stick_files.recon_toml("First Stage", live) + b"\n[network]\nserve-all = true\n"
        stick.add_data_partition(self.stick, {"recon.toml": settings})
        self.collected: collect.InventoryTarball | None = None
        self.master = self.own_master(Master(lab, self.stick, name="first-stage-master", number=6))
        self.master.boot()
        # A live image that is slowed down by another one takes longer for its ports than an inventory waits for them.
        self.group = self.own_peers(self.master, peers, at_once=1 if live else 2)
        self.group.start_next()

    def stored(self, name: str, seconds: float = 240.0) -> float | None:
        """Waits for a peer's end, and looks at its disks."""
        peer = self.group[name]
        if self.collected is None:
            self.group.wait_stored_and_off(name, seconds)
        expect(peer.stored_at is not None, f"{name} was not stored; its last console lines:\n{peer.machine.console.tail()}")
        expect_none(peer.changes())
        return peer.machine.off_after

    def fetched(self, name: str) -> list[Fetch]:
        """What a peer asked for by HTTP in its last boot, on whichever port."""
        peer = self.group[name]
        read = fetches.read(self.lab.capture.frames())
        found = [fetch for port in peer.spec.ports for fetch in fetches.of(read, port.mac, peer.machine.started_wall)]
        expect(found, f"{name} asked for nothing by HTTP, as the capture has it")
        return found

    def give_up(self, name: str) -> None:
        """A peer that failed is not waited for again."""
        self.group.done(name)
        self.group[name].machine.kill()

    def inventory(self, name: str) -> dict[str, Any]:
        """A stored inventory. The first call waits for every peer and ends the master; who fails is judged by a scenario of its own."""
        if self.collected is None:
            for peer in self.group.peers:
                if peer.stored_at is None or peer.machine.running:
                    try:
                        self.group.wait_stored_and_off(peer.name, 480.0)
                    except LabError:
                        self.give_up(peer.name)
            self.master.shut_down()
            self.collected = collect.collect(self.lab.options.recon, self.stick, self.lab.folder / "first-stage-inventory.tar.gz")
        found: dict[str, Any] = self.collected.inventory(self.group[name].identity.uuid)
        return found

    def part(self, name: str, part: str) -> Any:
        found = self.inventory(name)[part]
        expect(found["status"] == "ok", f"{name}: {part} is {found['status']}: {found['reason']}")
        return found["value"]


def _peer(lab: Lab, name: str) -> Peer:
    """A peer by its name."""
    who = identity(_NUMBERS[name], name)
    if name.startswith("names-"):
        return _names_peer(lab, name)
    if name == "storage":
        return Peer(lab, Kind("bios", "virtio-net-pci", _KINDS_OF_DISKS, memory_mib=2 * _SMALL_MIB), who)
    if name == "small-stage-uefi":
        return Peer(lab, Kind("uefi", "virtio-net-pci", (("virtio", "ext4"), ("nvme", "lvm")), memory_mib=_SMALL_MIB), who)
    if name == "dark":
        peer = Peer(lab, Kind("bios", "e1000", _DISK, memory_mib=_SMALL_MIB), who)
        wired = peer.spec.ports[0]
        peer.spec.ports[:] = [Port(_mac(_NUMBERS[name], 1), "e1000", boot_index=0, bridge=None, dark=True), dataclasses.replace(wired, boot_index=1)]
        return peer
    model = _ALL_MODELS.get(name, Model("e1000", "e1000"))
    return Peer(lab, Kind("bios", model.card, _DISK, memory_mib=_SMALL_MIB), who)


def _mac(number: int, port: int) -> str:
    """Address of a further port of a peer."""
    return f"52:54:00:1a:{0xC0 + port:02x}:{number:02x}"


def _root_port(number: int, kind: str = "pcie-root-port") -> list[str]:
    return ["-device", f"{kind},id=root{number},chassis={number + 1},slot={number + 5}"]


# Busses, and cards as (model, place): two functions of one slot, behind ports of the root, behind a bridge, and on USB.
_BUSSES = {
    "q35": [
        *(word for number in range(5) for word in _root_port(number)), "-device", "pcie-pci-bridge,id=bridge0,bus=root4", "-device",
        "qemu-xhci,id=usb0",
    ],
    "pc": ["-device", "pci-bridge,id=bridge0,chassis_nr=9", "-device", "qemu-xhci,id=usb0"],
}
_CARDS = {
    "q35": [
        ("e1000", "addr=14.0,multifunction=on"), ("e1000", "addr=14.1"), ("rtl8139", ""), ("vmxnet3", "bus=root1"),
        ("e1000e", "bus=root0,addr=0.0,multifunction=on"), ("e1000e", "bus=root0,addr=0.1"), ("igb", "bus=root2"), ("virtio-net-pci", "bus=root3"),
        ("tulip", "bus=bridge0,addr=3"), ("pcnet", "bus=bridge0,addr=4"), ("usb-net", "bus=usb0.0"),
    ],
    "pc": [
        ("e1000", "addr=14.0,multifunction=on"), ("e1000", "addr=14.1"), ("rtl8139", ""), ("vmxnet3", ""), ("virtio-net-pci", ""),
        ("i82559c", ""), ("e1000", "bus=bridge0,addr=3"), ("virtio-net-pci", "bus=bridge0,addr=4"), ("usb-net", "bus=usb0.0"),
    ],
}


def _names_peer(lab: Lab, name: str) -> Peer:
    """A machine with many ports; its twin `-live` has the same, and boots the live image."""
    machine = name.split("-")[1]
    live = name.endswith("-live")
    kind = Kind(
        "uefi" if machine == "q35" else "bios", "virtio-net-pci", _DISK, memory_mib=_LIVE_MIB if live else 2 * _SMALL_MIB, liveboot=live,
        machine=machine,
    )
    peer = Peer(lab, kind, identity(_NUMBERS[name], name))
    peer.spec.busses.extend(_BUSSES[machine])
    # All have a cable: the live image waits two minutes for ports without.
    peer.spec.ports.extend(Port(_mac(_NUMBERS[name], number), model, place=place) for number, (model, place) in enumerate(_CARDS[machine], 1))
    return peer


def _report_bytes(site: FirstStage, name: str, found: Sequence[Fetch]) -> None:
    parts = ", ".join(f"{part} {report.size(size)}" for part, size in fetches.by_part(found).items() if size)
    sent = int(site.group.progress.entries[name]["bytes_sent"])
    site.lab.report.line(f"{name}: {parts}; in all {report.size(sent)}")


def _only(found: Sequence[Fetch], module: str | None) -> None:
    """Kernel, base and the images of one port's drivers were fetched, and nothing else of the system."""
    files = list(fetches.system_files(found))
    images = {file for file in files if file.startswith("first/port/")}
    expect(set(files) == {"kernel", "first/base.img", *images}, f"fetched: {files}")
    wanted = set() if module is None else {f"first/port/{module}.img"}
    expect(wanted <= images, f"the driver is {module}; fetched: {files}")
    # An id may fit two drivers.
    expect(len(images) <= 2 * len(wanted), f"the driver is {module}; fetched: {files}")


def small_memory(site: FirstStage) -> None:
    """256 MiB: by UEFI on virtio, whose driver is in the base, and by BIOS on e1000, whose is not."""
    for name, module in (("small-stage-uefi", None), ("small-stage-bios", "e1000")):
        site.stored(name)
        found = site.fetched(name)
        _report_bytes(site, name, found)
        _only(found, module)
    sent = int(site.group.progress.entries["small-stage-uefi"]["bytes_sent"])
    expect(sent <= _MOST_BYTES, f"{report.size(sent)} went to the UEFI peer; the aim is {report.size(_MOST_BYTES)}")


def _models(site: FirstStage, models: dict[str, Model]) -> None:
    wrong = []
    for name, model in models.items():
        try:
            site.stored(name)
            found = site.fetched(name)
            _report_bytes(site, name, found)
            _only(found, model.module)
        except LabError as error:
            # What the others do is of use, too.
            wrong.append(f"{name}: {error}")
            site.give_up(name)
    expect_none(wrong)


def dark_port(site: FirstStage) -> float | None:
    """The firmware boots from its second port; so does the small initrd, whose first port has the same driver."""
    took = site.stored("dark", 300.0)
    _only(site.fetched("dark"), "e1000")
    return took


def _placed(site: FirstStage, name: str) -> dict[int, str]:
    """Name of each port, by its place in the list of cards; a name made of the port's own address has `MAC` in place of that."""
    # QEMU gives a USB port another first byte.
    ports = {port.mac[2:]: number for number, port in enumerate(site.group[name].spec.ports)}
    found = {}
    for nic in site.part(name, "nics"):
        mac = nic["permanent_mac"] or nic["mac"]
        expect(mac[2:] in ports, f"{name}: a port {nic['name']} with the address {mac}, which no card has")
        found[ports[mac[2:]]] = nic["name"].replace(mac.replace(":", ""), "MAC")
    return found


def port_names(site: FirstStage, machine: str) -> None:
    """As udev in the live image names them, port by port."""
    ours, live = f"names-{machine}", f"names-{machine}-live"
    for name in (ours, live):
        site.stored(name, 480.0)
    by_us, by_udev = _placed(site, ours), _placed(site, live)
    cards = [("virtio-net-pci", ""), *_CARDS[machine]]
    wrong = [
        f"{model} {place}: recon {by_us.get(number)}, udev {by_udev.get(number)}"
        for number, (model, place) in enumerate(cards) if by_us.get(number) != by_udev.get(number)
    ]
    site.lab.report.line(f"{ours}: {', '.join(f'{cards[number][0]} {name}' for number, name in sorted(by_udev.items()))}")
    expect_none(wrong)
    expect(len(by_us) == len(cards), f"{len(by_us)} of {len(cards)} ports got a driver: {by_us}")


def late_drivers(site: FirstStage) -> None:
    """Adapters of many kinds with a disk each: found by drivers that were fetched over the link, read-only, and as before."""
    site.stored("storage")
    peer = site.group["storage"]
    found = site.fetched("storage")
    _report_bytes(site, "storage", found)
    expect(any(fetch.part == "pack" for fetch in found), "no driver was fetched from the pack")
    drivers = {function["driver"] for function in site.part("storage", "pci")} - {None}
    stored = site.part("storage", "disks")
    serials = {disk["serial"] for disk in stored}
    wanted = {disk.serial for disk in peer.spec.disks if disk.bus != "sdhci"}
    lacking = [f"{disk.bus}: no disk" for disk in peer.spec.disks if disk.serial in wanted - serials]
    lacking += [f"no driver {driver}" for driver in sorted(_STORAGE_DRIVERS - drivers)]
    if len(stored) != len(peer.spec.disks):
        lacking.append(f"{len(peer.spec.disks)} disks given, {len(stored)} told: {sorted(disk['name'] for disk in stored)}")
    lacking += [f"{disk['name']} is not read-only" for disk in stored if not disk["read_only"]]
    expect_none(lacking)


SCENARIOS: list[Scenario[FirstStage]] = [
    Scenario("first-stage-256", "256 MiB by UEFI and BIOS: stored, off, disks as before, few bytes", small_memory,
             ("small-stage-uefi", "small-stage-bios")),
    Scenario("port-models", "e1000e, rtl8139, vmxnet3 as boot ports: each gets its own driver and no other",
             functools.partial(_models, models=MODELS), tuple(MODELS), long=True),
    Scenario("port-models-rare", "ne2k_pci as boot port", functools.partial(_models, models=RARE_MODELS), tuple(RARE_MODELS), long=True),
    Scenario("dark-port-first", "two ports, the first without cable: the second is found", dark_port, ("dark",)),
    Scenario("late-driver", "a disk behind each of 11 kinds of adapters, whose drivers come from the master: found, read-only", late_drivers,
             ("storage",)),
    Scenario("port-names", "ports of q35 (two functions, root ports, a bridge, USB) are named as udev names them",
             functools.partial(port_names, machine="q35"), ("names-q35", "names-q35-live"), long=True),
    Scenario("port-names-pc", "the same on an i440FX machine with BIOS and ACPI slots", functools.partial(port_names, machine="pc"),
             ("names-pc", "names-pc-live"), long=True),
]
