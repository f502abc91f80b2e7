"""The image of target `bootloader`, made from a small stand-in of an ISO: do programs that had no part in it read it, and is damage noticed?"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

from test_shell import TOP, shell

CALL = TOP / "tools" / "call.sh"
SECTOR = 512
# Debian's place for GRUB's parts for BIOS, and openSUSE's.
GRUB = next((path for path in (Path("/usr/lib/grub/i386-pc"), Path("/usr/share/grub2/i386-pc")) if path.is_dir()), None)
PROGRAMS = ("xorriso", "sgdisk", "sfdisk", "mkfs.vfat", "fsck.fat", "mcopy", "mdir", "mtype", "zstd")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None] + ([] if GRUB else ["GRUB for BIOS"])

_LINE = "console=tty0 quiet panic=30 root=live:CDLABEL=RECON rd.live.image rd.live.overlay.overlayfs=1 rd.neednet=0 noresume rd.md=0"
MENU = f"""set default=0
menuentry "recon" --id run {{
    linux ($root)/boot/x86_64/loader/linux {_LINE}
}}
"""
SETTINGS = b'[boot]\r\nurl = "http://boot.example/boot.ipxe"\r\n'
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nTU1N\n-----END CERTIFICATE-----\n"


def run(*argv: str | Path, **environment: str) -> str:
    """A program's output; its failure is an error that shows it."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PATH": PATH, **environment})
    if done.returncode != 0:
        raise AssertionError(f"{argv}: status {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def stand_in(folder: Path, **replaced: bytes | None) -> Path:
    """An ISO with what the image is made of. `replaced` are files by the last part of their name up to the dot; None leaves one out."""
    assert GRUB is not None
    files = {
        "EFI/BOOT/bootx64.efi": b"MZ shim" * 9000, "EFI/BOOT/grubx64.efi": b"MZ grub" * 20000, "EFI/BOOT/grub.cfg": b"of the ISO",
        "EFI/debian/grub.cfg": b"of the ISO", "boot/grub/grub.cfg": MENU.encode(), "boot/x86_64/loader/linux": b"kernel" * 50000,
        "boot/x86_64/first/base.img": b"base" * 40000, "boot/x86_64/first/ports.img": b"port" * 70000,
    }
    tree = folder / "iso"
    shutil.copytree(GRUB, tree / "boot/grub/i386-pc", ignore=shutil.ignore_patterns("*.module", "load.cfg", "grub.cfg"))
    for name, content in files.items():
        content_now = replaced.get(Path(name).stem, content)
        if content_now is not None:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(content_now)
    if "boot" in replaced:
        (tree / "boot/grub/i386-pc/boot.img").write_bytes(replaced["boot"] or b"")
    iso = folder / "stand-in.iso"
    run("xorriso", "-outdev", iso, "-map", tree, "/")
    shutil.rmtree(tree)
    return iso


@unittest.skipIf(MISSING, f"missing here, and installed by a build: {', '.join(MISSING)}")
class BootImage(unittest.TestCase):
    folder: Path
    iso: Path
    image: Path

    @classmethod
    def setUpClass(cls) -> None:
        kept = tempfile.TemporaryDirectory()
        cls.addClassCleanup(kept.cleanup)
        cls.folder = Path(kept.name)
        cls.iso = stand_in(cls.folder)
        cls.image = cls.make("plain.img")

    @classmethod
    def make(cls, name: str, *words: Path, **environment: str) -> Path:
        """An image with these settings and certificates."""
        image = cls.folder / name
        run(CALL, "boot_image_of", cls.iso, image, *words, **environment)
        return image

    def partitions(self) -> list[dict[str, object]]:
        table: list[dict[str, object]] = json.loads(run("sfdisk", "--json", self.image))["partitiontable"]["partitions"]
        return table

    def fat(self, image: Path) -> str:
        """The file system in an image, as mtools names it."""
        return f"{image}@@{2048 * SECTOR}"

    def read(self, image: Path, path: str) -> bytes:
        return subprocess.run(["mtype", "-i", self.fat(image), f"::/{path}"], capture_output=True, timeout=60, check=True).stdout

    def test_the_table_has_both_partitions_and_no_fault(self) -> None:
        self.assertIn("No problems found", run("sgdisk", "--verify", self.image))
        bios, esp = self.partitions()
        # The types of the BIOS boot partition (GRUB's manual) and of the EFI system partition (UEFI 2.10, 5.3.3).
        self.assertEqual((bios["start"], bios["type"]), (40, "21686148-6449-6E6F-744E-656564454649"))
        self.assertEqual((esp["start"], esp["type"], esp["name"]), (2048, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "RECON-BOOT"))

    def test_a_bios_finds_its_way_to_grub(self) -> None:
        raw = self.image.read_bytes()
        self.assertEqual(raw[446 + 4], 0xEE, "the table for old programs protects the whole disk")
        self.assertEqual(int.from_bytes(raw[0x5C:0x64], "little"), 40)
        first = raw[40 * SECTOR:41 * SECTOR]
        start, count, segment = int.from_bytes(first[0x1F4:0x1FC], "little"), int.from_bytes(first[0x1FC:0x1FE], "little"), first[0x1FE:]
        self.assertEqual((start, segment), (41, b"\x20\x08"))
        # All of GRUB is read, and nothing of the next partition.
        self.assertTrue(any(raw[(start + count - 1) * SECTOR:(start + count) * SECTOR]))
        self.assertFalse(any(raw[(start + count) * SECTOR:2048 * SECTOR]))
        self.assertLess(start + count, 2048)

    def test_the_file_system_is_a_whole_fat32_with_every_file(self) -> None:
        alone = self.folder / "alone.fat"
        raw = self.image.read_bytes()
        size = self.partitions()[1]["size"]
        assert isinstance(size, int)
        alone.write_bytes(raw[2048 * SECTOR:(2048 + size) * SECTOR])
        run("fsck.fat", "-n", alone)
        self.assertEqual(raw[2048 * SECTOR + 82:2048 * SECTOR + 90], b"FAT32   ")
        listed = {line.strip().removeprefix("::/") for line in run("mdir", "-b", "-/", "-i", alone, "::/").splitlines()}
        self.assertEqual({name for name in listed if not name.endswith("/")}, {
            "EFI/BOOT/bootx64.efi", "EFI/BOOT/grubx64.efi", "EFI/BOOT/grub.cfg", "EFI/debian/grub.cfg",
            "recon/kernel", "recon/base.img", "recon/ports.img", "recon/grub.cfg", "recon.txt",
        })
        self.assertEqual(self.read(self.image, "recon/kernel"), b"kernel" * 50000)
        self.assertEqual(self.read(self.image, "EFI/BOOT/grubx64.efi"), b"MZ grub" * 20000)

    def test_every_place_of_a_menu_leads_to_the_one_menu(self) -> None:
        for name in ("EFI/BOOT/grub.cfg", "EFI/debian/grub.cfg"):
            self.assertIn(b"\nconfigfile /recon/grub.cfg\n", self.read(self.image, name))
        menu = self.read(self.image, "recon/grub.cfg").decode()
        # The words that keep disks safe are the ISO's own; what names its root is not among them.
        self.assertIn("linux /recon/kernel recon.boot=settings console=tty0 quiet panic=30 noresume rd.md=0\n", menu)
        # Whoever puts one of these beside the settings, today or later, finds it in the initrd.
        self.assertIn('newc:etc/recon/boot.toml:/recon.txt"', menu)
        for path in ("ca.pem", "token"):
            self.assertIn(f'if [ -f /{path} ]; then set given="$given newc:etc/recon/{path}:/{path}"; fi\n', menu)
        self.assertIn("initrd /recon/base.img $given /recon/ports.img\n", menu)

    def test_the_settings_can_be_edited_anywhere_and_are_read_as_they_are(self) -> None:
        example = self.read(self.image, "recon.txt")
        lines = example.split(b"\n")
        self.assertTrue(all(line.endswith(b"\r") for line in lines[:-1]))
        self.assertTrue(all(len(line) <= 81 for line in lines))
        self.assertEqual(tomllib.loads(example.decode()), {"boot": {}, "network": {}})

    def test_every_line_of_the_example_is_a_setting_once_its_mark_is_gone(self) -> None:
        example = self.read(self.image, "recon.txt").decode()
        on = "\n".join(line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in example.splitlines())
        self.assertEqual({name: set(part) for name, part in tomllib.loads(on).items()},
                         {"boot": {"url", "only-ca", "token-file", "header", "proxy", "append", "method", "on-failure", "sha256"},
                          "assisted": {"infra-env", "api", "refresh-token-file", "token-url"},
                          "network": {"port", "bond", "bond-mode", "vlan", "address", "gateway", "dns"}})

    def test_settings_and_certificates_are_taken_byte_by_byte(self) -> None:
        settings, ca = self.folder / "mine.toml", self.folder / "mine.pem"
        settings.write_bytes(SETTINGS)
        ca.write_bytes(CERTIFICATE)
        image = self.make("mine.img", settings, ca)
        self.assertEqual((self.read(image, "recon.txt"), self.read(image, "ca.pem")), (SETTINGS, CERTIFICATE))
        self.assertEqual(image.stat().st_mode & 0o777, 0o600, "there may be secrets in it")

    def test_the_packed_copy_is_the_image_and_as_private(self) -> None:
        image = self.folder / "private.img"
        shutil.copyfile(self.image, image)
        image.chmod(0o600)
        done = shell(f"pack_boot_image {image}", PATH=PATH)
        self.assertEqual(done.returncode, 0, done.stderr)
        packed = image.with_name("private.img.zst")
        self.assertEqual(packed.stat().st_mode & 0o777, 0o600)
        self.assertEqual(subprocess.run(["zstd", "-dc", packed], capture_output=True, timeout=60, check=True).stdout, image.read_bytes())

    def test_the_same_files_make_the_same_image(self) -> None:
        again = self.make("again.img", TZ="Asia/Tokyo")
        self.assertEqual(again.read_bytes(), self.image.read_bytes())

    def test_damage_is_noticed(self) -> None:
        raw = self.image.read_bytes()
        places = {
            "MBR code": 0x80, "signature of the MBR": 510, "header of the table": SECTOR + 0x48, "an entry of the table": 2 * SECTOR + 0x38,
            "GRUB": 60 * SECTOR, "second copy of the table": len(raw) - SECTOR, "boot sector of the file system": 2048 * SECTOR + 13,
            "a table of the file system": 2100 * SECTOR, "a file": raw.index(b"kernelkernel") + 5000,
        }
        folder = self.folder / "damaged"
        folder.mkdir()
        script = f"cd {folder}; ISO={self.iso} SETTINGS='' CA=''; gather_boot_files parts >&2; make_boot_image parts whole /dev/null >&2\n"
        for at in (None, *places.values()):
            script += "cp whole.new it; "
            if at is not None:
                script += f"printf '\\x{raw[at] ^ 0x55:02x}' | dd of=it bs=1 seek={at} conv=notrunc status=none; "
            script += "set +e; (set -e; check_boot_image parts it >&2); echo $?; set -e\n"
        done = shell(script, PATH=PATH)
        self.assertEqual(done.returncode, 0, done.stderr)
        whole, *damaged = done.stdout.split()
        self.assertEqual(whole, "0", done.stderr)
        self.assertEqual([name for name, status in zip(places, damaged, strict=True) if status == "0"], [])

    def test_too_large_an_image_fails_and_says_what_grew(self) -> None:
        kept = self.folder / "kept.tsv"
        kept.write_text("image\t30000000\nbase.img\t160000\nkernel\t300000\nports.img\t10000\nloaders\t500000\n")
        done = shell(f"ISO={self.iso} SETTINGS='' CA='' BOOT_IMAGE_LIMIT=1000000; gather_boot_files {self.folder}/big; "
                     f"make_boot_image {self.folder}/big {self.folder}/big.img {kept}", PATH=PATH)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"error: the image has \d+ bytes, more than 1000000: image .* since the last one: image \+.*ports.img \+0.3 MB")
        self.assertFalse((self.folder / "big.img").exists())

    def ended(self, changed: str) -> tuple[int, str, set[str]]:
        """A run of the target in which `changed` goes before; its status, what it printed, and what it leaves beside its log."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "builds/x").mkdir(parents=True)
            settings = folder / "mine.toml"
            settings.write_bytes(SETTINGS)
            script = (f"umask 022; TOP={folder} ISO={self.iso} SETTINGS={settings} CA=''; log_to {folder}/log; "
                      f"{changed}\nmake_bootloader x")
            done = shell(script, PATH=PATH)
            return done.returncode, done.stdout + done.stderr + (folder / "log").read_text(), {path.name for path in (folder / "builds/x").iterdir()}

    def test_no_end_leaves_what_was_begun(self) -> None:
        self.assertEqual(self.ended("")[::2], (0, {"recon-x-boot.img", "recon-x-boot.img.zst", "boot-sizes.tsv"}))
        image = {"recon-x-boot.img"}
        for changed, status, left in (
            ("make_grub_for_bios() { false; }", 1, set()),
            ("BOOT_IMAGE_LIMIT=1000000", 1, set()),
            ("check_boot_image() { false; }", 1, set()),
            ("zstd() { command zstd \"$@\"; false; }", 1, image),
            # As Ctrl-C, a lost terminal and a stop of a service do: all that runs hears it.
            ("make_boot_image() { kill -INT 0; sleep 5; }", -signal.SIGINT, set()),
            ("make_boot_image() { kill -HUP 0; sleep 5; }", 129, set()),
            ("make_boot_image() { kill -TERM 0; sleep 5; }", 143, set()),
        ):
            self.assertEqual(self.ended(changed)[::2], (status, left), changed)

    def test_an_image_of_before_is_told_from_a_new_one(self) -> None:
        images = {"recon-x-boot.img", "recon-x-boot.img.zst"}
        before = 'for name in img img.zst; do touch --date "2001-02-03 04:05:06" "$TOP/builds/x/recon-x-boot.$name"; done; '
        for changed, left in (
            ("check_boot_image() { false; }", images),
            ("gather_boot_files() { false; }", images),
            # It is the new one by then, of which there is no packed copy.
            ('zstd() { command zstd "$@"; false; }', {"recon-x-boot.img"}),
        ):
            status, told, stays = self.ended(before + changed)
            self.assertEqual((status, stays), (1, left), changed)
            is_old = "recon-x-boot.img is the one of before, of 2001-02-03 04:05:06" in told
            self.assertEqual(is_old, left == images, told)
        self.assertNotIn("of before", self.ended(before)[1])

    def test_settings_are_for_the_owner_alone_and_a_signal_waits_for_what_was_started(self) -> None:
        look = "stat --format='%a %n' \"$1\" \"$2\"; "
        status, told, left = self.ended(f"check_boot_image() {{ {look}kill -TERM $$; sleep 0.5; echo it writes >\"$1/late\"; cat \"$1/late\"; }}")
        self.assertEqual((status, left), (143, set()))
        self.assertIn("it writes\n", told)
        self.assertRegex(told, r"(?m)^700 /.*/builds/x/boot$")
        self.assertRegex(told, r"(?m)^600 /.*/builds/x/recon-x-boot.img.new$")

    def refused(self, **replaced: bytes | None) -> str:
        with tempfile.TemporaryDirectory() as folder:
            iso = stand_in(Path(folder), **replaced)
            done = subprocess.run([CALL, "boot_image_of", iso, f"{folder}/x.img"], capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual([path.name for path in Path(folder).iterdir()], ["stand-in.iso"])
            return done.stdout

    def test_an_iso_that_lacks_something_is_refused_with_its_name(self) -> None:
        self.assertIn("no such file in it: /boot/x86_64/first/ports.img", self.refused(ports=None))
        self.assertIn("not laid out as those of GRUB 2", self.refused(boot=bytes(512)))


class Words(unittest.TestCase):
    """What --settings and --ca may be."""

    def told(self, *words: str | Path) -> str:
        done = subprocess.run([TOP / "make-recipe-target", *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        return done.stderr

    def test_what_is_refused_here_is_what_a_machine_would_refuse(self) -> None:
        read = {}
        for file, constant in (("boot_node.rs", "MAX_SETTINGS_BYTES"), ("boot_from/way.rs", "MAX_FILE_BYTES")):
            found = re.search(rf"^const {constant}: u64 = (\d+) << (\d+);$", (TOP / "src/role" / file).read_text(), re.MULTILINE)
            assert found is not None, constant
            read[constant] = int(found[1]) << int(found[2])
        settings, ca, spare = (int(word) for word in shell("echo $BOOT_SETTINGS_LIMIT $BOOT_CA_LIMIT $((ESP_SPARE * 512))").stdout.split())
        self.assertEqual(settings, read["MAX_SETTINGS_BYTES"])
        # Certificates that are put there later have room beside settings and a token of their full size, each with a cluster of its own.
        self.assertLessEqual(ca, read["MAX_FILE_BYTES"])
        self.assertLessEqual(ca + settings + (8 << 10) + 3 * 512, spare)

    def test_the_longest_that_people_are_told_is_what_is_read(self) -> None:
        self.assertIn("const MAX_BYTES: usize = 8 << 10;\n", (TOP / "src/config/boot_sources.rs").read_text())
        readme = (TOP / "README.md").read_text()
        for text in ((TOP / "src/config/boot.toml").read_text(), readme[readme.index("### An image that starts"):readme.index("### What was booted")]):
            self.assertIn("64 KiB", text)
            self.assertIn("8 KiB", text)

    def test_what_they_name(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            key = b"-----BEGIN PRIVATE KEY-----\nTU1N\n-----END PRIVATE KEY-----\n"
            for option, content, wanted in (
                ("--settings", None, "no such file that can be read"),
                ("--settings", SETTINGS.decode().encode("utf-16"), "not a text in UTF-8"),
                ("--settings", b"\0" * 8, "not a text in UTF-8"),
                ("--settings", b"#" * 65537, "more than 64 KiB"),
                # As much as goes: what is wrong is said, and it is not the size.
                ("--settings", b"#" * 65535 + b"\0", "not a text in UTF-8"),
                ("--ca", b"#" * 2097153, "more than 2048 KiB"),
                ("--ca", b"#" * 2097152, "no certificate in PEM format"),
                ("--ca", b"what is this", "no certificate in PEM format"),
                ("--ca", CERTIFICATE + key, "there is a private key in it"),
            ):
                file = folder / "file"
                file.unlink(missing_ok=True)
                if content is not None:
                    file.write_bytes(content)
                # Of a recipe that there is not, nothing is built either where it is not refused.
                self.assertIn(wanted, self.told("none", "bootloader", option, file), content and content[:40])
                self.assertIn(wanted, self.told("none", "bootloader", f"{option}={file}"))
            file.write_bytes(CERTIFICATE)
            self.assertIn("go with the target bootloader", self.told("debian-13", "check", "--ca", file))
            self.assertIn("no such file", self.told("none", "bootloader", "--settings", ""))


if __name__ == "__main__":
    unittest.main()
