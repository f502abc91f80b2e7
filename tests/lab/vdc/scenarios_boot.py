"""Which ways into a machine are open: HTTP Boot, Secure Boot, a bad cable? And which are not: too little memory.

One master on a fresh stick. The Secure Boot machine refuses iPXE, comes back, and gets the signed boot programs; nothing about it is set
by hand.
"""

from __future__ import annotations

import contextlib
from typing import Any
from collections.abc import Sequence

from . import rough, stick
from .crowd import Crowd
from .lab import Lab
from .machine import BRIDGE
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect

ROUGH = "rough"
# In the order of starting.
_NUMBERS = {"http": 0x30, "secure": 0x31, "lossy": 0x32, "small-bios": 0x33, "small-uefi": 0x34}
_KINDS = {"http": "http", "secure": "secure", "lossy": "uefi", "small-bios": "small-bios", "small-uefi": "small-uefi"}
# 10 % of round trips and 100 ms; TCP through that carries some hundred kilobytes a second.
FAULTS = rough.Faults(loss=0.05, delay_ms=50.0, duplicate=0.01, reorder=0.05, seed=20)


class Ways:
    """A master, and peers that reach it in their own way."""

    def __init__(self, lab: Lab, names: Sequence[str]) -> None:
        self.lab = lab
        self._names = sorted(names, key=list(_NUMBERS).index)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Ways:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _set_up(self) -> None:
        lab = self.lab
        bridges = {"lossy": ROUGH}
        peers = [
            Peer(lab, _KINDS[name], identity(_NUMBERS[name], name), bridge=bridges.get(name, BRIDGE)) for name in self._names
        ]
        if "lossy" in self._names:
            self._stack.enter_context(rough.Rough(lab.namespace, BRIDGE, ROUGH, FAULTS, lab.folder / "rough.log"))
        self.stick = stick.make(lab.options.iso, lab.folder / "ways-stick.raw")
        self.master = self._stack.enter_context(Master(lab, self.stick, name="ways-master", number=6))
        self.master.boot()
        self.crowd = Crowd(self.master, peers, at_once=2)
        self._stack.callback(self.crowd.end_all)
        self.crowd.pump()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def entry(self, name: str) -> dict[str, Any]:
        return self.crowd.watch.entries.get(name, {})


def _stored_and_off(ways: Ways, name: str, seconds: float) -> float | None:
    ways.crowd.wait_stored(name, seconds)
    ways.crowd.wait_off(name)
    said = ways.crowd[name].harm()
    expect(not said, "; ".join(said))
    return ways.crowd[name].machine.off_after


def http_boot(ways: Ways) -> float | None:
    took = _stored_and_off(ways, "http", 240.0)
    entry = ways.entry("http")
    expect(entry.get("firmware") == "http-x64", f"the master took its firmware for {entry.get('firmware')}")
    expect(not entry.get("failed_loaders"), f"boot programs failed: {entry.get('failed_loaders')}")
    return took


def secure_boot(ways: Ways) -> float | None:
    took = _stored_and_off(ways, "secure", 480.0)
    entry = ways.entry("secure")
    expect(entry.get("loader") == "shimx64.efi", f"it was booted by {entry.get('loader')}")
    expect(entry.get("failed_loaders") == ["snponly.efi"], f"boot programs that failed: {entry.get('failed_loaders')}")
    return took


def lossy(ways: Ways) -> float | None:
    return _stored_and_off(ways, "lossy", 1500.0)


def small_memory(ways: Ways) -> None:
    """iPXE says how much memory there is, by the firmware's map and by SMBIOS; the system is not even fetched."""
    for name in ("small-bios", "small-uefi"):
        def look(_: Peer) -> bool | None:
            return True if "too little memory" in str(ways.entry(name).get("failure")) else None

        ways.crowd.wait(name, "named as a machine with too little memory", look, 300.0)
        entry = ways.entry(name)
        expect(entry.get("stage") == "loader", f"{name} is at {entry.get('stage')}")
        # Its boot program and scripts, and no kernel.
        expect(int(entry.get("bytes_sent") or 0) < 5_000_000, f"{entry.get('bytes_sent')} bytes went to {name}")
        ways.crowd[name].machine.kill()
        said = ways.crowd[name].harm()
        expect(not said, "; ".join(said))


SCENARIOS: list[Scenario[Ways]] = [
    Scenario("http-boot", "a machine that boots from HTTP only: stored, off", http_boot, ("http",)),
    Scenario("secure-boot", "Secure Boot refuses iPXE: the next attempt gets signed programs, stored, off", secure_boot, ("secure",), long=True),
    Scenario("small-memory", "512 MiB, by BIOS and UEFI: no kernel, and the reason on the screen", small_memory, ("small-bios", "small-uefi")),
    Scenario("lossy", "a cable with loss, delay, copies and disorder: stored, off", lossy, ("lossy",), long=True),
]
