"""The master under attack, an honest peer beside the attacker, and the check that every acknowledged inventory is collected in the end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdc import collect
from vdc.api import content_digest
from vdc.archive import tar_gz
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.suite import expect
from veth_site import CLIENT_LINK, SERVER, Site

HONEST, HOSTILE = "192.168.219.200", "192.168.219.201"
# Of the master beside what it has when nothing goes on; the kinds below wanted 140 MB to 2.8 GB of one that is not careful.
MEMORY_MIB = 96


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{hashlib.sha256(b'%d' % number).hexdigest()[:12]}"


@dataclass
class Target(contextlib.AbstractContextManager["Target"]):
    """A master on a cable with two addresses at its other end. `data` may be a mount of `faultfs.py`."""

    site: Site
    data: Path | None = None
    # Seed of the random choices: the same attack every time, unless --seed gives another one.
    seed: int = 1
    stored: dict[str, str] = field(default_factory=dict)  # node → serial number of what was acknowledged last
    tried: int = 0
    survived: int = 0
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Target:
        self.site.__enter__()
        for address in (HONEST, HOSTILE):
            self.site.client.ip("addr", "add", f"{address}/24", "dev", CLIENT_LINK)
        if self.data is not None:
            self.site.data = self.data
        return self

    def __exit__(self, *error: Any) -> None:
        self.site.__exit__(*error)

    @property
    def net(self) -> Namespace:
        return self.site.client

    def start(self) -> None:
        self.site.start(self.site.iso)

    def next_number(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def inventory(self, number: int, serial: str) -> dict[str, Any]:
        """What the master reads of a machine; all else is its own business."""
        mac = f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        return {
            "schema_version": 2,
            "system": {
                "status": "ok",
                "value": {
                    "vendor": "Example", "product": "Attacked", "serial": serial, "uuid": uuid(number),
                    "identity": {"chosen": uuid(number), "score": 100, "facts": []},
                },
            },
            "net": {"status": "ok", "value": [{"name": "eth0", "permanent_mac": mac, "mac": mac}]},
        }

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None,
        source: str = HONEST, timeout: float = 20.0,
    ) -> tuple[int, bytes]:
        """One HTTP request on a connection of its own. (0, why) where there is no answer."""
        def connect() -> http.client.HTTPConnection:
            made = http.client.HTTPConnection(SERVER, 80, timeout=timeout, source_address=(source, 0))
            made.connect()
            return made

        try:
            connection = self.net.call(connect)
        except OSError as error:
            return 0, str(error).encode()
        try:
            connection.request(method, path, body, {"Content-Length": str(len(body)), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(1 << 20)
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error).encode()
        finally:
            connection.close()

    def put(self, node: str, body: bytes, source: str = HONEST, timeout: float = 20.0, **headers: str) -> tuple[int, bytes]:
        given = {"Content-Digest": content_digest(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.ask("PUT", f"/api/v1/nodes/{node}/upload", body, given, source, timeout)

    def honest_upload(self, timeout: float = 20.0) -> tuple[int, bytes]:
        """A new machine stores its inventory; those that get a 201 are remembered."""
        number = self.next_number()
        serial = f"SN{number}"
        members = [("inventory.json", json.dumps(self.inventory(number, serial)).encode()), ("post/x", b"x" * 3000)]
        body = tar_gz(members, level=1)
        code, said = self.put(uuid(number), body, timeout=timeout)
        if code == 201:
            with self._lock:
                self.stored[json.loads(said)["id"]] = serial
        return code, said

    def expect_served(self) -> None:
        """The honest peer beside it is served as if nothing were going on."""
        code, said = self.honest_upload()
        expect(code == 201, f"an honest upload gets {code} {said[:200]!r}:\n{self.site.log_tail()}")
        code, said = self.ask("GET", "/loaders/ipxe.efi")
        if code == 404:
            code, said = self.ask("GET", "/ipxe.efi")
        expect(code == 200, f"an honest download gets {code}")

    def record(self, name: str, ok: bool, what: str = "") -> None:
        """Counts one try. `ok`: the master did with it what it should."""
        self.tried += 1
        if not ok:
            raise LabError(f"{name}: {what}")
        self.survived += 1

    def memory_kib(self) -> int:
        """Resident memory of the master at its highest, in KiB."""
        text = Path(f"/proc/{self.site.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM:")).split()[1])

    @contextlib.contextmanager
    def bounded_memory(self, what: str) -> Iterator[None]:
        """Within the block the master takes no more than `MEMORY_MIB` beyond what it had."""
        # Resets the high-water mark; proc(5).
        Path(f"/proc/{self.site.pid}/clear_refs").write_text("5", encoding="ascii")
        before = self.memory_kib()
        yield
        more = (self.memory_kib() - before) // 1024
        expect(more <= MEMORY_MIB, f"{what}: the master took {more} MiB more")

    def expect_collected(self, where: Path | None = None, known: dict[str, str] | None = None, damaged: bool = False) -> None:
        """`recon collect` finds every acknowledged inventory, whole."""
        known = dict(self.stored if known is None else known)
        collected = collect.collect(self.site.recon, where or self.site.data, self.site.folder / "home.tar.gz", damaged)
        lost = sorted(set(known) - collected.nodes)
        expect(not lost, f"{len(lost)} of {len(known)} acknowledged inventories are gone, {lost[:3]} among them")
        for node, serial in known.items():
            found = collected.inventory(node)["system"]["value"]["serial"]
            expect(found == serial, f"{node} came home with the serial number {found}, {serial} was acknowledged")
