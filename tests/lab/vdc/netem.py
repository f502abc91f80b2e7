"""How is a guest put behind a cable with loss, delay, duplicates and reordering?"""

from __future__ import annotations

from pathlib import Path

from . import netem_relay
from .namespace import Namespace
from .netem_relay import Impairments
from .relayed import RelayedLink


class ImpairedLink(RelayedLink):
    """A bad cable."""

    def __init__(self, network: Namespace, bridge: str, far: str, impairments: Impairments, log: Path) -> None:
        super().__init__(network, bridge, far, netem_relay.__name__, [str(value) for value in impairments], log)
