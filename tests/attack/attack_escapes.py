"""Control characters in every text that the master logs, shows or sends on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time

from attack_network import open_connection
from attack_target import HOSTILE, Target, uuid
from vdc.archive import tar_gz
from vdc.suite import Scenario, expect, scenarios

# Characters that no output may contain when a client sent them: escape, bell, C1, a line break, right-to-left override,
# a byte order mark, zero width, a tag character.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\nroot:x\u202egnp.\u200b\ufeff\u2028\U000e0041"
_NEVER = [c for c in EVIL if not c.isascii() or (ord(c) < 32 and c != "\n")]


def terminal_escapes(target: Target) -> None:
    """Escapes, line breaks and text that runs backwards in every word that the master shows."""
    number = (1 << 25) + 1
    inventory = target.inventory(number, f"SN{EVIL}")
    for name in ("vendor", "product"):
        inventory["system"]["value"][name] = f"{name}{EVIL}"
    body = tar_gz([("inventory.json", json.dumps(inventory).encode()), (f"post/{EVIL.replace('/', '')[:60]}", b"x")])
    code, said = target.put(uuid(number), body, HOSTILE)
    expect(code in (201, 400, 422), f"an upload of odd words gets {code} {said[:200]!r}")
    for path in (f"/{EVIL}", "/isos/%1b%5b2J%e2%80%ae", "/boot.ipxe?mac=%1b%5b2J&serial=%e2%80%aegnp&arch=%0a%0dreboot", "/grub/%1b"):
        escaped = path.encode().replace(b" ", b"%20").replace(b"\r", b"%0d").replace(b"\n", b"%0a")
        head = b"GET " + escaped + b" HTTP/1.1\r\nHost: \x1b[2J\r\nUser-Agent: \xe2\x80\xae\r\nConnection: close\r\n\r\n"
        connection = open_connection(target, head)
        if connection is not None:
            text = b""
            with contextlib.suppress(OSError):
                while piece := connection.recv(65536):
                    text += piece
            connection.close()
            _expect_clean(target, f"the answer to {path[:20]!r}", text.decode("utf-8", "replace").replace("\r\n", "\n"))
    time.sleep(1.0)
    _expect_clean(target, "the log", target.site.log.read_text(encoding="utf-8", errors="replace"))
    for view in ("/", "/api/v1/status", "/api/v1/nodes", "/metrics", "/boot.ipxe"):
        code, said = target.ask("GET", view)
        _expect_clean(target, view, said.decode("utf-8", "replace"))
    recon = str(target.site.recon)
    home = target.site.folder / "words.tar.gz"
    home.unlink(missing_ok=True)
    done = subprocess.run([recon, "collect", str(target.site.data), "-o", str(home)], capture_output=True, timeout=120, check=False)
    _expect_clean(target, "what collect prints", (done.stdout + done.stderr).decode("utf-8", "replace"))
    target.expect_served()


def _expect_clean(target: Target, where: str, text: str) -> None:
    found = sorted({repr(c) for c in _NEVER if c in text})
    if "log" in where or "print" in where:
        found += [] if "\nroot:x" not in text else ["a line break"]
    target.record(f"odd words in {where}", not found, f"{', '.join(found)} stand in it")


CHECKS: list[Scenario[Target]] = scenarios(terminal_escapes)
