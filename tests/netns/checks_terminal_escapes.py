"""Do control characters of hostile clients reach a terminal, the log or an answer? Every service is sent some, and all output is searched."""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import struct
import unicodedata

from rawclient import RawClient, altered, fixture
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

# A title for the window, a cleared screen, a line of its own, a direction override, C1 controls, a mark of byte order, a tag.
_EVIL = "owned\x1b]0;x\x07\x1b[2J\rfake\nrecon: fake\u202e\x85\ufeff\x9b31m\u2028\u200f\U000e0041\x7f"
_BYTES = _EVIL.encode()
_MAC = "52:54:00:2b:09:01"
_NODE = "mac-5254002b0901"


def _control_characters(text: str) -> dict[str, int]:
    """Characters that a terminal obeys or that hide others, but for the line feed, and how often they are there."""
    kinds = ("Cc", "Cf", "Zl", "Zp")
    found = [char for char in text if char != "\n" and unicodedata.category(char) in kinds]
    return {f"U+{ord(char):04X}": found.count(char) for char in found}


def terminal_escapes_start(site: Site) -> None:
    """The master says all that it can say."""
    os.environ["RECON_LOG"] = "trace"
    try:
        site.start(site.iso)
    finally:
        del os.environ["RECON_LOG"]
    site.client.ip("addr", "add", f"{SERVER.rsplit('.', 1)[0]}.9/24", "dev", CLIENT_LINK)


def _http(head: bytes, body: bytes = b"") -> bytes:
    with socket.create_connection((SERVER, 80), 10.0) as stream:
        stream.sendall(head + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while part := stream.recv(65536):
            answer += part
        return answer


def _percent(words: bytes) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in words)


def _send_http() -> list[bytes]:
    report = json.dumps({"stage": "agent", "macs": [_MAC], "message": _EVIL, "failure": _EVIL}, ensure_ascii=False)
    odd = json.dumps({"stage": _EVIL, _EVIL: 1}, ensure_ascii=False)
    starts = json.dumps({"mac": _MAC, "files": [{"name": _EVIL[:60], "bytes": 1, "sha256_head": "0123456789abcdef"}]}, ensure_ascii=False)
    target = b"/api/v1/nodes/" + _NODE.encode() + b"/stage"
    asked = [
        (b"GET /nodes/" + _percent(_BYTES) + b" HTTP/1.1\r\nHost: x", b""),
        (b"GET /isos/\xe2\x80\xae\xc2\x9b HTTP/1.1\r\nHost: x", b""),
        (b"GET /\x1b[2J HTTP/1.1\r\nHost: x", b""),
        (b"GET / HTTP/1.1\r\nHost: \xc2\x9b\xe2\x80\xae\r\nUser-Agent: \xe2\x80\xaeowned", b""),
        (b"BREW" + b"\xc2\x9b / HTTP/1.1\r\nHost: x", b""),
        (b"GET /boot.ipxe?mac=" + _MAC.encode() + b"&arch=" + _percent(_BYTES) + b"&serial=" + _percent("\u202eowned".encode())
         + b" HTTP/1.1\r\nHost: x", b""),
        (b"POST " + target + b" HTTP/1.1\r\nHost: x", report.encode()),
        (b"POST " + target + b" HTTP/1.1\r\nHost: x", odd.encode()),
        (b"POST /api/v1/starts HTTP/1.1\r\nHost: x", starts.encode()),
        (b"POST /api/v1/starts HTTP/1.1\r\nHost: x", odd.encode()),
        (b"PUT /api/v1/nodes/" + _NODE.encode() + b"/upload HTTP/1.1\r\nHost: x\r\nContent-Digest: sha-256=:\xe2\x80\xae:", _BYTES),
        (b"GET /api/v1/nodes HTTP/1.1\r\nHost: x", b""),
        (b"GET /metrics HTTP/1.1\r\nHost: x", b""),
    ]
    return [_http(*one) for one in asked]


def _send_tftp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.settimeout(3.0)
        port.sendto(b"\0\1" + _BYTES + b"\0octet\0", (SERVER, 69))
        port.sendto(b"\0\1undionly.kpxe\0octet\0" + _BYTES + b"\0" + _BYTES + b"\0", (SERVER, 69))
        port.sendto(b"\0\1undionly.kpxe\0" + _BYTES + b"\0", (SERVER, 69))
        port.sendto(b"\0\1undionly.kpxe\0octet\0", (SERVER, 69))
        for _ in range(4):
            try:
                data, transfer = port.recvfrom(2048)
            except TimeoutError:
                return
            if data[:2] == b"\0\3":
                port.sendto(b"\0\5\0\0" + _BYTES + b"\0", transfer)


def _send_dns() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        for label in (_BYTES[:60], b"\x1b[2J", "\u202ex".encode()):
            name = bytes([len(label)]) + label + b"\x05recon\x08internal\0"
            port.sendto(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1), (SERVER, 53))


def _console(site: Site) -> str:
    """What the status screen sends to its terminal when it is drawn first."""
    ours, its = pty.openpty()
    try:
        console = site.client.popen([str(site.recon), "console", "--master", SERVER], stdin=its, stdout=its, stderr=its)
        drawn = b""
        while b"opens a shell" not in drawn and select.select([ours], [], [], 10.0)[0]:
            drawn += os.read(ours, 65536)
        console.kill()
        console.wait(10)
    finally:
        os.close(ours)
        os.close(its)
    return drawn.decode()


def terminal_escapes(site: Site) -> None:
    """What clients say in DHCP, TFTP, HTTP and DNS is written down, and nothing of it acts: not in the log, on the screen, in an answer."""
    with RawClient(site.client, CLIENT_LINK) as port:
        told = dict.fromkeys((12, 17, 43, 61, 77, 81), _BYTES)
        for vendor in (b"PXEClient:Arch:00007:UNDI:003001" + _BYTES, b"PXEClient" + _BYTES, _BYTES):
            port.answers(altered(fixture("ovmf-efi-discover.bin"), _MAC, {**told, 60: vendor}), _MAC, 2.0)
    answers = site.client.call(_send_http)
    site.client.call(_send_tftp)
    site.client.call(_send_dns)
    for answer in answers:
        text = answer.replace(b"\r\n", b"\n").decode()
        expect(not _control_characters(text), f"an answer of HTTP holds {_control_characters(text)}: {text[:400]!r}")
    expect(any(b"\\u202e" in answer for answer in answers), "the table of machines does not tell programs what was said")
    done = site.client.run([str(site.recon), "status", "--master", SERVER])
    for stream in (done.stdout, done.stderr):
        expect(not _control_characters(stream.decode()), f"the screen holds {_control_characters(stream.decode())}: {stream!r}")
    expect(b"owned" in done.stdout, f"the screen does not show what the machine said: {done.stdout!r}")
    # The terminal itself puts a return before each line feed, beside ours.
    drawn = _console(site).replace("\x1b[H\x1b[J", "").replace("\r\r\n", "\n")
    expect("owned" in drawn, f"the console does not show what the machine said: {drawn!r}")
    expect(not _control_characters(drawn), f"the console holds {_control_characters(drawn)}: {drawn!r}")
    log = site.log.read_bytes().decode()
    expect(log.count("owned") >= 2, "the log tells little of what was said")
    expect(not _control_characters(log), f"the log holds {_control_characters(log)}")
    expect("\nrecon: fake" not in log, "a client wrote a line of the log")


CHECKS: list[Scenario[Site]] = scenarios(
    terminal_escapes_start, terminal_escapes
)
