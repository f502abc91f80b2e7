"""Does a peer boot by HTTP Boot, with Secure Boot, over a bad cable? And is one with too little memory refused?

One master on a fresh stick. The Secure Boot machine refuses iPXE, comes back, and gets the signed boot programs; nothing about it is set
by hand. GRUB, which is one of them, does not tell what its port is.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from . import fetches, netem, report, stick
from .environment import Environment
from .machine import BRIDGE
from .master import Master
from .netem_relay import Impairments
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect, expect_none

IMPAIRED = "netem"
# iPXE's screen is the serial line under UEFI.
_TOO_LITTLE = r"too little memory: it has \d+ MiB, and this system needs \d+ MiB"
# In the order of starting.
_NUMBERS = {"http": 0x30, "secure": 0x31, "lossy": 0x32, "small-bios": 0x33, "small-uefi": 0x34}
_KINDS = {"http": "http", "secure": "secure", "lossy": "uefi", "small-bios": "small-bios", "small-uefi": "small-uefi"}
# 10 % of round trips and 100 ms; TCP through that carries some hundred kilobytes a second.
IMPAIRMENTS = Impairments(loss=0.05, delay_ms=50.0, duplicate=0.01, reorder=0.05, seed=20)


class BootPaths(Environment):
    """A master, and peers that reach it by different boot paths."""

    def set_up(self) -> None:
        lab = self.lab
        names = sorted(self.names, key=list(_NUMBERS).index)
        bridges = {"lossy": IMPAIRED}
        peers = [Peer(lab, _KINDS[name], identity(_NUMBERS[name], name), bridge=bridges.get(name, BRIDGE)) for name in names]
        if "lossy" in names:
            self._stack.enter_context(netem.ImpairedLink(lab.namespace, BRIDGE, IMPAIRED, IMPAIRMENTS, lab.folder / "netem.log"))
        self.stick = stick.make(lab.options.iso, lab.folder / "boot-paths-stick.raw")
        self.master = self.own_master(Master(lab, self.stick, name="boot-paths-master", number=6))
        self.master.boot()
        self.group = self.own_peers(self.master, peers, at_once=2)
        self.group.start_next()

    def entry(self, name: str) -> dict[str, Any]:
        return self.group.progress.entries.get(name, {})


def _stored_and_off(paths: BootPaths, name: str, seconds: float) -> float | None:
    took = paths.group.wait_stored_and_off(name, seconds)
    expect_none(paths.group[name].changes())
    return took


def http_boot(paths: BootPaths) -> float | None:
    took = _stored_and_off(paths, "http", 240.0)
    entry = paths.entry("http")
    expect(entry.get("firmware") == "http-x64", f"the master took its firmware for {entry.get('firmware')}")
    expect(not entry.get("failed_loaders"), f"boot programs failed: {entry.get('failed_loaders')}")
    return took


def secure_boot(paths: BootPaths) -> float | None:
    took = _stored_and_off(paths, "secure", 480.0)
    entry = paths.entry("secure")
    expect(entry.get("loader") == "shimx64.efi", f"it was booted by {entry.get('loader')}")
    expect(entry.get("failed_loaders") == ["snponly.efi"], f"boot programs that failed: {entry.get('failed_loaders')}")
    return took


def unknown_port(paths: BootPaths) -> None:
    """The master cannot name the driver, so all drivers of ports come along."""
    if paths.group["secure"].stored_at is None:
        _stored_and_off(paths, "secure", 480.0)
    peer = paths.group["secure"]
    found = fetches.of(fetches.read(paths.lab.capture.frames()), peer.identity.mac, peer.machine.started_wall)
    paths.lab.report.line(f"secure: {', '.join(f'{part} {report.size(size)}' for part, size in fetches.by_part(found).items() if size)}")
    # GRUB asks for a file again where it goes on at another place of it.
    files = list(dict.fromkeys(fetches.system_files(found)))
    expect(files == ["kernel", "first/base.img", "first/ports.img"], f"fetched: {files}")


def lossy(paths: BootPaths) -> float | None:
    return _stored_and_off(paths, "lossy", 1500.0)


def small_memory(paths: BootPaths) -> None:
    """iPXE reports the memory size, from the firmware's map and from SMBIOS; the system is not even fetched, and both screens say why."""
    for name in ("small-bios", "small-uefi"):
        paths.group.wait(
            name, "named as a machine with too little memory",
            lambda peer: True if "too little memory" in str(paths.entry(peer.name).get("failure")) else None, 300.0,
        )
        entry = paths.entry(name)
        expect(entry.get("stage") == "loader", f"{name} is at {entry.get('stage')}")
        # Its boot program and scripts, and no kernel.
        expect(int(entry.get("bytes_sent") or 0) < 5_000_000, f"{entry.get('bytes_sent')} bytes went to {name}")
        screens = {"master": (paths.master.machine.console, f"machine {re.escape(paths.group[name].identity.mac)}: {_TOO_LITTLE}")}
        if name == "small-uefi":
            screens[name] = (paths.group[name].machine.console, f"cannot be booted: {_TOO_LITTLE}")
        for whose, (screen, sentence) in screens.items():
            said = functools.partial(lambda screen, pattern, _: True if screen.find(pattern) else None, screen, re.compile(sentence))
            paths.group.wait(name, f"is refused on the screen of {whose}", said, 20.0)
        paths.group[name].machine.kill()
        expect_none(paths.group[name].changes())


SCENARIOS: list[Scenario[BootPaths]] = [
    Scenario("http-boot", "a machine that boots from HTTP only: stored, off", http_boot, ("http",)),
    Scenario("secure-boot", "Secure Boot refuses iPXE: the next attempt gets signed programs, stored, off", secure_boot, ("secure",)),
    Scenario("unknown-port", "GRUB does not tell what the port is: the drivers of all ports come along", unknown_port, ("secure",)),
    Scenario("small-memory", "128 MiB, by BIOS and UEFI: no kernel, and the reason on both screens", small_memory, ("small-bios", "small-uefi")),
    Scenario("lossy", "a cable with loss, delay, copies and disorder: stored, off", lossy, ("lossy",), long=True),
]
