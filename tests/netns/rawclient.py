"""What does the master answer to captured packets of firmware?

Replays captured packets from another port, and reads what comes back straight off the wire: firmware has no address yet, and
what the kernel would deliver to a socket is not what it gets.
"""

from __future__ import annotations

import os
import select
import struct
import time
from pathlib import Path

from vdc import dhcp
from vdc.capture import Frame, udp
from vdc.checksum import internet_checksum
from vdc.errors import LabError, Timeout
from vdc.namespace import Namespace

PACKETS = Path(__file__).resolve().parents[1] / "fixtures" / "packets"
_ETH_IP = 0x0800


def fixture(name: str) -> bytes:
    return (PACKETS / name).read_bytes()


def altered(payload: bytes, mac: str, options: dict[int, bytes] | None = None, drop: tuple[int, ...] = ()) -> bytes:
    """A captured packet as another machine would have sent it: own MAC and transaction, some options replaced."""
    packet = dhcp.parse(payload)
    kept = {code: value for code, value in packet.options.items() if code not in drop}
    # Option 61 repeats the hardware address; option 97 is the machine's UUID: both follow the MAC.
    if 61 in kept:
        kept[61] = b"\x01" + bytes.fromhex(mac.replace(":", ""))
    if 97 in kept:
        kept[97] = kept[97][:11] + bytes.fromhex(mac.replace(":", ""))
    kept.update(options or {})
    body = payload[:4] + os.urandom(4) + payload[8:28] + bytes.fromhex(mac.replace(":", "")) + payload[34:240]
    for code, value in kept.items():
        body += bytes([code, len(value)]) + value
    return body + b"\xff"


class RawClient:
    """A port that sends whole frames."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._socket = namespace.packet_socket(link, _ETH_IP)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, payload: bytes, mac: str) -> None:
        """Sends a DHCP payload as firmware does: from 0.0.0.0 port 68 to everybody."""
        datagram = struct.pack(">HHHH", 68, 67, 8 + len(payload), 0) + payload
        header = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0, bytes(4), b"\xff\xff\xff\xff"
        )
        header = header[:10] + struct.pack(">H", internet_checksum(header)) + header[12:]
        frame = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + struct.pack(">H", _ETH_IP)
        self._socket.send(frame + header + datagram)

    def send_frame(self, frame: bytes) -> None:
        """Sends a frame as it is, with whatever sender it names."""
        self._socket.send(frame)

    def answers(self, payload: bytes, mac: str, seconds: float, enough: int = 1) -> list[dhcp.Packet]:
        """Sends a packet and collects the server's answers to its transaction, until there are enough or time is over."""
        xid = struct.unpack(">I", payload[4:8])[0]
        found: list[dhcp.Packet] = []
        self.send(payload, mac)
        deadline = time.monotonic() + seconds
        while len(found) < enough and (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            datagram = udp(Frame(0.0, self._socket.recv(65535)))
            if datagram is None or datagram.source_port != 67:
                continue
            try:
                packet = dhcp.parse(datagram.payload)
            except LabError:
                continue
            if packet.op == 2 and packet.xid == xid:
                found.append(packet)
        return found

    def ask(self, payload: bytes, mac: str, seconds: float = 5.0) -> dhcp.Packet:
        """The one answer that has to come."""
        found = self.answers(payload, mac, seconds)
        if not found:
            raise Timeout(f"no answer to {mac} within {seconds:.0f} s")
        return found[0]

    def take_address(self, discover: bytes, request: bytes, mac: str) -> dhcp.Packet:
        """The whole exchange: DISCOVER, OFFER, REQUEST, ACK; returns the ACK."""
        offer = self.ask(altered(discover, mac), mac)
        if offer.kind != "offer" or offer.server is None:
            raise LabError(f"answer to DISCOVER is a {offer.kind}")
        wanted = bytes(int(part) for part in offer.your_address.split("."))
        server = bytes(int(part) for part in offer.server.split("."))
        ack = self.ask(altered(request, mac, {50: wanted, 54: server}), mac)
        if ack.kind != "ack" or ack.your_address != offer.your_address:
            raise LabError(f"offered {offer.your_address}, then {ack.kind} {ack.your_address}")
        return ack
