"""Does a master leave addresses to a foreign DHCP server, and does it still boot its peers?

The foreign server is there from the start, or it starts and stops while the master serves.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from . import dhcp, foreign_dhcp, polling, stick
from .api import Api, ApiError
from .environment import Environment
from .lab import Lab
from .machine import BRIDGE
from .master import LinkReporter, Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect

OURS = "192.168.219.1"
# The harness's own address on the foreign server's network.
_HARNESS_ADDRESS = "10.77.0.2/24"
_APPEARS_AFTER = 30.0


class ServeOrProxyApi(Api):
    """The API of a master that has one address while it serves and another, leased one while it proxies."""

    def __init__(self, lab: Lab, mac: str) -> None:
        super().__init__(lab.namespace, OURS)
        self._leases = lab.folder / "foreign.leases"
        self._mac = mac
        self._last = OURS

    def leased(self) -> str | None:
        """What the foreign server gave the master, by its own record."""
        lines = self._leases.read_text().splitlines() if self._leases.exists() else []
        found = [words[2] for words in map(str.split, lines) if len(words) > 2 and words[1] == self._mac]
        return found[-1] if found else None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 5.0,
    ) -> tuple[int, dict[str, str], bytes]:
        leased = self.leased()
        addresses = sorted({OURS, leased or OURS}, key=lambda address: address != self._last)
        for address in addresses:
            self.address = address
            with contextlib.suppress(ApiError):
                answer = super().request(method, path, body, headers, timeout)
                self._last = address
                return answer
        raise ApiError(f"{method} {path}: neither {' nor '.join(addresses)} answers")


class ForeignDhcp(Environment):
    """One master, and a foreign DHCP server beside it that starts and stops."""

    def __init__(self, lab: Lab, present: bool, kinds: Sequence[tuple[str, str, int]]) -> None:
        super().__init__(lab)
        self._present = present
        self._kinds = kinds
        self._foreign = contextlib.ExitStack()
        self._reporter = LinkReporter()

    def set_up(self) -> None:
        lab = self.lab
        lab.namespace.ip("addr", "add", _HARNESS_ADDRESS, "dev", BRIDGE)
        self._stack.enter_context(self._foreign)
        if self._present:
            self.start_foreign()
        peers = [Peer(lab, kind, identity(number, name)) for name, kind, number in self._kinds]
        self.stick = stick.make(lab.options.iso, lab.folder / "modes-stick.raw")
        self.master = self.own_master(Master(lab, self.stick, name="modes-master", number=3))
        self.master.api = ServeOrProxyApi(lab, self.master.identity.mac)
        self.group = self.own_peers(self.master, peers, at_once=2)
        self.master.boot(mode="proxy" if self._present else "serve")

    def start_foreign(self) -> None:
        self._foreign.enter_context(foreign_dhcp.ForeignDhcpServer(self.lab.namespace, BRIDGE, self.lab.folder))
        self.lab.report.line(f"a foreign DHCP server starts: {foreign_dhcp.ADDRESS}")

    def stop_foreign(self) -> None:
        self._foreign.close()
        self.lab.report.line("the foreign DHCP server stops")

    def link(self) -> dict[str, Any]:
        return self._reporter.link(self.master)

    def wait_for_mode(self, mode: str, seconds: float) -> float:
        """Waits for a mode with an address; returns how long it took."""
        begun = time.monotonic()

        def look() -> bool | None:
            self.master.must_run()
            with contextlib.suppress(ApiError):
                link = self.link()
                return True if link["mode"] == mode and link["address"] else None
            return None

        polling.wait_until(look, self.lab.seconds(seconds), f"the link is {mode}")
        return time.monotonic() - begun

    def stored(self, name: str) -> None:
        self.group.start_next()
        self.group.wait_stored_and_off(name)

    def addresses_given(self, since: float) -> list[str]:
        """Addresses that the master offered or gave anybody since a moment of the wall clock, by the capture."""
        own = self.master.spec.ports[0].mac
        return [
            packet.your_address
            for d in self.lab.capture.datagrams()
            if d.at >= since and d.source_mac == own and d.source_port == 67
            for packet in [dhcp.parse(d.payload)]
            if packet.op == 2 and packet.kind != "nak" and packet.your_address != "0.0.0.0"
        ]


class ForeignPresent(ForeignDhcp):
    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        super().__init__(lab, True, [("beside-uefi", "uefi", 0x50), ("beside-bios", "bios", 0x51)])


class ForeignComesAndGoes(ForeignDhcp):
    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        super().__init__(lab, False, [("before", "uefi", 0x52)])


def proxied_uefi(site: ForeignDhcp) -> None:
    link = site.link()
    expect(link["mode"] == "proxy" and str(link["address"]).startswith("10.77.0."), f"the link is {link}")
    expect(any(s["address"] == foreign_dhcp.ADDRESS for s in link["foreign"]), f"the API names {link['foreign']}")
    site.stored("beside-uefi")


def proxied_bios(site: ForeignDhcp) -> None:
    site.stored("beside-bios")
    given = site.addresses_given(0.0)
    expect(not given, f"the master gave addresses: {given}")


def foreign_comes(site: ForeignDhcp) -> float | None:
    """A foreign server appears half a minute into service, while a peer is on its way."""
    until = time.monotonic() + _APPEARS_AFTER
    site.group.start_next()
    expect(site.link()["mode"] == "serve", "the master does not serve an empty wire")
    polling.wait_until(lambda: True if time.monotonic() >= until and site.group.progress.poll() else None, 60.0, "half a minute passes")
    site.start_foreign()
    took = site.wait_for_mode("proxy", 25.0)
    quiet = time.time()
    site.group.add(Peer(site.lab, "uefi", identity(0x53, "meanwhile")))
    site.stored("before")
    site.stored("meanwhile")
    given = site.addresses_given(quiet)
    expect(not given, f"the master gave addresses beside a foreign server: {given}")
    return took


def foreign_goes(site: ForeignDhcp) -> float | None:
    site.stop_foreign()
    took = site.wait_for_mode("serve", 100.0)
    # Not earlier: firmware whose DISCOVERs are not answered goes on to its next boot device.
    site.group.add(Peer(site.lab, "bios", identity(0x54, "after")))
    site.stored("after")
    return took


FOREIGN_PRESENT: list[Scenario[ForeignDhcp]] = [
    Scenario("proxied-uefi", "beside a foreign DHCP server: a UEFI peer boots by proxyDHCP, is stored, off", proxied_uefi, long=True),
    Scenario("proxied-bios", "the same with BIOS and iPXE; the master never gave an address", proxied_bios, long=True),
]
# Without machines that boot, ring 2 does the same.
FOREIGN_COMES_AND_GOES: list[Scenario[ForeignDhcp]] = [
    Scenario("foreign-comes", "a foreign server appears at 30 s: proxy, and the peers go on", foreign_comes, long=True),
    Scenario("foreign-goes", "it goes: the master serves again", foreign_goes, long=True),
]
