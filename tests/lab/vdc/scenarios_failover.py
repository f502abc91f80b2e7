"""Does a second stick follow the first one, and take over when that one's power is cut?"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from . import dhcp, polling, stick, stick_files
from .api import ApiError
from .environment import Environment
from .errors import LabError
from .master import LinkReporter, Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect


class TwoSticks(Environment):
    """Two machines with a stick each, powered on one after the other."""

    def set_up(self) -> None:
        lab = self.lab
        self._reporter = LinkReporter()
        first_stick = stick.make(lab.options.iso, lab.folder / "first-stick.raw")
        # No rule keeps the second machine on: one that stands by does not end by the policy of the master it follows.
        settings = stick_files.recon_toml("Two Sticks", {})
        stick.add_data_partition(first_stick, {"recon.toml": settings, "site.key": stick_files.SITE_KEY})
        second_stick = stick.make(lab.options.iso, lab.folder / "second-stick.raw")
        stick.add_data_partition(second_stick, {"site.key": stick_files.SITE_KEY})
        self.first = self.own_master(Master(lab, first_stick, name="first-stick", number=6))
        self.second = self.own_master(Master(lab, second_stick, name="second-stick", number=5))
        self.peer = Peer(lab, "uefi", identity(0x55, "after-takeover"))
        self.group = self.own_peers(self.second, [self.peer])
        self.first.boot()

    def link(self, master: Master) -> dict[str, Any]:
        return self._reporter.link(master)


def second_follows(sticks: TwoSticks) -> None:
    sticks.second.machine.start()
    sticks.lab.report.line("second-stick: power on from its own stick")
    uuid = sticks.second.identity.uuid

    def look() -> bool | None:
        sticks.first.must_run()
        sticks.second.must_run()
        expect(sticks.link(sticks.first)["mode"] == "serve", "the first stick gave way")
        nodes = sticks.first.api.nodes()
        return True if any(n.get("id") == uuid and n.get("stored_sha256") for n in nodes) else None

    polling.wait_until(look, sticks.lab.seconds(240.0), "the second stick's machine is stored on the first stick")
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
        polling.wait_until(look, sticks.lab.seconds(90.0), "the second stick serves")
    except LabError as error:
        raise LabError(f"{error}; its last console lines:\n{sticks.second.machine.console.tail()}") from error
    took = time.monotonic() - begun
    sticks.group.start_next()
    sticks.group.wait_stored_and_off(sticks.peer.name)
    return took


SCENARIOS: list[Scenario[TwoSticks]] = [
    Scenario("second-follows", "a second stick's machine becomes a peer of the first", second_follows, long=True),
    Scenario("takeover", "the first one's power is cut: the second serves", takeover, long=True),
]
