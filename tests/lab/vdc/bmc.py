"""How does a guest get a management controller with everything: channels, LAN, users, sensors, FRU, event log?

QEMU's own simulator knows no LAN, no users and one sensor. OpenIPMI's `ipmi_sim` knows them all; QEMU connects to it as an
external controller.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

from . import polling, tools
from .errors import LabError
from .namespace import Namespace
from .process import terminate

PORT = 9002
ADDRESS, NETMASK, GATEWAY = "192.0.2.77", "255.255.255.0", "192.0.2.1"
MAC = "52:54:00:1a:bc:77"
USERS = {2: "operator", 3: "monitor"}
BOARD_MAKER, BOARD_NAME, BOARD_SERIAL, BOARD_PART = "Recon Lab", "Lab Board 9", "LABBRD0009", "LB-9-REV-A"
PRODUCT_MAKER, PRODUCT_NAME, PRODUCT_SERIAL, ASSET = "Recon Lab", "Virtual Server", "LABPRD0009", "ASSET-0009"
# Sensor number, name, raw reading; unit is degrees C with M=1, B=0, so that the reading is the raw value.
SENSORS = ((1, "CPU0 Temp", 47), (2, "Inlet Temp", 22))
EVENTS = 3


def _sum(data: bytes) -> bytes:
    return data + bytes([-sum(data) & 0xFF])


def _text(text: str) -> bytes:
    return bytes([0xC0 | len(text)]) + text.encode()


def _area(fields: bytes) -> bytes:
    """Version, length and checksum around an area (FRU Information Storage Definition, section 11)."""
    body = fields + b"\xc1"
    length = (len(body) + 2 + 1 + 7) // 8
    return _sum((bytes([1, length]) + body).ljust(length * 8 - 1, b"\0"))


def fru() -> bytes:
    """A FRU with board and product area."""
    board = _area(
        b"\0" + struct.pack("<I", 15_000_000)[:3]
        + b"".join(map(_text, (BOARD_MAKER, BOARD_NAME, BOARD_SERIAL, BOARD_PART, "fru.bin")))
    )
    product = _area(
        b"\0" + b"".join(map(_text, (PRODUCT_MAKER, PRODUCT_NAME, "PN-9", "1.0", PRODUCT_SERIAL, ASSET, "fru.bin")))
    )
    header = _sum(bytes([1, 0, 0, 1, 1 + len(board) // 8, 0, 0]))
    return (header + board + product).ljust(512, b"\0")


def _sdr(number: int, name: str) -> bytes:
    """A full sensor record (IPMI 2.0, table 43-1) of a temperature in degrees C."""
    body = bytes([0x20, 0, number, 3, number, 0x7F, 0x68, 1, 1])
    body += struct.pack("<HHH", 0x7A95, 0x7A95, 0x3F3F)
    body += bytes([0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 7, 40, 80, 10, 127, 0, 100, 95, 90, 0, 2, 5, 2, 2, 0, 0, 0])
    body += _text(name)
    return struct.pack("<HBBB", number, 0x51, 0x01, len(body)) + body


def _setup(folder: Path) -> str:
    lines = [
        "mc_setbmc 0x20",
        "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02",
        "mc_set_guid 0x20 1ab0000000004000800000000000007b",
        "sel_enable 0x20 1000 0x0a",
    ]
    for number, name, value in SENSORS:
        lines += [
            f"sensor_add 0x20 0 {number} 1 1",
            f"sensor_set_value 0x20 0 {number} {value} 0",
            f"sensor_set_threshold 0x20 0 {number} settable 111000 100 95 90 5 2 0",
            f"sensor_set_event_support 0x20 0 {number} enable scanning per-state 000111111000000 000111111000000 "
            "000111111000000 000111111000000",
            "main_sdr_add 0x20 " + " ".join(f"0x{byte:02x}" for byte in _sdr(number, name)),
        ]
    lines.append(f'mc_add_fru_data 0x20 0 512 file 0 "{folder / "fru.bin"}"')
    for at in range(EVENTS):
        # System event: sensor type 1 temperature, threshold event, upper critical going high.
        lines.append(f"sel_add 0x20 0x02 0x00 0x00 0x00 0x{0x60 + at:02x} 0x20 0x00 0x04 0x01 0x01 0x01 0x59 0x60 0x5a")
    return "\n".join([*lines, "mc_enable 0x20", ""])


_LAN = f"""#!/bin/sh
# What ipmi_sim asks of its host's network: fixed answers.
shift
[ "$1" = get ] || exit 0
shift
for what; do
    case $what in
    ip_addr) echo "ip_addr:{ADDRESS}" ;;
    ip_addr_src) echo "ip_addr_src:static" ;;
    mac_addr) echo "mac_addr:{MAC}" ;;
    subnet_mask) echo "subnet_mask:{NETMASK}" ;;
    default_gw_ip_addr) echo "default_gw_ip_addr:{GATEWAY}" ;;
    default_gw_mac_addr) echo "default_gw_mac_addr:00:00:00:00:00:00" ;;
    backup_gw_ip_addr) echo "backup_gw_ip_addr:0.0.0.0" ;;
    backup_gw_mac_addr) echo "backup_gw_mac_addr:00:00:00:00:00:00" ;;
    esac
