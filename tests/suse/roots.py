"""Which Debian root trees does a run start from, and how are they made and kept?

Each is debootstrapped once into the cache of the work folder, with a stamp of what it was made of. A tree whose stamp differs,
or that has none because its making was interrupted, is made anew.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chroot import Bind, Chroot, adopt_settings, remove_tree
from vdc import tools
from vdc.errors import LabError

TOOLS = ("debootstrap", "bash")
_TOP = Path(__file__).resolve().parents[2]
BUILD_SUITE = "trixie"
# A little older than Leap 15.4 in every part that matters: systemd 247 before 249, kernel 5.10 before 5.14, glibc 2.31, dracut 051
# before 055, iPXE of 2019. Where the mirror has moved it away, the next one is used, and the summary says so.
DONOR_SUITES = ("bullseye", "bookworm")
MAKER_PACKAGES = ("createrepo-c", "gnupg", "libsolv-tools", "python3", "python3-venv", "rpm", "zypper")
# What a package of the donor needs so that its scripts make no initrd and start no service.
_QUIET = {
    "/usr/sbin/policy-rc.d": ("#!/bin/sh\nexit 101\n", 0o755),
    "/etc/dracut.conf.d/00-quiet.conf": ('dracutmodules+=" bash "\nno_kernel="yes"\ncompress="cat"\n', 0o644),
}


@dataclass(frozen=True)
class Roots:
    """The trees of a run."""

    base: Path
    maker: Path
    donor: Path
    donor_suite: str


def mirror_of_this_host() -> str:
    """The package source in this host's apt settings, read by the tool's own function."""
    script = '. "$1/tools/ui.sh"; . "$1/tools/hostsetup.sh"; apt_source_uri "$(. /etc/os-release && echo "$VERSION_CODENAME")"'
    uri = tools.run(["bash", "-c", script, "mirror", str(_TOP)]).strip()
    if not uri.startswith(("http://", "https://")):
        raise LabError(f"this host's apt settings name no source that debootstrap could use (found {uri!r})")
    return uri


def offered(mirror: str, suite: str) -> bool:
    """The mirror has that suite."""
    try:
        with urllib.request.urlopen(f"{mirror}/dists/{suite}/InRelease", timeout=30) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False
    except OSError as error:
        raise LabError(f"{mirror} does not answer: {error}") from error


def make(cache: Path, donor_packages: list[str], say: Callable[[str], None]) -> Roots:
    """All trees, from the cache where it holds them whole."""
    mirror = mirror_of_this_host()
    base = _kept(cache, "base", mirror, BUILD_SUITE, [], [], say)
    maker = _kept(cache, "maker", mirror, BUILD_SUITE, [], list(MAKER_PACKAGES), say)
    suite = next((name for name in DONOR_SUITES if offered(mirror, name)), None)
    if suite is None:
        raise LabError(f"{mirror} offers none of {', '.join(DONOR_SUITES)}")
    # From Debian 12 on its packages refuse a tree that has /lib beside /usr/lib.
    layout = ["--no-merged-usr"] if suite == DONOR_SUITES[0] else []
    donor = _kept(cache, "donor", mirror, suite, layout, donor_packages, say)
    return Roots(base, maker, donor, suite)


def _kept(
    cache: Path, name: str, mirror: str, suite: str, options: list[str], packages: list[str], say: Callable[[str], None],
) -> Path:
    tree, stamp = cache / name, cache / f"{name}.stamp"
    want = "\n".join([mirror, suite, *options, *sorted(packages)]) + "\n"
    if stamp.exists() and stamp.read_text() == want and (tree / "usr").is_dir():
        return tree
    say(f"making the root tree '{name}' (Debian {suite}, {len(packages)} packages beyond the smallest system)")
    stamp.unlink(missing_ok=True)
    remove_tree(tree)
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / f"{name}.log"
    _bootstrap(tree, mirror, suite, options, log)
    adopt_settings(tree)
    if packages:
        _install(tree, cache, suite, packages, log)
    stamp.write_text(want)
    return tree


def _bootstrap(tree: Path, mirror: str, suite: str, options: list[str], log: Path) -> None:
    text = tools.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", *options, suite, str(tree), mirror], timeout=1200,
    )
    log.write_text(text)


def archives(cache: Path, suite: str) -> Bind:
    """Where apt of every root of a suite keeps what it fetched."""
    kept = cache / f"archives-{suite}"
    (kept / "partial").mkdir(parents=True, exist_ok=True)
    return Bind(kept, "/var/cache/apt/archives", writable=True)


def _install(tree: Path, cache: Path, suite: str, packages: list[str], log: Path) -> None:
    chroot = Chroot(tree, (archives(cache, suite),), {"DEBIAN_FRONTEND": "noninteractive"})
    for path, (text, mode) in _QUIET.items():
        chroot.write(path, text, mode)
    chroot.run(["apt-get", "update"], 300, log)
    chroot.run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], 1800, log)
    for path in _QUIET:
        (tree / path.lstrip("/")).unlink()
    for file in (tree / "boot").glob("initrd*"):
        file.unlink()


def versions(tree: Path, names: list[str]) -> list[tuple[str, str]]:
    """Name and version of some packages of a Debian tree."""
    status = (tree / "var/lib/dpkg/status").read_text(errors="replace")
    found = []
    for block in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Package") in names:
            found.append((fields["Package"], fields.get("Version", "")))
    return found


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("root trees with their owners and mounts are made here: run this as root")
