"""How is one guest described, started, watched and ended?"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import firmware
from .console import Console
from .errors import LabError
from .namespace import Namespace
from .process import kill
from .qmp import Event, Qmp, event_time

BRIDGE = "lab0"


@dataclass(frozen=True)
class Disk:
    """One disk of a guest. `bus` is virtio, sata, nvme, usb, sdhci, or one of `SCSI`."""

    path: Path
    bus: str
    serial: str
    boot_index: int | None = None
    # "unsafe" skips host flushes (peers only read); the stick keeps the host's page cache semantics.
    cache: str = "writeback"


# SCSI adapters that QEMU emulates, each for one disk. Not am53c974: Linux 6.12 panics where it shares an interrupt with others, as it
# takes interrupts before it is ready.
SCSI = {
    "scsi": "virtio-scsi-pci", "megasas": "megasas", "mptsas": "mptsas1068", "lsi": "lsi53c895a", "pvscsi": "pvscsi", "uas": "usb-uas",
}


@dataclass(frozen=True)
class Port:
    """One network port of a guest, and the bridge its cable goes to."""

    mac: str
    model: str = "virtio-net-pci"
    boot_index: int | None = None
    # None: the cable ends in nothing.
    bridge: str | None = BRIDGE
    # Where the card is plugged in, as QEMU's properties: `bus=…,addr=…`.
    place: str = ""
    # No cable is plugged in: no carrier.
    dark: bool = False


@dataclass(frozen=True)
class Spec:
    """The hardware of a guest."""

    name: str
    uuid: str
    serial: str
    firmware: str = "uefi"  # or "bios"
    # QEMU's machine type; an old one where what a new one builds is not wanted.
    machine: str = "q35"
    cpus: int = 2
    # Sockets and cores as QEMU's options, where the bare number is not enough.
    topology: str = ""
    memory_mib: int = 1024
    bmc: bool = True
    secure: bool = False
    # Settings of the firmware, name=value.
    settings: Sequence[str] = ()
    # Firmware with IPv4 PXE switched off, and a link that drops IPv4.
    ipv6_only: bool = False
    ports: list[Port] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)
    # Busses that ports are on, as QEMU's options.
    busses: list[str] = field(default_factory=list)
    # More of the guest's hardware, as QEMU's options.
    extra: list[str] = field(default_factory=list)


_LOST_TIMER = re.compile(r"rcu_preempt kthread timer wakeup didn't happen")


class Machine:
    """A guest under QEMU. Ends with its block; its serial log and NVRAM stay in the work folder."""

    def __init__(
        self, spec: Spec, namespace: Namespace, folder: Path, accel: str = "tcg,thread=multi", purpose: str = "serial",
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self._namespace = namespace
        self._accel = accel
        self._purpose = purpose
        self._echo = echo
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._console: Console | None = None
        # By the number of the port; those without a bridge have none.
        self._taps: dict[int, str] = {}
        self._boots = 0
        self._changed = threading.Condition()
        self.started_at = 0.0  # monotonic
        self.started_wall = 0.0
        self.shutdown: Event | None = None
        self.nvram = folder / f"{spec.name}.nvram.fd"
        self._qemu_log = folder / f"{spec.name}.qemu.log"
        # Bytes that the first port received during the last boot; set once the guest is off.
        self.guest_received = 0

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def prepare_nvram(self) -> None:
        """Gives a UEFI guest a variable store of its own, once; later boots find what earlier ones wrote."""
        if self.spec.firmware == "uefi" and not self.nvram.exists():
            shutil.copyfile(firmware.uefi(self.spec.secure).variables, self.nvram)
            self.nvram.chmod(0o600)

    def start(self) -> None:
        """Powers the guest on: QEMU runs when this returns, the firmware has just begun."""
        if self._process is not None:
            raise LabError(f"{self.spec.name} already runs")
        self.prepare_nvram()
        self._taps = {
            number: self._namespace.add_tap(port.bridge) for number, port in enumerate(self.spec.ports) if port.bridge is not None
        }
        if self.spec.ipv6_only:
            for tap in self._taps.values():
                self._namespace.drop_ipv4(tap)
        ours, theirs = socket.socketpair()
        self._boots += 1
        self.shutdown = None
        self.started_at, self.started_wall = time.monotonic(), time.time()
        with theirs, self._qemu_log.open("ab") as log:
            self._process = self._namespace.popen(
                self._command(theirs.fileno()), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, pass_fds=[theirs.fileno()],
            )
        assert self._process.stdout is not None
        boot = "" if self._boots == 1 else f".{self._boots}"
        serial = self.folder / f"{self.spec.name}.{self._purpose}{boot}.log"
        self._console = Console(self._process.stdout, serial, self.spec.name, self.started_at, self._echo)
        self._qmp = Qmp(ours, self.spec.name)
        self._qmp.on_event = self._on_event
        try:
            self._qmp.start()
        except LabError as error:
            raise LabError(f"{self.spec.name}: QEMU did not start: {self._qemu_said() or error}") from error
        for number, port in enumerate(self.spec.ports):
            if port.dark:
                self.plug(number, False)

    def plug(self, port: int, up: bool) -> None:
        """Plugs the cable of a port in, or pulls it out."""
        assert self._qmp is not None
        self._qmp.command("set_link", {"name": f"net{port}", "up": up})

    def sent_to(self, port: int) -> int:
        """Bytes that went to a port of the guest, while it runs."""
        return self._namespace.counters(self._taps[port])[1]

    def _on_event(self, event: Event) -> None:
        if event["event"] == "SHUTDOWN":
            with self._changed:
                self.shutdown = event
                self._changed.notify_all()

    def _command(self, control: int) -> list[str]:
        spec = self.spec
        argv = [
            "qemu-system-x86_64", "-name", spec.name, "-machine", spec.machine + (",smm=on" if spec.secure else ""), "-accel", self._accel, "-cpu", "max",
            "-smp", spec.topology or str(spec.cpus), "-m", str(spec.memory_mib), "-nodefaults", "-display", "none", "-vga", "std",
            "-uuid", spec.uuid,
            "-smbios", f"type=1,manufacturer=Recon Lab,product=Virtual Server,serial={spec.serial},uuid={spec.uuid}",
            "-chardev", "stdio,id=serial0,signal=off", "-serial", "chardev:serial0",
            "-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control",
            "-object", "rng-random,filename=/dev/urandom,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
        ]
        if spec.firmware == "uefi":
            code = firmware.uefi(spec.secure).code
            if spec.secure:
                # Only System Management Mode may write the variables, as the firmware wants it.
                argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
            for setting in spec.settings:
                name, value = setting.split("=", 1)
                argv += ["-fw_cfg", f"name={name},string={value}"]
            argv += [
                "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.nvram}",
            ]
        if spec.ipv6_only:
            argv += ["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]
        # What the guest has of busses comes before the cards on them.
        argv += spec.busses
        for number, port in enumerate(spec.ports):
            argv += _port_arguments(number, port, self._taps.get(number), spec.firmware)
        if spec.bmc:
            argv += ["-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0,ioport=0xca2"]
        for number, disk in enumerate(spec.disks):
            argv += disk_arguments(number, disk)
        return argv + spec.extra

    @property
    def console(self) -> Console:
        if self._console is None:
            raise LabError(f"{self.spec.name} was never started")
        return self._console

    @property
    def qmp(self) -> Qmp:
        if self._qmp is None:
            raise LabError(f"{self.spec.name} was never started")
        return self._qmp

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> str | None:
        """How QEMU ended, once all is read that the guest printed; None while it runs."""
        if self.running:
            return None
        if self._process is None:
            return "its power was cut from here"
        if self._console is not None:
            self._console.join(3.0)
        said = self._qemu_said() or "nothing"
        return f"QEMU's exit code {self._process.returncode}, {self.off_reason or 'not shut down by the guest'}; QEMU said {said}"

    @property
    def emulator_fault(self) -> str | None:
        """What the emulation did to the guest that nothing in the guest can mend, if it did. The guest's kernel reports that a processor
        sleeps for ever: QEMU now and then loses an interrupt of its timer (seen with QEMU 10.0, and known elsewhere). Or QEMU crashed."""
        if self._process is None or self._console is None:
            return None
        if self.running:
            return "QEMU lost a timer interrupt, the guest sleeps" if self._console.find(_LOST_TIMER) is not None else None
        if self._process.returncode >= 0:
            return None
        return f"QEMU ended by {signal.Signals(-self._process.returncode).name}, its words: {self._qemu_said() or 'none'}"

    def _qemu_said(self) -> str:
        """The end of what QEMU itself wrote."""
        return self._qemu_log.read_text(errors="replace").strip()[-600:]

    def press_power_button(self) -> None:
        self.qmp.command("system_powerdown")

    def wait_off(self, deadline: float) -> bool:
        """Waits until the guest is off and QEMU gone; False at the deadline."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        self._release()
        return True

    @property
    def off_reason(self) -> str | None:
        """`guest-shutdown` when the guest cut its own power, by ACPI or through the BMC; None while it is on."""
        return None if self.shutdown is None else str(self.shutdown["data"].get("reason"))

    @property
    def off_after(self) -> float | None:
        """Seconds from power-on to power-off."""
        return None if self.shutdown is None else event_time(self.shutdown) - self.started_wall

    def kill(self) -> None:
        """Cuts the power: the process is killed, nothing is written any more."""
        if self._process is not None and self._process.poll() is None:
            kill(self._process)
        self._release()

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if self._console is not None:
            self._console.join(3.0)
        if self._qmp is not None:
            self._qmp.wait_closed(3.0)
            self._qmp.close()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        for number, tap in self._taps.items():
            if number == 0:
                self.guest_received = self._namespace.counters(tap)[1]
            self._namespace.delete_link(tap)
        self._taps = {}