done
"""


class Bmc:
    """An `ipmi_sim` inside a namespace, for one guest. Gone when the block ends."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder / "bmc"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Bmc:
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._folder / "state").mkdir(parents=True)
        (self._folder / "fru.bin").write_bytes(fru())
        (self._folder / "setup.emu").write_text(_setup(self._folder))
        program = self._folder / "lan.sh"
        program.write_text(_LAN)
        program.chmod(0o755)
        (self._folder / "lan.conf").write_text(
            'name "lab"\n'
            "set_working_mc 0x20\n"
            "startlan 1\n"
            "  addr 127.0.0.1 9623\n"
            "  priv_limit admin\n"
            "  allowed_auths_admin md5\n"
            f'  lan_config_program "{program} lan0"\n'
            "endlan\n"
            f"serial kcs 127.0.0.1 {PORT} codec VM\n"
            + "".join(f'user {number} true "{name}" "unused" admin 3 none md5\n' for number, name in USERS.items())
        )
        log = (self._folder / "ipmi_sim.log").open("wb")
        with log:
            self._process = self._namespace.popen(
                ["ipmi_sim", "-n", "-c", str(self._folder / "lan.conf"), "-f", str(self._folder / "setup.emu"),
                 "-s", str(self._folder / "state")],
                stdout=log, stderr=subprocess.STDOUT,
            )

        def listening() -> bool | None:
            if self._process is None or self._process.poll() is not None:
                said = (self._folder / "ipmi_sim.log").read_text(errors="replace")
                raise LabError(f"ipmi_sim ended at once: {said[-400:]}")
            # Not by connecting: ipmi_sim takes one connection in its life.
            found = self._namespace.run(["ss", "-Hltn", f"sport = :{PORT}"]).stdout
            return True if found.strip() else None

        polling.wait_until(listening, 10.0, "ipmi_sim listens")
        return self

    def __exit__(self, *_: object) -> None:
        terminate(self._process, 5)

    def arguments(self) -> list[str]:
        """QEMU's command line for the guest."""
        # Connecting later than at once: QEMU 10 crashes when the controller speaks before its device is there.
        major, minor = map(int, re.findall(r"version (\d+)\.(\d+)", tools.run(["qemu-system-x86_64", "--version"]))[0])
        later = "reconnect-ms=500" if (major, minor) >= (9, 2) else "reconnect=1"
        return [
            "-chardev", f"socket,id=bmcline,host=127.0.0.1,port={PORT},{later}",
            "-device", "ipmi-bmc-extern,id=bmc0,chardev=bmcline", "-device", "isa-ipmi-kcs,bmc=bmc0,ioport=0xca2",
        ]
