"""Which packets were on a link?"""

from __future__ import annotations

import ipaddress
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import LabError
from .namespace import Namespace


class Frame(NamedTuple):
    """One captured Ethernet frame; `at` is wall-clock time."""

    at: float
    data: bytes


class Datagram(NamedTuple):
    """One UDP datagram."""

    at: float
    source_mac: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes


def read_pcap(path: Path) -> Iterator[Frame]:
    """Frames of a classic pcap file; a torn last record, as a running or killed tcpdump leaves it, ends the reading."""
    with path.open("rb") as file:
        head = file.read(24)
        if len(head) < 24:
            return
        magic = struct.unpack("<I", head[:4])[0]
        if magic == 0xA1B2C3D4:
            order, unit = "<", 1e6
        elif magic == 0xA1B23C4D:
            order, unit = "<", 1e9
        elif magic == 0xD4C3B2A1:
            order, unit = ">", 1e6
        else:
            raise LabError(f"{path}: not a pcap file")
        while True:
            record = file.read(16)
            if len(record) < 16:
                return
            seconds, fraction, kept, _ = struct.unpack(order + "IIII", record)
            if kept > 1 << 20:
                raise LabError(f"{path}: damaged record of {kept} bytes")
            data = file.read(kept)
            if len(data) < kept:
                return
            yield Frame(seconds + fraction / unit, data)


def udp(frame: Frame) -> Datagram | None:
    """The UDP datagram in an Ethernet/IPv4 frame, or None. Fragments are not put together."""
    data = frame.data
    if len(data) < 42 or data[12:14] != b"\x08\x00" or data[14] >> 4 != 4:
        return None
    header = (data[14] & 15) * 4
    if data[23] != 17 or struct.unpack(">H", data[20:22])[0] & 0x3FFF:
        return None
    start = 14 + header
    if len(data) < start + 8:
        return None
    source_port, destination_port, length, _ = struct.unpack(">HHHH", data[start : start + 8])
    if length < 8 or len(data) < start + length:
        return None
    return Datagram(
        frame.at, ":".join(f"{b:02x}" for b in data[6:12]), ".".join(map(str, data[26:30])), source_port,
        ".".join(map(str, data[30:34])), destination_port, data[start + 8 : start + length],
    )


def udp6(frame: Frame) -> Datagram | None:
    """The UDP datagram in an Ethernet/IPv6 frame without extension headers, or None."""
    data = frame.data
    if len(data) < 62 or data[12:14] != b"\x86\xdd" or data[20] != 17:
        return None
    source_port, destination_port, length, _ = struct.unpack(">HHHH", data[54:62])
    if length < 8 or len(data) < 54 + length:
        return None
    return Datagram(
        frame.at, ":".join(f"{b:02x}" for b in data[6:12]), str(ipaddress.IPv6Address(data[22:38])), source_port,
        str(ipaddress.IPv6Address(data[38:54])), destination_port, data[62 : 54 + length],
    )


def datagrams(path: Path) -> Iterator[Datagram]:
    for frame in read_pcap(path):
        found = udp(frame)
        if found is not None:
            yield found


# The harness's own address on the bridge: below every lease range, so that the master never hands it out.
HARNESS = "192.168.219.2"


def _begins(word: str) -> str:
    """pcap-filter(7): the payload of a TCP segment begins with these four bytes, over IPv4, or over IPv6 without extension headers."""
    return f"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x{word.encode().hex()} or ip6[(((ip6[52:1] & 0xf0) >> 2) + 40):4] = 0x{word.encode().hex()}"


class Capture:
    """tcpdump on one link, for as long as the block lasts. Keeps name and address protocols, not the bulk of downloads."""

    # DHCP, DNS, TFTP requests, ARP, and the heads of what machines ask by HTTP: what judges and fixtures need. Bulk data would only fill
    # the work folder.
    FILTER = (
        "udp port 67 or udp port 68 or udp port 69 or udp port 53 or udp port 4011 or arp"
        " or udp port 546 or udp port 547 or icmp6"
        f" or (tcp port 80 and not host {HARNESS} and ({' or '.join(map(_begins, ('GET ', 'HEAD', 'HTTP')))}))"
    )
    _LIMIT_PACKETS = "200000"

    def __init__(self, namespace: Namespace, link: str, path: Path) -> None:
        self._namespace = namespace
        self._link = link
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Capture:
        # -U: each packet reaches the file at once; -Z root: no change of user, the work folder is root's.
        self._process = self._namespace.popen(
            ["tcpdump", "-i", self._link, "-n", "-U", "--immediate-mode", "-s", "2048", "-c", self._LIMIT_PACKETS, "-Z", "root",
             "-w", str(self.path), self.FILTER],
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        said: list[str] = []
        for raw in self._process.stderr:  # ready once it says that it listens
            said.append(raw.decode("utf-8", "replace").strip())
            if "listening on" in said[-1]:
                return self
        raise LabError(f"tcpdump on {self._link}: {' '.join(said)}")

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None or process.stderr is None:
            return
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(5)
        process.stderr.close()

    def frames(self) -> list[Frame]:
        """Every frame captured so far."""
        return list(read_pcap(self.path)) if self.path.exists() else []

    def datagrams(self) -> list[Datagram]:
        """What was captured so far."""
        return list(datagrams(self.path)) if self.path.exists() else []
