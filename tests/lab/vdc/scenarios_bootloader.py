"""Does the image of target `bootloader` start a machine from an address, on every firmware, and is it left as it was?

The image is made from the ISO that is tried, as `make-recipe-target … bootloader` makes it, and its settings are written onto it as any
computer would. What it starts is recon's own live image, out of the folder that target `http` makes, which then is a peer of the master
on this network: so the machine's upload shows that all of it works, and its disks show that nothing was written.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import disks, polling, stick, stick_files, tools
from .capture import HARNESS
from .environment import Environment
from .lacp import LacpSwitch
from .machine import BRIDGE, Disk, Machine, Port, disk_arguments
from .master import Master
from .nodes import Kind, identity
from .peer import Peer
from .peer_group import PeerGroup
from .suite import Scenario, expect, expect_none
from .trunk import Trunk
from .web import Web, need

_CALL = Path(__file__).resolve().parents[3] / "tools" / "call.sh"
# Where the file system of the image begins.
_ESP = "1M"
# A stick is larger than the image, which leaves the second copy of the partition table in its middle.
_STICK_BYTES = 1 << 30
# What it starts is loaded into memory and unpacked beside it.
_LIVE_MIB = 3072
_SMALL_MIB = 512
# What of the server's a connection brings only a part of. Not the ISO, which the live image's own initrd fetches.
_CUT = ("/cut/kernel", "/cut/initrd")
_CUT_AFTER = 4_000_000
_BOND_PORTS = 2
# What is fetched after the cable was pulled has some 30 MB, of which a few came before.
_REST_BYTES = 5_000_000
_BEGUN_BYTES = 1_000_000
# Of the disks that are no peer's own.
_IMAGE_NUMBER = 9

_FIRST_STAGE = re.compile(r"first stage of recon")
_REFUSED = re.compile(r"boot script: .*signature", re.IGNORECASE)
_NO_KEXEC = re.compile(r"kexec_load_disabled")
_BY_MASTER = re.compile(r"named by a recon master")
_BOND = re.compile(r"bond-boot is \S+ and \S+ \(active-backup\)")
_LACP = re.compile(r"bond-boot is \S+ and \S+ \(802\.3ad\)")
_ON_BOND = re.compile(r"bond-boot is 192\.")
_ON_VLAN = re.compile(r"vlan42p\d+ is 192\.")
_STARTS = re.compile(r"starting it")
_FALL_BACK = """#!ipxe
kernel kernel
boot || chain ../boot.ipxe
"""


# The bridge behind a switch's port with a VLAN.
_TRUNK = "trunk"
_VLAN = 42


class Node(NamedTuple):
    """A machine that starts from the image."""

    number: int
    firmware: str
    bus: str
    # The boot script, below the web server; None: nothing is set, and the master on this network is asked.
    script: str | None
    secure: bool = False
    memory_mib: int = _LIVE_MIB
    # More lines of the settings' part [boot], and more words for the image's own kernel.
    settings: str = ""
    words: str = ""
    # Its ports are two, one port by its settings: the bridge that both are on, and the rest of their settings.
    bond: tuple[str, str] | None = None


NODES = {
    "boot-image-secure": Node(0x6A, "uefi", "usb", "changed/boot.ipxe", secure=True),
    "boot-image-uefi": Node(0x69, "uefi", "usb", "cut/boot.ipxe"),
    "boot-image-bios": Node(0x68, "bios", "virtio", "boot.ipxe"),
    "boot-image-master": Node(0x6C, "bios", "virtio", None, memory_mib=_SMALL_MIB),
    "boot-image-no-kexec": Node(
        0x6B, "bios", "virtio", "boot.ipxe", memory_mib=_SMALL_MIB, settings='on-failure = "reboot"\n', words="sysctl.kernel.kexec_load_disabled=1",
    ),
    "boot-image-bond": Node(0x6D, "bios", "virtio", None, memory_mib=_SMALL_MIB, bond=(_TRUNK, f"vlan = {_VLAN}\n")),
    "boot-image-lacp": Node(0x6E, "bios", "virtio", None, memory_mib=_SMALL_MIB, bond=(BRIDGE, 'bond-mode = "802.3ad"\n')),
}


class BootImages(Environment):
    """Makes the image and the folder once; a master and a web server; the machines that the chosen scenarios need."""

    def set_up(self) -> None:
        lab = self.lab
        iso = lab.options.iso
        self.image = lab.folder / "boot-image.raw"
        self.folder = lab.folder / "web"
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        for words in (["boot_image_of", str(iso), str(self.image)], ["http_folder_of", str(iso), str(self.folder)]):
            tools.run([str(_CALL), *words], timeout=lab.seconds(300.0))
        _variants(self.folder)
        self.web = self._stack.enter_context(Web(lab.namespace, self.folder, HARNESS, cut=dict.fromkeys(_CUT, _CUT_AFTER)))
        self.stick = stick.make(iso, lab.folder / "boot-image-stick.raw")
        # It answers whoever asks for an address: the machines do not boot from it.
        settings = stick_files.recon_toml("Boot Image", {}) + b"\n[network]\nserve-all = true\n"
        stick.add_data_partition(self.stick, {"recon.toml": settings})
        self.master = self.own_master(Master(lab, self.stick, name="boot-image-site", number=6))
        status = self.master.boot()
        self.address = str(status["links"][0]["address"]).split("/")[0]
        self.trunk = Trunk(lab.namespace, BRIDGE, _TRUNK, _VLAN, lab.folder / "trunk.log")
        self.switch = LacpSwitch(lab.namespace, BRIDGE, lab.folder / "lacp.log")
        bonds = [NODES[name].bond for name in NODES if name in self.names]
        if any(bond is not None and bond[0] == _TRUNK for bond in bonds):
            self._stack.enter_context(self.trunk)
        if any(bond is not None and bond[0] == BRIDGE for bond in bonds):
            self._stack.enter_context(self.switch)
        self.before: dict[Path, str] = {}
        self.group: PeerGroup = self.own_peers(self.master, [self._peer(name, NODES[name]) for name in NODES if name in self.names], at_once=2)
        self.group.start_next()

    def _peer(self, name: str, node: Node) -> Peer:
        """A machine whose firmware starts from its own copy of the image, with a disk that must stay as it is."""
        kind = Kind(node.firmware, "virtio-net-pci", (("nvme", "lvm"),), memory_mib=node.memory_mib, secure=node.secure)
        peer = Peer(self.lab, kind, identity(node.number, name))
        ports = [Port(peer.identity.mac)]
        if node.bond:
            # One that names its speed, without which none is aggregated.
            model = "e1000e" if node.bond[0] == BRIDGE else "virtio-net-pci"
            macs = (peer.identity.mac, identity(node.number + 0x80, name).mac)
            ports = [Port(mac, model, bridge=node.bond[0]) for mac in macs]
        peer.spec.ports[:] = ports
        copy = self.lab.folder / f"{name}.image.disk.raw"
        tools.run(["cp", "--sparse=always", str(self.image), str(copy)])
        if node.script is not None:
            _put(copy, "recon.txt", self._settings(node))
        elif node.bond:
            quoted = [f'"{port.mac}"' for port in ports]
            _put(copy, "recon.txt", f"[network]\nbond = [{', '.join(quoted)}]\n{node.bond[1]}")
        if node.words:
            menu = _get(copy, "recon/grub.cfg")
            _put(copy, "recon/grub.cfg", menu.replace("recon.boot=settings", f"recon.boot=settings {node.words}"))
        if node.bus == "usb":
            os.truncate(copy, _STICK_BYTES)
        self.before[copy] = disks.sha256(copy)
        peer.spec.extra.extend(disk_arguments(_IMAGE_NUMBER, Disk(copy, node.bus, f"{peer.identity.serial}IMG", boot_index=0)))
        return peer

    def _settings(self, node: Node) -> str:
        text = f'[boot]\nurl = "{self.web.url}/{node.script}"\nappend = "recon.master={self.address}"\n{node.settings}'
        return text.replace("\n", "\r\n")

    def unchanged(self, name: str) -> None:
        """Neither its disks nor the image it came from."""
        expect_none(self.group[name].changes())
        copy = self.lab.folder / f"{name}.image.disk.raw"
        expect(disks.sha256(copy) == self.before[copy], f"{name} wrote to the image that it started from")


def _variants(folder: Path) -> None:
    """The same files on a server that cuts each connection, and a script whose kernel had a byte changed on the way."""
    cut, changed = folder / "cut", folder / "changed"
    cut.mkdir()
    changed.mkdir()
    for name in ("boot.ipxe", "kernel", "initrd"):
        os.link(folder / name, cut / name)
    # The script names it relative to itself.
    os.link(folder / "recon.iso", folder / "cut" / "recon.iso")
    kernel = bytearray((folder / "kernel").read_bytes())
    # In its compressed part, which no header tells anything of.
    kernel[len(kernel) // 2] ^= 1
    (changed / "kernel").write_bytes(kernel)
    (changed / "boot.ipxe").write_text(_FALL_BACK)


def _get(image: Path, name: str) -> str:
    return tools.run(["mtype", "-i", f"{image}@@{_ESP}", f"::{name}"])


def _put(image: Path, name: str, text: str) -> None:
    """Writes a file of the image's FAT partition, as any computer would."""
    own = image.with_suffix(".txt")
    own.write_bytes(text.encode())
    tools.run(["mcopy", "-o", "-i", f"{image}@@{_ESP}", str(own), f"::{name}"])
    own.unlink()


