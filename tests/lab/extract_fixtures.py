#!/usr/bin/env python3
"""Takes real DHCP packets, of clients and of a server, out of a capture and stores them as fixtures.

Each fixture is one UDP payload, `tests/fixtures/packets/<client>-<kind>.bin`; INDEX beside it says in a line what
each is and where it came from. A fixture that is there is kept unless --replace is given: tests rely on its bytes.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from vdc import dhcp
from vdc.capture import Datagram, datagrams, read_pcap, udp6
from vdc.errors import LabError

_PACKETS = Path(__file__).resolve().parent.parent / "fixtures" / "packets"
_FIRMWARE = {0: "bios", 6: "efi32", 7: "efi", 9: "efi", 11: "arm64", 16: "efi-http", 19: "arm64-http"}


def client_of(packet: dhcp.Packet) -> str | None:
    """Names the program that sent a packet, as file names want it; None for what is not worth a fixture."""
    if packet.op == 2:
        return "server"
    firmware = "unknown" if packet.arch is None else _FIRMWARE.get(packet.arch, f"arch{packet.arch}")
    if packet.is_ipxe:
        return f"ipxe-{firmware}"
    if packet.vendor_class.startswith(("PXEClient", "HTTPClient")):
        return f"ovmf-{firmware}" if firmware.startswith("efi") else f"pxe-{firmware}"
    if packet.vendor_class.startswith("udhcp"):
        return "udhcpc"
    if packet.vendor_class.startswith(("dhcpcd", "systemd-networkd", "NetworkManager")):
        return packet.vendor_class.split("-")[0].split(":")[0].lower()
    if packet.arch is None and not packet.vendor_class:
        return "dhclient"  # ISC's client names itself nowhere; lab captures hold no other such client
    return None


def describe(name: str, packet: dhcp.Packet, size: int, source: str) -> str:
    """One line of INDEX."""
    words = [f"{name}:", f"{packet.kind.upper()},", f"{size} bytes,"]
    if packet.server:
        words.append(f"server {packet.server},")
    words.append("no option 93," if packet.arch is None else f"option 93 = {packet.arch},")
    if packet.vendor_class:
        words.append(f"vendor class {packet.vendor_class!r},")
    if packet.user_class:
        words.append(f"user class {packet.user_class!r},")
    words.append(f"MAC {packet.mac};")
    words.append(source)
    return " ".join(words)


_KINDS6 = {1: "solicit", 3: "request"}


def options6(payload: bytes) -> dict[int, bytes]:
    """Options of a DHCPv6 message, the first of each code."""
    found: dict[int, bytes] = {}
    at = 4
    while at + 4 <= len(payload):
        code, length = struct.unpack(">HH", payload[at : at + 4])
        found.setdefault(code, payload[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def name_of6(payload: bytes) -> str | None:
    """File name of a DHCPv6 client's message; None for what is not worth a fixture."""
    kind, options = _KINDS6.get(payload[0]), options6(payload)
    if kind is None or b"recon:" in options.get(16, b""):
        return None
    if 61 not in options:
        return f"plain-{kind}6.bin"
    firmware = _FIRMWARE.get(int.from_bytes(options[61][:2], "big"), "unknown")
    return f"{'ipxe' if b'iPXE' in options.get(15, b'') else 'ovmf'}-{firmware}-{kind}6.bin"


def messages6(path: Path) -> Iterator[tuple[str, Datagram]]:
    for frame in read_pcap(path):
        found = udp6(frame)
        if found is not None and found.destination_port == 547 and len(found.payload) >= 4:
            name = name_of6(found.payload)
            if name is not None:
                yield name, found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path, help="pcap file of a laboratory run")
    parser.add_argument("--source", required=True, help="what the packets come from, for INDEX")
    parser.add_argument("--into", type=Path, default=_PACKETS, help="folder of the fixtures")
    parser.add_argument("--replace", action="store_true", help="overwrite fixtures that exist")
    options = parser.parse_args(argv)
    options.into.mkdir(parents=True, exist_ok=True)
    index = options.into / "INDEX"
    lines: dict[str, str] = {}
    if index.exists():
        for line in index.read_text().splitlines():
            lines[line.split(":")[0]] = line
    taken = set()
    for datagram in datagrams(options.capture):
        if {datagram.source_port, datagram.destination_port} != {67, 68}:
            continue
        try:
            packet = dhcp.parse(datagram.payload)
        except LabError:
            continue
        client = client_of(packet)
        name = f"{client}-{packet.kind}.bin"
        target = options.into / name
        if client is None or name in taken or (target.exists() and not options.replace):
            continue
        taken.add(name)
        target.write_bytes(datagram.payload)
        lines[name] = describe(name, packet, len(datagram.payload), options.source)
        print(lines[name])
    for name, datagram in messages6(options.capture):
        target = options.into / name
        if name in taken or (target.exists() and not options.replace):
            continue
        taken.add(name)
        target.write_bytes(datagram.payload)
        lines[name] = f"{name}: DHCPv6, {len(datagram.payload)} bytes, from {datagram.source}; {options.source}"
        print(lines[name])
    index.write_text("".join(lines[key] + "\n" for key in sorted(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
