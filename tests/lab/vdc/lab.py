"""Which parts does a run share: work folder, wires, captures, limits?"""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from collections.abc import Iterator

from . import firmware, namespace, tools
from .capture import Capture
from .errors import LabError
from .machine import BRIDGE, Machine, Spec
from .namespace import Namespace
from .report import Report
from .switch import Switch

# The harness's own foot on the wire: below every lease range, so that the master never hands it out.
HARNESS_ADDRESS = "192.168.219.2/24"
_NEEDED = ("qemu-system-x86_64", "ip", "tc", "sysctl", "tcpdump", "dnsmasq", "sgdisk", "mkfs.ext4", "mkfs.exfat", "fsck.exfat", "cp")


@dataclass(frozen=True)
class Options:
    """What the person who starts a run decides."""

    iso: Path
    recon: Path
    workdir: Path
    accel: str = "tcg,thread=multi"
    # Deadlines are for a quiet machine with two cores; a busy one gets a multiple.
    patience: float = 1.0
    keep: bool = False
    # Show serial lines as they come.
    verbose: bool = False


class Interrupted(BaseException):
    """A signal asked the run to stop. Not an Exception: no handler for failures may swallow it."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turns SIGTERM, SIGHUP and SIGINT into one exception, so that every `with` block cleans up; once only."""

    def stop(number: int, _: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C must not cut the cleaning up short
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_host(options: Options) -> None:
    """Says what is missing before anything is made."""
    tools.require_root()
    tools.require(_NEEDED)
    firmware.uefi()
    if sys.version_info < (3, 9):
        raise LabError("the laboratory needs Python 3.9 or newer")
    for name, path in (("--iso", options.iso), ("--recon", options.recon)):
        if not path.is_file():
            raise LabError(f"{name} {path}: no such file")


def _clear(folder: Path) -> None:
    """Removes an earlier run's files: its disks and NVRAM would be taken for this one's. Other files stay."""
    for pattern in ("*.raw", "*.nvram.fd", "*.log", "*.pcap", "*.tar.gz"):
        for path in folder.glob(pattern):
            path.unlink()


class Lab:
    """The wire of a run: one namespace, one bridge, one capture. Gone when the block ends."""

    def __init__(self, options: Options, report: Report, label: str = "0") -> None:
        self.options = options
        self.report = report
        self.folder = options.workdir
        self._label = label
        self._revived: set[str] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        try:
            for name in namespace.remove_stale():
                self.report.line(f"removed {name}, left by a run that was killed")
            self.folder.mkdir(parents=True, exist_ok=True)
            _clear(self.folder)
            self.namespace = self._stack.enter_context(Namespace(self._label))
            self.namespace.add_bridge(BRIDGE)
            self.namespace.ip("addr", "add", HARNESS_ADDRESS, "dev", BRIDGE)
            self.capture = self._stack.enter_context(
                Capture(self.namespace, BRIDGE, self.folder / "wire.pcap")
            )
            self.switch = self._stack.enter_context(Switch(self.namespace))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def revive(self, machine: Machine) -> None:
        """Powers a guest off and on that its emulator has put to sleep, once; the report says so."""
        if machine.lost_its_timer and machine.spec.name not in self._revived:
            self._revived.add(machine.spec.name)
            machine.kill()
            machine.start()
            self.report.line(f"{machine.spec.name}: QEMU lost a timer interrupt, the guest sleeps: powered off and on again")

    def machine(self, spec: Spec) -> Machine:
        """A guest on this wire."""

        def echo(text: str) -> None:
            self.report.line(f"{spec.name}| {text}")

        options = self.options
        return Machine(spec, self.namespace, self.folder, options.accel, echo=echo if options.verbose else None)

    def seconds(self, base: float) -> float:
        """A deadline's length on this machine."""
        return base * self.options.patience
