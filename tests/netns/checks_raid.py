#!/usr/bin/env python3
"""Are the disks behind a RAID controller found by smartctl, on the running system?

In a mount namespace of its own, `/sys/class` shows a host of `megaraid_sas`, and `/usr/sbin/smartctl` is a script that answers for three
disks: one is well, one fails, and one hangs. Needs root. Ends with the line `N passed, N failed`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from vdc import command, tools
from vdc.report import Report
from vdc.suite import Results, Scenario, expect

_SCRIPT = """#!/bin/sh
echo "$*" >>{calls}
case "$*" in
*--scan-open*) echo '{{"devices":[{{"name":"/dev/sda","type":"scsi"}},{{"name":"/dev/bus/0","type":"megaraid,0"}},
    {{"name":"/dev/bus/0","type":"sat+megaraid,8"}},{{"name":"/dev/bus/0","type":"megaraid,9"}}]}}' ;;
*megaraid,0*) echo '{{"device":{{"protocol":"SCSI"}},"model_name":"EXAMPLE SAS","serial_number":"S0","revision":"EJ08",
    "smartctl":{{"exit_status":0}},"user_capacity":{{"bytes":16000900661248}}}}' ;;
*megaraid,8*) echo '{{"device":{{"protocol":"ATA"}},"model_name":"EXAMPLE SATA","serial_number":"S8","firmware_version":"DZ02",
    "smartctl":{{"exit_status":12}},"smart_status":{{"passed":false}}}}'; exit 12 ;;
*megaraid,9*) sleep 600 ;;
*) echo '{{"smartctl":{{"exit_status":1}}}}'; exit 1 ;;
esac
"""
_MOUNTS = """set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {work}
mkdir {work}/upper {work}/work
cp {script} {work}/upper/smartctl
mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir={work}/upper,workdir={work}/work /usr/sbin
mount -t tmpfs tmpfs /sys/class
mkdir -p /sys/class/scsi_host/host0
echo megaraid_sas >/sys/class/scsi_host/host0/proc_name
exec {recon} inventory --only storage_controllers,firmware --format json
"""
# Questions only, and none that wakes a disk.
_FORBIDDEN = ("-s", "-t", "-o", "-S", "-X", "--smart", "--test", "--set", "--offlineauto", "--saveauto", "--captive")


def behind_megaraid(recon: Path) -> None:
    """Three disks are reported: one with its health, one that fails, and one that hangs, which costs only its own entry."""
    with tempfile.TemporaryDirectory(prefix="recon-raid-") as name:
        folder = Path(name)
        calls, script, work = folder / "calls", folder / "smartctl", folder / "work"
        work.mkdir()
        script.write_text(_SCRIPT.format(calls=calls))
        script.chmod(0o755)
        begun = time.monotonic()
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", _MOUNTS.format(work=work, script=script, recon=recon)],
            capture_output=True, timeout=60,
        )
        took = time.monotonic() - begun
        expect(done.returncode == 0, f"recon said:\n{done.stderr.decode()[-2000:]}")
        asked = calls.read_text().splitlines()
        document: dict[str, Any] = json.loads(done.stdout)
    expect(took < 25, f"one disk that hangs held the inventory up for {took:.0f} s")
    for line in asked:
        words = line.split()
        expect(not any(word.split("=")[0] in _FORBIDDEN for word in words), f"smartctl {line}")
        expect("--scan-open" in words or "--nocheck=standby" in words, f"smartctl {line} would wake a disk")
    found: list[dict[str, Any]] = [
        disk for one in document["storage_controllers"]["value"] for disk in one["physical_disks"]
    ]
    told = [(disk["address"], disk["model"], disk["serial"], disk["firmware"]) for disk in found]
    expect(
        told == [("megaraid,0", "EXAMPLE SAS", "S0", "EJ08"), ("sat+megaraid,8", "EXAMPLE SATA", "S8", "DZ02"),
                 ("megaraid,9", None, None, None)],
        f"the disks are {told}",
    )
    expect(found[1]["smart"]["passed"] is False, "the disk that fails does not say so")
    late = [item["status"] for item in document["storage_controllers"]["items"] if item["item"].endswith("megaraid,9")]
    expect(late == ["timed_out"], f"of the disk that hangs is said: {late}")
    versions = {one["version"] for one in document["firmware"]["value"] if one["component"] == "disk"}
    expect({"EJ08", "DZ02"} <= versions, f"the list of firmware has {versions}")


CHECKS: list[Scenario[Path]] = [
    Scenario("raid-smartctl", (behind_megaraid.__doc__ or "").split("\n")[0], behind_megaraid),
]


def _run(report: Report, recon: Path) -> int:
    tools.require_root()
    tools.require(("unshare", "mount"))
    results = Results(report, Path(tempfile.gettempdir()))
    for check in CHECKS:
        results.run(check, command.require_executable(recon))
    return results.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--recon", type=Path, required=True, metavar="FILE", help="the binary to test")
    args = parser.parse_args(argv)
    report = Report()
    return command.run(Path(__file__).name, report, lambda: _run(report, args.recon))


if __name__ == "__main__":
    sys.exit(main())
