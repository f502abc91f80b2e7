#!/usr/bin/env python3
"""recon's network services beside dnsmasq, tftpd-hpa, async-tftp, Kea (memfile) and nginx: same cable, same files, one run.

Needs root: everything happens in two network namespaces joined by a cable of the kernel (veth). Prints a Markdown table; a ratio
above 1 means recon is better. What cannot be measured, because a program is missing, is named and left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/lab"))

import measures
import servers
from vdc import namespace, tools
from vdc.errors import LabError
from vdc.namespace import Namespace

# Group -> peers and the program each needs.
PEERS: dict[str, dict[str, str]] = {
    "dhcp": {"kea": "kea-dhcp4", "dnsmasq": "dnsmasq"},
    "tftp": {"dnsmasq": "dnsmasq", "tftpd-hpa": "in.tftpd", "async-tftp": servers.ASYNC_TFTPD},
    "http": {"nginx": "nginx"},
    "memory": {"nginx": "nginx"},
}
CLIENTS = {"dhcp": "perfdhcp", "http": "wrk"}
DOWNLOADS = 1000
# Row -> (server -> values of every round, True if more is better, unit)
Rows = dict[str, tuple[dict[str, list[float]], bool, str]]


class Bench:
    def __init__(self, site: servers.Site, load: Path, quick: bool) -> None:
        self.site, self.load, self.quick = site, load, quick
        self.rows: Rows = {}

    def note(self, row: str, server: str, value: float | None, unit: str, more: bool = True) -> None:
        if value is None:
            print(f"  {server}: {row}: not measured", file=sys.stderr)
            return
        self.rows.setdefault(row, ({}, more, unit))[0].setdefault(server, []).append(value)
        print(f"  {server}: {row}: {value:.3g} {unit}", file=sys.stderr, flush=True)

    def tftp(self, name: str) -> None:
        with self.site.start(name, "tftp") as server:
            for block, window, clients in ((512, 1, 1), (512, 1, 64), (1468, 1, 1), (1468, 1, 64), (1468, 16, 1), (1468, 16, 64)):
                load = measures.tftp(self.site, self.load, server, block, window, clients)
                # A server that does not know the option answers without it, and the client goes block by block.
                row = f"TFTP 1 MiB, {block} B blocks, {'window of 16 asked, ' * (window > 1)}{clients} client{'s' * (clients > 1)}"
                self.note(row, name, load.rate, "MB/s")
                # tftpd-hpa's time is that of children whose end nobody waits for, so nobody can read it.
                if clients > 1 and name != "tftpd-hpa":
                    self.note(f"{row}, server CPU", name, load.cpu_per_gb, "s/GB", more=False)

    def http(self, name: str) -> None:
        with self.site.start(name, "http") as server:
            measures.http(self.site, self.load, server, 1, 1)  # both find the file in the page cache
            load = measures.http(self.site, self.load, server, 1, 2 if self.quick else 8)
            self.note("HTTP one stream", name, load.rate, "MB/s")
            self.note("HTTP one stream, server CPU", name, load.cpu_per_gb, "s/GB", more=False)
            load = measures.http(self.site, self.load, server, 32, 1)
            self.note("HTTP 32 streams of the big file", name, load.rate, "MB/s")
            # Admission: the first ones have theirs before the last ones begin, and the last ones are no later for it.
            self.note("HTTP 32 streams, mean time until a client has it", name, load.mean_seconds, "s", more=False)
            self.note("HTTP 32 streams, server CPU", name, load.cpu_per_gb, "s/GB", more=False)
            self.note("HTTP 64 connections, 4 KiB file", name, measures.small(self.site, server, 2 if self.quick else 5), "requests/s")

    def memory(self, name: str) -> None:
        """A few seconds, and little depends on what else the machine does."""
        with self.site.start(name, "http") as server:
            idle, held = measures.memory(self.site, self.load, server, DOWNLOADS)
        self.note("resident memory, nothing asked", name, idle, "MB", more=False)
        self.note(f"resident memory at {DOWNLOADS} downloads", name, held, "MB", more=False)

    def dhcp(self, name: str) -> None:
        rates = [500, 1000, 2000, 4000, 6000, 8000, 10000, 12000, 16000, 32000]
        with self.site.start(name, "dhcp") as server:
            found = measures.dhcp(self.site, server, 3 if self.quick else 5, rates)
        self.note("DHCP four-way exchanges", name, found.rate, "1/s")
        self.note("DHCP 99th percentile of an answer at half that rate", name, found.p99_ms, "ms", more=False)
        self.note("DHCP server CPU of an exchange at half that rate", name, found.cpu_us, "us", more=False)

    def table(self) -> list[str]:
        lines = ["| | recon | beside it (ratio) |", "|---|---|---|"]
        for row, (values, more, unit) in self.rows.items():
            middle = {name: measures.median(found) for name, found in values.items()}
            ours = middle.pop("recon", None)
            if ours is None:
                continue
            beside = []
            for name, theirs in middle.items():
                ratio = (ours / theirs if more else theirs / ours) if ours and theirs else float("nan")
                beside.append(f"{name} {theirs:.3g} ({ratio:.2f})")
            lines.append(f"| {row}, {unit} | {ours:.3g} | {', '.join(beside)} |")
        return lines


def _nothing() -> None:
    pass


def _setup() -> None:
    packages = sorted(set(servers.missing().values()))
    if not packages:
        print("nothing is missing")
        return
    # Installed for their programs only: their services must not start on this machine.
    policy = Path("/usr/sbin/policy-rc.d")
    if not policy.exists():
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        restore: Callable[[], None] = policy.unlink
    else:
        restore = _nothing
    try:
        for argv in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(argv, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    finally:
        restore()


def _load_tool(folder: Path) -> Path:
    """The clients, built: one file that needs the standard library only."""
    tool = folder / "netload"
    source = Path(__file__).with_name("load.rs")
    subprocess.run(["rustc", "-O", "--edition", "2024", "-o", str(tool), str(source)], check=True)
    return tool


def _measure(bench: Bench, groups: list[str], rounds: int) -> None:
    for group in groups:
        if not servers.has(CLIENTS.get(group)):
            print(f"SKIPPED: {group}: its client {CLIENTS[group]} is missing", file=sys.stderr)
            continue
        names = ["recon"] if bench.site.programs.before is None else ["recon", "before"]
        for name, program in PEERS[group].items():
            if program == servers.ASYNC_TFTPD and bench.site.programs.async_tftpd is None:
                print(f"SKIPPED: {name}: cargo build --release --examples, or --async-tftpd", file=sys.stderr)
            elif servers.has(program):
                names.append(name)
            else:
                print(f"SKIPPED: {name}: {program} is missing", file=sys.stderr)
        for number in range(rounds):
            # Turn and turn about, so that a slow spell of the machine meets everybody.
            for name in names if number % 2 == 0 else reversed(names):
                print(f"{group}, round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                getattr(bench, group)(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recon", type=Path, help="the binary (release build)")
    parser.add_argument("--before", type=Path, help="another release build, to see what a change cost")
    parser.add_argument("--async-tftpd", type=Path, help="the crate as a server (default: examples/asynctftpd beside the binary)")
    parser.add_argument("--setup", action="store_true", help="install the missing peers with apt, and end")
    parser.add_argument("--only", action="append", choices=sorted(PEERS), help="this group (again for more)")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts (default 3)")
    parser.add_argument("--big-mb", type=int, default=400, help="size of the big file (default 400)")
    parser.add_argument("--workdir", type=Path, help="on a file system with room for the big file (default: a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="shorter, for trying the script")
    args = parser.parse_args()
    try:
        tools.require_root()
        if args.setup:
            _setup()
            return 0
        for program, package in servers.missing().items():
            print(f"missing: {program}: apt-get install {package}, or run this with --setup", file=sys.stderr)
        if args.recon is None or not os.access(args.recon, os.X_OK):
            raise LabError("--recon names the binary: cargo build --release, then --recon target/release/recon")
        if args.before is not None and not os.access(args.before, os.X_OK):
            raise LabError(f"--before: {args.before} cannot be started")
        namespace.remove_stale()
        folder = Path(tempfile.mkdtemp(prefix="recon-bench-", dir=args.workdir))
        folder.chmod(0o755)
        try:
            load = _load_tool(folder)
            files = servers.Files(folder / "files", args.big_mb)
            with Namespace("server") as server, Namespace("client") as client:
                server.ip("link", "add", servers.SERVER_LINK, "type", "veth", "peer", "name", servers.CLIENT_LINK, "netns", client.name)
                server.ip("addr", "add", f"{servers.SERVER}/{servers.PREFIX}", "dev", servers.SERVER_LINK)
                client.ip("addr", "add", f"10.77.0.2/{servers.PREFIX}", "dev", servers.CLIENT_LINK)
                server.ip("link", "set", servers.SERVER_LINK, "up")
                client.ip("link", "set", servers.CLIENT_LINK, "up")
                theirs = (args.async_tftpd or args.recon.parent / "examples" / servers.ASYNC_TFTPD).resolve()
                programs = servers.Programs(
                    recon=args.recon.resolve(),
                    before=args.before and args.before.resolve(),
                    async_tftpd=theirs if os.access(theirs, os.X_OK) else None,
                )
                site = servers.Site(programs, folder, files, server, client)
                bench = Bench(site, load, args.quick)
                try:
                    _measure(bench, args.only or sorted(PEERS), args.rounds)
                finally:
                    print(f"\n{os.cpu_count()} CPUs, Linux {platform.release()}, load before the end {os.getloadavg()[0]:.1f}\n")
                    print("\n".join(bench.table()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (LabError, subprocess.CalledProcessError) as error:
        print(f"benches/net/run.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
