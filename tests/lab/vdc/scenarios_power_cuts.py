"""Is every acknowledged upload there after any power cut, at whatever moment it comes?

The longer variant of the power cut: several cuts at moments a die chooses, between a peer's first word and its upload. The
seed is printed, so that a failure can be played again.
"""

from __future__ import annotations

import random
import shutil
import threading
import time

from . import api, collect, stick
from .environment import Environment
from .master import Master
from .nodes import identity
from .peer import Peer
from .peer_group import PeerGroup
from .suite import Scenario, expect

_CUTS = 4
# About the time from a peer's first report to its upload.
_WINDOW_SECONDS = 4.0


class PowerCuts(Environment):
    """A fresh stick, a master, and one new peer for each cut."""

    def set_up(self) -> None:
        self.stick = stick.make(self.lab.options.iso, self.lab.folder / "power-cuts-stick.raw")
        self.master = self.own_master(Master(self.lab, self.stick, name="power-cuts-master", number=4))
        peers = [Peer(self.lab, "bios", identity(0x80 + at, f"power-cuts-{at + 1}")) for at in range(_CUTS)]
        self.groups = [self.own_peers(self.master, [peer]) for peer in peers]

    def whole_nodes(self, number: int) -> set[str]:
        """Ids that `recon collect` finds on a copy of the stick; it also checks every sum."""
        copy = self.lab.folder / "power-cuts-copy.raw"
        shutil.copyfile(self.stick, copy)
        try:
            return collect.collect(self.lab.options.recon, copy, self.lab.folder / f"power-cuts-{number}.tar.gz").nodes
        finally:
            copy.unlink()


def random_cuts(site: PowerCuts) -> None:
    seed = int(time.time())
    site.lab.report.line(f"seed of the cuts: {seed}")
    dice = random.Random(seed)
    acknowledged: set[str] = set()
    for number, group in enumerate(site.groups, 1):
        site.master.boot()
        for earlier in site.groups[: number - 1]:
            earlier.wait_stored(earlier.peers[0].name)
            acknowledged.add(earlier.peers[0].identity.uuid)
        peer = group.peers[0]

        def spoke(_: Peer, group: PeerGroup = group, name: str = peer.name) -> bool | None:
            return True if api.reached(group.progress.entries.get(name), "agent") else None

        group.wait(peer.name, "speaks", spoke, 240.0)
        # The moment is the experiment: nothing is waited for here but the die's choice.
        threading.Event().wait(dice.uniform(0.0, _WINDOW_SECONDS))
        group.progress.poll()
        if api.reached(group.progress.entries.get(peer.name), "stored"):
            acknowledged.add(peer.identity.uuid)
        site.master.cut_power()
        found = site.whole_nodes(number)
        expect(acknowledged <= found, f"cut {number}: acknowledged {sorted(acknowledged)}, found {sorted(found)}")
    site.master.boot()
    for group in site.groups:
        group.wait_stored(group.peers[0].name)
    site.master.shut_down()
    wanted = {group.peers[0].identity.uuid for group in site.groups}
    found = site.whole_nodes(_CUTS + 1)
    expect(found == wanted, f"at the end wanted {sorted(wanted)}, found {sorted(found)}")


SCENARIOS: list[Scenario[PowerCuts]] = [
    Scenario("random-cuts", "power cuts at random moments: what was acknowledged is there", random_cuts, long=True),
]
