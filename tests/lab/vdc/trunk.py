"""How is a guest put at a port of a switch that has the network twice: in a VLAN with a tag, and without?

A machine that only speaks with the tag reaches everybody, and one that knows nothing of it does too. The tags are put on and taken off by a
process: not every kernel has VLANs, and no kernel here has to know of this one.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import trunk_relay
from .namespace import Namespace
from .relayed import RelayedLink


class Trunk(RelayedLink):
    """Such a port, behind which `far` is."""

    def __init__(self, network: Namespace, bridge: str, far: str, vlan: int, log: Path) -> None:
        super().__init__(network, bridge, far, trunk_relay.__name__, [str(vlan)], log)

    def from_guests(self) -> tuple[int, int]:
        """Frames that came from behind it so far: with the tag, and without."""
        said = re.findall(r"^tagged (\d+), bare (\d+)$", self._log.read_text(), re.MULTILINE)
        return (int(said[-1][0]), int(said[-1][1])) if said else (0, 0)
