#!/usr/bin/env python3
"""Checks the udev rules of the overlay with the udevadm of a root tree: udev_rule.py ROOT

ROOT is the tree of an image or of a debootstrap, whichever holds the udev to check against. Attaches an image like the stick's
to a loop device and asks `udevadm test` which links the whole disk and its partition 1 get. Nothing is written into ROOT: its
/dev and /run are memory of a mount namespace of our own. Needs root, xorriso, losetup, partx and a kernel with loop devices.
Exits 1 with a sentence where a link or a rule is not as it must be, 2 where the check cannot be made.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
RULES = TOP / "overlay/usr/lib/udev/rules.d"
MEDIUM = "59-recon-medium.rules"
# Stands in for the bus that a loop device does not have: links by place are made from this property.
PLACE = "recon-test-place"
PLACE_RULES = f'SUBSYSTEM=="block", ENV{{DEVTYPE}}=="disk", ENV{{ID_PATH}}="{PLACE}"\n'
# How udevadm's words for a line that it does not take, or takes otherwise, begin or end (udev-rules.c of systemd 247 to 257).
COMPLAINT = re.compile(
    r"invalid|unknown|unexpected|ignor|fail(ed)? to|has no effect|no matching label|dropping|duplicate|conflicting|assuming"
    r"|must be specified|may break|may not be available|reordering|replacing attribute|too long|not allowed|no such",
    re.IGNORECASE,
)


class Wrong(Exception):
    """A rule does not do what it must."""


class Unfit(Exception):
    """The check cannot be made here."""


def run(*words: object, check: bool = True) -> str:
    """Output and errors of a program, as one text. Raises Unfit where it is missing or, with `check`, fails."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unfit(f"{words[0]} is not installed") from error
    if check and done.returncode != 0:
        raise Unfit(f"{' '.join(str(word) for word in words)}: {done.stdout.strip()[-400:]}")
    return done.stdout


def make_medium(folder: Path) -> Path:
    """A hybrid ISO as KIWI makes it: label RECON on the whole disk and on partition 1, an EFI partition behind it."""
    content = folder / "content"
    content.mkdir()
    (content / "kernel").write_bytes(bytes(1 << 20))
    efi = folder / "efi.img"
    efi.write_bytes(bytes(1 << 20))
    image = folder / "medium.iso"
    run(
        "xorriso",
        "-as",
        "mkisofs",
        "-V",
        "RECON",
        "-o",
        image,
        "-partition_offset",
        "16",
        "-appended_part_as_gpt",
        "-append_partition",
        "2",
        "0xef",
        efi,
        content,
    )
    # Room behind the image, where the stick has its data partition.
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size + (4 << 20))
    return image


def attach(image: Path) -> str:
    """Attaches the image and gives the loop device's name, with its partitions there."""
    name = run("losetup", "--find", "--show", image).strip().rsplit("/", 1)[1]
    try:
        # By partx and not by the kernel, which need not know this kind of partition table.
        run("partx", "--add", f"/dev/{name}")
        if not Path(f"/sys/class/block/{name}p1/partition").exists():
            raise Unfit(f"the kernel shows no partition 1 of /dev/{name}")
    except Unfit:
        detach(name)
        raise
    return name


def detach(name: str) -> None:
    run("partx", "--delete", f"/dev/{name}", check=False)
    run("losetup", "--detach", f"/dev/{name}", check=False)


def enter(root: Path, device: str) -> None:
    """Gives ROOT a /dev with nothing but the device, an empty /run and this kernel's /sys, for this process and its children.

    The caller is in a mount namespace of its own, so it all goes away with it.
    """
    for kind, place in (("tmpfs", "dev"), ("tmpfs", "run"), ("sysfs", "sys"), ("proc", "proc")):
        run("mount", "-t", kind, kind, root / place)
    # /dev/null is character device 1:3 (devices.txt of the kernel).
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o660, os.makedev(1, 3))
    for name in (device, f"{device}p1", f"{device}p2"):
        source = Path(f"/sys/class/block/{name}/dev")
        if source.exists():
            major, minor = source.read_text().strip().split(":")
            os.mknod(root / "dev" / name, stat.S_IFBLK | 0o660, os.makedev(int(major), int(minor)))


def udevadm(root: Path, *words: object, check: bool = True) -> str:
    return run("chroot", root, "udevadm", *words, check=check)


def lay_rules(root: Path, names: list[str]) -> None:
    """Puts rule files where they come before those of the same name in ROOT; ours that are not named are switched off."""
    folder = root / "run/udev/rules.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "50-recon-test-place.rules").write_text(PLACE_RULES)
    for path in RULES.iterdir():
        target = folder / path.name
        if path.name in names:
            shutil.copy(path, target)
        else:
            target.symlink_to("/dev/null")
    # A tree of an older build may hold the file under its former name.
    if (root / "usr/lib/udev/rules.d/61-recon-medium.rules").exists():
        (folder / "61-recon-medium.rules").symlink_to("/dev/null")


