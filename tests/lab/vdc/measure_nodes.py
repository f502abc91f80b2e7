"""How long does a diskless node take, how much does it fetch, and what memory is left, in both forms of a root and beside two older ways?

All have the same root and kernel. `tarball` is a ramdisk with busybox, which unpacks a tarball of xz inside it into a tmpfs; `single stage` is
the root itself as the kernel's initramfs, packed by gzip, as Warewulf has it where it loads in one stage. Both are rebuilt by hand from their
descriptions, and come from a plain web server over iPXE. Every way runs alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import foreign_dhcp, tools
from .errors import LabError
from .farm_master import FarmMaster
from .foreign_dhcp import ForeignDhcpServer
from .lab import Lab
from .machine import BRIDGE
from .nodes import Kind, identity
from .peer import Peer
from .web import Web

# Its own word that it is up, by a unit that is in every root: what there is of memory, in KiB.
_SAID = re.compile(r"MEMORY (\d+) (\d+)")
_UNIT = """[Unit]
After=systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo MEMORY $$(grep -E "MemTotal|MemAvailable" /proc/meminfo | grep -o "[0-9]*") >/dev/console'
"""
_FILES = {
    "etc/systemd/system/memory-said.service": _UNIT,
    "etc/systemd/system/multi-user.target.d/memory-said.conf": "[Unit]\nWants=memory-said.service\n",
}
_MEMORY_MIB = 3072
# What a machine's own system says last where its memory is too small.
_FAILED = re.compile(r"too little memory|Kernel panic|Out of memory|No space left|Initramfs unpacking failed|cannot be started")
_SIZES_MIB = (448, 512, 640, 768, 896, 1024, 1280, 1536, 2048, 3072)
_WEB = "10.77.0.2"
_CONSOLE = "console=ttyS0,115200 panic=5 loglevel=4"
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /new
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs -o size=90% root /new
/bin/busybox xzcat /root.tar.xz | /bin/busybox tar -x -f - -C /new || { echo No space left; exit 1; }
/bin/busybox rm /root.tar.xz
exec /bin/busybox switch_root /new /sbin/init
"""


class Figures(NamedTuple):
    """One node's way."""

    seconds: float
    received: int
    available_kib: int


def run(lab: Lab, lowest: bool) -> list[str]:
    """Measures and returns the lines of a Markdown report."""
    image = lab.options.node_image
    if image is None:
        raise LabError("--node-image FOLDER is needed: ./make-recipe-target debian-13 ramroot makes one")
    busybox = Path("/bin/busybox")
    if not busybox.exists() or "statically linked" not in tools.run(["file", "-L", str(busybox)]):
        raise LabError("a static busybox is needed for the tarball's way: apt-get install busybox-static")
    tree = lab.folder / "root"
    shutil.rmtree(tree, ignore_errors=True)
    tools.run([str(lab.options.recon), "image", "unpack", str(image), str(tree)], timeout=600)
    for name, text in _FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    try:
        packed = _pack(lab, tree, busybox)
        lines = _ours(lab, image, lowest) + _others(lab, lowest)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    return [
        "| Way | power-on to up, s | received, MB | memory available then, of 3072 MiB | lowest memory, MiB |", "|---|---|---|---|---|", *lines, "",
        "| Packing the root | s | MB |", "|---|---|---|", *packed,
    ]


def _pack(lab: Lab, tree: Path, busybox: Path) -> list[str]:
    """Packs the root in every way; gives a row for each."""
    web = lab.folder / "web"
    shutil.rmtree(web, ignore_errors=True)
    web.mkdir()
    rows = []

    def timed(what: str, out: Path, pack: Callable[[], object]) -> None:
        begun = time.monotonic()
        pack()
        seconds, size = time.monotonic() - begun, out.stat().st_size
        lab.report.line(f"{what}: {seconds:.0f} s, {size / 1e6:.0f} MB")
        rows.append(f"| {what} | {seconds:.0f} | {size / 1e6:.0f} |")

    def shell(script: str, *names: Path) -> None:
        subprocess.run(["sh", "-euc", script, "sh", *map(str, names)], check=True, timeout=3600)

    tarball, again = lab.folder / "root.tar.xz", lab.folder / "again.tar.zst"
    timed("tarball: tar, xz -6", tarball, lambda: shell('tar --numeric-owner -C "$1" -c . | xz -6 -T1 >"$2"', tree, tarball))
    timed("zstd -12 -T0 of the same", again, lambda: shell('tar --numeric-owner -C "$1" -c . | zstd -q -f -12 -T0 -o "$2"', tree, again))
    again.unlink()
    stage = web / "single"
    timed("single stage: cpio, gzip -6", stage, lambda: shell('cd "$1" && find . -xdev -print0 | cpio -0o -H newc --quiet | gzip -6 >"$2"', tree, stage))
    ramdisk = lab.folder / "ramdisk"
    shutil.rmtree(ramdisk, ignore_errors=True)
    (ramdisk / "bin").mkdir(parents=True)
    shutil.copy(busybox, ramdisk / "bin" / "busybox")
    (ramdisk / "init").write_text(_INIT)
    (ramdisk / "init").chmod(0o755)
    tarball.rename(ramdisk / "root.tar.xz")
    shell('cd "$1" && find . -print0 | cpio -0o -H newc --quiet >"$2"', ramdisk, web / "tarball")
    shutil.rmtree(ramdisk)
    return rows


