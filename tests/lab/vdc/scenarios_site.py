"""Does a prepared stick serve a whole site: every firmware, every policy, beside a foreign DHCP server?

One master serves all of it: its first port is on the peers' wire, its second on a wire where another DHCP server lives.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import socket
import struct
import time
from pathlib import Path

from . import collect, dhcp, foreign_dhcp, gpt, polling, stick, stick_files, tools
from .capture import Capture
from .environment import Environment
from .errors import LabError
from .machine import BRIDGE
from .master import Master
from .nodes import identity
from .nvram_seed import seed_peers
from .peer import Peer
from .suite import Scenario, expect, expect_none

OTHER = "lab1"
_XID = 0x77010203
# In the order of starting.
_NUMBERS = {"uefi": 0x10, "bios": 0x11, "nobmc": 0x13, "liveboot": 0x12}
_FAILING = "bios"
BY_HAND = re.compile(r"stored, no BMC: power off by hand")
_DISCOVER = Path(__file__).resolve().parents[2] / "fixtures" / "packets" / "ovmf-efi-discover.bin"


class Site(Environment):
    """A master on a prepared stick, the foreign server, and the peers that the chosen scenarios need."""

    def set_up(self) -> None:
        lab = self.lab
        self.collected: collect.InventoryTarball | None = None
        peers = [Peer(lab, kind, identity(_NUMBERS[kind], kind)) for kind in sorted(self.names, key=list(_NUMBERS).index)]
        lab.report.line("the peers' firmware boots once by itself, for the NVRAM comparison")
        seed_peers(peers, lab.folder, lab.options.accel, lab.seconds(90))
        nodes = {identity(_NUMBERS["liveboot"], "").mac: {"post-action": "liveboot", "poweroff": "acpi"}}
        self.stick = stick.make(lab.options.iso, lab.folder / "site-stick.raw")
        stick.add_data_partition(self.stick, {
            "recon.toml": stick_files.recon_toml("Virtual Site", nodes),
            "post.tgz": stick_files.post_tgz([identity(_NUMBERS[_FAILING], "").serial]),
        })
        self._image_hash = image_hash(self.stick)
        lab.namespace.add_bridge(OTHER)
        self._stack.enter_context(foreign_dhcp.ForeignDhcpServer(lab.namespace, OTHER, lab.folder))
        self.other_capture = self._stack.enter_context(Capture(lab.namespace, OTHER, lab.folder / "other-wire.pcap"))
        self.master = self.own_master(Master(lab, self.stick, bridges=[BRIDGE, OTHER]))
        self.status = self.master.boot()
        self.group = self.own_peers(self.master, peers, at_once=2)
        self.group.start_next()

    def node(self, kind: str) -> str:
        return self.group[kind].identity.uuid

    def collect_stick(self) -> collect.InventoryTarball:
        """The stick's content after a clean shutdown of the master, which the first call does."""
        if self.collected is None:
            if self.master.machine.running:
                self.master.shut_down()
            self.collected = collect.collect(self.lab.options.recon, self.stick, self.lab.folder / "site-inventory.tar.gz")
        return self.collected

    @property
    def image_unchanged(self) -> bool:
        return image_hash(self.stick) == self._image_hash


