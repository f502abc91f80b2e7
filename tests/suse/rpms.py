"""How do folders of files become RPMs with openSUSE's names?"""

# os.walk gives folders as text: the paths below are put together as text too.
# ruff: noqa: PTH114

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from chroot import Bind, Chroot
from contents import USERLAND, Contents
from package_table import Package
from vdc.errors import LabError

VERSION = "15.4"
# Scriptlets in the way of the real packages, where they matter to a build in a chroot.
_SCRIPTLETS: dict[str, str] = {
    "kernel-default": "%post -p /bin/bash\n/usr/lib/module-init-tools/kernel-scriptlets/rpm-post {kernel}\n",
    "kernel-default-extra": "%post -p /bin/bash\ndepmod -a {kernel}\n",
    "kernel-default-optional": "%post -p /bin/bash\ndepmod -a {kernel}\n",
    "udev": "%post -p /bin/sh\nsystemd-hwdb update >/dev/null 2>&1 || :\nudevadm control --reload >/dev/null 2>&1 || :\n",
    "dbus-1": "%pre -p /bin/sh\ngetent group messagebus >/dev/null || groupadd -r messagebus\n",
    "ca-certificates": "%post -p /bin/sh\ntest -d /etc/ssl/certs || mkdir -p /etc/ssl/certs\n",
}
_SCRIPTLET_NEEDS: dict[str, str] = {
    "kernel-default": "Requires(post): bash suse-module-tools dracut\n",
    "kernel-default-extra": "Requires(post): bash kmod kernel-default\n",
    "kernel-default-optional": "Requires(post): bash kmod kernel-default\n",
    "udev": "Requires(post): bash systemd\n",
    "dbus-1": "Requires(pre): bash shadow\n",
    "ca-certificates": "Requires(post): bash coreutils\n",
}
_SPEC = """%define _build_id_links none
%define __os_install_post %{{nil}}
%define debug_package %{{nil}}
%define _binary_payload w1.zstdio
%define _unpackaged_files_terminate_build 0
Name: {name}
Version: {version}
Release: 1
Summary: Stand-in of the tests, made from Debian's files
License: as the Debian packages
AutoReqProv: no
{needs}
%description
{source}
%install
mkdir -p %{{buildroot}}
[ ! -d /contents/{name} ] || cp -al /contents/{name}/. %{{buildroot}}/
{scriptlet}
%files
{files}
"""


def build(rows: Sequence[Package], contents: Contents, donor: Path, maker: Path, out: Path, log: Path) -> dict[str, Path]:
    """One RPM a row and the userland, in `out`; returns their files by name."""
    specs = contents.top / "specs"
    specs.mkdir()
    everything = [Package(USERLAND, (), ("filesystem",), "sle", "oss", "this test's own name"), *rows]
    names = Accounts(donor)
    for row in everything:
        (specs / f"{row.name}.spec").write_text(_spec(row, contents, names))
    out.mkdir(parents=True, exist_ok=True)
    chroot = Chroot(maker, (Bind(contents.top, "/contents", writable=True), Bind(out, "/rpms", writable=True)))
    chroot.run(
        [
            "rpmbuild", "-bb", "--quiet", "--define", "_topdir /contents/rpmbuild", "--define", "_rpmdir /rpms",
            "--define", "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", *(f"/contents/specs/{row.name}.spec" for row in everything),
        ],
        1800, log,
    )
    files = {row.name: out / f"{row.name}-{VERSION}-1.x86_64.rpm" for row in everything}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        raise LabError(f"rpmbuild made no package for {' '.join(missing)} (see {log})")
    return files


def _spec(row: Package, contents: Contents, names: Accounts) -> str:
    needs = "".join(f"Requires: {word}\n" for word in row.requires) + _SCRIPTLET_NEEDS.get(row.name, "")
    if row.name == "filesystem":
        needs += "".join(f"Provides: {word}\n" for word in sorted(set(contents.accounts)))
    if row.name == "bash":
        needs += "Provides: /bin/sh\n"
    return _SPEC.format(
        name=row.name, version=VERSION, needs=needs, source=row.source.replace("%", "%%"),
        scriptlet=_SCRIPTLETS.get(row.name, "").format(kernel=contents.kernel), files="\n".join(_file_list(contents.of(row.name), names)),
    )


class Accounts:
    """Names of the donor's owners, by number."""

    def __init__(self, donor: Path) -> None:
        self._users = self._read(donor / "etc/passwd")
        self._groups = self._read(donor / "etc/group")

    @staticmethod
    def _read(file: Path) -> dict[int, str]:
        rows = [line.split(":") for line in file.read_text().splitlines()]
        return {int(row[2]): row[0] for row in rows if len(row) > 2}

    def of(self, status: os.stat_result) -> str:
        return f"{self._users.get(status.st_uid, 'root')},{self._groups.get(status.st_gid, 'root')}"


def _file_list(tree: Path, names: Accounts) -> list[str]:
    """Lines of %files: each folder and file by name, with its mode and owners."""
    lines: list[str] = []
    for folder, folders, files in os.walk(tree):
        folders.sort()
        inside = "/" + os.path.relpath(folder, tree) if folder != str(tree) else ""
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]
        for name in [name for name in folders if name not in links]:
            status = os.lstat(f"{folder}/{name}")
            lines.append(f"%dir %attr({stat.S_IMODE(status.st_mode):o},{names.of(status)}) {_quoted(f'{inside}/{name}')}")
        for name in sorted(files + links):
            status = os.lstat(f"{folder}/{name}")
            mode = "-" if stat.S_ISLNK(status.st_mode) else f"{stat.S_IMODE(status.st_mode):o}"
            lines.append(f"%attr({mode},{names.of(status)}) {_quoted(f'{inside}/{name}')}")
    return lines


def _quoted(path: str) -> str:
    """A path in which rpm sees neither patterns nor macros."""
    for letter in "\\[]{}*?":
        path = path.replace(letter, f"\\{letter}")
    path = path.replace("%", "%%")
    return f'"{path}"' if " " in path else path
