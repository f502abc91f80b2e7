"""How does a switch that aggregates links (LACP) stand behind the cables of a bridge's guests?"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from . import lacp_partner
from .namespace import Namespace
from .process import terminate
from .resource import Resource


class LacpSwitch(Resource):
    """Its ports are the bridge's taps from which a machine speaks LACP. Not every kernel here can be one, so a program is."""

    def __init__(self, network: Namespace, bridge: str, log: Path) -> None:
        super().__init__()
        self._network, self._bridge, self._log = network, bridge, log

    def set_up(self) -> None:
        with self._log.open("ab") as log:
            process = self._network.popen(
                [sys.executable, "-m", lacp_partner.__name__, self._bridge], stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )
        self._stack.callback(terminate, process)

    def aggregated(self) -> dict[str, tuple[str, int]]:
        """Taps on which a machine's kernel says that it sends and receives as one of several, each with its system and its key."""
        said = re.findall(r"^(\S+): (\S+) aggregates with key (\d+)$", self._log.read_text(), re.MULTILINE)
        return {tap: (system, int(key)) for tap, system, key in said}
