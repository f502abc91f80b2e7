"""How are guests put behind a program that passes their frames on as it likes?"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from . import frames
from .namespace import Namespace
from .process import terminate
from .resource import Resource


class RelayedLink(Resource):
    """A cable between a bridge of the laboratory and a new bridge `far`, to which the guests behind it are connected. `program`, a
    module of this package, joins its two ends, of which it gets the names, and `words` after them."""

    def __init__(self, network: Namespace, bridge: str, far: str, program: str, words: Sequence[str], log: Path) -> None:
        super().__init__()
        self._network = network
        self._near, self._far, self._program, self._words, self._log = bridge, far, program, words, log

    def set_up(self) -> None:
        network = self._network
        network.add_bridge(self._far)
        ends: list[str] = []
        for number, bridge in enumerate((self._near, self._far)):
            ours, theirs = f"{self._far}{number}a", f"{self._far}{number}b"
            network.ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
            for name in (ours, theirs):
                network.disable_ipv6(name)
                network.call(partial(frames.whole_frames, name))
            network.ip("link", "set", theirs, "master", bridge, "up")
            network.ip("link", "set", ours, "up", "promisc", "on")
            ends.append(ours)
        with self._log.open("ab") as log:
            process = network.popen(
                [sys.executable, "-m", self._program, *ends, *self._words], stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )
        self._stack.callback(terminate, process)
