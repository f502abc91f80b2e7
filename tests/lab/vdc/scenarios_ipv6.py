"""Does a machine that knows no IPv4 boot, report and upload?

The peer's cable carries no IPv4 at all; the master serves both families on the wire.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any
from collections.abc import Sequence

from . import collect, stick
from .api import stage_seconds
from .capture import udp6
from .crowd import Crowd
from .lab import Lab
from .master import Master
from .nodes import identity
from .peer import Peer
from .season import season_peers
from .suite import Scenario, expect

_SERVER_PORT, _CLIENT_PORT = 547, 546
_REPLY = 7
# Firmware waits 10 s for a default router before it takes its address, and iPXE asks for one too.
_SECONDS = 300.0


class Ipv6Site:
    """A master on a fresh stick and one peer on a cable without IPv4."""

    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        self.lab = lab
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Ipv6Site:
        try:
            lab = self.lab
            peer = Peer(lab, "ipv6", identity(0x60, "ipv6"))
            season_peers([peer], lab.folder, lab.options.accel, lab.seconds(90))
            self.stick = stick.make(lab.options.iso, lab.folder / "ipv6-stick.raw")
            self.master = self._stack.enter_context(Master(lab, self.stick, name="ipv6-master", number=6))
            self.status = self.master.boot()
            self.crowd = Crowd(self.master, [peer], at_once=1)
            self._stack.callback(self.crowd.end_all)
            self.crowd.pump()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _ipv6_of(status: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [link["ipv6"] for link in status["links"] if link.get("ipv6")]
    expect(len(found) == 1, f"links are {status['links']}")
    return found[0]


def ipv6_peer(site: Ipv6Site) -> float | None:
    site.crowd.wait_stored("ipv6", _SECONDS)
    site.crowd.wait_off("ipv6")
    peer = site.crowd["ipv6"]
    link = _ipv6_of(site.master.api.status())
    expect(link["serving"] is True, f"IPv6 is {link}")
    network = ipaddress.ip_network(link["address"], strict=False)
    entry = site.crowd.watch.entries["ipv6"]
    expect(ipaddress.ip_address(entry["address"]) in network, f"the peer had {entry['address']}, not of {network}")
    for stage in ("addressed", "loader", "kernel", "agent", "stored"):
        expect(stage in stage_seconds(entry), f"stage {stage} is missing in {entry}")
    answers = []
    for frame in site.lab.capture.frames():
        sender = ":".join(f"{byte:02x}" for byte in frame.data[6:12])
        expect(sender != peer.who.mac or frame.data[12:14] == b"\x86\xdd", "the peer sent something that is not IPv6")
        found = udp6(frame)
        if found is not None and (found.source_port, found.destination_port) == (_SERVER_PORT, _CLIENT_PORT):
            answers.append(found)
    expect(any(answer.payload[0] == _REPLY for answer in answers), f"no DHCPv6 reply among {len(answers)} answers")
    return peer.machine.off_after


def ipv6_collect(site: Ipv6Site) -> None:
    site.master.shut_down()
    harvest = collect.collect(site.lab.options.recon, site.stick, site.lab.folder / "ipv6-inventory.tar.gz")
    peer = site.crowd["ipv6"]
    expect(harvest.nodes == {peer.who.uuid}, f"on the stick: {sorted(harvest.nodes)}")
    said = site.master.harm() + peer.harm()
    expect(not said, "; ".join(said))


SCENARIOS: list[Scenario[Ipv6Site]] = [
    Scenario("ipv6", "UEFI peer without IPv4 boots by DHCPv6, is stored, off", ipv6_peer, ["ipv6"]),
    Scenario("ipv6-collect", "its inventory is on the stick, disks and NVRAM are as before", ipv6_collect, ["ipv6"]),
]
