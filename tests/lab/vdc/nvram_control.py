"""Which NVRAM variables does the firmware change by itself?"""

from __future__ import annotations

from pathlib import Path

from . import nvram
from .nodes import KINDS, identity
from .nvram_seed import seed_nvram
from .peer import spec_of
from .report import Report


def run(folder: Path, accel: str, report: Report, boots: int = 3) -> list[str]:
    """Boots firmware alone again and again; returns changes that FIRMWARE_ONLY does not cover."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = spec_of(KINDS["uefi"]._replace(disks=()), identity(0xF0, "control"), folder)
    known = seed_nvram([spec], folder, accel, 120.0)[spec.name]
    report.line(f"first boot: the firmware made {len(known)} variables")
    surprises: list[str] = []
    for boot in range(2, boots + 2):
        now = seed_nvram([spec], folder, accel, 120.0)[spec.name]
        for change in nvram.differences(known, now, ignore=frozenset()):
            report.line(f"boot {boot}: {change}")
        surprises += nvram.differences(known, now)
        known = now
    return surprises