def _uploads(site: BootImages, name: str) -> float | None:
    """What it started was a peer until its end."""
    took = site.group.wait_stored_and_off(name, 600.0)
    site.unchanged(name)
    said = site.group[name].machine.console.find(_FIRST_STAGE)
    expect(said is not None, f"{name}: the first stage said nothing")
    return took


def bios(site: BootImages) -> float | None:
    return _uploads(site, "boot-image-bios")


def uefi(site: BootImages) -> float | None:
    """Its downloads are cut off again and again, and go on where they were."""
    took = _uploads(site, "boot-image-uefi")
    for name in _CUT:
        size = (site.folder / name.lstrip("/")).stat().st_size
        asked = need(site.web.asked(name), name)
        sent = sum(answer.sent for answer in asked)
        site.lab.report.line(f"{name}: {size} bytes in {len(asked)} answers, {sent} sent")
        expect(len(asked) > size // _CUT_AFTER, f"{name} came in {len(asked)} answers: the server did not cut")
        # The head of each file is looked at before it is fetched.
        expect(sent <= size * 1.1 + 1_000_000, f"{sent} bytes were sent of {name}, which has {size}: it does not go on where it was cut off")
    return took


def secure(site: BootImages) -> float | None:
    """The kernel that was changed is refused, which the script may answer: it knows another."""
    took = _uploads(site, "boot-image-secure")
    console = site.group["boot-image-secure"].machine.console
    expect(console.find(_REFUSED) is not None, f"nobody said that the changed kernel was refused:\n{console.tail(40)}")
    return took


def from_master(site: BootImages) -> float | None:
    """Nothing is set on the image: it asks the master, as firmware would, and is its peer."""
    took = _uploads(site, "boot-image-master")
    console = site.group["boot-image-master"].machine.console
    expect(console.find(_BY_MASTER) is not None, f"nobody said who named what to start:\n{console.tail(30)}")
    return took


def no_kexec(site: BootImages) -> None:
    """Where no kernel can be started from here, the reason is said, and the machine starts again as its settings want it."""
    name = "boot-image-no-kexec"
    machine = site.group[name].machine

    def again(_: Peer) -> bool | None:
        return True if len([line for line in machine.console.lines() if _FIRST_STAGE.search(line.text)]) >= 2 else None

    site.group.wait(name, "starts again", again, 400.0)
    expect(machine.console.find(_NO_KEXEC) is not None, f"the reason was not said:\n{machine.console.tail(30)}")
    machine.kill()
    site.group.done(name)
    site.unchanged(name)


def _said(machine: Machine, pattern: re.Pattern[str]) -> Callable[[Peer], bool | None]:
    return lambda _: True if machine.console.find(pattern) is not None else None


def bond(site: BootImages) -> float | None:
    """Two ports as one, in a VLAN; the cable of the one that works is pulled once there is an address, and is back for what is started, which
    knows nothing of the other."""
    name = "boot-image-bond"
    machine = site.group[name].machine

    site.group.wait(name, "has an address in its VLAN", _said(machine, _ON_VLAN), 300.0)
    expect(machine.console.find(_BOND) is not None, f"nobody said what the bond is made of:\n{machine.console.tail(30)}")
    expect(machine.console.find(_STARTS) is None, "it has started what it fetched already: the cable is pulled too late")
    machine.plug(0, False)
    before, _ = site.trunk.from_guests()
    site.group.wait(name, "starts what it fetched", _said(machine, _STARTS), 300.0)
    machine.plug(0, True)
    took = _uploads(site, name)
    after, bare = site.trunk.from_guests()
    site.lab.report.line(f"frames with the tag: {before} until the cable was pulled, {after} in the end; without: {bare}")
    # Some 25 MB came over the other port, acknowledged by one frame for several at most.
    expect(after - before > 500, f"{after - before} frames with the tag came after the cable was pulled")
    return took


def aggregation(site: BootImages) -> float | None:
    """Two ports as one by the switch's word as well; one cable is pulled while it downloads, and is back for what is started."""
    name = "boot-image-lacp"
    machine = site.group[name].machine

    site.group.wait(name, "has an address on both ports", _said(machine, _ON_BOND), 300.0)
    expect(machine.console.find(_LACP) is not None, f"nobody said what the bond is made of:\n{machine.console.tail(30)}")
    polling.wait_until(lambda: len(site.switch.aggregated()) == _BOND_PORTS or None, site.lab.seconds(30), "the switch aggregates both", every=0.1)
    machines = set(site.switch.aggregated().values())
    expect(len(machines) == 1, f"the ports are not one aggregation: {machines}")
    # A bond sends all that is for one machine by one of its ports: that one's cable is pulled, as soon as it carries something.
    began = [machine.sent_to(port) for port in range(_BOND_PORTS)]

    def carried(port: int) -> int:
        return machine.sent_to(port) - began[port]

    polling.wait_until(lambda: max(map(carried, range(_BOND_PORTS))) > _BEGUN_BYTES or None, site.lab.seconds(60), "a download begins", every=0.1)
    used, other = sorted(range(_BOND_PORTS), key=carried, reverse=True)
    before = machine.sent_to(other)
    expect(machine.console.find(_STARTS) is None, "it has started what it fetched already: the cable is pulled too late")
    machine.plug(used, False)
    site.group.wait(name, "starts what it fetched", _said(machine, _STARTS), 300.0)
    more = machine.sent_to(other) - before
    machine.plug(used, True)
    site.lab.report.line(f"port {used} carried it; {more} bytes went to port {other} after the cable of that was pulled")
    expect(more > _REST_BYTES, f"{more} bytes went to the other port: the download did not go on there")
    return _uploads(site, name)


# Each of the first three loads the whole live image, which takes minutes here.
SCENARIOS: list[Scenario[BootImages]] = [
    Scenario("boot-image-secure", "the image of target bootloader with Secure Boot: a changed kernel is refused, the live image runs and uploads",
             secure, ("boot-image-secure",), long=True),
    Scenario("boot-image-uefi", "the same by UEFI, from a web server that cuts every connection", uefi, ("boot-image-uefi",),
             long=True),
    Scenario("boot-image-bios", "the same by BIOS", bios, ("boot-image-bios",), long=True),
    Scenario("boot-image-master", "an image on which nothing is set: it asks the master on its network, and becomes its peer", from_master,
             ("boot-image-master",), long=True),
    Scenario("boot-image-bond", "two ports as one in a VLAN, one cable pulled on the way: it asks the master, and becomes its peer", bond,
             ("boot-image-bond",)),
    Scenario("boot-image-lacp", "two ports as one by LACP (802.3ad), one cable pulled on the way: it asks the master, and becomes its peer",
             aggregation, ("boot-image-lacp",), long=True),
    Scenario("boot-image-no-kexec", "a kernel that refuses kexec: said, and the machine starts again", no_kexec, ("boot-image-no-kexec",)),
]
