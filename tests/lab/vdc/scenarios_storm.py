"""Is every acknowledged upload there after any power cut, at whatever moment it comes?

The longer variant of the power cut: several cuts at moments a die chooses, between a peer's first word and its upload. The
seed is printed, so that a failure can be played again.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Sequence

from . import api as ladder
from . import collect, stick
from .crowd import Crowd
from .lab import Lab
from .master import Master
from .nodes import identity
from .peer import Peer
from .suite import Scenario, expect

_CUTS = 4
# From a peer's first word to its upload it takes about as long.
_WINDOW_SECONDS = 4.0


class Storm:
    """A fresh stick, a master, and one new peer for each cut."""

    def __init__(self, lab: Lab, _: Sequence[str]) -> None:
        self.lab = lab
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Storm:
        try:
            self.stick = stick.make(self.lab.options.iso, self.lab.folder / "storm-stick.raw")
            self.master = self._stack.enter_context(Master(self.lab, self.stick, name="storm-master", number=4))
            peers = [Peer(self.lab, "bios", identity(0x80 + at, f"storm-{at + 1}")) for at in range(_CUTS)]
            self.crowds = [Crowd(self.master, [peer], at_once=1) for peer in peers]
            for crowd in self.crowds:
                self._stack.callback(crowd.end_all)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def whole_nodes(self, number: int) -> set[str]:
        """Ids that `recon collect` finds on a copy of the stick; it also checks every sum."""
        copy = self.lab.folder / "storm-copy.raw"
        shutil.copyfile(self.stick, copy)
        try:
            return collect.collect(self.lab.options.recon, copy, self.lab.folder / f"storm-{number}.tar.gz").nodes
        finally:
            copy.unlink()


def random_cuts(storm: Storm) -> None:
    seed = int(time.time())
    storm.lab.report.line(f"seed of the cuts: {seed}")
    dice = random.Random(seed)
    acknowledged: set[str] = set()
    for number, crowd in enumerate(storm.crowds, 1):
        storm.master.boot()
        for earlier in storm.crowds[: number - 1]:
            earlier.wait_stored(earlier.peers[0].name)
            acknowledged.add(earlier.peers[0].who.uuid)
        peer = crowd.peers[0]

        def spoke(_: Peer, crowd: Crowd = crowd, name: str = peer.name) -> bool | None:
            return True if ladder.reached(crowd.watch.entries.get(name), "agent") else None

        crowd.wait(peer.name, "speaks", spoke, 240.0)
        # The moment is the experiment: nothing is waited for here but the die's choice.
        threading.Event().wait(dice.uniform(0.0, _WINDOW_SECONDS))
        crowd.watch.poll()
        if ladder.reached(crowd.watch.entries.get(peer.name), "stored"):
            acknowledged.add(peer.who.uuid)
        storm.master.cut_power()
        found = storm.whole_nodes(number)
        expect(acknowledged <= found, f"cut {number}: acknowledged {sorted(acknowledged)}, found {sorted(found)}")
    storm.master.boot()
    for crowd in storm.crowds:
        crowd.wait_stored(crowd.peers[0].name)
    storm.master.shut_down()
    wanted = {crowd.peers[0].who.uuid for crowd in storm.crowds}
    found = storm.whole_nodes(_CUTS + 1)
    expect(found == wanted, f"at the end wanted {sorted(wanted)}, found {sorted(found)}")


SCENARIOS: list[Scenario[Storm]] = [
    Scenario("random-cuts", "power cuts at random moments: what was acknowledged is there", random_cuts, long=True),
]
