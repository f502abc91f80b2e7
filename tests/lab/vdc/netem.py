"""How is a guest put behind a cable with loss, delay, duplicates and reordering?"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from . import netem_relay
from .namespace import Namespace
from .netem_relay import Impairments
from .process import terminate
from .resource import Resource


class ImpairedLink(Resource):
    """A bad cable between a bridge of the laboratory and a new bridge `far`, to which the guests behind it are connected."""

    def __init__(self, network: Namespace, bridge: str, far: str, impairments: Impairments, log: Path) -> None:
        super().__init__()
        self._network = network
        self._near, self._far, self._impairments, self._log = bridge, far, impairments, log

    def set_up(self) -> None:
        network = self._network
        network.add_bridge(self._far)
        ends: list[str] = []
        for number, bridge in enumerate((self._near, self._far)):
            ours, theirs = f"netem{number}a", f"netem{number}b"
            network.ip("link", "add", ours, "type", "veth", "peer", "name", theirs)
            for name in (ours, theirs):
                network.disable_ipv6(name)
                network.call(partial(netem_relay.whole_frames, name))
            network.ip("link", "set", theirs, "master", bridge, "up")
            network.ip("link", "set", ours, "up", "promisc", "on")
            ends.append(ours)
        with self._log.open("ab") as log:
            process = network.popen(
                [sys.executable, str(Path(netem_relay.__file__).resolve()), *ends, *(str(value) for value in self._impairments)],
                stdout=log, stderr=log,
            )
        self._stack.callback(terminate, process)
