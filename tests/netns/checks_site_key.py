"""Does a stick follow only masters that have its site key?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from bridged_lan import Lan, Stick, client_mac, frames, raw
from lan_helpers import OURS, VERDICT_SECONDS, expect_stable, masters_of
from rawclient import RawClient
from vdc import dhcp, polling
from vdc.suite import Scenario, expect, scenarios


def two_keys_apart(lan: Lan) -> None:
    """A stick that has not the first one's key falls silent beside it, says why, and never follows; with the key copied it does."""
    one, two = lan.stick("one", 9), lan.stick("two", 1)
    one.key = two.key = None
    one.start()
    one.wait_for_mode("serve", VERDICT_SECONDS, address=True)
    two.start()
    link = two.wait_for_mode("silent", VERDICT_SECONDS)
    reason = str(link["reason"])
    expect("site.key" in reason and "does not have this stick's key" in reason and OURS in reason, f"reason: {reason}")
    expect([(s["recon"], s["ours"]) for s in link["foreign"]] == [(True, False)], f"foreign: {link['foreign']}")
    expect_stable([one, two], 15.0, ["one"])
    keys = [(stick.folder / "data" / "site.key") for stick in (one, two)]
    expect(keys[0].read_bytes() != keys[1].read_bytes(), "two sticks made the same key")
    expect(keys[0].stat().st_mode & 0o777 == 0o600, f"others may read the key: {keys[0].stat().st_mode:o}")
    client = lan.client(1)
    client.ip("addr", "add", "192.168.219.9/24", "dev", "eth0")
    for name in ("site.key", "export/site.key", "nodes/../site.key", "export/%2e%2e/site.key"):
        done = client.run(["curl", "-sS", "--path-as-is", "--max-time", "5", f"http://{OURS}/{name}"])
        expect(b"not here" in done.stdout, f"{name} is served: {done.stdout!r}")
    two.kill()
    keys[1].write_bytes(keys[0].read_bytes())
    two.start()
    two.wait_for_mode("yield", 3.0)


def two_keys_together(lan: Lan) -> None:
    """Two sticks with different keys started at once: one serves, the other is silent, and neither follows the other."""
    sticks = [lan.stick("one", 9), lan.stick("two", 1)]
    for stick in sticks:
        stick.key = None
        stick.start()
    polling.wait_until(
        lambda: True if sorted(stick.mode() for stick in sticks) == ["serve", "silent"] else None, 20.0, "one serves, one is silent",
    )
    expect_stable(sticks, 12.0, masters_of(sticks))


def _forged_packet(kind: int, text: bytes, more: dict[int, bytes]) -> bytes:
    """A packet of somebody who knows the protocol between masters but not the key."""
    payload = dhcp.build(kind, client_mac(9), int.from_bytes(os.urandom(4), "big"), {60: text, 226: b"\x01" + os.urandom(16), **more})
    return (b"\2" if kind == 2 else b"\1") + payload[1:]


def forged_master(lan: Lan) -> None:
    """A forger without the key is never followed, by probes, announcements or replays, and one forged packet changes nothing."""
    forger = lan.client(9, "forger")
    stick, second = lan.stick("one", 9), lan.stick("two", 1)
    seen: list[str] = []

    def flood(seconds: float, make: Callable[[], bytes], watched: Stick) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            port.send(make(), client_mac(9))
            seen.append(watched.mode())
            time.sleep(0.1)

    def question() -> bytes:
        return _forged_packet(1, b"recon:probe:000000000001", {225: os.urandom(16)})

    def announcement() -> bytes:
        return _forged_packet(2, b"recon:master:000000000001", {54: bytes([192, 168, 219, 66])})

    with RawClient(forger, "eth0") as port:
        stick.start()
        flood(12.0, question, stick)
        expect(stick.mode() == "serve", f"forged questions keep the link from being served: {stick.link()}")
        port.send(announcement(), client_mac(9))
        time.sleep(5.0)
        expect(stick.mode() == "serve" and stick.link()["mode_changes"] <= 2, f"one forged word ends service: {stick.link()}")
        # Announcements of a real master, to be replayed later.
        with lan.capture("true") as wire:
            second.start()
            second.wait_for_mode("yield", 3.0)
            time.sleep(5.0)
            true = [frame.data for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and b"recon:master:" in frame.data]
        expect(len(true) >= 2, f"{len(true)} announcements were captured")
        stick.kill()
        until = time.monotonic() + 32.0
        while time.monotonic() < until:
            for frame in true:
                port.send_frame(frame)
            time.sleep(0.25)
        link = second.link()
        expect(link["mode"] not in ("yield", "serve"), f"replays keep a stick waiting: {link}")
        expect("site.key" in link["reason"], f"reason: {link['reason']}")
        second.kill()
        flooded = lan.stick("three", 5)
        flooded.start()
        flooded.wait_for_mode("serve", VERDICT_SECONDS)
        flood(8.0, announcement, flooded)
        link = flooded.link()
        expect(link["mode"] == "proxy" and "does not have this stick's key" in link["reason"], f"beside a forger: {link}")
    expect("yield" not in seen, f"a forger is followed: {seen}")


CHECKS: list[Scenario[Lan]] = scenarios(two_keys_apart, two_keys_together, forged_master)
