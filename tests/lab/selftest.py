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

from vdc import (
    capture,
    collect,
    console,
    dhcp,
    disks,
    exfat,
    fetches,
    firmware,
    gpt,
    lacp_partner,
    measure,
    nvram,
    nvram_seed,
    report,
    stick,
    stick_files,
    tools,
    trunk_relay,
)
from vdc.errors import LabError

_PACKETS = Path(__file__).resolve().parents[1] / "fixtures" / "packets"


class InFolder(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


class Trunk(unittest.TestCase):
    FROM, TO = bytes(5) + b"\1", bytes(5) + b"\2"

    def test_a_tag_comes_off_as_it_went_on(self) -> None:
        frame = self.TO + self.FROM + b"\x08\0" + bytes(46)
        # IEEE 802.1Q: TPID, then three bits of priority, one, and twelve of the VLAN.
        self.assertEqual(trunk_relay.tagged(frame, 42)[12:18], bytes.fromhex("8100002a0800"))
        self.assertEqual(trunk_relay.untagged(trunk_relay.tagged(frame, 42)), (frame, 42))
        self.assertEqual(trunk_relay.untagged(frame), (frame, None))
        # include/uapi/linux/if_packet.h: status, three lengths, two offsets, tci and tpid.
        self.assertEqual(trunk_relay.tag_beside(struct.pack("IIIHHHH", 0x11, 60, 60, 0, 14, 0xE02A, 0x8100)), 42)
        self.assertIsNone(trunk_relay.tag_beside(struct.pack("IIIHHHH", 0x01, 60, 60, 0, 14, 42, 0x8100)))

    def test_each_is_answered_as_it_speaks(self) -> None:
        port = trunk_relay.Port(42)
        frame, answer = self.TO + self.FROM + bytes(48), self.FROM + self.TO + bytes(48)
        self.assertEqual(port.inwards(frame, 7), [], "another VLAN")
        self.assertEqual(len(port.outwards(answer)), 2, "nobody knows how it speaks")
        self.assertEqual(port.inwards(frame, 42), [frame])
        self.assertEqual(port.outwards(answer), [trunk_relay.tagged(answer, 42)])
        self.assertEqual(port.inwards(frame, None), [frame])
        self.assertEqual(port.outwards(answer), [answer])
        self.assertEqual((port.tagged, port.bare), (1, 1))


class Lacp(unittest.TestCase):
    def test_a_machine_is_answered_with_what_it_said(self) -> None:
        # As Linux has them (drivers/net/bonding/bond_3ad.c): it aggregates with whoever gives it back what it said, priorities too.
        actor = lacp_partner.Information(65535, bytes.fromhex("525400120001"), 9, 255, 1, 0x45)
        frame = lacp_partner.answer(3, actor)
        # IEEE 802.1AX-2020 table 6-17 and figure 6-7: 14 bytes of head, 110 of LACPDU.
        self.assertEqual((len(frame), frame[12:16].hex(), frame[16:18].hex()), (124, "88090101", "0114"))
        self.assertEqual((frame[36:38].hex(), frame[56:58].hex(), frame[72:74].hex()), ("0214", "0310", "0000"))
        said = lacp_partner.read(frame)
        assert said is not None
        self.assertEqual((said[0].system, said[0].port, said[0].distributes()), (lacp_partner.SYSTEM, 3, True))
        self.assertEqual(said[1], actor)
        self.assertEqual(frame[38:53].hex(), "ffff5254001200010009" + "00ff000145")
        self.assertFalse(actor.distributes())
        for other in (b"", frame[:40], frame[:12] + b"\x08\0" + frame[14:], frame[:36] + b"\3" + frame[37:]):
            self.assertIsNone(lacp_partner.read(other))


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


def _tcp(client: bool, port: int, number: int, text: str) -> bytes:
    """A frame between a client and a server on port 80."""
    mac, other = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")
    ports = (port, 80) if client else (80, port)
    ends = (b"\x0a\0\0\1", b"\x0a\0\0\2") if client else (b"\x0a\0\0\2", b"\x0a\0\0\1")
    frame = (other + mac if client else mac + other) + b"\x08\x00"
    frame += struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(text), 0, 0, 64, 6, 0) + b"".join(ends)
    return frame + struct.pack(">HHIIBBHHH", *ports, number, 0, 0x50, 0x18, 0, 0, 0) + text.encode()


