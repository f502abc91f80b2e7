"""Does a machine that knows no IPv4 boot, report and upload?

The peer's cable carries no IPv4 at all; the master serves both families on the wire.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from . import collect, stick
from .api import stage_seconds
from .capture import udp6
from .environment import Environment
from .master import Master
from .nodes import identity
from .nvram_seed import seed_peers
from .peer import Peer
from .suite import Scenario, expect, expect_none

_SERVER_PORT, _CLIENT_PORT = 547, 546
_REPLY = 7
# Firmware waits 10 s for a default router before it takes its address, and iPXE asks for one too.
_SECONDS = 300.0


class Ipv6Site(Environment):
    """A master on a fresh stick and one peer on a cable without IPv4."""

    def set_up(self) -> None:
        lab = self.lab
        peer = Peer(lab, "ipv6", identity(0x60, "ipv6"))
        seed_peers([peer], lab.folder, lab.options.accel, lab.seconds(90))
        self.stick = stick.make(lab.options.iso, lab.folder / "ipv6-stick.raw")
        self.master = self.own_master(Master(lab, self.stick, name="ipv6-master", number=6))
        self.status = self.master.boot()
        self.group = self.own_peers(self.master, [peer])
        self.group.start_next()


def _ipv6_of(status: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [link["ipv6"] for link in status["links"] if link.get("ipv6")]
    expect(len(found) == 1, f"links are {status['links']}")
    return found[0]


def ipv6_peer(site: Ipv6Site) -> float | None:
    took = site.group.wait_stored_and_off("ipv6", _SECONDS)
    peer = site.group["ipv6"]
    link = _ipv6_of(site.master.api.status())
    expect(link["serving"] is True, f"IPv6 is {link}")
    network = ipaddress.ip_network(link["address"], strict=False)
    entry = site.group.progress.entries["ipv6"]
    expect(ipaddress.ip_address(entry["address"]) in network, f"the peer had {entry['address']}, not of {network}")
    for stage in ("addressed", "loader", "kernel", "agent", "stored"):
        expect(stage in stage_seconds(entry), f"stage {stage} is missing in {entry}")
    answers = []
    for frame in site.lab.capture.frames():
        sender = ":".join(f"{byte:02x}" for byte in frame.data[6:12])
        expect(sender != peer.identity.mac or frame.data[12:14] == b"\x86\xdd", "the peer sent something that is not IPv6")
        found = udp6(frame)
        if found is not None and (found.source_port, found.destination_port) == (_SERVER_PORT, _CLIENT_PORT):
            answers.append(found)
    expect(any(answer.payload[0] == _REPLY for answer in answers), f"no DHCPv6 reply among {len(answers)} answers")
    return took


def ipv6_collect(site: Ipv6Site) -> None:
    site.master.shut_down()
    collected = collect.collect(site.lab.options.recon, site.stick, site.lab.folder / "ipv6-inventory.tar.gz")
    peer = site.group["ipv6"]
    expect(collected.nodes == {peer.identity.uuid}, f"on the stick: {sorted(collected.nodes)}")
    expect_none(site.master.changes() + peer.changes())


SCENARIOS: list[Scenario[Ipv6Site]] = [
    Scenario("ipv6", "UEFI peer without IPv4 boots by DHCPv6, is stored, off", ipv6_peer, ["ipv6"]),
    Scenario("ipv6-collect", "its inventory is on the stick, disks and NVRAM are as before", ipv6_collect, ["ipv6"]),
]
