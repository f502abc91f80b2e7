"""Which programs does the host need, and are they there?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import LabError, MissingTool

# Program -> its package on Debian / on openSUSE.
PACKAGES: dict[str, str] = {
    "qemu-system-x86_64": "Debian qemu-system-x86, openSUSE qemu-x86",
    "qemu-img": "qemu-utils / qemu-tools",
    "ip": "iproute2",
    "sysctl": "procps",
    "tcpdump": "tcpdump",
    "dnsmasq": "dnsmasq-base / dnsmasq",
    "sgdisk": "gdisk / gptfdisk",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.exfat": "exfatprogs",
    "fsck.exfat": "exfatprogs",
    "xorriso": "xorriso",
    "dhclient": "isc-dhcp-client / dhcp-client",
    "udhcpc": "udhcpc / busybox",
    "dhcpcd": "dhcpcd-base / dhcpcd",
    "dhcrelay": "isc-dhcp-relay / dhcp-relay",
    "perfdhcp": "kea-admin / kea",
    "unshare": "util-linux",
    "tftp": "tftp-hpa / tftp",
    "setpriv": "util-linux",
    "atftp": "atftp",
    "wrk": "wrk",
    "curl": "curl",
    "dig": "dnsutils / bind-utils",
    "nginx": "nginx-light / nginx",
    "openssl": "openssl",
}

# Non-interactive shells of some distributions leave the sbin folders out.
_EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Full path of a program, or None."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":" + _EXTRA_PATH)


def path_of(program: str) -> str:
    """Full path of a program that the run cannot do without."""
    found = find(program)
    if found is None:
        raise MissingTool(f"missing tool: {program} (package {PACKAGES.get(program, program)})")
    return found


def require(programs: Iterable[str]) -> None:
    """Names every missing program at once, so that a person installs them in one go."""
    missing = [p for p in programs if find(p) is None]
    if missing:
        names = ", ".join(f"{p} (package {PACKAGES.get(p, p)})" for p in missing)
        raise MissingTool(f"missing tool: {names}")


def require_root() -> None:
    """Network namespaces and taps need it; saying so beats a permission error from `ip`."""
    if os.geteuid() != 0:
        raise LabError("the laboratory makes a network namespace and taps: run it as root")


def run(argv: Sequence[str], timeout: float = 120.0, cwd: Path | None = None) -> str:
    """Runs a helper program and returns its output; the error of a failed one carries the end of the output."""
    command: list[str] = [path_of(argv[0]), *argv[1:]]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=timeout, cwd=cwd, check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{' '.join(argv)}: not done after {timeout:.0f} s") from late
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {text.strip()[-800:]}")
    return text
