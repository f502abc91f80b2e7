"""Where do several masters, foreign servers and clients run together: two bridges, each one broadcast domain."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdc import foreign_dhcp, polling
from vdc.api import Api, ApiError
from vdc.capture import Capture, Frame, read_pcap
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.process import kill
from vdc.resource import Resource

FIRST, SECOND = "lan0", "lan1"
# What the sticks of one site share.
SITE_KEY = "# a key\r\n" + bytes(range(32)).hex() + "\r\n"
Json = dict[str, Any]


class Stick:
    """`recon master --elect` on a machine of its own, with a port on each of some bridges."""

    def __init__(self, lan: Lan, name: str, number: int, bridges: Sequence[str]) -> None:
        self.lan = lan
        self.name = name
        self.macs = [f"52:54:00:2c:{number:02x}:{at:02x}" for at in range(len(bridges))]
        self.links = [f"eth{at}" for at in range(len(bridges))]
        self.folder = lan.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.machine = lan.machine(name)
        for link, mac, bridge in zip(self.links, self.macs, bridges, strict=True):
            lan.plug(self.machine, link, mac, bridge)
        self.api = Api(self.machine, "127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0
        self.key: str | None = SITE_KEY  # None: the stick makes its own

    def settings(self, text: str) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "recon.toml").write_text(text)

    def start(self, elect: bool = True) -> float:
        """Starts it and waits until its API answers; returns when its process was started. Without `elect` it serves at once."""
        self._runs += 1
        begun = time.monotonic()
        (self.folder / "data").mkdir(exist_ok=True)
        if self.key is not None:
            (self.folder / "data" / "site.key").write_text(self.key)
        links = [word for link in self.links for word in ("--link", link)]
        with (self.folder / f"log.{self._runs}").open("wb") as log:
            # Without CAP_SYS_ADMIN it can neither mount nor set a disk of this host read-only, whatever it tries.
            self._process = self.machine.popen(
                ["setpriv", "--bounding-set", "-sys_admin", str(self.lan.recon), "master", *(["--elect"] if elect else []), *links,
                 "--data", str(self.folder / "data"), "--medium", str(self.lan.medium), "--loaders", str(self.lan.loaders)],
                stdout=log, stderr=log,
            )
        polling.wait_until(self.status, 20.0, f"{self.name} answers", every=0.05)
        return begun

    def status(self) -> Json | None:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"{self.name} does not run:\n{self.log_tail()}")
        with contextlib.suppress(ApiError):
            return self.api.status(timeout=1.0)
        return None

    def log_tail(self) -> str:
        path = self.folder / f"log.{self._runs}"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    def link(self, at: int = 0) -> Json:
        status = polling.wait_until(self.status, 5.0, f"{self.name} answers")
        found = [link for link in status["links"] if link["name"] == self.links[at]]
        return dict(found[0]) if found else {"mode": "none", "reason": ""}

    def mode(self, at: int = 0) -> str:
        return str(self.link(at)["mode"])

    def wait_for_mode(self, mode: str, seconds: float, at: int = 0, address: bool = False) -> Json:
        """Waits for a mode of a link, and where asked for its address; returns the link."""

        def look() -> Json | None:
            link = self.link(at)
            return link if link["mode"] == mode and (link["address"] or not address) else None

        try:
            return polling.wait_until(look, seconds, f"{self.name} {self.links[at]}: {mode}", every=0.05)
        except LabError as error:
            raise LabError(f"{error}; it is {self.link(at)}:\n{self.log_tail()}") from error

    def kill(self) -> None:
        """Cuts its power."""
        process, self._process = self._process, None
        kill(process)


class Lan(Resource):
    """Two bridges and the machines connected to them; gone when the block ends."""

    def __init__(self, recon: Path, folder: Path) -> None:
        super().__init__()
        self.recon = recon
        self.folder = folder
        self.medium = folder / "medium"
        self.loaders = folder / "loaders"
        self._ports = 0

    def set_up(self) -> None:
        loader = self.medium / "boot/x86_64/loader"
        for path in (self.loaders, loader):
            path.mkdir(parents=True, exist_ok=True)
        (loader / "linux").write_bytes(b"kernel" * 100)
        (loader / "initrd").write_bytes(b"initrd" * 100)
        for name in ("undionly.kpxe", "snponly.efi"):
            (self.loaders / name).write_bytes(name.encode() * 1000)
        self.network = self._stack.enter_context(Namespace("wire"))
        self.network.add_bridge(FIRST)
        self.network.add_bridge(SECOND)

    def machine(self, name: str) -> Namespace:
        return self._stack.enter_context(Namespace(name))

    def plug(self, machine: Namespace, link: str, mac: str, bridge: str) -> None:
        """A cable from a port of a machine to a bridge."""
        self._ports += 1
        far = f"p{self._ports}"
        machine.ip("link", "add", link, "address", mac, "type", "veth", "peer", "name", far, "netns", self.network.name)
        self.network.disable_ipv6(far)
        self.network.ip("link", "set", far, "master", bridge, "up")
        machine.ip("link", "set", link, "up")

    def stick(self, name: str, number: int, bridges: Sequence[str] = (FIRST,)) -> Stick:
        made = Stick(self, name, number, bridges)
        self._stack.callback(made.kill)
        return made

    def client(self, number: int, name: str = "client") -> Namespace:
        """A machine with one port `eth0` on the first bridge."""
        machine = self.machine(name)
        self.plug(machine, "eth0", client_mac(number), FIRST)
        return machine

    def join(self) -> None:
        """A cable between the two bridges: one broadcast domain from now on."""
        self.network.ip("link", "add", "joint0", "type", "veth", "peer", "name", "joint1")
        for end, bridge in (("joint0", FIRST), ("joint1", SECOND)):
            self.network.disable_ipv6(end)
            self.network.ip("link", "set", end, "master", bridge, "up")

    def capture(self, name: str = "wire") -> Capture:
        return Capture(self.network, FIRST, self.folder / f"{name}.pcap")

    def foreign(self, boot_file: str | None = None) -> foreign_dhcp.ForeignDhcpServer:
        return foreign_dhcp.ForeignDhcpServer(self.network, FIRST, self.folder, boot_file)


def client_mac(number: int) -> str:
    return f"52:54:00:2c:ff:{number:02x}"


def frames(capture: Capture) -> list[Frame]:
    return list(read_pcap(capture.path)) if capture.path.exists() else []


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
