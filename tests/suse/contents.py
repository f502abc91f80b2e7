"""Which files does each package of the stand-in carry, and where does openSUSE keep them?

Every package becomes a folder of hard links to the donor's files. What no row names is `debian-userland`.
"""

# os.walk gives folders as text: the paths below are put together as text too.

from __future__ import annotations

import gzip
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chroot import Bind, Chroot, remove_tree
from package_table import Package
from vdc.errors import LabError

USERLAND = "debian-userland"
# Where the interpreter of the openSUSE host lies that the name of its package leads to; it is not the package's.
REAL_PYTHON = "/usr/lib/standin-python/python3.13"
# Not in an openSUSE system, or not in any package.
_DROPPED_PACKAGES = ("apt", "dash", "debian-archive-keyring", "dpkg", "libapt-pkg6.0")
_DROPPED_TREES = (
    "boot", "debootstrap", "dev", "proc", "run", "sys", "tmp", "usr/share/doc", "usr/share/help", "usr/share/info", "usr/share/lintian",
    "usr/share/locale", "usr/share/man", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/log", "var/tmp",
)
_DROPPED_FILES = (
    "bin/sh", "usr/bin/sh", "etc/os-release", "usr/lib/os-release", "etc/debian_version", "etc/issue", "etc/issue.net", "etc/resolv.conf",
    "etc/hosts", "etc/pip.conf", "etc/recon-test-certificates.crt", "etc/hostname", "etc/machine-id", "vmlinuz", "vmlinuz.old", "initrd.img",
    "initrd.img.old",
)
# Modules that no server of the laboratory has and config.sh would take out.
_DROPPED_MODULES = ("sound", "drivers/gpu", "drivers/media", "drivers/staging", "drivers/net/wireless", "drivers/infiniband", "drivers/iio")
# supported.conf of SLE leaves these out: SUSE puts them into packages of their own.
_EXTRA_MODULES: dict[str, Sequence[str]] = {
    "kernel-default-extra": ("drivers/net/ethernet/brocade/bna", "drivers/net/ethernet/chelsio/cxgb", "drivers/net/ethernet/sfc/falcon"),
    "kernel-default-optional": ("drivers/net/ethernet/atheros/atl1c", "drivers/net/ethernet/dec/tulip", "drivers/net/ethernet/sun"),
}
# What SUSE builds into its grub.efi (grub2.spec: CD_MODULES, PXE_MODULES, CRYPTO_MODULES, OTHER); absent ones are left out.
_GRUB_MODULES = (
    "all_video boot cat chain configfile echo true font gfxmenu gfxterm gzio halt iso9660 jpeg minicmd normal part_apple part_msdos part_gpt "
    "password password_pbkdf2 png reboot search search_fs_uuid search_fs_file search_label sleep test video fat loadenv loopback "
    "efifwsetup efinet read tpm linux btrfs ext2 xfs jfs reiserfs tftp http luks gcry_rijndael gcry_sha1 gcry_sha256 mdraid09 mdraid1x lvm "
    "serial"
).split()
# Folders of /lib that SUSE has below /usr.
_IN_USR = ("systemd", "udev")
_SUSE_TOOLS = ("bin", "sbin", "usr/bin", "usr/sbin")
OS_RELEASE = """NAME="openSUSE Leap"
VERSION="15.4"
ID="opensuse-leap"
ID_LIKE="suse opensuse"
VERSION_ID="15.4"
PRETTY_NAME="openSUSE Leap 15.4 (stand-in of the tests)"
CPE_NAME="cpe:/o:opensuse:leap:15.4"
"""


