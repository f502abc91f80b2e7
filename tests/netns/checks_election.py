"""Does exactly one of several masters serve a network?"""

from __future__ import annotations

import time

from bridged_lan import FIRST, SECOND, Lan
from lan_helpers import OURS, VERDICT_SECONDS, expect_stable, lease, masters_of
from vdc import dhcp, polling
from vdc.suite import Scenario, expect, scenarios


def second_stick_yields(lan: Lan) -> None:
    """A second master says within 3 s of its start that it yields, and takes over when the first one's power is cut."""
    one, two = lan.stick("one", 9), lan.stick("two", 1)
    one.start()
    link = one.wait_for_mode("serve", VERDICT_SECONDS, address=True)
    expect(str(link["address"]).startswith(OURS), f"address is {link['address']}")
    begun = two.start()
    yielded = two.wait_for_mode("yield", 3.0)
    took = time.monotonic() - begun
    expect(took <= 3.0, f"the verdict took {took:.1f} s")
    print(f"     the second stick yields {took:.2f} s after it was started")
    expect(OURS in yielded["reason"], f"reason: {yielded['reason']}")
    expect_stable([one, two], 12.0, ["one"])
    client = lan.client(1)
    with lan.capture() as wire:
        expect(lease(client, lan, "client", boots=True) is not None, "no address beside two masters")
        senders = {d.source_mac for d in wire.datagrams() if d.source_port == 67 and dhcp.parse(d.payload).your_address != "0.0.0.0"}
    expect(senders == {one.macs[0]}, f"addresses come from {senders}")
    one.kill()
    two.wait_for_mode("serve", 40.0, address=True)


def sticks_together(lan: Lan) -> None:
    """Two sticks started at once, with two links each: one of them serves both networks, and nothing changes any more."""
    sticks = [lan.stick("one", 9, (FIRST, SECOND)), lan.stick("two", 1, (FIRST, SECOND))]
    for stick in sticks:
        stick.start()
    for at in (0, 1):
        polling.wait_until(
            lambda at=at: True if all(s.mode(at) in ("serve", "yield") for s in sticks) else None,  # type: ignore[misc]
            15.0, "both decide",
        )
        expect(len(masters_of(sticks, at)) == 1, f"link {at}: {masters_of(sticks, at)} serve")
    expect(masters_of(sticks, 0) == masters_of(sticks, 1), "each stick has one wire")
    expect_stable(sticks, 12.0, masters_of(sticks))


def split_heals(lan: Lan) -> None:
    """Two networks with a master each grow together: within 15 s one of them serves, and only one."""
    near, far = lan.stick("near", 9, (FIRST,)), lan.stick("far", 1, (SECOND,))
    for stick in (near, far):
        stick.start()
    for stick in (near, far):
        stick.wait_for_mode("serve", VERDICT_SECONDS, address=True)
    lan.join()
    polling.wait_until(lambda: True if len(masters_of([near, far])) == 1 else None, 15.0, "one of two masters yields")
    expect_stable([near, far], 12.0, ["far"])


def two_beside_foreign(lan: Lan) -> None:
    """Two sticks beside a foreign server: one proxies, the other yields to it."""
    with lan.foreign():
        sticks = [lan.stick("one", 9), lan.stick("two", 1)]
        for stick in sticks:
            stick.start()
        polling.wait_until(
            lambda: True if sorted(stick.mode() for stick in sticks) == ["proxy", "yield"] else None, 20.0, "one proxies",
        )
        expect_stable(sticks, 8.0, masters_of(sticks))


CHECKS: list[Scenario[Lan]] = scenarios(second_stick_yields, sticks_together, split_heals, two_beside_foreign)