def _row(lab: Lab, way: str, start: Callable[[int, int], Figures | None], lowest: bool) -> str:
    """`start` has a machine of so many MiB start; the number tells the machines apart. None: it does not come up."""
    figures = start(_MEMORY_MIB, 0)
    if figures is None:
        raise LabError(f"{way}: it does not come up with {_MEMORY_MIB} MiB")
    least = "not tried"
    if lowest:
        sizes = (size for number, size in enumerate(_SIZES_MIB, 1) if start(size, number) is not None)
        least = str(next(sizes, "more"))
    row = f"| {way} | {figures.seconds:.0f} | {figures.received / 1e6:.0f} | {figures.available_kib // 1024} MiB | {least} |"
    lab.report.line(row)
    return row


def _started(lab: Lab, node: Peer) -> Figures | None:
    """Starts a machine, and waits until its system says so, or that it never will."""
    node.start()
    machine = node.machine
    deadline = time.monotonic() + lab.seconds(420)
    either = re.compile(f"{_SAID.pattern}|{_FAILED.pattern}")
    line = machine.console.wait_for(either, deadline)
    seconds = time.monotonic() - machine.started_at
    machine.kill()
    said = None if line is None else _SAID.search(line.text)
    if said is None:
        lab.report.line(f"{node.name}: not up after {seconds:.0f} s: {line.text if line else machine.console.tail(2)}")
        return None
    total, available = int(said[1]), int(said[2])
    lab.report.line(f"{node.name}: up after {seconds:.0f} s, {available >> 10} of {total >> 10} MiB available")
    return Figures(seconds, machine.guest_received, available)


def _node(lab: Lab, number: int, name: str, memory_mib: int) -> Peer:
    return Peer(lab, Kind("bios", "virtio-net-pci", (), memory_mib=memory_mib, bmc=False), identity(number, name))


def _ours(lab: Lab, image: Path, lowest: bool) -> list[str]:
    data = lab.folder / "farm"
    shutil.rmtree(data, ignore_errors=True)
    for name, text in _FILES.items():
        path = data / "overlays/base" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    forms = {"tmpfs": 0xB0, "squashfs": 0xC0}
    rules = [
        f'[[node]]\nmac = "{identity(number + at, form).mac}"\nimage = "compute"\nroot = "{form}"\noverlays = ["base"]\n'
        for form, number in forms.items() for at in range(len(_SIZES_MIB) + 1)
    ]
    (data / "recon.toml").write_text("\n".join(['site = "Measurement"\n[peers]\nfailsafe-after = 0\n', *rules]))
    tools.run([str(lab.options.recon), "image", "add", str(image), "--name", "compute", "--data", str(data)], timeout=600)
    rows = []
    try:
        with FarmMaster(lab, data):
            for form, number in forms.items():
                def start(mib: int, at: int, form: str = form, number: int = number) -> Figures | None:
                    return _started(lab, _node(lab, number + at, f"{form}-{mib}", mib))
                rows.append(_row(lab, f"recon, {form}", start, lowest))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return rows


def _others(lab: Lab, lowest: bool) -> list[str]:
    web, image = lab.folder / "web", lab.options.node_image
    assert image is not None
    shutil.copy(image / "kernel", web / "kernel")
    lab.namespace.ip("addr", "add", f"{_WEB}/24", "dev", BRIDGE)
    rows = []
    # Its first program is that of the root itself, or the busybox's.
    for way, number, words in (("tarball", 0xD0, ""), ("single", 0xE0, " rdinit=/sbin/init")):
        (web / f"{way}.ipxe").write_text(f"#!ipxe\nkernel kernel {_CONSOLE}{words} initrd={way}\ninitrd {way}\nboot\n")
        url = f"http://{_WEB}:8080/{way}.ipxe"
        with Web(lab.namespace, web, _WEB, 8080), ForeignDhcpServer(lab.namespace, BRIDGE, lab.folder, url):
            def start(mib: int, at: int, way: str = way, number: int = number) -> Figures | None:
                return _started(lab, _node(lab, number + at, f"{way}-{mib}", mib))
            rows.append(_row(lab, {"tarball": "tarball of xz in a ramdisk", "single": "single stage, gzip"}[way], start, lowest))
    shutil.rmtree(web)
    assert foreign_dhcp.ADDRESS.rsplit(".", 1)[0] == _WEB.rsplit(".", 1)[0]
    return rows
