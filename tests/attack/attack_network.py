"""Thousands of connections and malformed requests. Each attack ends with the honest peer being served."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import time
from collections.abc import Callable

from attack_target import HOSTILE, Target, uuid
from vdc.api import content_digest
from vdc.suite import Scenario, scenarios
from veth_site import SERVER


def open_connection(target: Target, text: bytes, source: str = HOSTILE) -> socket.socket | None:
    """A connection on which `text` was sent; None where it was refused."""
    try:
        made = target.net.call(lambda: socket.create_connection((SERVER, 80), 5.0, (source, 0)))
        made.settimeout(5.0)
        made.sendall(text)
        return made
    except OSError:
        return None


def _hold_connections(target: Target, name: str, count: int, text: Callable[[int], bytes], drip: bytes = b"") -> None:
    """`count` connections of one address hold what they can get; the honest peer does not notice."""
    def many() -> list[socket.socket]:
        made = []
        for number in range(count):
            try:
                held = socket.create_connection((SERVER, 80), 5.0, (HOSTILE, 0))
                held.settimeout(1.0)
                held.sendall(text(number))
                made.append(held)
            except OSError:
                continue
        return made

    held = target.net.call(many)
    try:
        end = time.monotonic() + 6.0
        rounds = 0
        while time.monotonic() < end or rounds < 3:
            for connection in held:
                try:
                    connection.send(drip)
                except OSError:
                    continue
            code, said = target.honest_upload(timeout=10.0)
            target.record(f"{name}, {len(held)} connections", code == 201, f"an honest upload beside it gets {code} {said[:200]!r}")
            rounds += 1
            # A few uploads a second: thousands would be an attack of their own.
            time.sleep(0.3)
    finally:
        for connection in held:
            connection.close()
    target.expect_served()


def connections(target: Target) -> None:
    """2048 connections of one address that say nothing."""
    _hold_connections(target, "silent", 2048, lambda _: b"")
    _hold_connections(target, "half a head", 2048, lambda _: b"GET / HTTP/1.1\r\nX: ", b"x")


def dripping(target: Target) -> None:
    """1100 uploads that come a byte at a time."""
    def head(number: int) -> bytes:
        return (
            f"PUT /api/v1/nodes/{uuid((1 << 23) + number)}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            f"Content-Digest: {content_digest(b'x')}\r\n\r\n"
        ).encode()

    _hold_connections(target, "dripping", 1100, head, b"x")


def announced(target: Target) -> None:
    """Announced uploads of all the space that there is, and nothing sent."""
    free = shutil.disk_usage(target.site.data).free

    def head(number: int) -> bytes:
        return (
            f"PUT /api/v1/nodes/{uuid((1 << 24) + number)}/upload HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {min(free // 2, 500 << 20)}\r\nContent-Digest: {content_digest(b'x')}\r\n\r\n"
        ).encode()

    _hold_connections(target, "announced", 64, head)


def http_rubbish(target: Target) -> None:
    """Requests that no client makes: an answer or an end, never a hang."""
    dice = random.Random(target.seed)
    lines = [
        b"GET", b"GET /", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 4000, b"GET http://x/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /isos/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nffffffffffffffff\r\n",
        b"PUT /api/v1/nodes/x/upload HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"GET / HTTP/1.1\r\nRange: bytes=" + b"0-1," * 5000 + b"\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ]
    lines += [bytes(dice.randrange(256) for _ in range(dice.randrange(1, 400))) for _ in range(200)]
    for line in lines:
        connection = open_connection(target, line)
        if connection is None:
            continue
        try:
            # It may have hung up already.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
            good = not answer or answer.startswith(b"HTTP/1.")
            target.record(f"request {line[:40]!r}", good and b"root:" not in answer, f"answers {answer[:100]!r}")
        except ConnectionError:
            target.record("reset", True)
        except OSError as error:
            target.record(f"request {line[:40]!r}", False, str(error))
        finally:
            connection.close()
    target.expect_served()


def tftp_rubbish(target: Target) -> None:
    """TFTP requests by the thousand that are never acknowledged, and rubbish; an honest transfer goes through."""
    dice = random.Random(target.seed)

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            port.bind((HOSTILE, 0))
            for number in range(3000):
                request = b"\0\1ipxe.efi\0octet\0blksize\x0065464\0windowsize\x0064\0"
                port.sendto(request if number % 2 else bytes(dice.randrange(256) for _ in range(60)), (SERVER, 69))

    with target.bounded_memory("TFTP requests"):
        target.net.call(flood)
        done = target.net.run(["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{size_download}", f"tftp://{SERVER}/ipxe.efi"], 30.0)
    target.record("3000 TFTP requests", done.stdout == b"997376", f"an honest transfer got {done.stdout!r} {done.stderr[-200:]!r}")
    target.expect_served()


CHECKS: list[Scenario[Target]] = scenarios(connections, dripping, announced, http_rubbish, tftp_rubbish)
