"""What does a master do whose stick has no room?"""

from __future__ import annotations

import contextlib
from typing import Any
from collections.abc import Sequence

from . import collect, disks, stick, waiting
from .crowd import Crowd
from .lab import Lab
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect


class FullStick:
    """A stick exactly as large as the image: the master has to work from memory."""

    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        self.lab = lab
        self._stack = contextlib.ExitStack()
        self.status: dict[str, Any] = {}

    def __enter__(self) -> FullStick:
        try:
            self.stick = stick.make(self.lab.options.iso, self.lab.folder / "full-stick.raw", free=0)
            self.before = disks.sha256(self.stick)
            self.master = self._stack.enter_context(Master(self.lab, self.stick, name="full-master", number=3))
            self.status = self.master.boot()
            self.crowd = Crowd(self.master, [Peer(self.lab, "bios", identity(0x30, "guest"))], at_once=1)
            self._stack.callback(self.crowd.end_all)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def full_stick(site: FullStick) -> None:
    storage = site.status["storage"]
    expect(not storage["durable"], "the API calls uploads durable on a stick without room")
    expect(storage.get("problem"), "the API does not say why uploads live in memory")
    site.crowd.wait_stored("guest")
    site.crowd.wait_off("guest")
    tarball = site.lab.folder / "full-stick.tar.gz"

    def current() -> bool | None:
        status, _, body = site.master.api.request("GET", "/export/recon-inventory.tar.gz", timeout=30.0)
        if status != 200:
            return None
        tarball.write_bytes(body)
        return True if collect.read(tarball).nodes == {site.crowd["guest"].who.uuid} else None

    waiting.until(current, site.lab.seconds(15), "the tarball over HTTP holds the node")
    site.master.shut_down()
    expect(disks.sha256(site.stick) == site.before, "a stick without room was written to")


SCENARIOS: list[Scenario[FullStick]] = [
    Scenario("full-stick", "stick without room: works from memory, says so, offers the tarball", full_stick, ["guest"]),
]
