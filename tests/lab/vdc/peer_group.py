"""Which peers of a master run at the same time, and how far is each?"""

from __future__ import annotations

from collections.abc import Callable

from . import api, polling
from .errors import LabError
from .master import Master
from .peer import Peer
from .progress import Progress


class PeerGroup:
    """Peers of one master, started in order, never more at once than the host's cores bear."""

    def __init__(self, master: Master, peers: list[Peer], at_once: int) -> None:
        self.master = master
        self.progress = Progress(master, peers)
        self._at_once = at_once
        self._queue = list(peers)
        self._peers: dict[str, Peer] = {peer.name: peer for peer in peers}
        self._done: dict[str, bool] = {}

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    @property
    def peers(self) -> list[Peer]:
        return list(self._peers.values())

    def done(self, name: str) -> None:
        """Marks a peer that stays on as finished: the next one may start."""
        self._done[name] = True

    def add(self, peer: Peer) -> None:
        """One more peer, last in the queue."""
        self._peers[peer.name] = peer
        self._queue.append(peer)
        if peer not in self.progress.peers:
            self.progress.peers.append(peer)

    def start_next(self) -> None:
        """Starts the next peers while there is room."""
        busy = [
            p for p in self._peers.values() if p not in self._queue and p.name not in self._done and p.machine.running
        ]
        while self._queue and len(busy) < self._at_once:
            peer = self._queue.pop(0)
            peer.start()
            busy.append(peer)

    def wait(self, name: str, what: str, look: Callable[[Peer], bool | None], seconds: float) -> None:
        """Waits for something about one peer while the others go on. The clock of a queued peer does not run yet; one that ended
        without it is not waited for."""
        peer = self._peers[name]
        while peer in self._queue:
            self._step(lambda: None if peer in self._queue else True, self.master.lab.seconds(600.0), f"a place for {name}")
        ended: str | None = None

        def ask() -> bool | None:
            nonlocal ended
            found = look(peer)
            # It was off before the master was asked for the last time.
            if found is None and ended is not None and not peer.machine.running:
                raise LabError(f"{name} {what}: it ended before: {ended}")
            ended = peer.machine.ended
            return found

        try:
            self._step(ask, self.master.lab.seconds(seconds), f"{name} {what}")
        except LabError as error:
            entry = self.progress.entries.get(name)
            at = "never seen by the master" if entry is None else f"at {entry.get('stage')}"
            raise LabError(f"{error}; {at}; its last console lines:\n{peer.machine.console.tail()}") from error

    def _step(self, look: Callable[[], bool | None], seconds: float, what: str) -> None:
        def ask() -> bool | None:
            self.master.must_run()
            for peer in self._peers.values():
                self.master.lab.restart_stuck(peer.machine)
            self.start_next()
            self.progress.poll()
            return look()

        polling.wait_until(ask, seconds, what)

    def wait_stored(self, name: str, seconds: float = 240.0) -> None:
        """Waits until the master says that a peer's upload is durable."""
        self.wait(name, "stored", lambda _: True if api.reached(self.progress.entries.get(name), "stored") else None, seconds)

    def wait_off(self, name: str, seconds: float = 60.0) -> None:
        """Waits until a peer cut its own power, as its policy says."""
        peer = self._peers[name]
        self.wait(name, "off, as its policy says", lambda _: True if not peer.machine.running else None, seconds)
        peer.must_be_off(10.0)

    def wait_stored_and_off(self, name: str, seconds: float = 240.0, off_seconds: float = 60.0) -> float | None:
        """Waits for a peer's upload and then for its power-off; returns the seconds from its power-on to its power-off."""
        self.wait_stored(name, seconds)
        self.wait_off(name, off_seconds)
        return self._peers[name].machine.off_after

    def power_off_all(self) -> None:
        """Cuts the power of all that still run."""
        for peer in self._peers.values():
            peer.machine.kill()