def _port_arguments(number: int, port: Port, tap: str | None, firmware: str) -> list[str]:
    cable = f"hubport,id=net{number},hubid={number}" if tap is None else f"tap,id=net{number},ifname={tap},script=no,downscript=no"
    device = f"{port.model},netdev=net{number},mac={port.mac}"
    if port.place:
        device += f",{port.place}"
    if port.boot_index is not None:
        device += f",bootindex={port.boot_index}"
    if firmware == "uefi" and not port.model.startswith("usb"):
        # Without QEMU's option ROM the firmware uses its own driver and its own PXE client, as servers do; with it, iPXE would answer
        # instead.
        device += ",romfile="
    return ["-netdev", cable, "-device", device]


def disk_arguments(number: int, disk: Disk) -> list[str]:
    """QEMU's options for a disk; its number is no other's of that guest."""
    drive = f"drive{number}"
    argv = [
        "-drive",
        f"if=none,id={drive},file={disk.path},format=raw,cache={disk.cache},discard=unmap,detect-zeroes=off",
    ]
    boot = "" if disk.boot_index is None else f",bootindex={disk.boot_index}"
    if disk.bus == "virtio":
        device = f"virtio-blk-pci,drive={drive},serial={disk.serial}{boot}"
    elif disk.bus == "sata":
        # q35 has an AHCI controller with six ports of its own.
        device = f"ide-hd,bus=ide.{number % 6},drive={drive},serial={disk.serial}{boot}"
    elif disk.bus == "nvme":
        device = f"nvme,drive={drive},serial={disk.serial}{boot}"
    elif disk.bus == "usb":
        argv += ["-device", f"qemu-xhci,id=xhci{number}"]
        device = f"usb-storage,bus=xhci{number}.0,drive={drive},serial={disk.serial},removable=on{boot}"
    elif disk.bus == "sdhci":
        argv += ["-device", f"sdhci-pci,id=sdhci{number}"]
        device = f"sd-card,drive={drive}"
    elif disk.bus in SCSI:
        if disk.bus == "uas":
            argv += ["-device", f"qemu-xhci,id=xhci{number}"]
        argv += ["-device", f"{SCSI[disk.bus]},id=hba{number}{f',bus=xhci{number}.0' if disk.bus == 'uas' else ''}"]
        # A disk on SAS is found by its address; QEMU gives an own one to none.
        wwn = f",wwn=0x5000c5001ab000{number:02x}" if disk.bus == "mptsas" else ""
        device = f"scsi-hd,bus=hba{number}.0,drive={drive},serial={disk.serial}{wwn}{boot}"
    else:
        raise LabError(f"unknown disk bus {disk.bus!r}")
    return [*argv, "-device", device]
