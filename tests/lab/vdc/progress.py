"""Which stage has each peer reached, and when?"""

from __future__ import annotations

import time
from typing import Any

from . import api
from .api import ApiError
from .master import Master
from .peer import Peer


class Progress:
    """Asks the master about its peers and prints each new stage once."""

    def __init__(self, master: Master, peers: list[Peer]) -> None:
        self.master = master
        self.peers = peers
        self._told: set[tuple[str, str]] = set()
        self.entries: dict[str, dict[str, Any]] = {}

    def poll(self) -> bool:
        """Reads all entries once; False when the master does not answer."""
        try:
            nodes = self.master.api.nodes()
        except ApiError:
            return False
        for peer in self.peers:
            mine = [n for n in nodes if n.get("id") == peer.identity.uuid] or [
                n for n in nodes if peer.identity.mac in n.get("macs", [])
            ]
            if mine:
                self._take(peer, mine[0])
        return True

    def _take(self, peer: Peer, entry: dict[str, Any]) -> None:
        self.entries[peer.name] = entry
        for stage, at in sorted(api.stage_seconds(entry).items(), key=lambda item: api.rank(item[0])):
            self._tell(peer, stage, f"{stage} (master's clock {at:.1f} s)")
        for word in ("message", "failure"):
            if entry.get(word):
                self._tell(peer, f"{word}: {entry[word]}", f"{word}: {entry[word]}")
        if peer.stored_at is None and api.reached(entry, "stored"):
            peer.stored_at = time.time()

    def _tell(self, peer: Peer, key: str, text: str) -> None:
        if (peer.name, key) not in self._told:
            self._told.add((peer.name, key))
            self.master.lab.report.line(f"{peer.name}: {text}")
