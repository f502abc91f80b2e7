"""What do HTTP and TFTP clients get, one at a time, many at once and over a bad line? One function an expectation, in the order they run."""

from __future__ import annotations

import hashlib
import os
import random
import re
import select
import socket
import subprocess
import threading
import time

from vdc import polling
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

TOOLS = ("atftp", "wrk")
_BIG = "/isos/big.iso"
_BIG_BYTES = 48 << 20
_DIALLER = "192.168.219.250"


def http_starts(site: Site) -> None:
    (site.data / "isos").mkdir(exist_ok=True)
    (site.data / "isos/big.iso").write_bytes(os.urandom(1 << 20) * (_BIG_BYTES >> 20))
    (site.data / "isos/small").write_bytes(os.urandom(4096))
    status = site.start(site.iso)
    expect(status["links"][0]["mode"] == "serve", f"link is {status['links'][0]}")
    site.client.ip("addr", "add", f"{_DIALLER}/24", "dev", CLIENT_LINK)


def _head(site: Site, *args: str) -> tuple[int, dict[str, str]]:
    """Status and headers, names in lower case, of a request whose body is dropped."""
    done = site.curl("-D", "-", "-o", "/dev/null", *args)
    lines = done.stdout.decode().splitlines()
    expect(bool(lines), f"curl {' '.join(args)}: {done.stderr.decode()}")
    fields = (line.split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split()[1]), {name.lower(): value for name, value in fields}


def curl_conditions(site: Site) -> None:
    for path in (_BIG, "/isos/small", "/boot/x86_64/initrd", "/image.iso", "/loaders/ipxe.efi"):
        status, first = _head(site, site.url(path))
        expect(status == 200 and first.get("etag", "").startswith('"'), f"{path}: {status} {first}")
        expect(first.get("last-modified", "").endswith("GMT"), f"{path}: {first}")
        again, _ = _head(site, "-H", f"If-None-Match: {first['etag']}", site.url(path))
        since, _ = _head(site, "-H", f"If-Modified-Since: {first['last-modified']}", site.url(path))
        failed, _ = _head(site, "-H", 'If-Match: "another"', site.url(path))
        expect((again, since, failed) == (304, 304, 412), f"{path}: {again}, {since}, {failed}")
        status, head = _head(site, "-I", site.url(path))
        same = ("content-length", "etag", "accept-ranges")
        expect(status == 200 and [head.get(n) for n in same] == [first.get(n) for n in same], f"HEAD {path}: {head}")
    tag = site.folder / "etag"
    for want in (b"200", b"304"):
        done = site.curl("--etag-save", str(tag), "--etag-compare", str(tag), "-o", "/dev/null", "-w", "%{http_code}", site.url(_BIG))
        expect(done.stdout == want, f"curl --etag-compare gives {done.stdout!r}")


def curl_ranges(site: Site) -> None:
    whole = (site.data / "isos/big.iso").read_bytes()
    target = site.folder / "resumed"
    target.write_bytes(whole[:12_345_678])
    done = site.curl("-f", "-C", "-", "-o", str(target), site.url(_BIG))
    expect(done.returncode == 0 and target.read_bytes() == whole, f"curl -C -: {done.stderr.decode()}")
    parts = site.curl("-f", "-r", "0-9,20000000-24999999,-7", site.url(_BIG)).stdout
    for start, end in ((0, 10), (20_000_000, 25_000_000), (len(whole) - 7, len(whole))):
        head = f"Content-Range: bytes {start}-{end - 1}/{len(whole)}\r\n\r\n".encode()
        expect(head + whole[start:end] in parts, f"the part {start}-{end} is not there")


def head_everywhere(site: Site) -> None:
    for path in ("/", "/boot.ipxe", "/menu.ipxe", "/metrics", "/api/v1/status", "/api/v1/nodes", "/isos/", _BIG, "/image.iso"):
        code, head = _head(site, "-I", site.url(path))
        _, got = _head(site, site.url(path))
        expect(code == 200 and "content-length" in head, f"HEAD {path}: {code} {head}")
        expect(head.get("content-type") == got.get("content-type"), f"HEAD {path}: {head}, GET: {got}")


def keep_alive(site: Site) -> None:
    urls = [word for path in ("/isos/small", _BIG, "/metrics", _BIG) for word in ("-o", "/dev/null", site.url(path))]
    done = site.curl("-w", "%{num_connects} ", *urls)
    expect(done.stdout.split() == [b"1", b"0", b"0", b"0"], f"new connections for each request: {done.stdout!r}")


