"""Does one hostile address leave the others served? One function an expectation, in the order they run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator

from vdc import polling
from vdc.api import digest_header
from vdc.archive import tar_gz
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

_HOSTILE, _HONEST = "192.168.219.250", "192.168.219.251"
_ROOM = 400 << 20
# As many as the master has places for, of all addresses together.
_PLACES = 4096
# More than are let in at once.
_HONEST_CLIENTS = range(2, 242)


def fairness_starts(site: Site) -> None:
    status = site.start(site.iso, room=_ROOM)
    expect(status["links"][0]["mode"] == "serve", f"link is {status['links'][0]}")
    for address in (_HOSTILE, _HONEST, *(f"192.168.219.{n}" for n in _HONEST_CLIENTS)):
        site.client.ip("addr", "add", f"{address}/24", "dev", CLIENT_LINK)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    expect(hard > _PLACES, f"this check needs {_PLACES} open files, and {hard} are allowed")


def _upload(mark: str, filler: int = 0) -> bytes:
    text = json.dumps({"schema_version": 2, "mark": mark}).encode()
    return tar_gz([("inventory.json", text), ("raw/filler", hashlib.shake_128(mark.encode()).digest(filler))])


def _node(number: int) -> str:
    return f"mac-0200{number:08x}"


def _head(node: str, body: bytes, length: int) -> bytes:
    return (
        f"PUT /api/v1/nodes/{node}/upload HTTP/1.1\r\nHost: {SERVER}\r\nContent-Length: {length}\r\n"
        f"{digest_header(body)}\r\n\r\n"
    ).encode()


def _connect(site: Site, address: str, count: int) -> list[socket.socket]:
    """So many connections from an address; those that the master cuts off at once are among them."""
    def make() -> list[socket.socket]:
        return [socket.create_connection((SERVER, 80), 30.0, source_address=(address, 0)) for _ in range(count)]
    return site.client.call(make)


def _put(site: Site, address: str, node: str, body: bytes) -> tuple[int, bytes]:
    """Status and answer of an upload."""
    (connection,) = _connect(site, address, 1)
    with connection:
        connection.settimeout(30.0)
        with contextlib.suppress(ConnectionError):
            connection.sendall(_head(node, body, len(body)) + body)
        return _answer(connection)


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    said = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n\r\n" not in said:
            more = connection.recv(4096)
            if not more:
                break
            said += more
    return int(said[9:12] or b"0"), said


@contextlib.contextmanager
def _held(connections: list[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in connections:
            one.close()


def _others_are_served(site: Site, number: int) -> None:
    """Another address loads a big file, a small one, and stores an inventory, in reasonable time."""
    begun = time.monotonic()
    for path in ("/image.iso", "/boot/x86_64/kernel", "/api/v1/status"):
        done = site.curl("-f", "--interface", _HONEST, "-o", "/dev/null", site.url(path))
        expect(done.returncode == 0, f"{path} beside it: {done.stderr.decode()}")
    code, said = _put(site, _HONEST, _node(number), _upload(f"honest {number}", 200_000))
    expect(code == 201, f"an upload beside it: {code} {said[:300]!r}")
    took = time.monotonic() - begun
    expect(took < 15, f"others are served, but it takes {took:.1f} s")


def _counter(site: Site, name: str) -> float:
    text = site.curl("-f", "--interface", _HONEST, site.url("/metrics")).stdout.decode()
    found = re.search(rf"^{re.escape(name)} ([0-9.]+)$", text, re.M)
    expect(found is not None, f"{name} is not counted")
    assert found is not None
    return float(found.group(1))


def _expect_logged_once(site: Site, sentence: str) -> None:
    said = site.log.read_text(errors="replace")
    expect(said.count(sentence) == 1, f"{sentence!r} is said {said.count(sentence)} times:\n{said[-1500:]}")


def many_connections(site: Site) -> None:
    """Of thousands of connections from one address half of the places are let in."""
    hostile = _connect(site, _HOSTILE, _PLACES - 1500)
    with _held(hostile):
        for number, one in enumerate(hostile):
            # Some say nothing, some begin and stop.
            with contextlib.suppress(OSError):
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " if number % 2 else b"")
        _others_are_served(site, 1)
        expect(_counter(site, 'recon_http_refused_total{reason="connections"}') > 100, "none of them was refused")
        _expect_logged_once(site, f"{_HOSTILE} has {_PLACES // 2} connections open; more are refused")
        # Of many clients at once only some get the reason; one at a time does.
        time.sleep(3)
        (late,) = _connect(site, _HOSTILE, 1)
        with late:
            code, said = _answer(late)
        expect(code == 429 and b"Retry-After:" in said, f"a further one hears {said[:300]!r}")


def many_downloads(site: Site) -> None:
    """One address that begins many big downloads and takes little of them does not hold up another."""
    hostile = _connect(site, _HOSTILE, 200)
    with _held(hostile):
        for one in hostile:
            one.sendall(b"GET /image.iso HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1)
        _others_are_served(site, 2)


def dripping_uploads(site: Site) -> None:
    """Uploads that drip have a bound in number and in time."""
    hostile = _connect(site, _HOSTILE, 1100)
    with _held(hostile):
        begun = time.monotonic()
        for number, one in enumerate(hostile):
            with contextlib.suppress(OSError):
                one.sendall(_head(_node(10_000 + number), b"", 1 << 20) + b"x")
        _others_are_served(site, 3)
        refused = _counter(site, 'recon_http_refused_total{reason="uploads"}')
        expect(1000 < refused < 1100, f"{refused:.0f} of 1100 uploads were refused")
        _expect_logged_once(site, f"{_HOSTILE} has 64 uploads under way; more are refused")

        def last() -> object:
            for one in hostile:
                one.settimeout(0.0)
                with contextlib.suppress(OSError):
                    one.sendall(b"x")
            return _counter(site, 'recon_http_responses_total{code="4xx"}') >= 1100 or None
        polling.wait_until(last, 60.0, "uploads that drip are let go", every=1.0)
        took = time.monotonic() - begun
        expect(took < 60, f"uploads that drip are let go after {took:.0f} s")
    _others_are_served(site, 4)


def huge_announcements(site: Site) -> None:
    """Announced bytes that never come do not reserve the stick."""
    hostile = _connect(site, _HOSTILE, 8)
    with _held(hostile):
        for number, one in enumerate(hostile):
            one.sendall(_head(_node(20_000 + number), b"", 250 << 20) + b"x")
        _others_are_served(site, 5)
        hostile_too = _connect(site, _HOSTILE, 8)
        with _held(hostile_too):
            for number, one in enumerate(hostile_too):
                one.sendall(_head(_node(20_100 + number), b"", (40 + 20 * number) << 20) + b"x")
            _others_are_served(site, 6)
            expect(_counter(site, 'recon_http_refused_total{reason="bytes"}') >= 8, "none of them was refused")


def many_names(site: Site) -> None:
    """One address that names thousands of machines leaves the table to others."""
    def name(first: int) -> None:
        with socket.create_connection((SERVER, 80), 10.0, source_address=(_HOSTILE, 0)) as one:
            one.settimeout(20.0)
            body = b'{"stage":"agent"}'
            answers = b""
            for number in range(first, first + 1250):
                one.sendall(
                    f"POST /api/v1/nodes/{_node(100_000 + number)}/stage HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                    .encode() + body
                )
                answers = one.recv(4096)
            expect(bool(answers), "the master hung up")

    def all_names() -> None:
        threads = [threading.Thread(target=site.client.call, args=(lambda first=first: name(first),)) for first in range(0, 5000, 1250)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    all_names()
    expect(_counter(site, 'recon_http_refused_total{reason="nodes"}') > 100, "none of them was refused")
    _expect_logged_once(site, f"{_HOSTILE} names more new machines than one address may")
    _others_are_served(site, 7)
    expect(site.api.node(_node(7), "") is not None, "the machine of another address is not in the table")


def many_honest_clients(site: Site) -> None:
    """Machines with an address each all store at once; one that gets 503 comes again after the time in Retry-After."""
    put_off: list[str] = []
    failed: list[str] = []

    def store(last: int) -> None:
        address, body = f"192.168.219.{last}", _upload(f"honest {last}", 20_000)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            code, said = _put(site, address, _node(1000 + last), body)
            if code == 201:
                return
            after = re.search(rb"Retry-After: ([0-9]+)", said, re.I)
            if code not in (429, 503) or after is None:
                failed.append(f"{address}: {code} {said[:200]!r}")
                return
            put_off.append(address)
            time.sleep(float(after.group(1)))
        failed.append(f"{address}: too late")
    threads = [threading.Thread(target=store, args=(last,)) for last in _HONEST_CLIENTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not failed, f"{len(failed)} of {len(threads)} were not stored: {failed[:3]}")


def fairness_stops(site: Site) -> None:
    # It packs what hundreds of machines stored.
    code, _ = site.stop(60.0)
    expect(code == 0, f"exit code is {code}:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = scenarios(
    fairness_starts, many_connections, many_downloads, dripping_uploads, huge_announcements, many_names, many_honest_clients, fairness_stops,
)