class Fetches(unittest.TestCase):
    def _answer(self, length: int, status: int = 200) -> str:
        return f"HTTP/1.1 {status} OK\r\nDate: x\r\nContent-Length: {length}\r\n\r\nContent-Length: 9"

    def test_each_answer_belongs_to_the_request_of_its_connection(self) -> None:
        frames = [
            _tcp(True, 1000, 1, "GET /boot/x86_64/kernel?memory=1 HTTP/1.1\r\n\r\n"),
            _tcp(True, 1001, 1, "HEAD /boot/x86_64/first/base.img HTTP/1.1\r\n\r\n"),
            _tcp(True, 1001, 1, "HEAD /boot/x86_64/first/base.img HTTP/1.1\r\n\r\n"),
            _tcp(False, 1001, 1, self._answer(70)),
            _tcp(False, 1000, 1, self._answer(500)),
            _tcp(True, 1000, 90, "GET /boot/x86_64/first/port/igb.img HTTP/1.1\r\n\r\n"),
            _tcp(False, 1000, 900, self._answer(30)),
            _tcp(False, 1000, 900, self._answer(30)),
            _tcp(True, 1000, 190, "GET /boot/x86_64/first/modules.pack HTTP/1.1\r\n\r\n"),
            _tcp(False, 1000, 1900, self._answer(4, 206)),
            _tcp(True, 1000, 290, "GET /menu.ipxe HTTP/1.1\r\n\r\n"),
        ]
        found = fetches.read(capture.Frame(float(at), data) for at, data in enumerate(frames))
        self.assertEqual([(f.part, f.status, f.sent) for f in found],
                         [("kernel", 200, 500), ("base", 200, 0), ("port", 200, 30), ("pack", 206, 4), ("other", 0, 0)])
        self.assertEqual({f.mac for f in found}, {"52:54:00:00:00:01"})
        self.assertEqual(list(fetches.system_files(found)), ["kernel", "first/port/igb.img"])
        sizes = fetches.by_part(found)
        self.assertEqual((sizes["kernel"], sizes["port"], sizes["pack"], sizes["image"]), (500, 30, 4, 0))

    def test_ipv6_is_read_too(self) -> None:
        tcp = _tcp(True, 1000, 1, "GET /boot/x86_64/kernel HTTP/1.1\r\n\r\n")
        frame = tcp[:12] + b"\x86\xdd" + struct.pack(">IHBB16s16s", 6 << 28, len(tcp) - 34, 6, 64, b"\1" * 16, b"\2" * 16) + tcp[34:]
        self.assertEqual([(f.mac, f.part) for f in fetches.read([capture.Frame(0.0, frame)])], [("52:54:00:00:00:01", "kernel")])
        for size in range(len(frame)):
            fetches.read([capture.Frame(0.0, frame[:size])])

    def test_torn_frames_are_passed_over(self) -> None:
        whole = _tcp(True, 1000, 1, "GET /boot/x86_64/kernel HTTP/1.1\r\n\r\n")
        for size in range(len(whole)):
            fetches.read([capture.Frame(0.0, whole[:size])])

    def test_steps_begin_at_what_was_seen_and_leave_nothing_out(self) -> None:
        ask = [fetches.Fetch(at, "", "GET", f"/boot/x86_64/{name}") for at, name in ((12.0, "kernel"), (13.0, "first/base.img"), (14.0, "kernel"))]
        said = [
            (15.0, "[recon     0.0s] first stage of recon 0.1.0"), (15.2, "[recon     0.0s] peer of 192.168.219.1:80"),
            (18.0, "[recon     3.0s] drivers: 9 loaded, 80 KiB fetched from the master; network after 1.5 s, all after 2.5 s"),
        ]
        found = measure.steps(measure.marks(10.0, ask, said), 20.0)
        self.assertEqual(found, {"discover": 2.0, "kernel": 1.0, "initrd": 2.0, "began": 2.0, "network": 1.0, "drivers": 2.0})
        self.assertEqual(list(found), list(measure.STEPS))
        # Without a word of drivers, as in dracut's initrd.
        self.assertEqual(list(measure.marks(10.0, ask, said[1:2]).items())[-1], ("began", 15.2))
        self.assertEqual(sum(measure.steps(measure.marks(10.0, ask, said[1:2]), 20.0).values()), 10.0)


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
