"""How is the master booted from its stick, asked, and stopped?"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from . import disks, polling
from .api import Api, ApiError
from .errors import LabError
from .lab import Lab
from .machine import BRIDGE, Disk, Port, Spec
from .nodes import identity

_DISKS = (("sata", "ext4"), ("virtio", "lvm"))

# A master that heard its power button is off after some 5 s.
_PRESS_AGAIN = 15.0


class LinkReporter:
    """Reads the state of a master's first link and reports each change of it once, as the master's own screen does."""

    def __init__(self) -> None:
        self._reported: dict[str, str] = {}

    def link(self, master: Master) -> dict[str, Any]:
        link = dict(master.api.status(timeout=1.0)["links"][0])
        name = master.spec.name
        text = f"{name}: {link['name']} {link['mode']} {link['address'] or ''}: {link['reason']}"
        if self._reported.get(name) != text:
            self._reported[name] = text
            master.lab.report.line(text)
        return link


class Master:
    """The machine with the stick. It has disks of its own, which it must leave alone like everybody's."""

    def __init__(
        self, lab: Lab, stick: Path, name: str = "master", number: int = 1, firmware: str = "uefi",
        bridges: list[str] | None = None,
    ) -> None:
        who = identity(number, name)
        self.lab = lab
        self.stick = stick
        self.identity = who
        self.api = Api(lab.namespace)
        own = [
            Disk(lab.folder / f"{name}.disk{at}.raw", bus, f"{who.serial}D{at}", cache="unsafe")
            for at, (bus, _) in enumerate(_DISKS)
        ]
        # A second port has the same address with another last-but-one group.
        ports = [
            Port(who.mac.replace("52:54:00:1a:b0", f"52:54:00:1a:b{at}"), bridge=bridge)
            for at, bridge in enumerate(bridges or [BRIDGE])
        ]
        self.spec = Spec(
            name=name, uuid=who.uuid, serial=who.serial, firmware=firmware, cpus=2, memory_mib=2048, ports=ports,
            disks=[*own, Disk(stick, "usb", "LABSTICK", boot_index=0)],
        )
        self.machine = lab.machine(self.spec)
        self._own = own
        self._before: dict[Path, str] = {}
        self.ready_after: float | None = None

    def __enter__(self) -> Master:
        for number, (disk, (_, content)) in enumerate(zip(self._own, _DISKS, strict=True)):
            if not disk.path.exists():
                disks.make(content, disk.path, seed=1000 + number)
            self._before[disk.path] = disks.sha256(disk.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.kill()

    def boot(self, seconds: float = 240.0, mode: str = "serve") -> dict[str, Any]:
        """Powers on and waits until one link is in the mode that is asked for; returns the status."""
        self.machine.start()
        self.lab.report.line(f"{self.spec.name}: power on from the stick ({self.spec.firmware})")
        last: list[str] = ["its API did not answer yet"]

        def look() -> dict[str, Any] | None:
            self.lab.restart_stuck(self.machine)
            self.must_run()
            try:
                status = self.api.status(timeout=1.0)
            except ApiError as error:
                last[0] = str(error)
                return None
            modes = [str(link.get("mode")) for link in status.get("links", [])]
            last[0] = f"links are {', '.join(modes) or 'none'}"
            return status if mode in modes and "probing" not in modes else None

        try:
            status: dict[str, Any] = polling.wait_until(look, self.lab.seconds(seconds), f"{self.spec.name} ready")
        except LabError as error:
            raise LabError(f"{error}; {last[0]}; its last console lines:\n{self.machine.console.tail()}") from error
        self.ready_after = time.monotonic() - self.machine.started_at
        self.lab.report.line(f"{self.spec.name}: ready, {self.ready_after:.1f} s after power on")
        return status

    def must_run(self) -> None:
        """A master that ended by itself fails the run at once instead of at a deadline."""
        if not self.machine.running:
            raise LabError(f"{self.spec.name} ended; its last console lines:\n{self.machine.console.tail()}")

    def shut_down(self, seconds: float = 90.0) -> float:
        """Presses the power button and waits for the end; returns how long that took.

        recon serves before systemd-logind listens to the button, and nothing keeps a press for it: like a person, this one presses
        again."""
        begun = time.monotonic()
        deadline = begun + self.lab.seconds(seconds)
        self.machine.press_power_button()
        while not self.machine.wait_off(min(deadline, time.monotonic() + self.lab.seconds(_PRESS_AGAIN))):
            if time.monotonic() >= deadline:
                raise LabError(f"{self.spec.name} ignores its power button; its last console lines:\n{self.machine.console.tail()}")
            self.lab.report.line(f"{self.spec.name}: still on, its power button is pressed again")
            # One that ends just now hears nothing any more; the next look sees it off.
            with contextlib.suppress(LabError):
                self.machine.press_power_button()
        took = time.monotonic() - begun
        self.lab.report.line(f"{self.spec.name}: off by its power button in {took:.1f} s")
        return took

    def cut_power(self) -> None:
        """Kills the guest's process: nothing is flushed, nothing is unmounted."""
        self.machine.kill()
        self.lab.report.line(f"{self.spec.name}: power cut")

    def changes(self) -> list[str]:
        return [f"{self.spec.name}: {p.name} changed" for p, d in self._before.items() if disks.sha256(p) != d]

    def remove_disks(self) -> None:
        for disk in self._own:
            disk.path.unlink(missing_ok=True)