@dataclass
class Contents:
    """Folders by package name, under `top`; `kernel` is the version of the kernel they carry."""

    top: Path
    kernel: str = ""
    accounts: list[str] = field(default_factory=list)

    def of(self, name: str) -> Path:
        return self.top / name

    def write(self, name: str, path: str, data: str | bytes, mode: int = 0o644) -> None:
        file = self.of(name) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        file.chmod(mode)

    def link(self, name: str, path: str, target: str) -> None:
        link = self.of(name) / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def lay_out(rows: Sequence[Package], donor: Path, maker: Path, top: Path) -> Contents:
    """All folders; `top` is made anew. The donor stays as it is."""
    remove_tree(top)
    top.mkdir(parents=True)
    contents = Contents(top)
    taken: set[str] = set(_DROPPED_FILES)
    for name in _DROPPED_PACKAGES:
        taken.update(_files_of(donor, name, required=False))
    for row in rows:
        for name in row.debian:
            files = [path for path in _files_of(donor, name) if path not in taken]
            taken.update(files)
            _carry(donor, contents.of(row.name), files)
    taken.update(path for path in _all_files(donor) if path.startswith(("lib/modules/", "usr/lib/modules/")))
    _carry(donor, contents.of(USERLAND), [path for path in _all_files(donor) if path not in taken])
    _filesystem(contents, donor)
    _kernel(contents, donor)
    _grub(contents, donor)
    _shim(contents)
    _ipxe(contents, donor)
    _release(contents)
    _package_manager(contents, maker)
    _move_to_usr(contents)
    return contents


def _dropped(path: str) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in _DROPPED_TREES)


def _canonical(tree: Path, path: str) -> str:
    """A listed path as it lies in the tree: its folder may be reached through a link (/var/run, or /lib of merged systems)."""
    folder = os.path.realpath(tree / os.path.dirname(path))
    inside = os.path.relpath(folder, tree)
    return os.path.normpath(os.path.join(inside, os.path.basename(path)))


def _files_of(tree: Path, package: str, required: bool = True) -> list[str]:
    info = tree / "var/lib/dpkg/info"
    lists = [file for file in (info / f"{package}.list", info / f"{package}:amd64.list") if file.exists()]
    if not lists:
        if required:
            raise LabError(f"packages.tsv names the Debian package {package}, which the donor has not")
        return []
    found = []
    for line in lists[0].read_text().splitlines():
        path = _canonical(tree, line.lstrip("/"))
        full = tree / path
        if line != "/." and not _dropped(path) and (full.is_symlink() or full.is_file()):
            found.append(path)
    return found


def _all_files(tree: Path) -> Iterable[str]:
    """Every file and link that is kept, and every folder that would be empty without being named."""
    for folder, folders, files in os.walk(tree):
        inside = os.path.relpath(folder, tree)
        inside = "" if inside == "." else f"{inside}/"
        folders[:] = sorted(name for name in folders if not _dropped(f"{inside}{name}"))
        for name in sorted(files) + [name for name in folders if os.path.islink(f"{folder}/{name}")]:
            if not _dropped(f"{inside}{name}"):
                yield f"{inside}{name}"


def _carry(source: Path, target: Path, files: Iterable[str]) -> None:
    """Hard links of files, with the modes and owners of their folders."""
    for path in files:
        made = target / path
        _folders(source, target, os.path.dirname(path))
        if (source / path).is_symlink():
            made.symlink_to(os.readlink(source / path))
        elif stat.S_ISREG((source / path).lstat().st_mode):
            os.link(source / path, made)


def _folders(source: Path, target: Path, path: str) -> None:
    if (target / path).is_dir():
        return
    if path:
        _folders(source, target, os.path.dirname(path))
    (target / path).mkdir(parents=True, exist_ok=True)
    like = (source / path).stat()
    (target / path).chmod(stat.S_IMODE(like.st_mode))
    os.chown(target / path, like.st_uid, like.st_gid)


