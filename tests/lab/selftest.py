#!/usr/bin/env python3
"""Do the laboratory's own judges judge rightly? Needs neither root nor QEMU; takes a few seconds.

A judge that never fails proves nothing, so most of these damage something and expect that to be noticed.
"""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from vdc import capture, collect, console, dhcp, disks, exfat, firmware, gpt, nvram, nvram_seed, report, stick, stick_files, tools
from vdc.errors import LabError

_PACKETS = Path(__file__).resolve().parents[1] / "fixtures" / "packets"


class InFolder(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


class Packets(unittest.TestCase):
    def test_captured_firmware_is_recognised(self) -> None:
        ovmf = dhcp.parse((_PACKETS / "ovmf-efi-discover.bin").read_bytes())
        self.assertEqual((ovmf.kind, ovmf.arch, ovmf.is_ipxe), ("discover", 7, False))
        ipxe = dhcp.parse((_PACKETS / "ipxe-bios-request.bin").read_bytes())
        self.assertEqual((ipxe.kind, ipxe.arch, ipxe.is_ipxe), ("request", 0, True))

    def test_a_built_packet_reads_back(self) -> None:
        packet = dhcp.parse(dhcp.build(1, "52:54:00:00:00:01", 7, {93: b"\0\7", 60: b"PXEClient"}))
        self.assertEqual((packet.kind, packet.mac, packet.xid, packet.arch), ("discover", "52:54:00:00:00:01", 7, 7))

    def test_torn_packets_are_read_or_refused(self) -> None:
        whole = (_PACKETS / "ovmf-efi-discover.bin").read_bytes()
        for size in range(len(whole)):
            try:
                dhcp.parse(whole[:size])
            except LabError:
                self.assertLess(size, 240)


class Captures(InFolder):
    def test_a_torn_last_record_ends_the_reading(self) -> None:
        frame = bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH4s4s", 0x45, 0, 29, 0, 0, 64, 17, 0, bytes(4), bytes(4))
        frame += struct.pack(">HHHH", 68, 67, 9, 0) + b"x"
        record = struct.pack("<IIII", 5, 500000, len(frame), len(frame)) + frame
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        path = self.folder / "a.pcap"
        path.write_bytes(head + record + record[:20])
        found = list(capture.datagrams(path))
        self.assertEqual([(d.at, d.source_port, d.payload) for d in found], [(5.5, 68, b"x")])


class Lines(unittest.TestCase):
    def test_terminal_control_is_removed(self) -> None:
        self.assertEqual(console.clean(b"\x1b[2J\x1b[01;01H\x1b[0m>>Start PXE over IPv4.\x1b[!p\r\n"), ">>Start PXE over IPv4.")

    def test_table_columns_line_up(self) -> None:
        self.assertEqual(report.table([["a", "bb"], ["ccc", "d"]], ""), "a    bb\nccc  d")


class Sticks(InFolder):
    def _stick(self) -> Path:
        path = self.folder / "stick.raw"
        with path.open("wb") as file:
            file.truncate(64 << 20)
        tools.run(["sgdisk", "-n", "1:2048:40959", "-c", "1:ISO9660", str(path)])
        with path.open("r+b") as file:
            file.truncate(256 << 20)
        return path

    def test_a_partition_is_added_behind_the_image_and_files_are_whole(self) -> None:
        path = self._stick()
        files = {"recon.toml": b'site = "x"\n', "post.tgz": stick_files.post_tgz(["A"]), "empty": b""}
        part = stick.add_data_partition(path, files)  # runs fsck.exfat
        self.assertEqual(gpt.find(path, stick.LABEL), part)
        self.assertIn("No problems found", tools.run(["sgdisk", "-v", str(path)]))
        content = path.read_bytes()[part.offset : part.offset + part.size]
        for data in files.values():
            self.assertIn(data, content)

    def test_a_full_stick_has_no_room(self) -> None:
        path = self._stick()
        stick.add_data_partition(path, {})
        with self.assertRaises(LabError):
            gpt.add(path, "MORE")

    def test_fsck_sees_what_the_writer_would_do_wrong(self) -> None:
        image = self.folder / "data.img"
        with image.open("wb") as file:
            file.truncate(32 << 20)
        tools.run(["mkfs.exfat", str(image)])
        exfat.write_files(image, {"a": b"x" * 100000})
        tools.run(["fsck.exfat", "-n", str(image)])
        damaged = image.read_bytes().replace(b"\x85\x02", b"\x85\x03", 1)
        image.write_bytes(damaged)
        done = subprocess.run([tools.path_of("fsck.exfat"), "-n", str(image)], capture_output=True, check=False)
        self.assertNotEqual(done.returncode, 0)


class Disks(InFolder):
    def test_same_seed_same_disk_and_every_byte_counts(self) -> None:
        for kind in ("raid", "lvm", "random"):
            one, two = self.folder / "one", self.folder / "two"
            disks.make(kind, one, 5)
            disks.make(kind, two, 5)
            self.assertEqual(disks.sha256(one), disks.sha256(two), kind)
            with two.open("r+b") as file:
                file.seek(disks.SIZE - 1)
                file.write(b"\1")
            self.assertNotEqual(disks.sha256(one), disks.sha256(two), kind)


class Nvram(InFolder):
    def _store(self, *variables: tuple[int, str, bytes]) -> Path:
        """The firmware's own empty store with variables written into it: (state, name, data)."""
        blob = bytearray(firmware.uefi().variables.read_bytes())
        at = struct.unpack("<H", blob[48:50])[0] + 28
        for state, name, data in variables:
            text = (name + "\0").encode("utf-16-le")
            head = (0x55AA, state, 0, 7, 0, bytes(16), 0, len(text), len(data), bytes(16))
            body = struct.pack("<HBBIQ16sIII16s", *head) + text + data
            blob[at : at + len(body)] = body
            at = (at + len(body) + 3) & ~3
        path = self.folder / f"store{len(list(self.folder.iterdir()))}"
        path.write_bytes(blob)
        return path

    def test_only_live_variables_count(self) -> None:
        before = nvram.read(self._store((0x3F, "Boot0000", b"a")))
        # Rewritten with the same data: the old copy is marked deleted, the new one stands behind it.
        same = nvram.read(self._store((0x3C, "Boot0000", b"a"), (0x3F, "Boot0000", b"a")))
        self.assertEqual(nvram.differences(before, same), [])

    def test_a_variable_that_is_being_written_is_noticed(self) -> None:
        path = self._store((0x3F, "A", b"a"))
        blob = bytearray(path.read_bytes())
        whole = bytes(blob)
        at = (struct.unpack("<H", blob[48:50])[0] + 28 + 60 + 4 + 1 + 3) & ~3
        # The first fields of a header are there, the sizes are still erased flash; as a guest left it that was killed there.
        blob[at : at + 60] = bytes.fromhex("aa55ff0003000000") + b"\xff" * 52
        path.write_bytes(blob)
        with self.assertRaises(LabError):
            nvram.read(path)
        # A guest in that state is let go on until the variable is written.
        sent: list[str] = []

        def command(name: str) -> None:
            sent.append(name)
            if name == "cont":
                path.write_bytes(whole)

        machine = mock.Mock(nvram=path)
        machine.qmp.command = command
        nvram_seed.stop_between_writes(machine, 5.0)
        self.assertEqual(sent, ["stop", "cont", "stop"])

    def test_new_gone_and_changed_are_told(self) -> None:
        before = nvram.read(self._store((0x3F, "A", b"a"), (0x3F, "B", b"b")))
        after = nvram.read(self._store((0x3C, "A", b"a"), (0x3F, "B", b"c"), (0x3F, "C", b"d")))
        said = nvram.differences(before, after)
        self.assertEqual([line.split()[1] for line in said], ["gone", "changed", "new"])


class InventoryTarballs(InFolder):
    def _tarball(self, files: dict[str, bytes], sums: str) -> Path:
        path = self.folder / "a.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in {**files, "SHA256SUMS": sums.encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    def test_whole(self) -> None:
        name = "nodes/mac-1/inventory.json"
        sums = f"{hashlib.sha256(b'{}').hexdigest()}  {name}\n"
        self.assertEqual(collect.read(self._tarball({name: b"{}"}, sums)).nodes, {"mac-1"})

    def test_damaged_unlisted_absent_and_torn(self) -> None:
        name = "nodes/mac-1/inventory.json"
        sums = f"{hashlib.sha256(b'{}').hexdigest()}  {name}\n"
        for files, listed in (({name: b"[]"}, sums), ({name: b"{}"}, ""), ({}, sums)):
            with self.assertRaises(LabError):
                collect.read(self._tarball(files, listed))
        path = self._tarball({name: b"{}"}, sums)
        path.write_bytes(path.read_bytes()[:-20])
        with self.assertRaises(LabError):
            collect.read(path)


if __name__ == "__main__":
    unittest.main()
