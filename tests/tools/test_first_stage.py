"""tools/first_stage.py finds what is wrong with a first stage, each fault by itself."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))

import first_stage  # noqa: E402 # its folder is named first

DEVICES = 100
TABLE = "except\tdrivers/net/wan/*\tserial lines\nnever\tdrivers/watchdog/*\tresets\nrare\tdrivers/net/rare\told\nboot\tdrivers/net/vlan\tVLANs\n"
RECON = dict.fromkeys(first_stage.BASE, b"")


def archive(files: dict[str, bytes]) -> bytes:
    """Every path is a plain file; none that ends in a slash is asked for."""
    out = b""
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        fields = [number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return out


class Made:
    """A root tree with a network driver, one that needs another, and one each of what is left out; and its first stage."""

    def __init__(self, folder: Path) -> None:
        self.root, self.first, self.table = folder / "root", folder / "first", folder / "table.tsv"
        self.dependencies = {
            "net/nic": ["net/mii"], "net/mii": [], "net/rare": [], "net/wan/line": [], "net/virtio_net": [], "watchdog/softdog": [],
            "net/vlan": ["net/mrp"], "net/mrp": [],
        }
        self.aliases = [(f"pci:v00008086d{number:08X}sv*", "nic") for number in range(DEVICES)]
        self.aliases += [("pci:v1*", "rare"), ("pci:v2*", "line"), ("virtio:d1*", "virtio_net")]
        self.base = {**RECON, "usr/lib/modules/6/kernel/drivers/net/virtio_net.ko": b"v"}
        self.ports = {"nic": ["net/nic", "net/mii"], "rare": ["net/rare"]}
        self.any_port = ["net/nic", "net/mii", "net/vlan", "net/mrp"]
        self.patterns = [alias for alias in self.aliases if alias[1] != "line"]
        self.packed = {f"/usr/lib/modules/6/kernel/drivers/{path}.ko": path.encode() for path in ("net/nic", "net/mii", "net/rare")}
        self.places = {"virtio_net": "\tbase", "virtio_pci": "\tbase"}
        self.damage = 0
        self.modprobe_d = {"etc/modprobe.d/x.conf": "install evil-one /bin/false\n"}
        self.more_manifest = ""

    def _image(self, name: str, files: dict[str, bytes]) -> None:
        done = subprocess.run(["zstd", "--quiet", "--stdout"], input=archive(files), stdout=subprocess.PIPE, check=True)
        (self.first / name).write_bytes(done.stdout)

    @staticmethod
    def _modules(paths: list[str]) -> dict[str, bytes]:
        return {f"usr/lib/modules/6/kernel/drivers/{path}.ko": path.encode() for path in paths}

    def _manifest(self) -> str:
        rows, pack = ["kernel\t6"], b""
        for path, content in self.packed.items():
            member = gzip.compress(content, mtime=0)
            rows.append(f"file\t{path}\t644\t{len(pack)}\t{len(member)}\t{len(content)}\t{hashlib.sha256(content).hexdigest()}")
            pack += member
        # In the checksum of the last member.
        pack = pack[:-8] + bytes([pack[-8] ^ self.damage]) + pack[-7:]
        (self.first / "modules.pack").write_bytes(pack)
        for path in self.packed:
            rows.append(f"module\t{first_stage.name_of(path)}\t{path}\t\t\t")  # noqa: PERF401 # beside the rows before
        return "\n".join(rows) + "\n" + self.more_manifest

    def said(self) -> list[str]:
        """What the check says is wrong."""
        modules = self.root / "usr/lib/modules/6"
        for made in (modules, self.first / "port"):
            made.mkdir(parents=True)
        lines = [f"kernel/drivers/{path}.ko:{''.join(f' kernel/drivers/{need}.ko' for need in needs)}" for path, needs in self.dependencies.items()]
        (modules / "modules.dep").write_text("\n".join(lines) + "\n")
        (modules / "modules.alias").write_text("".join(f"alias {pattern} {name}\n" for pattern, name in self.aliases))
        (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
        for name, text in self.modprobe_d.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("/"):
                path.symlink_to(text)
            else:
                path.write_text(text)
        self.base[first_stage.MANIFEST] = self._manifest().encode()
        self._image("base.img", self.base)
        self._image("ports.img", self._modules(self.any_port))
        for name, paths in self.ports.items():
            self._image(f"port/{name}.img", self._modules(paths))
        (self.first / "ports.tsv").write_text("".join(f"{pattern}\t{name}{self.places.get(name, '')}\n" for pattern, name in self.patterns))
        self.table.write_text(TABLE)
        done = subprocess.run(
            [sys.executable, TOP / "tools/first_stage.py", "--root", self.root, "--first", self.first, "--table", self.table],
            capture_output=True, text=True, check=False,
        )
        errors = [line.removeprefix("error: ") for line in done.stdout.splitlines() if line.startswith("error: ")]
        if done.stderr or done.returncode != (1 if errors else 0):
            raise AssertionError(f"status {done.returncode}: {done.stderr}")
        self.names = [line for line in done.stdout.splitlines() if line.startswith("without an image")]
        return errors


class FirstStage(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.made = Made(Path(folder.name))

    def test_one_that_is_whole_passes_and_names_what_has_no_image(self) -> None:
        self.made.patterns.append(("pci:v00001AF4*", "virtio_pci"))
        self.assertEqual(self.made.said(), [])
        self.assertEqual(self.made.names, ["without an image: line (serial lines)"])

    def test_half_a_root_is_said(self) -> None:
        done = subprocess.run(
            [sys.executable, TOP / "tools/first_stage.py", "--root", "/nowhere", "--first", "/nowhere", "--table", TOP / "kiwi/common/first-stage.tsv"],
            capture_output=True, text=True, check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, "error: /nowhere has no kernel's modules (modules.dep): was its build broken off? Build the image again\n")

    def test_a_device_that_is_in_no_list(self) -> None:
        del self.made.patterns[3]
        self.assertEqual(self.made.said(), ["pci:v00008086d00000003sv* of nic is not in ports.tsv"])

    def test_a_driver_without_an_image(self) -> None:
        del self.made.ports["rare"]
        self.assertEqual(self.made.said(), [
            "rare is neither in port/rare.img nor in base.img", "ports.tsv has pci:v1* for rare, which is nowhere",
            "ports.tsv does not deny that rare has an image of its own",
        ])

    def test_a_driver_with_an_image_and_one_without_are_told_apart(self) -> None:
        self.made.places = {"nic": "\tbase"}
        self.assertEqual(self.made.said(), [
            "ports.tsv denies that nic has an image of its own", "ports.tsv does not deny that virtio_net has an image of its own",
        ])

    def test_an_image_that_is_not_whole(self) -> None:
        self.made.ports["nic"] = ["net/nic"]
        self.assertEqual(self.made.said(), ["mii is neither in port/nic.img nor in base.img"])

    def test_a_driver_that_is_missing_among_all_ports(self) -> None:
        self.made.any_port.remove("net/nic")
        self.assertEqual(self.made.said(), ["nic is not in ports.img, and no row of the table says why"])

    def test_what_the_boot_image_lacks_besides_ports(self) -> None:
        self.made.any_port.remove("net/mrp")
        self.assertEqual(self.made.said(), ["mrp is neither in ports.img nor in base.img"])

    def test_a_row_for_the_boot_image_that_fits_nothing(self) -> None:
        del self.made.dependencies["net/vlan"]
        self.made.any_port.remove("net/vlan")
        self.assertEqual(self.made.said(), ["no module fits drivers/net/vlan, which the table wants in ports.img"])

    def test_tables_that_name_hardly_any_device(self) -> None:
        self.made.aliases = self.made.patterns = [("pci:v1*", "rare")]
        self.assertIn("only 1 kinds of PCI devices", self.made.said()[0])

    def test_a_base_with_a_program_too_many_or_too_few(self) -> None:
        self.made.base["usr/bin/bash"] = b""
        self.made.base["usr/lib/modules/6/modules.dep"] = b""
        del self.made.base["init"]
        self.assertEqual(self.made.said(), ["base.img holds usr/bin/bash", "base.img holds usr/lib/modules/6/modules.dep", "base.img has no init"])

    def test_a_file_that_is_not_what_its_record_says(self) -> None:
        self.made.damage = 1
        self.assertIn("net/rare.ko does not come out of the pack", self.made.said()[0])

    def test_a_file_with_another_files_sum(self) -> None:
        path = next(iter(self.made.packed))
        self.made.more_manifest = f"file\t{path}\t644\t0\t{len(gzip.compress(b'net/nic'))}\t7\t{hashlib.sha256(b'net/nib').hexdigest()}\n"
        self.assertEqual(self.made.said(), [f"{path} in the pack is not what the manifest says"])

    def test_a_record_that_leads_nowhere(self) -> None:
        self.made.more_manifest = "module\tx\t/usr/lib/x.ko\t\t\t/usr/lib/firmware/x\ngroup\tshell\t/usr/bin/bash\n"
        self.assertEqual(
            self.made.said(),
            [f"the manifest names {path}, which is neither in the pack nor in base.img" for path in ("/usr/lib/x.ko", "/usr/lib/firmware/x", "/usr/bin/bash")],
        )

    def test_what_is_forbidden_by_table_or_modprobe(self) -> None:
        self.made.dependencies["scsi/evil-one"] = []
        self.made.ports["nic"].append("scsi/evil-one")
        self.made.packed["/usr/lib/modules/6/kernel/drivers/watchdog/softdog.ko"] = b"w"
        self.assertEqual(self.made.said(), ["modules.pack holds softdog, which is forbidden", "port/nic.img holds evil_one, which is forbidden"])

    def test_a_driver_that_modprobe_never_loads_has_no_image(self) -> None:
        for number, (place, line) in enumerate([
            ("etc", "blacklist old-{}"), ("run", " blacklist\told_{}"), ("usr/lib", "install old_{} /usr/bin/false"), ("lib", "install old-{} /bin/true "),
        ]):
            self.made.modprobe_d[f"{place}/modprobe.d/50-{number}.conf"] = f"# {line}s\n{line.format(number)}\n"
            self.made.dependencies[f"net/old-{number}"] = []
            self.made.aliases.append((f"pci:v9{number}*", f"old_{number}"))
        self.made.dependencies["net/on-evil"] = ["scsi/evil-one"]
        self.made.dependencies["scsi/evil-one"] = []
        self.made.aliases.append(("pci:v8*", "on_evil"))
        self.assertEqual(self.made.said(), [])
        self.assertEqual(self.made.names[1:], [
            "without an image: old_0, old_1, old_2, old_3 (blacklisted by modprobe.d)",
            "without an image: on_evil (it needs evil_one, which modprobe.d forbids)",
        ])

    def test_a_file_of_modprobe_d_counts_once_and_may_be_masked(self) -> None:
        self.made.modprobe_d |= {"usr/lib/modprobe.d/a.conf": "blacklist nic\n", "run/modprobe.d/a.conf": "/dev/null"}
        self.made.modprobe_d |= {"usr/lib/modprobe.d/b.conf": "blacklist nic\n", "etc/modprobe.d/b.conf": "# nothing\n"}
        self.assertEqual(self.made.said(), [])
        self.assertEqual(self.made.names, ["without an image: line (serial lines)"])


if __name__ == "__main__":
    unittest.main()
