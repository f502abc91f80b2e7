"""Which guest has one of every kind of hardware that QEMU emulates, and what are its serial numbers and sizes?"""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import polling, tools
from .bmc import Bmc
from .errors import LabError
from .lab import Lab
from .machine import Disk, Port, Spec
from .nodes import Identity
from .process import terminate

SECOND_BRIDGE = "lab1"
SECOND_MAC = "52:54:00:1a:b9:09"
CHASSIS_SERIAL, CHASSIS_ASSET, BOARD_SERIAL = "CHAS0009", "RACK7-U12", "BOARD0009"
OEM_STRING = "recon lab oem string"
DIMM_SERIAL, DIMM_PART, DIMM_MAKER, DIMM_SPEED = "DIMM0009", "RM-16G-3200", "Recon Memory", 3200
# In QEMU's older machine types a memory module has at most 16 GiB: more memory than that makes several. Guests touch little of it.
MACHINE = "pc-q35-7.2"
NODE_GIB = 17
MEMORY_GIB = 2 * NODE_GIB
DISTANCE = 21


def spec_of(who: Identity, folder: Path, bmc: Bmc, tpm: Tpm) -> Spec:
    """The guest. It boots from its first port."""
    disks = [
        Disk(folder / f"{who.name}.disk{at}.raw", bus, f"{who.serial}D{at}", cache="unsafe")
        for at, bus in enumerate(("nvme", "sata", "virtio", "usb"))
    ]
    extra = [
        "-smbios", f"type=2,manufacturer=Recon Lab,product=Lab Board,serial={BOARD_SERIAL}",
        "-smbios", f"type=3,manufacturer=Recon Lab,serial={CHASSIS_SERIAL},asset={CHASSIS_ASSET}",
        "-smbios", f"type=11,value={OEM_STRING}",
        "-smbios", "type=17,loc_pfx=DIMM,bank=BANK,asset=MEM9,"
        f"manufacturer={DIMM_MAKER},serial={DIMM_SERIAL},part={DIMM_PART},speed={DIMM_SPEED}",
    ]
    for node in range(2):
        extra += [
            "-object", f"memory-backend-ram,id=node{node},size={NODE_GIB}G,reserve=off",
            "-numa", f"node,nodeid={node},memdev=node{node},cpus={2 * node}-{2 * node + 1}",
        ]
    extra += ["-numa", f"dist,src=0,dst=1,val={DISTANCE}", *bmc.arguments(), *tpm.arguments()]
    return Spec(
        name=who.name, uuid=who.uuid, serial=who.serial, machine=MACHINE, topology="4,sockets=2,cores=2,threads=1",
        memory_mib=MEMORY_GIB * 1024, bmc=False, disks=disks, extra=extra,
        ports=[Port(who.mac, "virtio-net-pci", boot_index=0), Port(SECOND_MAC, "igb", bridge=SECOND_BRIDGE)],
    )


class Tpm:
    """An `swtpm` with an endorsement key certificate, for one guest. Gone when the block ends."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._folder = lab.folder / "tpm"
        self._socket = self._folder / "control"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Tpm:
        tools.run(["rm", "-rf", str(self._folder)])
        self._folder.mkdir(parents=True)
        (self._folder / "ca").mkdir()
        config = self._folder / "localca.conf"
        config.write_text(
            f"statedir = {self._folder}/ca\nsigningkey = {self._folder}/ca/key.pem\n"
            f"issuercert = {self._folder}/ca/cert.pem\ncertserial = {self._folder}/ca/serial\n"
        )
        setup = self._folder / "setup.conf"
        (self._folder / "options.conf").write_text("--platform-manufacturer Recon\n")
        setup.write_text(
            f"create_certs_tool = {tools.path_of('swtpm_localca')}\ncreate_certs_tool_config = {config}\n"
            f"create_certs_tool_options = {self._folder}/options.conf\nactive_pcr_banks = sha256\n"
        )
        tools.run([
            "swtpm_setup", "--tpm2", "--tpmstate", str(self._folder), "--create-ek-cert", "--config", str(setup),
            "--logfile", str(self._folder / "setup.log"),
        ], timeout=120)
        self._process = self._lab.namespace.popen([
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}", "--ctrl", f"type=unixio,path={self._socket}",
        ])

        def there() -> bool | None:
            if self._process is None or self._process.poll() is not None:
                raise LabError(f"swtpm ended at once; see {self._folder}")
            return True if self._socket.exists() else None

        polling.wait_until(there, 20.0, "swtpm listens")
        return self

    def __exit__(self, *_: object) -> None:
        terminate(self._process, 5)

    def arguments(self) -> list[str]:
        """QEMU's command line for the guest."""
        return [
            "-chardev", f"socket,id=tpmline,path={self._socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpmline",
            "-device", "tpm-crb,tpmdev=tpm0",
        ]
