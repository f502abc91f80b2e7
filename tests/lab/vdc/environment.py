"""What does a group of scenarios share: a lab, a master and its peers?"""

from __future__ import annotations

from collections.abc import Sequence

from .lab import Lab
from .master import Master
from .peer import Peer
from .peer_group import PeerGroup
from .resource import Resource


class Environment(Resource):
    """Base of the groups. Masters and peers made here lose their power when the block ends."""

    def __init__(self, lab: Lab, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.lab = lab
        # The peers that the chosen scenarios need; groups that always start the same peers ignore it.
        self.names = names

    def own_master(self, master: Master) -> Master:
        """Enters a master, which is not started yet."""
        return self._stack.enter_context(master)

    def own_peers(self, master: Master, peers: Sequence[Peer], at_once: int = 1) -> PeerGroup:
        """A group of peers, none of which is started yet."""
        group = PeerGroup(master, list(peers), at_once)
        self._stack.callback(group.power_off_all)
        return group
