"""How is each server started on the cable, how is it known to be ready, and what does it cost?"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vdc.errors import LabError
from vdc.namespace import Namespace

SERVER, PREFIX = "10.77.0.1", 16
SERVER_LINK, CLIENT_LINK = "veth0", "veth1"
FIRST, LAST = "10.77.16.0", "10.77.239.255"
_TICKS = os.sysconf("SC_CLK_TCK")


class Files:
    """What every server hands out."""

    def __init__(self, folder: Path, big_mb: int) -> None:
        self.folder = folder
        self.tftp = folder / "tftp"
        self.data = folder / "data"
        self.medium = folder / "medium"
        for path in (self.tftp, self.data / "export", self.medium / "boot/x86_64/loader"):
            path.mkdir(parents=True)
        # recon serves the names of its loaders only, so that is what all of them serve.
        (self.tftp / "ipxe.efi").write_bytes(os.urandom(1 << 20))
        for name in ("linux", "initrd"):
            (self.medium / "boot/x86_64/loader" / name).write_bytes(os.urandom(4096))
        (self.data / "export/small").write_bytes(os.urandom(4096))
        block = os.urandom(1 << 20)
        with (self.data / "export/big").open("wb") as big:
            for _ in range(big_mb):
                big.write(block)
        (self.data / "recon.toml").write_text(
            f'[network]\nsubnet = "10.77.0.0/16"\nlease-range = ["{FIRST}", "{LAST}"]\n'
        )
        self.readable()

    def readable(self) -> None:
        """The peers drop root before they read."""
        for path in [self.folder, *self.folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


class Server:
    """A running server and all of its children."""

    def __init__(self, name: str, namespace: Namespace, argv: Sequence[str], log: Path, ready: Callable[[], bool]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self.process = namespace.popen(argv, stdout=out, stderr=out)
        deadline = time.monotonic() + 20
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-800:]
                self.stop()
                raise LabError(f"{name} does not start:\n{said}")
            time.sleep(0.05)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)

    def pids(self) -> list[int]:
        """The process and its descendants that live."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int(_stat(int(entry.name))[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_seconds(self) -> float:
        """User and system time, of children that ended too."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += sum(int(field) for field in _stat(pid)[11:15])
        return total / _TICKS

    def rss_bytes(self) -> int:
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
            except OSError:
                pass
        return total


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def answers_tcp(namespace: Namespace, port: int) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            namespace.connect(SERVER, port, 0.5).close()
            return True
        except OSError:
            return False

    return ready


def answers_tftp(namespace: Namespace) -> Callable[[], bool]:
    def ask() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.3)
            client.sendto(b"\0\x01ipxe.efi\0octet\0", (SERVER, 69))
            try:
                packet, sender = client.recvfrom(2048)
            except OSError:
                return False
            client.sendto(b"\0\x05\0\0enough\0", sender)
            return packet[:2] == b"\0\x03"

    return lambda: namespace.call(ask)


def bound_udp(namespace: Namespace, port: int) -> Callable[[], bool]:
    def ready() -> bool:
        text = namespace.run(["cat", "/proc/net/udp", "/proc/net/packet"]).stdout.decode()
        return f":{port:04X} " in text or any(" 0800 " in line for line in text.splitlines())

    return ready


class Programs(NamedTuple):
    """What is built from the sources."""

    recon: Path
    # An older build, measured as one more peer.
    before: Path | None
    async_tftpd: Path | None


class Site:
    """Two namespaces, one cable, and a way to start each server on it."""

    def __init__(self, programs: Programs, folder: Path, files: Files, server: Namespace, client: Namespace) -> None:
        self.programs, self.folder, self.files, self.server, self.client = programs, folder, files, server, client
        self._starts = 0

    def _log(self, name: str) -> Path:
        self._starts += 1
        return self.folder / f"{name}.{self._starts}.log"

    def start(self, name: str, role: str) -> Server:
        """`role` is dhcp, tftp or http; recon does all of them at once, as it always does."""
        # recon takes the link's address with it when it ends.
        self.server.ip("addr", "replace", f"{SERVER}/{PREFIX}", "dev", SERVER_LINK)
        argv = getattr(self, "_" + name.replace("-", "_"))(role)
        ready = {
            "http": lambda: answers_tcp(self.client, 80),
            "tftp": lambda: answers_tftp(self.client),
            "dhcp": lambda: bound_udp(self.server, 67),
        }[role]()
        return Server(name, self.server, argv, self._log(name), ready)

    def _recon(self, _role: str) -> list[str]:
        return self._master(self.programs.recon)

    def _before(self, _role: str) -> list[str]:
        assert self.programs.before is not None
        return self._master(self.programs.before)

    def _master(self, recon: Path) -> list[str]:
        # Every start begins with no lease, as the others do.
        for journal in self.files.data.glob("leases*.jsonl"):
            journal.unlink()
        return [
            "setpriv", "--bounding-set", "-sys_admin", str(recon), "master", "--link", f"{SERVER_LINK}={SERVER}/{PREFIX}",
            "--data", str(self.files.data), "--medium", str(self.files.medium), "--loaders", str(self.files.tftp),
        ]

    def _dnsmasq(self, role: str) -> list[str]:
        leases = self.folder / f"dnsmasq.{self._starts}.leases"
        common = ["dnsmasq", "-k", "--conf-file=/dev/null", f"--pid-file={self.folder}/dnsmasq.pid", "--user=root", "--port=0", f"--interface={SERVER_LINK}",
                  "--bind-interfaces", "--log-facility=-", "--quiet-dhcp", "--quiet-tftp"]
        if role == "tftp":
            return [*common, "--enable-tftp", f"--tftp-root={self.files.tftp}", "--tftp-max=1000"]
        return [*common, f"--dhcp-range={FIRST},{LAST},255.255.0.0,1h", f"--dhcp-leasefile={leases}",
                "--dhcp-lease-max=60000", "--dhcp-authoritative", "--no-ping"]

    def _tftpd_hpa(self, _role: str) -> list[str]:
        return ["in.tftpd", "-L", "-a", f"{SERVER}:69", "-s", str(self.files.tftp), "-u", "root"]

    def _async_tftp(self, _role: str) -> list[str]:
        return [str(self.programs.async_tftpd), f"{SERVER}:69", str(self.files.tftp)]

    def _nginx(self, _role: str) -> list[str]:
        config = self.folder / "nginx.conf"
        config.write_text(
            f"worker_processes auto; daemon off; user root; pid {self.folder}/nginx.pid; error_log stderr;\n"
            "worker_rlimit_nofile 8192; events { worker_connections 4096; }\n"
            "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;\n"
            f" server {{ listen {SERVER}:80 backlog=4096; root {self.files.data}; }} }}\n"
        )
        return ["nginx", "-c", str(config)]

    def _kea(self, _role: str) -> list[str]:
        folder = self.folder / f"kea.{self._starts}"
        folder.mkdir()
        os.environ["KEA_PIDFILE_DIR"] = os.environ["KEA_LOCKFILE_DIR"] = str(folder)
        config = folder / "kea.json"
        config.write_text(json.dumps({"Dhcp4": {
            "interfaces-config": {"interfaces": [SERVER_LINK]},
            "lease-database": {"type": "memfile", "persist": True, "name": str(folder / "leases.csv"), "lfc-interval": 0},
            "multi-threading": {"enable-multi-threading": True},
            "subnet4": [{"subnet": "10.77.0.0/16", "pools": [{"pool": f"{FIRST} - {LAST}"}]}],
            "loggers": [{"name": "kea-dhcp4", "severity": "ERROR"}],
        }}))
        return ["kea-dhcp4", "-c", str(config)]


PROGRAMS: dict[str, str] = {
    "dnsmasq": "dnsmasq-base", "in.tftpd": "tftpd-hpa", "kea-dhcp4": "kea-dhcp4-server", "perfdhcp": "kea-admin",
    "nginx": "nginx-light", "wrk": "wrk", "ip": "iproute2", "setpriv": "util-linux",
}


def missing() -> dict[str, str]:
    """Programs that are not here, each with its Debian package."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}


# Built from benches/net/asynctftpd.rs, not installed.
ASYNC_TFTPD = "asynctftpd"


def has(program: str | None) -> bool:
    return program is None or program not in missing()
