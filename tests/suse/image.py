"""What is in the finished ISO?

Looked at with the build host's own xorriso and unsquashfs, and with rpm and lsinitrd of the image itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from buildhost import CHECKOUT, RECIPE, BuildHost
from chroot import Chroot, remove_tree
from vdc.errors import LabError
from vdc.suite import expect

MEDIUM_RULE = "usr/lib/udev/rules.d/59-recon-medium.rules"
_WORD = "allow_unsupported_modules"


@dataclass
class Image:
    """The ISO's files and its root image, unpacked beside each other in the build host."""

    iso: Path
    root: Path

    def rpm(self) -> list[str]:
        return Chroot(self.root).run(["rpm", "-qa"]).split()

    def initrd(self, *words: str) -> str:
        """What the image's own lsinitrd says of the initrd on the medium."""
        target = self.root / "tmp/initrd"
        target.write_bytes((self.iso / "boot/x86_64/loader/initrd").read_bytes())
        return Chroot(self.root).run(["lsinitrd", *words, "/tmp/initrd"])


def unpack(host: BuildHost) -> Image:
    folder = host.root / "root/unpacked"
    remove_tree(folder)
    folder.mkdir()
    host.run(["xorriso", "-osirrox", "on", "-indev", f"{CHECKOUT}/builds/{RECIPE}/{host.iso.name}", "-extract", "/", "/root/unpacked/iso"], 300)
    images = sorted(file for file in (folder / "iso/LiveOS").iterdir() if file.stat().st_size > 1 << 20)
    if len(images) != 1:
        raise LabError(f"LiveOS of the ISO holds {', '.join(file.name for file in images) or 'no root image'}")
    host.run(["unsquashfs", "-no-progress", "-d", "/root/unpacked/root", f"/root/unpacked/iso/LiveOS/{images[0].name}"], 600)
    host.run(["chmod", "-R", "u+w", "/root/unpacked/iso"])
    return Image(folder / "iso", folder / "root")


def check_loaders(image: Image, contents: Path) -> None:
    """Shim under the name that firmware looks for, and what it loads beside it under the name that SUSE's asks for."""
    folder = {file.name.lower(): file for file in (image.iso / "EFI/BOOT").iterdir()}
    for name, source in (
        ("bootx64.efi", "shim/usr/share/efi/x86_64/shim.efi"), ("grub.efi", "grub2-x86_64-efi/usr/share/efi/x86_64/grub.efi"),
        ("mokmanager.efi", "shim/usr/share/efi/x86_64/MokManager.efi"),
    ):
        expect(name in folder, f"EFI/BOOT of the ISO has no {name}: {', '.join(sorted(folder))}")
        expect(folder[name].read_bytes() == (contents / source).read_bytes(), f"EFI/BOOT/{name} is not the package's file")
    for name, source in (("shimx64.efi", "shim/usr/share/efi/x86_64/shim.efi"), ("grubnetx64.efi", "grub2-x86_64-efi/usr/share/efi/x86_64/grub.efi")):
        loader = image.root / "usr/lib/recon/loaders" / name
        expect(loader.is_file() and loader.read_bytes() == (contents / source).read_bytes(), f"usr/lib/recon/loaders/{name} is not the package's file")


def check_database(image: Image, wanted: list[str]) -> None:
    """openSUSE's database format in openSUSE's folder, and every package of the recipe in it."""
    folder = image.root / "usr/lib/sysimage/rpm"
    held = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    expect("Packages.db" in held and "rpmdb.sqlite" not in held, f"usr/lib/sysimage/rpm is not an ndb database: {', '.join(held) or 'empty'}")
    expect((image.root / "var/lib/rpm").is_symlink(), "var/lib/rpm of the image is no link any more")
    names = {line.rsplit("-", 2)[0] for line in image.rpm()}
    missing = sorted(set(wanted) - names)
    expect(not missing, f"rpm -qa of the image does not know {', '.join(missing)}")


def check_modules(image: Image) -> None:
    """SUSE's kmod would load the drivers of -extra and -optional: in the system and in the initrd."""
    found = 0
    for folder in ("lib/modprobe.d", "usr/lib/modprobe.d", "etc/modprobe.d"):
        for file in sorted((image.root / folder).glob("*.conf")):
            for line in file.read_text(errors="replace").splitlines():
                if line.split()[:1] == [_WORD]:
                    found += 1
                    expect(line.split() == [_WORD, "1"], f"{folder}/{file.name}: {line}")
    expect(found, f"no file of the image has the word {_WORD}: suse-module-tools is not what it was")
    listed = image.initrd()
    inside = [line.split()[-1] for line in listed.splitlines() if line.endswith("10-unsupported-modules.conf")]
    expect(inside, "the initrd has no 10-unsupported-modules.conf")
    for name in inside:
        text = image.initrd("-f", name)
        expect(re.search(rf"^{_WORD} 1$", text, re.MULTILINE) and f"\n{_WORD} 0" not in f"\n{text}", f"initrd, {name}: {text.strip()[-200:]}")
    for module in ("bna", "tulip"):
        expect(list((image.root / "lib/modules").rglob(f"{module}.ko*")), f"the image has no {module}.ko, which an extra kernel package brings")
        expect(f"/{module}.ko" in listed, f"the initrd has no {module}.ko, which an extra kernel package brings")


def check_left_out(image: Image) -> None:
    """What SUSE's kernel packages put into /boot and a running stick does not need."""
    held = sorted(file.name for file in (image.root / "boot").iterdir()) if (image.root / "boot").is_dir() else []
    bad = [name for name in held if name.startswith(("vmlinu", "symvers", "System.map", "config-", "initrd", ".vmlinuz"))]
    expect(not bad, f"the root image carries boot/{', boot/'.join(bad)}")
    for folder in ("usr/share/grub2", "usr/share/efi"):
        expect(not (image.root / folder).exists(), f"the root image carries {folder}")


def check_initrd(image: Image) -> None:
    """The network of a live boot, and the rule about the stick's label."""
    modules = image.initrd("-m").split()
    for name in ("network-legacy", "livenet", "dmsquash-live", "recon"):
        expect(name in modules, f"the initrd has no dracut module {name}: {' '.join(modules)[-600:]}")
    for name in ("network-wicked", "wicked", "network-manager"):
        expect(name not in modules, f"the initrd has the dracut module {name}")
    expect((image.root / MEDIUM_RULE).is_file(), f"the image has no {MEDIUM_RULE}")
    listed = image.initrd()
    expect(any(line.endswith(MEDIUM_RULE) for line in listed.splitlines()), f"the initrd has no {MEDIUM_RULE}")
