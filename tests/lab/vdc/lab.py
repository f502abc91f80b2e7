"""What does a run share: work folder, network, captures, deadlines?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from . import firmware, namespace, tools
from .capture import HARNESS, Capture
from .errors import LabError
from .machine import BRIDGE, Machine, Spec
from .namespace import Namespace
from .report import Report
from .resource import Resource
from .switch import Switch

_HARNESS_ADDRESS = f"{HARNESS}/24"
_NEEDED = ("qemu-system-x86_64", "ip", "tc", "sysctl", "tcpdump", "dnsmasq", "sgdisk", "mkfs.ext4", "mkfs.exfat", "fsck.exfat", "cp")


@dataclass(frozen=True)
class Options:
    """The command line options of a run."""

    iso: Path
    recon: Path
    workdir: Path
    accel: str = "tcg,thread=multi"
    # Deadlines are for a quiet machine with two cores; a busy one gets a multiple.
    patience: float = 1.0
    keep: bool = False
    # Show serial lines as they come.
    verbose: bool = False
    # An image of diskless nodes, as `recon image pack` makes it.
    node_image: Path | None = None


def check_host(options: Options) -> None:
    """Says what is missing before anything is made."""
    tools.require_root()
    tools.require(_NEEDED)
    firmware.uefi()
    if sys.version_info < (3, 11):  # noqa: UP036  (tarfile's extraction filters)
        raise LabError("the laboratory needs Python 3.11 or newer")
    for name, path in (("--iso", options.iso), ("--recon", options.recon)):
        if not path.is_file():
            raise LabError(f"{name} {path}: no such file")


def _clear(folder: Path) -> None:
    """Removes an earlier run's files: its disks and NVRAM would be taken for this one's. Other files stay."""
    for pattern in ("*.raw", "*.nvram.fd", "*.log", "*.pcap", "*.tar.gz"):
        for path in folder.glob(pattern):
            path.unlink()


class Lab(Resource):
    """The network of a run: one namespace, one bridge, one capture. Gone when the block ends."""

    def __init__(self, options: Options, report: Report, label: str = "0") -> None:
        super().__init__()
        self.options = options
        self.report = report
        self.folder = options.workdir
        self._label = label
        self._restarted: set[str] = set()

    def set_up(self) -> None:
        for name in namespace.remove_stale():
            self.report.line(f"removed {name}, left by a run that was killed")
        self.folder.mkdir(parents=True, exist_ok=True)
        _clear(self.folder)
        self.namespace = self._stack.enter_context(Namespace(self._label))
        self.namespace.add_bridge(BRIDGE)
        self.namespace.ip("addr", "add", _HARNESS_ADDRESS, "dev", BRIDGE)
        self.capture = self._stack.enter_context(Capture(self.namespace, BRIDGE, self.folder / "wire.pcap"))
        self.switch = self._stack.enter_context(Switch(self.namespace))

    def restart_stuck(self, machine: Machine) -> None:
        """Powers a guest off and on, once, after a fault of the emulation; the report says so."""
        fault = machine.emulator_fault
        if fault is not None and machine.spec.name not in self._restarted:
            self._restarted.add(machine.spec.name)
            machine.kill()
            machine.start()
            self.report.line(f"{machine.spec.name}: {fault}: powered off and on again")

    def machine(self, spec: Spec) -> Machine:
        """A guest on this network."""

        def echo(text: str) -> None:
            self.report.line(f"{spec.name}| {text}")

        options = self.options
        return Machine(spec, self.namespace, self.folder, options.accel, echo=echo if options.verbose else None)

    def seconds(self, base: float) -> float:
        """A deadline's length on this machine."""
        return base * self.options.patience
