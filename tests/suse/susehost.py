"""Does the tool set up an openSUSE host?

A root tree in which zypper is the only package manager, /usr/bin/python3 answers as Leap's 3.6 and cannot make virtual
environments, and rpm's database is openSUSE's. Its userland is Debian's: what is tried is the tool's choice of names and programs.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from chroot import Bind, Chroot, adopt_settings, copy_tree, remove_tree
from contents import OS_RELEASE, REAL_PYTHON
from package_table import KEYS, REPOSITORIES
from sign import Keys
from vdc import tools
from vdc.errors import LabError

CHECKOUT = "/root/recon"
GROUPS = ("first", "check", "build", "lab", "suse", "suse-keys")
# What an installed Leap has before anybody asks for more: names of the table, taken down in rpm's database without their files.
_INSTALLED = (
    "debian-userland filesystem bash coreutils util-linux grep sed gawk gzip findutils kmod procps iproute2 systemd systemd-sysvinit udev "
    "dbus-1 shadow tar which netcfg xz curl ca-certificates rpm zypper libzypp libsolv-tools cpio openSUSE-release timezone "
    "glibc-locale-base less suse-module-tools python3"
).split()
_OLD_PYTHON = f"""#!/bin/sh
# Leap's python3: 3.6, without what KIWI needs.
case $1 in
-V | --version | -VV) echo 'Python 3.6.15'; exit 0 ;;
-m) case $2 in venv | ensurepip) echo "/usr/bin/python3: No module named $2" >&2; exit 1 ;; esac ;;
esac
PYTHONPATH=/usr/lib/standin-python/36 exec {REAL_PYTHON} "$@"
"""
_OLD_VERSION = """import collections
import sys

Info = collections.namedtuple("version_info", "major minor micro releaselevel serial")
sys.version_info = Info(3, 6, 15, "final", 0)
sys.version = "3.6.15 (default, Sep 23 2021, 15:41:43) [GCC]"
sys.modules["venv"] = None
sys.modules["ensurepip"] = None
"""


def make(root: Path, maker: Path, mirror: str, top: Path, keys: Keys) -> None:
    """The host, with its sources and keys as openSUSE's own set-up leaves them."""
    remove_tree(root)
    copy_tree(maker, root)
    adopt_settings(root)
    chroot = Chroot(root)
    real = root / REAL_PYTHON.lstrip("/")
    real.parent.mkdir(parents=True)
    (root / "usr/bin/python3.13").rename(real)
    for name in ("python3", "pip3", "pip"):
        (root / "usr/bin" / name).unlink(missing_ok=True)
    chroot.write("/usr/bin/python3", _OLD_PYTHON, 0o755)
    chroot.write("/usr/lib/standin-python/36/sitecustomize.py", _OLD_VERSION)
    for pattern in ("apt*", "dpkg*"):
        for file in (root / "usr/bin").glob(pattern):
            file.unlink()
    (root / "etc/os-release").unlink()
    chroot.write("/etc/os-release", OS_RELEASE)
    with (root / "usr/lib/rpm/macros").open("a") as macros:
        macros.write("\n%_dbpath /usr/lib/sysimage/rpm\n%_db_backend ndb\n")
    remove_tree(root / "var/lib/rpm")
    (root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    (root / "usr/lib/sysimage/rpm").mkdir(parents=True)
    for name, path in REPOSITORIES.items():
        chroot.write(
            f"/etc/zypp/repos.d/repo-{name}.repo",
            f"[repo-{name}]\nname={name}\nenabled=1\nautorefresh=1\nbaseurl={mirror.rstrip('/')}/{path}/\ntype=rpm-md\ngpgcheck=1\n",
        )
    for number, name in enumerate(KEYS):
        chroot.write(f"/usr/lib/rpm/gnupg/keys/gpg-pubkey-0000000{number}-00000000.asc", keys.public(name).read_text())
    chroot.run(["rpm", "--initdb"])
    chroot.run(["bash", "-c", "rpm --import /usr/lib/rpm/gnupg/keys/*.asc"])
    held = {file.name.rsplit("-", 2)[0]: file.relative_to(top) for path in REPOSITORIES.values() for file in (top / path).rglob("*.rpm")}
    Chroot(root, (Bind(top, "/mnt"),)).run(
        ["rpm", "--install", "--justdb", "--nodeps", "--noscripts", "--replacefiles", *(f"/mnt/{held[name]}" for name in _INSTALLED)],
    )


def check_out(root: Path, tree: Path) -> None:
    """The tools of the tree under test."""
    target = root / CHECKOUT.lstrip("/")
    target.mkdir(parents=True)
    tools.run(["cp", "-a", *(str(tree / name) for name in ("tools", "kiwi", "make-recipe-target", "Cargo.toml")), str(target)])


def parts(tree: Path) -> list[str]:
    """The shell parts that make-recipe-target reads, in its order."""
    found = re.search(r"^for part in ([a-z_ ]+); do", (tree / "make-recipe-target").read_text(), re.MULTILINE)
    if found is None:
        raise LabError("make-recipe-target reads its parts in another way than this test knows")
    return found.group(1).split()


def shell(tree: Path, script: str) -> str:
    """A script in which the tool's own functions are defined."""
    return f'set -e; TOP={CHECKOUT}; MIRROR= KEYS=; export MIRROR KEYS; for part in {" ".join(parts(tree))}; do . "$TOP/tools/$part.sh"; done; {script}'


def names(tree: Path) -> set[str]:
    """Every package that the tool asks zypper for on Leap 15.4."""
    script = shell(tree, f"PACKAGER=zypper; SUSE_VERSION=15.4; for group in {' '.join(GROUPS)}; do packages_for $group; done")
    done = subprocess.run(
        ["bash", "-c", script.replace(f"TOP={CHECKOUT}", f"TOP={tree}")], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=30, check=False,
    )
    found = set(done.stdout.split())
    if not found:
        raise LabError(f"the tool asks for no package at all: {done.stderr.strip()[-400:]}")
    return found


def set_up(root: Path, tree: Path, cache: Path, log: Path) -> str:
    """Runs the tool's set-up for everything; returns which Python it chose and the version of KIWI it installed."""
    chroot = Chroot(root, (Bind(cache / "pip", "/root/.cache/pip", writable=True),))
    script = shell(
        tree,
        f"mkdir -p $TOP/builds; log_to $TOP/builds/set-up.log; host_setup {' '.join(GROUPS)}; choose_python; kiwi_venv; "
        'echo "python $PYTHON"; echo "kiwi $("$KIWI" --version)"',
    )
    code, text = chroot.call(["bash", "-c", script], 900, log)
    if code != 0:
        written = root / CHECKOUT.lstrip("/") / "builds/set-up.log"
        said = written.read_text(errors="replace")[-1500:] if written.exists() else ""
        raise LabError(f"set-up of an openSUSE host: exit {code}: {text.strip()[-1200:]} {said}")
    return text
