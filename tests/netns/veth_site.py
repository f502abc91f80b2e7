"""Where do a master and its clients run: two namespaces joined by a veth pair, a medium, loaders, a data folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from vdc import polling, tools
from vdc.api import Api, ApiError
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.process import kill
from vdc.resource import Resource

SERVER = "192.168.219.1"
SERVER_LINK, CLIENT_LINK = "veth0", "veth1"
CLIENT_MAC = "52:54:00:2b:00:01"
TOOLS = ("ip", "setpriv", "dhclient", "udhcpc", "tftp", "curl", "dig", "xorriso")
# Sizes of the real files, so that transfers take as many packets.
_LOADERS = {"undionly.kpxe": 108847, "snponly.efi": 284672, "ipxe.efi": 997376}
# By the names of openSUSE's packages.
_LOADERS.update({"snp-arm64.efi": 250880, "shim.efi": 934680, "grub.efi": 2300928})
# Files of a first stage, by their paths below its folder.
FIRST_STAGE = {
    "base.img": 2_000_003, "ports.img": 900_001, "modules.pack": 5_000_011, "port/e1000.img": 150_001, "port/mlx5_core.img": 700_001,
    # As long as ISO 9660 has room for.
    "port/a_driver_of_27_characters_x.img": 10_007,
}
_PORTS = (
    "pci:v00008086d0000100Esv*sd*bc*sc*i*\te1000\npci:v000015B3d00001017sv*sd*bc*sc*i*\tmlx5_core\n"
    "pci:v00001AF4d*sv*sd*bc*sc*i*\tvirtio_pci\tbase\nusb:v0BDAp8153d*dc*dsc*dp*icFFisc*ip*in*\ta_driver_of_27_characters_x\n"
)


class Site(Resource):
    """The veth pair and the machines at its ends; gone when the block ends."""

    def __init__(self, recon: Path, folder: Path) -> None:
        super().__init__()
        self.recon = recon
        self.folder = folder
        self.data = folder / "data"
        self.loaders = folder / "loaders"
        self.medium = folder / "medium"
        self.iso = folder / "medium.iso"
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self.address = ""  # what dhclient got and the client port then has
        self.address6 = ""  # the same in IPv6

    def set_up(self) -> None:
        self._files()
        self.server = self._stack.enter_context(Namespace("server"))
        self.client = self._stack.enter_context(Namespace("client"))
        self.server.ip("link", "add", SERVER_LINK, "type", "veth", "peer", "name", CLIENT_LINK, "netns", self.client.name)
        self.client.ip("link", "set", CLIENT_LINK, "address", CLIENT_MAC)
        self.client.ip("link", "set", CLIENT_LINK, "up")
        self.server.ip("link", "set", SERVER_LINK, "up")
        self.api = Api(self.client, SERVER)
        self.inside = Api(self.server, SERVER)
        self._stack.callback(self.kill)

    @property
    def pid(self) -> int:
        """Process id of the master, which must run."""
        if self._process is None:
            raise LabError("the master does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once the master was stopped or killed by the harness."""
        return self._process is not None

    def _files(self) -> None:
        """A folder laid out like the live image, an image made of it, and loaders."""
        for path in (self.data, self.loaders, self.medium / "boot/x86_64/loader", self.medium / "LiveOS"):
            path.mkdir(parents=True, exist_ok=True)
        (self.medium / "boot/x86_64/loader/linux").write_bytes(os.urandom(1 << 20))
        (self.medium / "boot/x86_64/loader/initrd").write_bytes(os.urandom(3 << 20))
        (self.medium / "LiveOS/squashfs.img").write_bytes(os.urandom(5 << 20))
        for name, size in _LOADERS.items():
            (self.loaders / name).write_bytes(os.urandom(size))
        self._image(self.medium, self.iso)

    @staticmethod
    def _image(medium: Path, iso: Path) -> None:
        # With names of 31 characters, as KIWI has it.
        tools.run([
            "xorriso", "-as", "mkisofs", "-quiet", "-iso-level", "3", "-R", "-J", "-V", "RECON", "-o", str(iso), str(medium),
        ])

    def add_first_stage(self) -> None:
        """Gives folder and image a first stage: `FIRST_STAGE`, and a table in which one module more has no image of its own."""
        folder = self.medium / "boot/x86_64/first"
        for name, size in FIRST_STAGE.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(os.urandom(size))
        (folder / "ports.tsv").write_text(_PORTS)
        self._image(self.medium, self.iso)

    def start(self, medium: Path, network: str = f"{SERVER}/24", room: int = 0) -> dict[str, Any]:
        """Starts the master and waits until its API serves the link. `network`: its address on it, with the prefix length.
        `room`: the data folder is a file system of so many bytes of its own, which only the master sees."""
        self.inside = Api(self.server, network.split("/", maxsplit=1)[0])
        self._starts += 1
        self.log = self.folder / f"master.{self._starts}.log"
        # Without CAP_SYS_ADMIN it can neither mount nor set a disk of this host read-only, whatever it tries.
        command = [
            "setpriv", "--bounding-set", "-sys_admin", str(self.recon), "master", "--link", f"{SERVER_LINK}={network}",
            "--data", str(self.data), "--medium", str(medium), "--loaders", str(self.loaders),
        ]
        if room:
            mount = f'mount -t tmpfs -o size={room} recon-data "{self.data}" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        with self.log.open("wb") as log:
            self._process = self.server.popen(command, stdout=log, stderr=log)
        process = self._process

        def look() -> dict[str, Any] | None:
            if process.poll() is not None:
                raise LabError(f"recon master ended with {process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(ApiError):
                status = self.inside.status(timeout=1.0)
                if any(link.get("mode") == "serve" for link in status.get("links", [])):
                    return status
            return None

        try:
            return polling.wait_until(look, 20.0, "recon master serves", every=0.1)
        except LabError as error:
            raise LabError(f"{error}:\n{self.log_tail()}") from error

    def log_tail(self) -> str:
        """The end of the master's log."""
        return self.log.read_text(errors="replace")[-1500:]

    def stop(self, seconds: float = 15.0) -> tuple[int, float]:
        """SIGTERM; returns exit code and how long the end took."""
        process = self._process
        if process is None:
            raise LabError("the master does not run")
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as late:
            raise LabError(f"recon master still runs {seconds:.0f} s after SIGTERM:\n{self.log_tail()}") from late
        self._process = None
        return code, time.monotonic() - begun

    def kill(self) -> None:
        process, self._process = self._process, None
        kill(process)

    def curl(self, *args: str, timeout: float = 30.0) -> subprocess.CompletedProcess[bytes]:
        return self.client.run(["curl", "-sS", "--max-time", "25", *args], timeout)

    def url(self, path: str) -> str:
        return f"http://{SERVER}{path}"

    def dig(self, *args: str) -> str:
        done = self.client.run(["dig", "+time=2", "+tries=2", f"@{SERVER}", *args])
        if done.returncode != 0:
            raise LabError(f"dig {' '.join(args)}: {done.stdout.decode()[-300:]}")
        return done.stdout.decode()

    def files_of(self, node: str) -> list[str]:
        folder = self.data / "nodes" / node
        return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
