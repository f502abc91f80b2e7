"""What is measured on one running server, and in which unit?"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from servers import CLIENT_LINK, SERVER, Server, Site
from vdc.errors import LabError


class Load(NamedTuple):
    bytes: int
    seconds: float
    # Until a client had its own, on average.
    mean_seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """MB/s of all clients together."""
        return self.bytes / self.seconds / 1e6

    @property
    def cpu_per_gb(self) -> float:
        """Seconds of the server's processors for a GB."""
        return self.cpu / (self.bytes / 1e9)


def _netload(site: Site, tool: Path, server: Server, *words: object, timeout: float = 300.0) -> Load:
    before = server.cpu_seconds()
    done = site.client.run([str(tool), *map(str, words)], timeout=timeout)
    cpu = server.cpu_seconds() - before
    if done.returncode != 0:
        raise LabError(f"netload {' '.join(map(str, words))}: {done.stderr.decode()[-300:]}")
    said = json.loads(done.stdout.decode().splitlines()[-1])
    if said["failure"]:
        raise LabError(f"netload {' '.join(map(str, words))} at {server.name}: {said['failure']}")
    return Load(said["bytes"], said["seconds"], said["mean_seconds"], cpu)


def tftp(site: Site, tool: Path, server: Server, block: int, window: int, clients: int) -> Load:
    """A client fetches the 1 MiB file again and again, so that a run takes some time."""
    times = 2 if clients > 1 else 20
    return _netload(site, tool, server, "tftp", f"{SERVER}:69", "ipxe.efi", block, window, clients, times)


def http(site: Site, tool: Path, server: Server, clients: int, times: int) -> Load:
    """Each client fetches the big file as often."""
    return _netload(site, tool, server, "http", f"{SERVER}:80", "/export/big", clients, times)


def small(site: Site, server: Server, seconds: int) -> float:
    """Requests per second of 64 connections for a 4 KiB file."""
    done = site.client.run(
        ["wrk", "-t2", "-c64", f"-d{seconds}s", f"http://{SERVER}/export/small"], timeout=seconds + 30
    )
    text = done.stdout.decode()
    found = re.search(r"Requests/sec:\s*([0-9.]+)", text)
    if found is None or "Non-2xx" in text:
        raise LabError(f"wrk at {server.name}: {text[-400:]} {done.stderr.decode()[-200:]}")
    return float(found.group(1))


def memory(site: Site, tool: Path, server: Server, clients: int) -> tuple[float, float]:
    """Resident MB before anybody asked, and while so many clients download the big file."""
    idle = server.rss_bytes()
    process = site.client.popen(
        [str(tool), "hold", f"{SERVER}:80", "/export/big", str(clients), "6"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if "holding" not in line:
        raise LabError(f"netload hold at {server.name}: {line!r}")
    most = 0
    while process.poll() is None:
        most = max(most, server.rss_bytes())
        time.sleep(0.5)
    return idle / 1e6, most / 1e6


class Dhcp(NamedTuple):
    rate: float
    p99_ms: float | None
    # Of the server's processors, at half that rate.
    cpu_us: float


# A network boot client, since recon may answer no others; the peers answer all.
_CLIENT = ["-o", "60," + b"PXEClient:Arch:00007:UNDI:003000".hex(), "-o", "93,0007"]


def _perfdhcp(site: Site, rate: int, seconds: int, clients: int, extra: list[str]) -> str:
    done = site.client.run(
        ["perfdhcp", "-4", "-l", CLIENT_LINK, "-r", str(rate), "-R", str(clients), "-p", str(seconds), "-W", "1000000",
         *_CLIENT, *extra],
        timeout=seconds + 60,
    )
    return done.stdout.decode() + done.stderr.decode()


def _completed(text: str, seconds: int) -> float:
    """Four-way exchanges per second that were completed: acknowledgements over the time of the test."""
    found = re.search(r"REQUEST-ACK.*?received packets:\s*(\d+)", text, re.S)
    if found is None:
        raise LabError(f"perfdhcp: {text[-600:]}")
    return int(found.group(1)) / seconds


def dhcp(site: Site, server: Server, seconds: int, rates: list[int]) -> Dhcp:
    """The most exchanges per second that are completed; the 99th percentile of one answer and the cost at half that rate."""
    best = 0.0
    for rate in rates:
        done = _completed(_perfdhcp(site, rate, seconds, 40000, []), seconds)
        best = max(best, done)
        if done < 0.8 * rate:
            break
    before = server.cpu_seconds()
    text = _perfdhcp(site, max(1, int(best / 2)), seconds, 40000, ["-x", "t"])
    cpu = server.cpu_seconds() - before
    return Dhcp(best, _p99(text), cpu / max(1.0, _completed(text, 1)) * 1e6)


def _p99(text: str) -> float | None:
    """Milliseconds, from the time stamps that perfdhcp prints for every answer, in seconds since its start."""
    waits: list[float] = []
    for sent, received in re.findall(r"^sent / received: ([0-9.]+) / ([0-9.]+)$", text, re.M):
        waits.append((float(received) - float(sent)) * 1000)
    if len(waits) < 100:
        return None
    return statistics.quantiles(waits, n=100)[98]


def median(values: list[float]) -> float:
    return statistics.median(values)