def _filesystem(contents: Contents, donor: Path) -> None:
    """Folders of the top level, links of merged systems, accounts: what openSUSE's `filesystem` and `system-user-*` bring."""
    root = contents.of("filesystem")
    root.mkdir(exist_ok=True)
    for name in ("boot", "dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var"):
        (root / name).mkdir(exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64", "share", "local"):
        (root / "usr" / name).mkdir(exist_ok=True)
    for name in ("cache", "lib", "log", "spool", "tmp"):
        (root / "var" / name).mkdir(exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    for name in ("bin", "sbin", "lib", "lib64"):
        if (donor / name).is_symlink():
            (contents.of(USERLAND) / name).unlink(missing_ok=True)
            (root / name).symlink_to(os.readlink(donor / name))
        else:
            (root / name).mkdir(exist_ok=True)
    for name in ("passwd", "group", "shadow", "gshadow"):
        source = contents.of(USERLAND) / "etc" / name
        # A copy: the donor's own must not change with it.
        shutil.copyfile(donor / "etc" / name, root / "etc" / name)
        (root / "etc" / name).chmod(0o640 if name.endswith("shadow") else 0o644)
        source.unlink(missing_ok=True)
        if not name.endswith("shadow"):
            word = "user" if name == "passwd" else "group"
            contents.accounts += [f"{word}({line.split(':')[0]})" for line in (donor / "etc" / name).read_text().splitlines()]
    (contents.of("bash") / "bin").mkdir(parents=True, exist_ok=True)
    (contents.of("bash") / ("usr/bin" if (donor / "bin").is_symlink() else "bin") / "sh").symlink_to("bash")


def _move_to_usr(contents: Contents) -> None:
    """SUSE keeps /lib beside /usr/lib for the kernel's sake and has systemd and udev in /usr/lib all the same. Debian's look for their
    own files below /lib: links lead them on."""
    linked = False
    for package in sorted(path for path in contents.top.iterdir() if path.is_dir() and not (path / "lib").is_symlink()):
        for name in _IN_USR:
            source, target = package / "lib" / name, package / "usr/lib" / name
            if not source.is_dir():
                continue
            linked = True
            for folder, _, files in os.walk(source):
                inside = target / os.path.relpath(folder, source)
                inside.mkdir(parents=True, exist_ok=True)
                for file in files + [link for link in os.listdir(folder) if os.path.islink(f"{folder}/{link}") and link not in files]:
                    if (inside / file).is_symlink() or (inside / file).exists():
                        raise LabError(f"{package.name}: lib/{name} and usr/lib/{name} both have {file}")
                    os.rename(f"{folder}/{file}", inside / file)
            shutil.rmtree(source)
    for name in _IN_USR:
        if linked:
            contents.link("filesystem", f"lib/{name}", f"../usr/lib/{name}")
            (contents.of("filesystem") / "usr/lib" / name).mkdir(parents=True, exist_ok=True)


def _kernel(contents: Contents, donor: Path) -> None:
    """Kernel under /lib/modules and in /boot with all that SUSE puts there; some modules in the packages for unsupported ones."""
    name = "kernel-default"
    versions = sorted(path.name for path in (donor / "lib/modules").iterdir())
    if len(versions) != 1:
        raise LabError(f"the donor must have one kernel, found: {' '.join(versions)}")
    contents.kernel = version = versions[0]
    tree = donor / "lib/modules" / version
    split = {f"kernel/{part}": package for package, parts in _EXTRA_MODULES.items() for part in parts}
    for folder, folders, files in os.walk(tree):
        inside = os.path.relpath(folder, tree)
        folders[:] = sorted(part for part in folders if f"{inside}/{part}" not in {f"kernel/{out}" for out in _DROPPED_MODULES})
        package = next((package for part, package in split.items() if inside == part or inside.startswith(f"{part}/")), name)
        target = contents.of(package) / os.path.relpath(tree.resolve(), donor.resolve()) / inside
        for file in sorted(files):
            # depmod makes the rest when the package is installed.
            if inside == "." and not file.startswith(("modules.builtin", "modules.order")):
                continue
            target.mkdir(parents=True, exist_ok=True)
            os.link(f"{folder}/{file}", target / file)
    empty = [package for package in _EXTRA_MODULES if not list(contents.of(package).rglob("*.ko*"))]
    if empty:
        raise LabError(f"the donor's kernel has no module for {' '.join(empty)}")
    boot = donor / "boot"
    for part in ("vmlinuz", "config", "System.map"):
        contents.write(name, f"boot/{part}-{version}", (boot / f"{part}-{version}").read_bytes())
    contents.link(name, "boot/vmlinuz", f"vmlinuz-{version}")
    contents.link(name, "boot/initrd", f"initrd-{version}")
    # Names are SUSE's; nothing reads what is in them.
    contents.write(name, f"boot/vmlinux-{version}.gz", gzip.compress(os.urandom(4 << 20), 1))
    contents.write(name, f"boot/symvers-{version}.gz", gzip.compress(b"0x00000000\tstand_in\tvmlinux\tEXPORT_SYMBOL\n"))
    contents.write(name, f"boot/sysctl.conf-{version}", "kernel.hung_task_timeout_secs = 0\n")
    contents.write(name, f"boot/.vmlinuz-{version}.hmac", "0" * 128 + f"  vmlinuz-{version}\n")
    # suse-module-tools of sles15-sp4: what the file is called, its word and its value.
    contents.write(
        "suse-module-tools", "lib/modprobe.d/10-unsupported-modules.conf",
        "# Every kernel module has a flag 'supported'. Unsupported modules are not loaded unless this is 1.\n\nallow_unsupported_modules 0\n",
    )
    # Drivers of network ports among them, which then have no image in the first stage.
    contents.write("suse-module-tools", "lib/modprobe.d/50-blacklist-xircom.conf", "blacklist dmfe\nblacklist de4x5\n")
    contents.write(
        "suse-module-tools", "usr/lib/module-init-tools/kernel-scriptlets/rpm-post",
        '#!/bin/bash\n# rpm-post VERSION: what SUSE\'s kernels call when they have been installed.\nset -e\ndepmod -a "$1"\n'
        'dracut --force "/boot/initrd-$1" "$1"\n', 0o755,
    )


def _rename_tools(tree: Path) -> None:
    for folder in _SUSE_TOOLS:
        for file in sorted((tree / folder).glob("grub-*")):
            file.rename(file.with_name("grub2-" + file.name[len("grub-"):]))


def _grub(contents: Contents, donor: Path) -> None:
    tools, efi = contents.of("grub2"), contents.of("grub2-x86_64-efi")
    _rename_tools(tools)
    (tools / "usr/share").mkdir(parents=True, exist_ok=True)
    (tools / "usr/share/grub").rename(tools / "usr/share/grub2")
    for name, platform in (("grub2-i386-pc", "i386-pc"), ("grub2-x86_64-efi", "x86_64-efi")):
        tree = contents.of(name)
        _rename_tools(tree)
        (tree / "usr/share/grub2").mkdir(parents=True, exist_ok=True)
        (tree / "usr/lib/grub" / platform).rename(tree / "usr/share/grub2" / platform)
        shutil.rmtree(tree / "usr/lib/grub", ignore_errors=True)
        # Debian has these twice, by hook and by link; openSUSE has not.
        for extra in ("etc", "usr/bin", "usr/sbin"):
            if name == "grub2-i386-pc":
                shutil.rmtree(tree / extra, ignore_errors=True)
    modules = efi / "usr/share/grub2/x86_64-efi"
    words = [word for word in _GRUB_MODULES if (modules / f"{word}.mod").exists()]
    out = contents.top / "grub.out"
    out.mkdir()
    Chroot(donor, (Bind(out, "/mnt", writable=True),)).run(
        ["grub-mkimage", "-O", "x86_64-efi", "-o", "/mnt/grub.efi", "--prefix=", "-d", "/usr/lib/grub/x86_64-efi", *words],
    )
    data = (out / "grub.efi").read_bytes()
    shutil.rmtree(out)
    contents.write("grub2-x86_64-efi", "usr/share/efi/x86_64/grub.efi", data)
    contents.write("grub2-x86_64-efi", "usr/share/grub2/x86_64-efi/grub.efi", data)


def _shim(contents: Contents) -> None:
    """SUSE's shim is built to load \\grub.efi; Debian's unsigned one has room for that name."""
    tree = contents.of("shim") / "usr/lib/shim"
    data = (tree / "shimx64.efi").read_bytes()
    old, new = ("\\grubx64.efi".encode("utf-16-le"), "\\grub.efi".encode("utf-16-le"))
    if old not in data:
        raise LabError("the donor's shim names no \\grubx64.efi to replace")
    patched = data.replace(old, new + b"\0" * (len(old) - len(new)))
    managers = {}
    for ours, theirs in (("MokManager.efi", "mmx64.efi"), ("fallback.efi", "fbx64.efi")):
        found = [file for file in (tree / theirs, tree / f"{theirs}.signed") if file.exists()]
        managers[ours] = found[0].read_bytes()
    shutil.rmtree(contents.of("shim"))
    contents.write("shim", "usr/share/efi/x86_64/shim.efi", patched)
    for ours, image in managers.items():
        contents.write("shim", f"usr/share/efi/x86_64/{ours}", image)


def _ipxe(contents: Contents, donor: Path) -> None:
    """Names of 15.4's package, whose iPXE of February 2018 has no snp-*.efi yet."""
    shutil.rmtree(contents.of("ipxe-bootimgs"))
    wanted = {"undionly.kpxe": "undionly.kpxe", "ipxe-x86_64.efi": "ipxe.efi", "ipxe.lkrn": "ipxe.lkrn", "ipxe.iso": "ipxe.iso"}
    for ours, theirs in wanted.items():
        # Debian keeps some of them in /boot, with a link whose target is meant inside the tree.
        found = [file for file in (donor / "boot" / theirs, donor / "usr/lib/ipxe" / theirs) if file.is_file()]
        if not found:
            raise LabError(f"the donor's iPXE has no {theirs}")
        contents.write("ipxe-bootimgs", f"usr/share/ipxe/{ours}", found[0].read_bytes())


def _release(contents: Contents) -> None:
    contents.write("openSUSE-release", "usr/lib/os-release", OS_RELEASE)
    contents.link("openSUSE-release", "etc/os-release", "../usr/lib/os-release")
    contents.link("python311", "usr/bin/python3.11", REAL_PYTHON)


# Trixie's package manager lives here, with every library it needs: the donor's rpm is too old for an ndb database.
_ZYPP = "usr/lib/standin-zypp"
_PROGRAMS: dict[str, Sequence[str]] = {
    "rpm": ("usr/bin/rpm", "usr/bin/rpmdb", "usr/bin/rpmkeys"),
    "libsolv-tools": (
        "usr/bin/dumpsolv", "usr/bin/installcheck", "usr/bin/mergesolv", "usr/bin/repo2solv", "usr/bin/repomdxml2solv", "usr/bin/rpmdb2solv",
        "usr/bin/rpmmd2solv", "usr/bin/rpms2solv",
    ),
    "libzypp": ("usr/bin/gpg", "usr/bin/gpgconf", "usr/bin/gpg-agent"),
    "zypper": ("usr/bin/zypper",),
}
_WRAPPER = """#!/bin/sh
exec /{zypp}/ld.so --library-path /{zypp}/lib --argv0 "$0" /{zypp}/bin/{name} "$@"
"""
_DATA: dict[str, Sequence[str]] = {
    "rpm": ("etc/rpm", "usr/lib/rpm"),
    "libzypp": ("etc/zypp", "usr/lib/zypp", "usr/libexec/zypp", "usr/share/zypp"),
    "zypper": ("usr/share/zypper",),
}


def _package_manager(contents: Contents, maker: Path) -> None:
    programs = [path for paths in _PROGRAMS.values() for path in paths if (maker / path).exists()]
    found = Chroot(maker).run(["ldd", *(f"/{path}" for path in programs)])
    libraries = sorted({word for line in found.splitlines() for word in line.split() if word.startswith("/") and ":" not in word})
    for library in libraries:
        image = (maker / library.lstrip("/")).resolve().read_bytes()
        if os.path.basename(library).startswith("ld-linux"):
            contents.write("rpm", f"{_ZYPP}/ld.so", image, 0o755)
        else:
            contents.write("rpm", f"{_ZYPP}/lib/{os.path.basename(library)}", image)
    for package, paths in _PROGRAMS.items():
        for path in paths:
            if path in programs:
                name = os.path.basename(path)
                contents.write(package, f"{_ZYPP}/bin/{name}", (maker / path).resolve().read_bytes(), 0o755)
                contents.write(package, path, _WRAPPER.format(zypp=_ZYPP, name=name), 0o755)
    for package, trees in _DATA.items():
        for tree in trees:
            if (maker / tree).is_dir():
                shutil.copytree(maker / tree, contents.of(package) / tree, symlinks=True, dirs_exist_ok=True)
    for path in ("usr/bin/rpmquery", "usr/bin/rpmverify"):
        contents.link("rpm", path, "rpm")
    macros = contents.of("rpm") / "usr/lib/rpm"
    # Debian's plugins are not carried.
    for file in (macros / "macros.d").glob("macros.transaction_*"):
        file.unlink()
    text = (macros / "macros").read_text()
    (macros / "macros").write_text(text + "\n%_dbpath /usr/lib/sysimage/rpm\n%_db_backend ndb\n")
    (contents.of("rpm") / "usr/lib/sysimage/rpm").mkdir(parents=True, exist_ok=True)
    contents.link("rpm", "var/lib/rpm", "../../usr/lib/sysimage/rpm")