def links(root: Path, name: str) -> tuple[set[str], str]:
    """The links below /dev/disk that udev would give the device, and all that udevadm said."""
    text = udevadm(root, "test", "--action=add", f"/sys/class/block/{name}")
    properties = dict(re.findall(r"^\s*(?:E: )?([A-Z_.]+)=(.*)$", text, re.MULTILINE))
    if properties.get("DEVNAME") != f"/dev/{name}":
        raise Unfit(f"udevadm test says nothing of /dev/{name}: {text.strip()[-400:]}")
    record(root, properties)
    return {link.replace("/dev/disk/", "") for link in properties.get("DEVLINKS", "").split()}, text


def record(root: Path, properties: dict[str, str]) -> None:
    """Writes down the properties as udevd does, for the partitions to take from the disk. Newer udevadm tests leave that out."""
    file = root / f"run/udev/data/b{properties['MAJOR']}:{properties['MINOR']}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "I:1\n"
        + "".join(f"E:{name}={value}\n" for name, value in sorted(properties.items()) if name.startswith("ID_"))
        + "V:1\n"
    )


def complaints(text: str, names: list[str]) -> list[str]:
    """Lines in which udevadm finds fault with one of the files."""
    return [line.strip() for line in text.splitlines() if any(name in line for name in names) and COMPLAINT.search(line)]


def claims(of: set[str]) -> set[str]:
    """The links that are made of what lies on the medium, not of the device."""
    return {link for link in of if link.split("/")[0] in ("by-label", "by-uuid")}


def check(root: Path, device: str) -> list[str]:
    names = sorted(path.name for path in RULES.iterdir())
    partition = f"{device}p1"
    # Without the rule both must claim the label, or this tree cannot show the fault.
    lay_rules(root, [])
    before, _ = links(root, device)
    before_part, _ = links(root, partition)
    for name, of in ((device, before), (partition, before_part)):
        if "by-label/RECON" not in of or len(claims(of)) != 2:
            raise Unfit(f"without the rule, {name} has {sorted(of)}: label and UUID were expected")

    lay_rules(root, names)
    disk, said = links(root, device)
    part, said_part = links(root, partition)
    found = complaints(said + "\n" + said_part, names)
    if found:
        raise Wrong("udevadm complains: " + "; ".join(dict.fromkeys(found)))
    if claims(disk):
        raise Wrong(f"the whole disk has {' '.join(sorted(claims(disk)))}: only partition 1 may")
    if claims(part) != claims(before_part):
        raise Wrong(
            f"partition 1 has {' '.join(sorted(claims(part))) or 'no link'}, must have {' '.join(sorted(claims(before_part)))}"
        )
    lost = (before - claims(before) - disk) | (before_part - part)
    if lost or f"by-path/{PLACE}" not in disk or f"by-path/{PLACE}-part1" not in part:
        raise Wrong(f"links that are not by label or UUID are lost: {' '.join(sorted(lost)) or 'by-path'}")
    return names


def verify(root: Path, names: list[str]) -> tuple[int, str]:
    """`udevadm verify` (systemd 254 and later) over our files; a sentence for the person who runs this."""
    found = re.match(r"\d+", udevadm(root, "--version"))
    if found is None:
        raise Unfit("udevadm does not say its version")
    version = int(found[0])
    if version < 254:
        return version, "this udevadm has no verify"
    done = subprocess.run(
        ["chroot", str(root), "udevadm", "verify", *(f"/run/udev/rules.d/{name}" for name in names)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise Wrong(f"udevadm verify: {done.stdout.strip()}")
    return version, "udevadm verify passed"


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if os.environ.get("RECON_UDEV_RULE_NAMESPACE") != "1":
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, sys.argv[1]],
            env={**os.environ, "RECON_UDEV_RULE_NAMESPACE": "1"},
            check=False,
        ).returncode
    root = Path(sys.argv[1]).resolve()
    try:
        if not any((root / place).exists() for place in ("bin/udevadm", "usr/bin/udevadm", "sbin/udevadm")):
            raise Unfit(f"{root} holds no udevadm")
        with tempfile.TemporaryDirectory() as folder:
            device = attach(make_medium(Path(folder)))
            try:
                enter(root, device)
                names = check(root, device)
                version, verified = verify(root, names)
            finally:
                detach(device)
    except Wrong as error:
        print(f"udev rules: {error}", file=sys.stderr)
        return 1
    except (Unfit, OSError, subprocess.TimeoutExpired) as error:
        print(f"udev rules: cannot be checked: {error}", file=sys.stderr)
        return 2
    print(f"udev rules with systemd {version}: only partition 1 is RECON, no other link is lost, no complaint; {verified}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
