"""Where do several masters, foreign servers and clients of ring 2 meet: bridges, each one broadcast domain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from collections.abc import Sequence

import rawclient  # noqa: F401  (its import makes `vdc` reachable)
from vdc import foreign, waiting
from vdc.api import Api, ApiError
from vdc.capture import Capture, Frame, read_pcap
from vdc.errors import LabError
from vdc.namespace import Namespace

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
        self.place = lan.machine(name)
        for link, mac, bridge in zip(self.links, self.macs, bridges):
            lan.plug(self.place, link, mac, bridge)
        self.api = Api(self.place, "127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0
        self.key: str | None = SITE_KEY  # None: the stick makes its own

    def settings(self, text: str) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / "recon.toml").write_text(text)

    def start(self, elect: bool = True) -> float:
        """Starts it and waits until its API answers; returns when its process was started. Not `elect`: told to serve."""
        self._runs += 1
        begun = time.monotonic()
        (self.folder / "data").mkdir(exist_ok=True)
        if self.key is not None:
            (self.folder / "data" / "site.key").write_text(self.key)
        links = [word for link in self.links for word in ("--link", link)]
        with (self.folder / f"log.{self._runs}").open("wb") as log:
            # Without CAP_SYS_ADMIN it can neither mount nor set a disk of this host read-only, whatever it tries.
            self._process = self.place.popen(
                ["setpriv", "--bounding-set", "-sys_admin", str(self.lan.recon), "master", *(["--elect"] if elect else []), *links,
                 "--data", str(self.folder / "data"), "--medium", str(self.lan.medium), "--loaders", str(self.lan.loaders)],
                stdout=log, stderr=log,
            )
        waiting.until(self.status, 20.0, f"{self.name} answers", every=0.05)
        return begun

    def status(self) -> Json | None:
        if self._process is None or self._process.poll() is not None:
            raise LabError(f"{self.name} does not run:\n{self.said()}")
        with contextlib.suppress(ApiError):
            return self.api.status(timeout=1.0)
        return None

    def said(self) -> str:
        path = self.folder / f"log.{self._runs}"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    def link(self, at: int = 0) -> Json:
        status = waiting.until(self.status, 5.0, f"{self.name} answers")
        found = [link for link in status["links"] if link["name"] == self.links[at]]
        return dict(found[0]) if found else {"mode": "none", "reason": ""}

    def mode(self, at: int = 0) -> str:
        return str(self.link(at)["mode"])

    def becomes(self, mode: str, seconds: float, at: int = 0, address: bool = False) -> Json:
        """Waits for a mode of a link, and where asked for its address; returns the link."""

        def look() -> Json | None:
            link = self.link(at)
            return link if link["mode"] == mode and (link["address"] or not address) else None

        try:
            return waiting.until(look, seconds, f"{self.name} {self.links[at]}: {mode}", every=0.05)
        except LabError as error:
            raise LabError(f"{error}; it is {self.link(at)}:\n{self.said()}") from error

    def kill(self) -> None:
        """Its power is cut."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


class Lan:
    """Bridges and everything plugged into them; gone when the block ends."""

    def __init__(self, recon: Path, folder: Path) -> None:
        self.recon = recon
        self.folder = folder
        self.medium = folder / "medium"
        self.loaders = folder / "loaders"
        self._stack = contextlib.ExitStack()
        self._ports = 0
        self._sticks: list[Stick] = []

    def __enter__(self) -> Lan:
        try:
            loader = self.medium / "boot/x86_64/loader"
            for path in (self.loaders, loader):
                path.mkdir(parents=True, exist_ok=True)
            (loader / "linux").write_bytes(b"kernel" * 100)
            (loader / "initrd").write_bytes(b"initrd" * 100)
            for name in ("undionly.kpxe", "snponly.efi"):
                (self.loaders / name).write_bytes(name.encode() * 1000)
            self.wire = self._stack.enter_context(Namespace("wire"))
            self.wire.add_bridge(FIRST)
            self.wire.add_bridge(SECOND)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stick in self._sticks:
            stick.kill()
        self._stack.close()

    def machine(self, name: str) -> Namespace:
        return self._stack.enter_context(Namespace(name))

    def plug(self, place: Namespace, link: str, mac: str, bridge: str) -> None:
        """A cable from a port of a machine to a bridge."""
        self._ports += 1
        far = f"p{self._ports}"
        place.ip("link", "add", link, "address", mac, "type", "veth", "peer", "name", far, "netns", self.wire.name)
        self.wire.popen(["sysctl", "-qw", f"net.ipv6.conf.{far}.disable_ipv6=1"]).wait(10)
        self.wire.ip("link", "set", far, "master", bridge, "up")
        place.ip("link", "set", link, "up")

    def stick(self, name: str, number: int, bridges: Sequence[str] = (FIRST,)) -> Stick:
        made = Stick(self, name, number, bridges)
        self._sticks.append(made)
        return made

    def client(self, number: int, name: str = "client") -> Namespace:
        """A machine with one port `eth0` on the first bridge."""
        place = self.machine(name)
        self.plug(place, "eth0", client_mac(number), FIRST)
        return place

    def join(self) -> None:
        """A cable between the two bridges: one broadcast domain from now on."""
        self.wire.ip("link", "add", "joint0", "type", "veth", "peer", "name", "joint1")
        for end, bridge in (("joint0", FIRST), ("joint1", SECOND)):
            self.wire.popen(["sysctl", "-qw", f"net.ipv6.conf.{end}.disable_ipv6=1"]).wait(10)
            self.wire.ip("link", "set", end, "master", bridge, "up")

    def capture(self, name: str = "wire") -> Capture:
        return Capture(self.wire, FIRST, self.folder / f"{name}.pcap")

    def foreign(self, boot_file: str | None = None) -> foreign.ForeignServer:
        return foreign.ForeignServer(self.wire, FIRST, self.folder, boot_file)


def client_mac(number: int) -> str:
    return f"52:54:00:2c:ff:{number:02x}"


def frames(capture: Capture) -> list[Frame]:
    return list(read_pcap(capture.path)) if capture.path.exists() else []


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
