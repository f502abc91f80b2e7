"""How is a DHCP server that is not ours put on a bridge?"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .errors import LabError
from .namespace import Namespace
from .process import terminate
from .resource import Resource

ADDRESS = "10.77.0.1"
_POOL = "10.77.0.100,10.77.0.200,1h"


class ForeignDhcpServer(Resource):
    """dnsmasq on a cable into a bridge of the laboratory, in a namespace of its own as a separate machine would be."""

    def __init__(self, wire: Namespace, bridge: str, folder: Path, boot_file: str | None = None) -> None:
        super().__init__()
        self._wire = wire
        self._bridge = bridge
        self._folder = folder
        self._boot_file = boot_file

    def set_up(self) -> None:
        own = self._stack.enter_context(Namespace(f"{self._bridge}-dhcp"))
        far = f"{self._bridge}f"
        own.ip("link", "add", "up0", "type", "veth", "peer", "name", far, "netns", self._wire.name)
        self._wire.ip("link", "set", far, "master", self._bridge, "up")
        own.ip("addr", "add", f"{ADDRESS}/24", "dev", "up0")
        own.ip("link", "set", "up0", "up")
        self._stack.enter_context(self._server(own))

    @contextlib.contextmanager
    def _server(self, own: Namespace) -> Iterator[None]:
        argv = [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=up0", "--bind-interfaces",
            "--no-ping", f"--dhcp-range={_POOL}", f"--dhcp-leasefile={self._folder}/foreign.leases", "--log-dhcp",
            "--log-facility=-", "--user=root",
        ]
        if self._boot_file is not None:
            tftp = self._folder / "foreign-tftp"
            tftp.mkdir(exist_ok=True)
            argv += [f"--dhcp-boot={self._boot_file}", "--enable-tftp", f"--tftp-root={tftp}"]
        log = self._folder / "foreign-dhcp.log"
        with log.open("ab") as errors:
            process = own.popen(argv, stdout=errors, stderr=errors)
        try:
            if _ended(process):
                raise LabError(f"dnsmasq ended at once, see {log}")
            yield
        finally:
            terminate(process)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """dnsmasq refuses bad options within moments; clients ask again, so a slow start needs no waiting."""
    try:
        process.wait(0.3)
    except subprocess.TimeoutExpired:
        return False
    return True
