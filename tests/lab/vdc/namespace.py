"""How are guests and helper programs kept on a network of their own?

A run owns one network namespace. Its name carries the process id and start time of the harness, so a later run
recognises the namespace of a harness that was killed, without pid files, and ends exactly the processes inside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar

from . import tools
from .errors import LabError, Timeout

PREFIX = "recon-lab-"
_RUN = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
# A packet filter of one instruction for tc-bpf(8): return TC_ACT_SHOT.
_DROP = "1,6 0 0 2"
_T = TypeVar("_T")
_Stream = int | IO[bytes] | None


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot: with the pid it names a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name and may hold spaces and parentheses; count from the last one.
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def _pids_in(name: str) -> list[int]:
    text = tools.run(["ip", "netns", "pids", name])
    return [int(word) for word in text.split() if int(word) != os.getpid()]


def _end_all(name: str, grace: float) -> None:
    """Ends every process inside the namespace: SIGTERM first, SIGKILL after the grace period."""
    for sig, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for pid in _pids_in(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if not [p for p in _pids_in(name) if not _is_zombie(p)]:
                return
            time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return stat[stat.rindex(b")") + 2 :].split()[0] == b"Z"


def remove_stale() -> list[str]:
    """Removes what killed harnesses left behind; returns the names removed."""
    removed = []
    for entry in sorted(_RUN.glob(PREFIX + "*")) if _RUN.is_dir() else []:
        words = entry.name[len(PREFIX) :].split("-")
        if len(words) < 2 or not (words[0].isdigit() and words[1].isdigit()):
            continue
        pid = int(words[0])
        if start_ticks(pid) == int(words[1]) and not _is_zombie(pid):
            continue  # its harness lives
        _end_all(entry.name, grace=0.5)
        tools.run(["ip", "netns", "del", entry.name])
        removed.append(entry.name)
    return removed


class Namespace:
    """A network namespace with one bridge; gone, with all processes inside, when the block ends."""

    def __init__(self, label: str = "0") -> None:
        self.name = f"{PREFIX}{os.getpid()}-{start_ticks(os.getpid())}-{label}"
        self._taps = 0
        self._bridge_of: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Namespace:
        tools.run(["ip", "netns", "add", self.name])
        try:
            self.ip("link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if (_RUN / self.name).exists():
            _end_all(self.name, grace=2.0)
            tools.run(["ip", "netns", "del", self.name])

    def ip(self, *args: str) -> str:
        """Runs `ip` inside."""
        return tools.run(["ip", "-n", self.name, *args])

    def add_bridge(self, name: str) -> None:
        """A bridge that forwards at once: a forwarding delay would eat the first DISCOVERs."""
        self.ip("link", "add", name, "type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0")
        # Unless it is set, a bridge takes the lowest address of its ports, and the master's ARP entry for the harness
        # is wrong for half a minute whenever a guest comes or goes.
        self.ip("link", "set", name, "address", f"52:54:00:1a:ff:{zlib.crc32(name.encode()) & 0xFF:02x}")
        # Captures and probes must see the guests' IPv6 traffic only.
        self.disable_ipv6(name)
        self.ip("link", "set", name, "up")

    def add_tap(self, bridge: str) -> str:
        """A tap on the bridge, for one guest port."""
        with self._lock:
            name = f"tap{self._taps}"
            self._taps += 1
        self.ip("tuntap", "add", name, "mode", "tap")
        self.disable_ipv6(name)
        self.ip("link", "set", name, "master", bridge, "up")
        with self._lock:
            self._bridge_of[name] = bridge
        return name

    def disable_ipv6(self, link: str) -> None:
        """Keeps the host's own IPv6 stack quiet on a link."""
        self.popen(["sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1"]).wait(10)

    def drop_ipv4(self, link: str) -> None:
        """Drops IPv4 and ARP on a link, in both directions."""
        tools.run(["tc", "-n", self.name, "qdisc", "add", "dev", link, "clsact"])
        for way in ("ingress", "egress"):
            for protocol in ("ip", "arp"):
                tools.run([
                    "tc", "-n", self.name, "filter", "add", "dev", link, way, "protocol", protocol, "bpf", "direct-action", "bytecode", _DROP,
                ])

    def taps(self) -> dict[str, str]:
        """Taps that exist, each with its bridge."""
        with self._lock:
            return dict(self._bridge_of)

    def delete_link(self, name: str) -> None:
        with self._lock:
            self._bridge_of.pop(name, None)
        self.ip("link", "del", name)

    def counters(self, link: str) -> tuple[int, int]:
        """(received, sent) bytes of a link as the host sees them: for a tap, received is what the guest sent."""
        fields = self.ip("-s", "link", "show", link).split("RX:")[1]
        rows = fields.splitlines()
        return int(rows[1].split()[0]), int(rows[3].split()[0])

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs a program inside. `ip netns exec` becomes the program, so the pid stays."""
        program = argv[0] if "/" in argv[0] else tools.path_of(argv[0])
        return [tools.path_of("ip"), "netns", "exec", self.name, program, *argv[1:]]

    def popen(
        self, argv: Sequence[str], stdin: _Stream = subprocess.DEVNULL, stdout: _Stream = subprocess.DEVNULL,
        stderr: _Stream = subprocess.DEVNULL, pass_fds: Sequence[int] = (), env: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a program inside, in a session of its own so that Ctrl-C reaches the harness only."""
        return subprocess.Popen(
            self.argv(argv), stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=tuple(pass_fds),
            start_new_session=True, env=env,
        )

    def run(self, argv: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[bytes]:
        """Runs a program inside to its end; the caller judges the exit code."""
        try:
            return subprocess.run(
                self.argv(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise Timeout(f"{' '.join(argv)}: not done after {timeout:.0f} s") from late

    def call(self, function: Callable[[], _T]) -> _T:
        """Calls a function with this namespace as its network, in a thread that ends afterwards.

        `setns` moves only the calling thread, and a socket stays in the namespace it was made in: so the
        harness makes sockets here and uses them from anywhere. (`os.setns` needs Python 3.12, hence ctypes.)
        """
        result: list[_T] = []
        failure: list[BaseException] = []

        def inside() -> None:
            try:
                handle = os.open(_RUN / self.name, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(handle, _CLONE_NEWNET) != 0:
                        code = ctypes.get_errno()
                        raise OSError(code, os.strerror(code), self.name)
                finally:
                    os.close(handle)
                result.append(function())
            except BaseException as error:  # handed to the caller below
                failure.append(error)

        thread = threading.Thread(target=inside, name="netns", daemon=True)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        if not result:
            raise LabError(f"nothing came back from namespace {self.name}")
        return result[0]

    def packet_socket(self, link: str, protocol: int = 0) -> socket.socket:
        """A socket for whole Ethernet frames on a link; with protocol 0 it only sends."""
        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            made.bind((link, protocol))
            return made

        return self.call(make)

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        """A TCP connection made inside."""
        return self.call(lambda: socket.create_connection((address, port), timeout))
