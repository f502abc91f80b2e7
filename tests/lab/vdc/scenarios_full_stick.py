"""What does a master do whose stick has no room?"""

from __future__ import annotations

from . import collect, disks, polling, stick
from .environment import Environment
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect


class FullStick(Environment):
    """A stick exactly as large as the image: the master has to keep uploads in memory."""

    def set_up(self) -> None:
        self.stick = stick.make(self.lab.options.iso, self.lab.folder / "full-stick.raw", free=0)
        self.before = disks.sha256(self.stick)
        self.master = self.own_master(Master(self.lab, self.stick, name="full-master", number=3))
        self.status = self.master.boot()
        self.group = self.own_peers(self.master, [Peer(self.lab, "bios", identity(0x30, "guest"))])


def full_stick(site: FullStick) -> None:
    storage = site.status["storage"]
    expect(not storage["durable"], "the API calls uploads durable on a stick without room")
    expect(storage.get("problem"), "the API does not say why uploads live in memory")
    site.group.wait_stored_and_off("guest")
    tarball = site.lab.folder / "full-stick.tar.gz"

    def current() -> bool | None:
        status, _, body = site.master.api.request("GET", "/export/recon-inventory.tar.gz", timeout=30.0)
        if status != 200:
            return None
        tarball.write_bytes(body)
        return True if collect.read(tarball).nodes == {site.group["guest"].identity.uuid} else None

    polling.wait_until(current, site.lab.seconds(15), "the tarball over HTTP holds the node")
    site.master.shut_down()
    expect(disks.sha256(site.stick) == site.before, "a stick without room was written to")


SCENARIOS: list[Scenario[FullStick]] = [
    Scenario("full-stick", "stick without room: works from memory, says so, offers the tarball", full_stick, ["guest"], long=True),
]