def _start(site: Site, *args: str) -> subprocess.Popen[bytes]:
    return site.client.popen(["curl", "-sS", "--max-time", "60", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def many_clients(site: Site) -> None:
    """Forty machines load a big file: all get it, small requests do not wait, memory stays small."""
    want = hashlib.sha256((site.data / "isos/big.iso").read_bytes()).hexdigest()
    loads = [_start(site, "-f", "-o", str(site.folder / f"download-{n}"), site.url(_BIG)) for n in range(40)]
    begun = time.monotonic()
    small = site.curl("-f", site.url("/isos/small"))
    took = time.monotonic() - begun
    expect(small.stdout == (site.data / "isos/small").read_bytes() and took < 5, f"a small request took {took:.1f} s")
    for number, load in enumerate(loads):
        _, said = load.communicate(timeout=90)
        expect(load.returncode == 0, f"machine {number}: {said.decode()}")
        got = site.folder / f"download-{number}"
        expect(hashlib.sha256(got.read_bytes()).hexdigest() == want, f"machine {number} got other bytes")
        got.unlink()
    rss = site.api.status()["rss_bytes"]
    expect(rss < 64 << 20, f"the master has {rss >> 20} MiB after forty downloads")


def slow_clients(site: Site) -> None:
    """Forty clients that take next to nothing do not keep another from loading."""
    slow = [_start(site, "--limit-rate", "20k", "-o", "/dev/null", site.url(_BIG)) for _ in range(40)]
    try:
        time.sleep(1)
        done = site.curl("-f", "-o", "/dev/null", "-w", "%{time_total}", site.url(_BIG))
        expect(done.returncode == 0, f"beside slow clients: {done.stderr.decode()}")
        expect(float(done.stdout) < 24, f"beside slow clients a load takes {done.stdout.decode()} s")
    finally:
        for one in slow:
            one.kill()
            one.wait()


def wrk_small_files(site: Site) -> None:
    done = site.client.run(["wrk", "-t2", "-c64", "-d2s", site.url("/isos/small")], timeout=40)
    text = done.stdout.decode()
    expect("Requests/sec" in text and "Non-2xx" not in text and "Socket errors" not in text, text)


def bad_requests(site: Site) -> None:
    for request, codes in (
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", (b"431", b"400")),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (b"414", b"431", b"400")),
        (b"NONSENSE\r\n\r\n", (b"400",)),
        (b"DELETE /isos/small HTTP/1.1\r\nHost: x\r\n\r\n", (b"405",)),
    ):
        with site.client.connect(SERVER, 80, 5.0) as connection:
            connection.sendall(request)
            answer = connection.recv(4096)
        expect(answer[9:12] in codes, f"{request[:30]!r} gives {answer[:60]!r}")


def _atftp(site: Site, name: str, server: str, options: list[str], port: int | None = None) -> bytes:
    target = site.folder / "atftp-got"
    target.unlink(missing_ok=True)
    words = [word for option in options for word in ("--option", option)]
    done = site.client.run(["atftp", *words, "-g", "-r", name, "-l", str(target), server, *([str(port)] if port else [])], timeout=90)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    expect(target.exists(), f"atftp {options}: {said}")
    return target.read_bytes()


def atftp_options(site: Site) -> None:
    want = (site.loaders / "ipxe.efi").read_bytes()
    for options in ([], ["blksize 1468"], ["blksize 1428", "tsize 0", "timeout 3"], ["windowsize 16"], ["blksize 1468", "windowsize 64"]):
        expect(_atftp(site, "ipxe.efi", SERVER, options) == want, f"atftp {options}: other bytes")


class _BadLine:
    """A relay for one TFTP transfer that loses, repeats and reorders packets both ways."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ended = threading.Event()
        self.lost = 0
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        client, server = ("", 0), (SERVER, 69)
        held: list[tuple[socket.socket, bytes, tuple[str, int]]] = []
        while not self._ended.is_set():
            ready, _, _ = select.select([self.front, self.back], [], [], 0.05)
            for port in ready:
                packet, sender = port.recvfrom(70_000)
                if port is self.front:
                    client, way = sender, (self.back, packet, server)
                else:
                    server, way = sender, (self.front, packet, client)
                die = self._dice.random()
                if die < 0.05:
                    self.lost += 1
                elif die < 0.10:
                    held.append(way)
                    continue
                else:
                    for _ in range(2 if die < 0.15 else 1):
                        way[0].sendto(way[1], way[2])
            for way in held:
                way[0].sendto(way[1], way[2])
            held.clear()

    def close(self) -> int:
        self._ended.set()
        self._thread.join()
        self.front.close()
        self.back.close()
        return self.lost


def tftp_over_a_bad_line(site: Site) -> None:
    """One packet in twenty is lost, one late, one comes twice."""
    want = (site.loaders / "undionly.kpxe").read_bytes()
    for seed, options in enumerate((["blksize 1468", "timeout 1"], ["blksize 1468", "windowsize 8", "timeout 1"])):
        line = site.client.call(lambda: _BadLine(seed))  # noqa: B023 (called at once)
        try:
            got = _atftp(site, "undionly.kpxe", "127.0.0.1", options, line.front.getsockname()[1])
        finally:
            lost = line.close()
        expect(got == want, f"atftp {options}: other bytes over a bad line")
        expect(lost > 0, "the line lost nothing: the check shows nothing")


def _counters(site: Site) -> dict[str, float]:
    text = site.curl("-f", site.url("/metrics")).stdout.decode()
    return {name: float(value) for name, value in re.findall(r"^([a-z0-9_]+(?:\{[^}]*\})?) ([0-9.]+)$", text, re.M)}


_TFTP_DONE = 'recon_tftp_transfers_total{result="done"}'
_REFUSED = 'recon_http_responses_total{code="4xx"}'
_DNS_REPLIES = 'recon_dns_replies_total{rcode="noerror"}'
_COMPARED = (_TFTP_DONE, "recon_tftp_bytes_total", "recon_http_bytes_total", _REFUSED, _DNS_REPLIES)


def metrics(site: Site) -> None:
    """What clients did is what is counted."""
    # What was asked on the connections that the check before this one broke off is still answered, and counted.
    before = polling.wait_until(lambda: _at_rest(site), 40.0, "nothing is counted any more")
    loader = (site.loaders / "ipxe.efi").read_bytes()
    _atftp(site, "ipxe.efi", SERVER, ["blksize 1468"])
    site.curl("-f", "-o", "/dev/null", site.url(_BIG))
    for path in ("/nothing", "/nodes/nothing/here"):
        site.curl("-o", "/dev/null", site.url(path))
    site.dig("bang", "A")
    # The end of a transfer is counted when the last acknowledgement is in, which is after the client has its file.
    polling.wait_until(lambda: _counters(site)[_TFTP_DONE] > before[_TFTP_DONE] or None, 5.0, "the TFTP transfer is counted")
    # A transfer is counted as running until the server knows of its end: for a client that fell silent that is after 30 s,
    # of others with their reset or last acknowledgement. Clients of the checks before this one are among them.
    polling.wait_until(lambda: not _running(_counters(site)) or None, 40.0, "no transfer runs any more")
    after = _counters(site)
    for name, more in (
        (_TFTP_DONE, 1), ("recon_tftp_bytes_total", len(loader)), ("recon_http_bytes_total", _BIG_BYTES),
        (_REFUSED, 2), (_DNS_REPLIES, 1),
    ):
        expect(after[name] - before[name] == more, f"{name} went from {before[name]} to {after[name]}, not up by {more}")


def _at_rest(site: Site) -> dict[str, float] | None:
    """The counters, if no transfer runs and half a second changes none of those that are compared."""
    first = _counters(site)
    time.sleep(0.5)
    then = _counters(site)
    is_changed = any(first[name] != then[name] for name in _COMPARED)
    return None if is_changed or _running(then) else then


def _running(counters: dict[str, float]) -> dict[str, float]:
    """Of the gauges of transfers, those that are not at nothing."""
    return {name: counters[name] for name in ("recon_tftp_running", "recon_http_big_running") if counters[name] != 0}


def http_stops(site: Site) -> None:
    """With downloads open, the end is not held up."""
    holder = _start(site, "--limit-rate", "20k", "-o", "/dev/null", site.url(_BIG))
    time.sleep(0.5)
    code, took = site.stop()
    # It goes on reading what the kernel holds for it.
    holder.kill()
    holder.wait()
    expect(code == 0 and took < 10, f"exit code {code} after {took:.1f} s:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = scenarios(
    http_starts, curl_conditions, curl_ranges, head_everywhere, keep_alive, bad_requests, atftp_options, tftp_over_a_bad_line,
    many_clients, slow_clients, wrk_small_files, metrics, http_stops,
)
