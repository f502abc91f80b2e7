"""Does a master do no harm beside others on the wire, and does it still boot its peers?

A foreign DHCP server that is there from the start, comes or goes; and two sticks on one network.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any
from collections.abc import Sequence

from . import dhcp, foreign, payload, stick, waiting
from .api import Api, ApiError
from .crowd import Crowd
from .errors import LabError
from .lab import Lab
from .machine import BRIDGE
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect

OURS = "192.168.219.1"
# The harness's foot on the foreign server's network.
_FOOT = "10.77.0.2/24"
_APPEARS_AFTER = 30.0


class EitherApi(Api):
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


class Wire:
    """One master and a wire on which a foreign server comes and goes."""

    def __init__(self, lab: Lab, present: bool, kinds: Sequence[tuple[str, str, int]]) -> None:
        self.lab = lab
        self._present = present
        self._kinds = kinds
        self._stack = contextlib.ExitStack()
        self._foreign = contextlib.ExitStack()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Wire:
        try:
            lab = self.lab
            lab.namespace.ip("addr", "add", _FOOT, "dev", BRIDGE)
            self._stack.enter_context(self._foreign)
            if self._present:
                self.bring_foreign()
            peers = [Peer(lab, kind, identity(number, name)) for name, kind, number in self._kinds]
            self.stick = stick.make(lab.options.iso, lab.folder / "modes-stick.raw")
            self.master = self._stack.enter_context(Master(lab, self.stick, name="modes-master", number=3))
            self.master.api = EitherApi(lab, self.master.who.mac)
            self.crowd = Crowd(self.master, peers, at_once=2)
            self._stack.callback(self.crowd.end_all)
            self.master.boot(mode="proxy" if self._present else "serve")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bring_foreign(self) -> None:
        self._foreign.enter_context(foreign.ForeignServer(self.lab.namespace, BRIDGE, self.lab.folder))
        self.lab.report.line(f"a foreign DHCP server appears: {foreign.ADDRESS}")

    def take_foreign(self) -> None:
        self._foreign.close()
        self.lab.report.line("the foreign DHCP server goes")

    def link(self) -> dict[str, Any]:
        link = dict(self.master.api.status(timeout=1.0)["links"][0])
        show(self.lab, self.master.spec.name, link, self._shown)
        return link

    def becomes(self, mode: str, seconds: float) -> float:
        """Waits for a mode with an address; returns how long it took."""
        begun = time.monotonic()

        def look() -> bool | None:
            self.master.must_run()
            with contextlib.suppress(ApiError):
                link = self.link()
                return True if link["mode"] == mode and link["address"] else None
            return None

        waiting.until(look, self.lab.seconds(seconds), f"the link is {mode}")
        return time.monotonic() - begun

    def stored(self, name: str) -> None:
        self.crowd.pump()
        self.crowd.wait_stored(name)
        self.crowd.wait_off(name)

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


def show(lab: Lab, name: str, link: dict[str, Any], shown: dict[str, str]) -> None:
    """Each new mode once, as a person reads it on the master's screen."""
    text = f"{name}: {link['name']} {link['mode']} {link['address'] or ''}: {link['reason']}"
    if shown.get(name) != text:
        shown[name] = text
        lab.report.line(text)


class Beside(Wire):
    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        super().__init__(lab, True, [("beside-uefi", "uefi", 0x50), ("beside-bios", "bios", 0x51)])


class ComesAndGoes(Wire):
    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        super().__init__(lab, False, [("before", "uefi", 0x52)])


def proxied_uefi(wire: Wire) -> None:
    link = wire.link()
    expect(link["mode"] == "proxy" and str(link["address"]).startswith("10.77.0."), f"the link is {link}")
    expect(any(s["address"] == foreign.ADDRESS for s in link["foreign"]), f"the API names {link['foreign']}")
    wire.stored("beside-uefi")


def proxied_bios(wire: Wire) -> None:
    wire.stored("beside-bios")
    given = wire.addresses_given(0.0)
    expect(not given, f"the master gave addresses: {given}")


def foreign_comes(wire: Wire) -> float | None:
    """A foreign server appears half a minute into service, while a peer is on its way."""
    until = time.monotonic() + _APPEARS_AFTER
    wire.crowd.pump()
    expect(wire.link()["mode"] == "serve", "the master does not serve an empty wire")
    waiting.until(lambda: True if time.monotonic() >= until and wire.crowd.watch.poll() else None, 60.0, "half a minute passes")
    wire.bring_foreign()
    took = wire.becomes("proxy", 25.0)
    quiet = time.time()
    wire.crowd.add(Peer(wire.lab, "uefi", identity(0x53, "meanwhile")))
    wire.stored("before")
    wire.stored("meanwhile")
    given = wire.addresses_given(quiet)
    expect(not given, f"the master gave addresses beside a foreign server: {given}")
    return took


