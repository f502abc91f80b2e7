"""Kills, a file system that fails and power cuts with a cache that reorders writes: what was acknowledged must be there afterwards."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import crash
from attack_target import Target
from vdc import polling, tools
from vdc.errors import LabError
from vdc.suite import expect

KILLS, LONG_KILLS = 20, 200
CRASHES, LONG_CRASHES = 60, 600
_HERE = Path(__file__).resolve().parent
FAULTS: tuple[tuple[str, str], ...] = (
    ("write", "ENOSPC"), ("write", "EIO"), ("write", "EDQUOT"), ("write", "EROFS"), ("write", "short"), ("write", "slow 1"),
    ("fsync", "EIO"), ("fsync", "ENOSPC"), ("fsync", "slow 2"), ("fsyncdir", "EIO"), ("create", "ENOSPC"), ("create", "EIO"),
    ("create", "EROFS"), ("create", "EMFILE"), ("rename", "EIO"), ("rename", "ENOSPC"), ("unlink", "EIO"), ("mkdir", "ENOSPC"), ("mkdir", "EIO"),
    ("open", "EIO"), ("read", "EIO"), ("readdir", "EIO"), ("statfs", "EIO"), ("statfs", "full"), ("truncate", "EIO"), ("rmdir", "EIO"),
)


def _upload_until(target: Target, stop: threading.Event) -> None:
    """Honest uploads one after the other, until the master does not answer any more."""
    while not stop.is_set():
        if target.honest_upload(timeout=3.0)[0] == 0:
            return


def kills(count: int, target: Target) -> None:
    """Killed at any moment: what was acknowledged is there."""
    dice = random.Random(target.seed)
    for number in range(count):
        killed = threading.Event()
        threads = [threading.Thread(target=_upload_until, args=(target, killed), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(dice.uniform(0.02, 0.6))
        target.site.kill()
        killed.set()
        for thread in threads:
            thread.join(10)
        target.expect_collected()
        target.record(f"kill {number}", True)
        target.start()
    target.expect_served()


class _FaultMount:
    """`faultfs.py` over a folder of the target."""

    def __init__(self, folder: Path) -> None:
        self.backing, self.mount = folder / "backing", folder / "mount"
        self.control, self.log = folder / "control.json", folder / "operations"
        for path in (self.backing, self.mount):
            path.mkdir(parents=True)
        self.say({})
        said = (folder / "faultfs.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "faultfs.py"), str(self.backing), str(self.mount), str(self.control), str(self.log)],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )

        def mounted() -> bool | None:
            if self._process.poll() is not None:
                raise LabError(f"the file system of faults does not start:\n{(folder / 'faultfs.log').read_text()[-500:]}")
            return self.mount.is_mount() or None

        polling.wait_until(mounted, 10.0, "the file system of faults is mounted")

    def say(self, faults: dict[str, str]) -> None:
        """From now on these operations fail."""
        new = self.control.with_suffix(".new")
        new.write_text(json.dumps(faults), encoding="ascii")
        new.rename(self.control)

    def close(self) -> None:
        subprocess.run([tools.path_of("umount"), "-l", str(self.mount)], check=False, timeout=20)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def file_system_faults(folder: Path, make: Callable[[Path, Path], Target], counts: Target) -> None:
    """A stick on which an operation fails: nothing is acknowledged that is not there, and all is well afterwards."""
    mount = _FaultMount(folder)
    try:
        with make(folder / "site", mount.mount) as target:
            target.start()
            target.expect_served()
            for operation, fault in FAULTS:
                mount.say({operation: fault})
                answers = [target.honest_upload(timeout=30.0) for _ in range(2)]
                mount.say({})
                polling.wait_until(
                    lambda: target.honest_upload(timeout=30.0)[0] == 201 or None, 45.0, f"an upload is stored after {operation} {fault}",
                )
                # An upload that did not get 201 got a server error, or the connection was closed.
                odd = [answer for answer in answers if answer[0] not in (0, 201, 500, 503, 507)]
                counts.record(f"{operation} {fault}", not odd, f"got {odd[:1]}")
                target.expect_collected()
            # Once more with a restart of the master.
            code, _ = target.site.stop()
            expect(code == 0, f"the master ends with {code}")
            target.start()
            target.expect_served()
            target.expect_collected()
    finally:
        mount.close()


def lying_cache(folder: Path, make: Callable[[Path, Path], Target], count: int, counts: Target) -> None:
    """Power gone at any moment, with all that was not made durable lost or in another order: what was acknowledged is there."""
    mount = _FaultMount(folder)
    acknowledged: list[tuple[float, str, str]] = []
    try:
        with make(folder / "site", mount.mount) as target:
            target.start()
            for _ in range(25):
                before = dict(target.stored)
                code, said = target.honest_upload(timeout=60.0)
                expect(code == 201, f"an upload gets {code} {said[:200]!r}")
                now = time.monotonic()
                acknowledged += [(now, node, serial) for node, serial in target.stored.items() if node not in before]
            target.site.kill()
            events = crash.events(mount.log)
            dice = random.Random(target.seed)
            cuts = sorted(dice.randrange(len(events) + 1) for _ in range(count))
            disk, done = crash.Disk(), 0
            for cut in cuts:
                for event in events[done:cut]:
                    disk.apply(event)
                done = cut
                when = events[cut][0] if cut < len(events) else float("inf")
                known = {node: serial for at, node, serial in acknowledged if at < when}
                left = folder / "left"
                shutil.rmtree(left, ignore_errors=True)
                left.mkdir()
                disk.left_over(left, dice)
                if known:
                    _expect_collected(target, left, known, f"power gone before operation {cut} of {len(events)}")
                counts.record(f"power gone before operation {cut}", True)
    finally:
        mount.close()


def _expect_collected(target: Target, folder: Path, known: dict[str, str], what: str) -> None:
    try:
        target.expect_collected(folder, known)
    except LabError as error:
        # A torn file was never acknowledged; collect names it and exits with 1.
        if "exit 1" not in str(error):
            raise LabError(f"{what}: {error}") from error
        target.expect_collected(folder, known, damaged=True)