def image_hash(path: Path) -> str:
    """Hash of the boot image's own partitions on a stick: everything but partition tables and the data partition."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in sorted(gpt.partitions(path), key=lambda p: p.first):
            if part.name == stick.LABEL:
                continue
            file.seek(part.offset)
            left = part.size
            while left > 0:
                block = file.read(min(left, 1 << 22))
                if not block:
                    break
                left -= len(block)
                digest.update(block)
    return digest.hexdigest()


def _inventory_knows(site: Site, kind: str) -> None:
    """The inventory names the machine and every disk, whatever its exact form."""
    peer = site.group[kind]
    text = json.dumps(site.collect_stick().inventory(peer.identity.uuid))
    for word in (peer.identity.serial, peer.identity.mac, *(disk.serial for disk in peer.spec.disks)):
        expect(word in text, f"inventory of {kind} does not mention {word}")


def uefi_peer(site: Site) -> float | None:
    return site.group.wait_stored_and_off("uefi")


def bios_peer(site: Site) -> float | None:
    return site.group.wait_stored_and_off("bios")


def liveboot_peer(site: Site) -> float | None:
    took = site.group.wait_stored_and_off("liveboot", 420.0)
    entry = site.group.progress.entries["liveboot"]
    sent, image = int(entry["bytes_sent"]), site.lab.options.iso.stat().st_size
    expect(sent >= image, f"liveboot fetched {sent} bytes, less than the image of {image}")
    return took


def nobmc_peer(site: Site) -> None:
    site.group.wait_stored("nobmc")
    machine = site.group["nobmc"].machine

    def look(_: Peer) -> bool | None:
        expect(machine.running, f"a peer without BMC switched itself off ({machine.off_reason})")
        return True if machine.console.find(BY_HAND) else None

    try:
        site.group.wait("nobmc", "says that a person has to cut the power", look, 60.0)
    except LabError as error:
        raise LabError(f"{error}; its last console lines:\n{machine.console.tail()}") from error
    state = machine.qmp.command("query-status")
    expect(state.get("running"), f"the guest is {state.get('status')}")
    site.group.done("nobmc")
    machine.kill()


def foreign_dhcp_server(site: Site) -> None:
    link = next((x for x in site.status["links"] if x["mac"] == site.master.spec.ports[1].mac), None)
    expect(link is not None, f"the API does not list the port on the other wire: {site.status['links']}")
    assert link is not None
    expect(link["mode"] == "proxy", f"mode of that link is {link['mode']}: {link['reason']}")
    expect(
        any(server["address"] == foreign_dhcp.ADDRESS for server in link["foreign"]),
        f"the API does not name {foreign_dhcp.ADDRESS}: {link['foreign']}",
    )
    shown = site.master.machine.console.find(re.compile(re.escape(foreign_dhcp.ADDRESS)))
    expect(shown is not None, f"the master's screen does not name {foreign_dhcp.ADDRESS}")
    _ask_for_boot(site)
    own = site.master.spec.ports[1].mac
    spoken = [d for d in site.other_capture.datagrams() if d.source_mac == own and d.source_port in (67, 4011)]
    for packet in (dhcp.parse(datagram.payload) for datagram in spoken):
        expect(packet.your_address == "0.0.0.0", f"the master gave {packet.mac} the address {packet.your_address} on that link")
    expect(any(d.source_port == 67 and dhcp.parse(d.payload).xid == _XID for d in spoken), "no boot file was offered on that link")


def _ask_for_boot(site: Site) -> None:
    """A network boot client asks on the other bridge until the foreign server answers it."""
    asked = bytearray(_DISCOVER.read_bytes())
    asked[4:8] = struct.pack(">I", _XID)
    asked[28:34] = bytes.fromhex("5254001ab0f0")

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, OTHER.encode() + b"\0")
        made.bind(("0.0.0.0", 68))
        return made

    def offers() -> int:
        heard = [d for d in site.other_capture.datagrams() if d.source_port == 67 and d.source == foreign_dhcp.ADDRESS]
        return sum(1 for d in heard if dhcp.parse(d.payload).xid == _XID)

    with contextlib.closing(site.lab.namespace.call(make)) as client:
        asked_at = [0.0]

        def look(wanted: int) -> bool | None:
            if time.monotonic() - asked_at[0] > 1.0:
                client.sendto(bytes(asked), ("255.255.255.255", 67))
                asked_at[0] = time.monotonic()
            return True if offers() >= wanted else None

        # The client goes on asking, as firmware does; a master that only hesitated would answer a later question.
        for count in range(1, 5):
            what = f"offer {count} of the foreign server on the wire"
            polling.wait_until(functools.partial(look, count), site.lab.seconds(15), what)


def collected(site: Site) -> None:
    collected = site.collect_stick()
    wanted = {peer.identity.uuid for peer in site.group.peers if peer.stored_at is not None}
    expect(collected.nodes == wanted, f"stored: {sorted(wanted)}; on the stick: {sorted(collected.nodes)}")
    for peer in site.group.peers:
        _inventory_knows(site, peer.name)
        expect(peer.identity.serial in collected.printed, f"the table does not show {peer.identity.serial}:\n{collected.printed}")
    copy = stick.extract_data_partition(site.stick, site.lab.folder / "site-data.img")
    tools.run(["fsck.exfat", "-n", str(copy)])
    copy.unlink()
    expect(site.image_unchanged, "the boot image on the stick was written to")


def post_script(site: Site) -> None:
    for kind in ("uefi", _FAILING):
        peer = site.group[kind]
        output = site.collect_stick().file(peer.identity.uuid, "post/output.txt").decode("utf-8", "replace")
        expect(f"post script runs on {peer.identity.serial}" in output, f"{kind}: output.txt holds {output[:200]!r}")
        files = site.collect_stick().under(peer.identity.uuid, "post")
        answers = [data for name, data in files.items() if name.endswith("answer.txt")]
        expect(answers == [f"answer of {peer.identity.serial}\n".encode()], f"{kind}: result files are {sorted(files)}")
        status = json.loads(files["status.json"])
        code = 3 if kind == _FAILING else 0
        expect(code in status.values(), f"{kind}: status.json does not say exit code {code}: {status}")


def never_loadable(site: Site) -> None:
    """In the initrd, with what it would fetch, and in the whole system."""
    wanted = len(stick_files.never_loadable())
    if site.collected is None:
        for kind in ("uefi", "liveboot"):
            site.group.wait_stored_and_off(kind, 420.0)
    for kind in ("uefi", "liveboot"):
        files = site.collect_stick().under(site.group[kind].identity.uuid, "post")
        told = [data.decode("utf-8", "replace") for name, data in files.items() if name.endswith("modules.txt")]
        expect(told == [f"{wanted} listed\n"], f"{kind}: {told}")


def unharmed(site: Site) -> None:
    site.collect_stick()
    site.group.power_off_all()
    changes = site.master.changes()
    for peer in site.group.peers:
        if peer.spec.firmware == "uefi":
            expect(peer.variables is not None, f"{peer.name}: NVRAM was not read before")
        changes += peer.changes()
    expect_none(changes)


SCENARIOS: list[Scenario[Site]] = [
    Scenario("uefi-peer", "UEFI peer is inventoried in its initrd, stored, off", uefi_peer, ["uefi"]),
    Scenario("bios-peer", "BIOS peer likewise", bios_peer, ["bios"]),
    Scenario("nobmc-peer", "peer without BMC is stored, says so and stays up", nobmc_peer, ["nobmc"]),
    Scenario("foreign-dhcp", "beside a foreign DHCP server the master hands out boot files and no address", foreign_dhcp_server),
    Scenario("liveboot-peer", "peer with postaction=liveboot loads the image, is stored, off", liveboot_peer, ["liveboot"]),
    Scenario("collect", "after the power button the stick is clean and has every node", collected, ["uefi", "bios"]),
    Scenario("post-script", "post.tgz runs; output, result and failure are in the tarball", post_script, ["uefi", "bios"]),
    Scenario("never-loadable", "modules that assemble or export disks cannot be loaded by root", never_loadable, ["uefi", "liveboot"]),
    Scenario("unharmed", "disks and NVRAM of master and peers are as before", unharmed, ["uefi", "bios"]),
]