def foreign_goes(wire: Wire) -> float | None:
    wire.take_foreign()
    took = wire.becomes("serve", 100.0)
    # Not before: firmware that asks while nobody gives addresses goes on to its next device.
    wire.crowd.add(Peer(wire.lab, "bios", identity(0x54, "after")))
    wire.stored("after")
    return took


class TwoSticks:
    """Two machines with a stick each, powered on one after the other."""

    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        self.lab = lab
        self._stack = contextlib.ExitStack()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> TwoSticks:
        try:
            lab = self.lab
            second = identity(5, "second-stick")
            first_stick = stick.make(lab.options.iso, lab.folder / "first-stick.raw")
            # The second machine stays up after its inventory, so that it can take over.
            settings = payload.recon_toml("Two Sticks", {second.mac: {"poweroff": "never"}})
            stick.add_data_partition(first_stick, {"recon.toml": settings, "site.key": payload.SITE_KEY})
            second_stick = stick.make(lab.options.iso, lab.folder / "second-stick.raw")
            stick.add_data_partition(second_stick, {"site.key": payload.SITE_KEY})
            self.first = self._stack.enter_context(Master(lab, first_stick, name="first-stick", number=6))
            self.second = self._stack.enter_context(Master(lab, second_stick, name="second-stick", number=5))
            self.peer = Peer(lab, "uefi", identity(0x55, "after-takeover"))
            self.crowd = Crowd(self.second, [self.peer], at_once=1)
            self._stack.callback(self.crowd.end_all)
            self.first.boot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def link(self, master: Master) -> dict[str, Any]:
        link = dict(master.api.status(timeout=1.0)["links"][0])
        show(self.lab, master.spec.name, link, self._shown)
        return link


def second_follows(sticks: TwoSticks) -> None:
    sticks.second.machine.start()
    sticks.lab.report.line("second-stick: power on from its own stick")
    uuid = sticks.second.who.uuid

    def look() -> bool | None:
        sticks.first.must_run()
        sticks.second.must_run()
        expect(sticks.link(sticks.first)["mode"] == "serve", "the first stick gave way")
        nodes = sticks.first.api.nodes()
        return True if any(n.get("id") == uuid and n.get("stored_sha256") for n in nodes) else None

    waiting.until(look, sticks.lab.seconds(240.0), "the second stick's machine is stored on the first stick")
    senders = {
        d.source_mac
        for d in sticks.lab.capture.datagrams()
        if d.source_port == 67 and dhcp.parse(d.payload).your_address != "0.0.0.0"
    }
    expect(senders == {sticks.first.spec.ports[0].mac}, f"addresses come from {senders}")


def takeover(sticks: TwoSticks) -> float | None:
    sticks.first.cut_power()
    begun = time.monotonic()

    def look() -> bool | None:
        sticks.second.must_run()
        with contextlib.suppress(ApiError):
            return True if sticks.link(sticks.second)["mode"] == "serve" else None
        return None

    try:
        waiting.until(look, sticks.lab.seconds(90.0), "the second stick serves")
    except LabError as error:
        raise LabError(f"{error}; its last words:\n{sticks.second.machine.console.tail()}") from error
    took = time.monotonic() - begun
    sticks.crowd.pump()
    sticks.crowd.wait_stored(sticks.peer.name)
    sticks.crowd.wait_off(sticks.peer.name)
    return took


BESIDE: list[Scenario[Wire]] = [
    Scenario("proxied-uefi", "beside a foreign DHCP server: a UEFI peer boots by proxyDHCP, is stored, off", proxied_uefi),
    Scenario("proxied-bios", "the same with BIOS and iPXE; the master never gave an address", proxied_bios),
]
COMES: list[Scenario[Wire]] = [
    Scenario("foreign-comes", "a foreign server appears at 30 s: proxy, and the peers go on", foreign_comes),
    Scenario("foreign-goes", "it goes: the master serves again", foreign_goes),
]
STICKS: list[Scenario[TwoSticks]] = [
    Scenario("second-follows", "a second stick's machine becomes a peer of the first", second_follows),
    Scenario("takeover", "the first one's power is cut: the second serves", takeover),
]
