#!/usr/bin/env python3
"""A file system that fails on command, and that writes down what was asked of it.

    faultfs.py BACKING MOUNT CONTROL LOG

BACKING holds the files, MOUNT shows them. CONTROL is a JSON file, read again whenever it changed:
`{"write": "ENOSPC", "fsync": "slow 3"}`. LOG gets one JSON line for each operation that changes something or makes it durable,
with the bytes that were written: `crash.py` computes from it what a stick holds after a power cut, with a cache that may reorder writes.
"""

# Each operation makes the system call of the same name.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH116, PTH123, PTH208

from __future__ import annotations

import base64
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

try:
    import fusepy as fuse  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    # The distribution's module, where this Python is another one than the distribution's.
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import fusepy as fuse  # type: ignore[no-redef,unused-ignore]
    except ImportError:
        sys.exit("the Python module fusepy is missing: install python3-fusepy")


class FaultFs(fuse.Operations):  # type: ignore[misc,unused-ignore]
    """Passes every operation on to a folder, except those that the control file lets fail."""

    def __init__(self, backing: str, control: str, log: str) -> None:
        self._backing = os.path.realpath(backing)
        self._control = control
        self._log = open(log, "a", buffering=1, encoding="ascii")  # noqa: SIM115  (open as long as the file system is mounted)
        self._lock = threading.Lock()
        self._faults: dict[str, str] = {}
        self._changed = -1
        self._paths: dict[int, str] = {}

    def _full(self, path: str) -> str:
        return self._backing + path

    def _fault(self, operation: str) -> str | None:
        """Raises the error configured for this operation; a setting that is no errno name is returned."""
        try:
            changed = os.stat(self._control).st_mtime_ns
        except FileNotFoundError:
            return None
        if changed != self._changed:
            with open(self._control, encoding="ascii") as file:
                self._faults = json.load(file)
            self._changed = changed
        fault = self._faults.get(operation)
        if fault is None:
            return None
        number = getattr(errno, fault, None)
        if number is not None:
            raise fuse.FuseOSError(number)
        if fault.startswith("slow "):
            time.sleep(float(fault.split()[1]))
        return fault

    def _note(self, operation: str, *values: Any) -> None:
        self._log.write(json.dumps([time.monotonic(), operation, *values]) + "\n")

    # What only looks.

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        # By handle where there is one: a file that lost its name is still there for who has it open.
        found = os.fstat(fh) if fh is not None else os.lstat(self._full(path))
        return {
            name: getattr(found, name)
            for name in ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid", "st_blocks")
        }

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        self._fault("readdir")
        yield from (".", "..", *os.listdir(self._full(path)))

    def statfs(self, path: str) -> dict[str, int]:
        fault = self._fault("statfs")
        found = os.statvfs(self._full(path))
        numbers = {
            name: getattr(found, name)
            for name in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize", "f_namemax")
        }
        if fault == "full":
            numbers["f_bavail"] = numbers["f_bfree"] = 0
        return numbers

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._fault("read")
        return os.pread(fh, size, offset)

    def access(self, path: str, mode: int) -> int:
        return 0

    def open(self, path: str, flags: int) -> int:
        self._fault("open")
        handle = os.open(self._full(path), flags & ~os.O_APPEND)
        self._paths[handle] = path
        if flags & os.O_TRUNC:
            with self._lock:
                self._note("truncate", path, 0)
        return handle

    def release(self, path: str, fh: int) -> int:
        self._paths.pop(fh, None)
        os.close(fh)
        return 0

    # What changes. Each takes effect and is noted under one lock, so that the log has the order of the disk.

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._fault("create")
        with self._lock:
            handle = os.open(self._full(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            self._note("create", path)
        self._paths[handle] = path
        return handle

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if self._fault("write") == "short":
            data = data[: max(1, len(data) // 2)]
        with self._lock:
            done = os.pwrite(fh, data, offset)
            self._note("write", path, offset, base64.b64encode(data[:done]).decode())
        return done

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._fault("truncate")
        with self._lock:
            os.truncate(self._full(path), length)
            self._note("truncate", path, length)
        return 0

    def unlink(self, path: str) -> int:
        self._fault("unlink")
        with self._lock:
            os.unlink(self._full(path))
            self._note("unlink", path)
        return 0

    def rename(self, old: str, new: str) -> int:
        self._fault("rename")
        with self._lock:
            os.rename(self._full(old), self._full(new))
            self._note("rename", old, new)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._fault("mkdir")
        with self._lock:
            os.mkdir(self._full(path), mode)
            self._note("mkdir", path)
        return 0

    def rmdir(self, path: str) -> int:
        self._fault("rmdir")
        with self._lock:
            os.rmdir(self._full(path))
            self._note("rmdir", path)
        return 0

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> int:
        os.utime(self._full(path), times)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._full(path), mode)
        return 0

    # What makes durable.

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._fault("fsync")
        with self._lock:
            self._note("fsync", path)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._fault("fsyncdir")
        with self._lock:
            self._note("fsyncdir", path)
        return 0


def main(argv: list[str]) -> int:
    backing, mount, control, log = argv
    fuse.FUSE(
        FaultFs(backing, control, log), mount, foreground=True, allow_other=True, default_permissions=False,
        # Nothing is answered out of the kernel's memory: every question comes here.
        attr_timeout=0, entry_timeout=0, direct_io=True, hard_remove=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
