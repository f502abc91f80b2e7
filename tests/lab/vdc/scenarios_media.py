"""Which medium does a master write to when several carry the image?"""

from __future__ import annotations

from typing import Any

from . import disks, stick
from .environment import Environment
from .errors import LabError
from .machine import Disk
from .master import Master
from .suite import Scenario, expect


class Media(Environment):
    """Makes machines with several media; each scenario boots its own."""

    def set_up(self) -> None:
        """Nothing is shared."""

    def boot(self, name: str, number: int, bus: str) -> Booted:
        """A master whose machine has the image on a second disk, on this bus."""
        lab = self.lab
        first = stick.make(lab.options.iso, lab.folder / f"{name}-stick.raw")
        second = stick.make(lab.options.iso, lab.folder / f"{name}-second.raw")
        # One that failed may still run.
        self._stack.close()
        master = self.own_master(Master(lab, first, name=name, number=number))
        master.spec.disks.append(Disk(second, bus, "LABSECOND", cache="unsafe"))
        before = [disks.sha256(first), disks.sha256(second)]
        return Booted(master, master.boot()["storage"], before)


class Booted:
    """One of them, running."""

    def __init__(self, master: Master, storage: dict[str, Any], before: list[str]) -> None:
        self.master = master
        self.storage = storage
        self._before = before

    def written(self) -> list[bool]:
        """Whether the stick and the second medium were written to. Ends the machine."""
        self.master.shut_down()
        paths = [self.master.stick, self.master.spec.disks[-1].path]
        changed = [disks.sha256(path) != digest for path, digest in zip(paths, self._before, strict=True)]
        for path in paths:
            path.unlink()
        return changed


def two_sticks_one_machine(site: Media) -> None:
    booted = site.boot("twosticks", 0x50, "usb")
    expect(not booted.storage["durable"], "a stick was written to although nothing tells which of two it booted from")
    problem = str(booted.storage.get("problem"))
    expect("take one out and start again" in problem, f"the problem does not say what to do: {problem}")
    expect(booted.written() == [False, False], "a stick was written to")


def image_inside(site: Media) -> None:
    """dracut takes whichever it finds first. From the stick it is clear enough; from the machine's disk it is not."""
    booted = site.boot("inside", 0x51, "nvme")
    durable, problem = booted.storage["durable"], str(booted.storage.get("problem"))
    on_stick, inside = booted.written()
    if inside:
        raise LabError("the machine's own disk was written to because it carries the image")
    expect(on_stick == durable, f"durable is {durable}, the stick written to: {on_stick}")
    expect(durable or "in place of root=live:CDLABEL=RECON" in problem, f"the problem does not say what to do: {problem}")


SCENARIOS: list[Scenario[Media]] = [
    Scenario("two-media", "with two sticks in one machine neither is written to, and the screen says so", two_sticks_one_machine,
             long=True),
    Scenario("image-inside", "a disk of the machine that carries the image is left alone beside the stick", image_inside, long=True),
]
