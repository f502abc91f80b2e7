"""What is tried on a master, a function a kind. Each ends with the honest peer being served and nothing lost."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from collections.abc import Callable

import crash
import uploads
from stage import HOSTILE, Stage, digest, tar_gz, uuid
from cable import SERVER
from vdc import tools, waiting
from vdc.errors import LabError
from vdc.suite import Scenario, expect

# The same attack every time; --seed tries another one.
SEED = 1
KILLS, LONG_KILLS = 20, 200
CRASHES, LONG_CRASHES = 60, 600
_HERE = Path(__file__).resolve().parent

# What a terminal or a reader must never get from a stranger's words: escape, bell, C1, a line break, text that runs backwards,
# a byte order mark, zero width, a tag character.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\nroot:x\u202egnp.\u200b\ufeff\u2028\U000e0041"
_NEVER = [c for c in EVIL if not c.isascii() or (ord(c) < 32 and c != "\n")]


def starts(stage: Stage) -> None:
    """The master under attack serves an honest peer."""
    stage.start()
    stage.serves()


def bad_uploads(stage: Stage) -> None:
    """Archives and inventories that no peer makes: refused, or taken faithfully."""
    with stage.bounded_memory("bad uploads"):
        for name, body, allowed in uploads.bad(json.dumps(stage.inventory(1 << 20, "evil")).encode()):
            number = (1 << 20) + stage.next_number()
            code, said = stage.put(uuid(number), body, source=HOSTILE)
            stage.attack(name, code in allowed, f"got {code} {said[:200]!r}, not one of {allowed}")
    stage.serves()


def wrong_declarations(stage: Stage) -> None:
    """What is said of an upload does not fit it."""
    body = tar_gz([("inventory.json", b"{}")])
    node = uuid(1 << 21)
    for name, method, path, sent, headers, allowed in (
        ("another digest", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": digest(b"other")}, (422,)),
        ("no digest", "PUT", f"/api/v1/nodes/{node}/upload", body, {}, (400,)),
        ("a digest of nothing", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": "sha-256=:AAAA:"}, (400,)),
        ("a digest by another name", "PUT", f"/api/v1/nodes/{node}/upload", body, {"Content-Digest": "md5=:AAAA:"}, (400,)),
        ("a length beyond all bounds", "PUT", f"/api/v1/nodes/{node}/upload", b"", {"Content-Length": "99999999999999", "Content-Digest": digest(body)}, (413, 507, 429, 503)),
        ("a length that is none", "PUT", f"/api/v1/nodes/{node}/upload", b"", {"Content-Length": "-1", "Content-Digest": digest(body)}, (400,)),
        ("a node that climbs", "PUT", "/api/v1/nodes/..%2f..%2fx/upload", body, {"Content-Digest": digest(body)}, (400, 404)),
        ("a node of 5,000 characters", "PUT", f"/api/v1/nodes/{'a' * 5000}/upload", body, {"Content-Digest": digest(body)}, (400, 404, 414)),
        ("a node with a zero", "PUT", "/api/v1/nodes/a%00b/upload", body, {"Content-Digest": digest(body)}, (400, 404)),
        ("a node of escapes", "PUT", "/api/v1/nodes/%1b%5b2J/upload", body, {"Content-Digest": digest(body)}, (400, 404)),
    ):
        code, said = stage.ask(method, path, sent, headers, HOSTILE)
        stage.attack(name, code in allowed, f"got {code} {said[:200]!r}, not one of {allowed}")
    stage.serves()


def bombs(stage: Stage) -> None:
    """Small on the wire, large in memory: sixteen at once."""
    inventory = json.dumps(stage.inventory(1 << 22, "bomb")).encode()
    for name, body in (("a gigabyte of zeros", uploads.bomb(inventory)), ("twelve million empty lists", uploads.dense(12)), ("three million", uploads.dense(3))):
        with stage.bounded_memory(name):
            answers: list[int] = []
            threads = [
                threading.Thread(target=lambda n=n: answers.append(stage.put(uuid((1 << 22) + n), body, HOSTILE, timeout=120.0)[0]), daemon=True)
                for n in range(16)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(150)
            stage.attack(name, len(answers) == 16, f"{16 - len(answers)} of 16 uploads have no answer")
        stage.serves()


def _open(stage: Stage, text: bytes, source: str = HOSTILE) -> socket.socket | None:
    """A connection on which something was said; None where it was refused."""
    try:
        made = stage.net.call(lambda: socket.create_connection((SERVER, 80), 5.0, (source, 0)))
        made.settimeout(5.0)
        made.sendall(text)
        return made
    except OSError:
        return None


def crowd(stage: Stage, name: str, count: int, text: Callable[[int], bytes], drip: bytes = b"") -> None:
    """`count` connections of one address hold what they can get; the honest peer does not notice."""
    def many() -> list[socket.socket]:
        made = []
        for number in range(count):
            try:
                held = socket.create_connection((SERVER, 80), 5.0, (HOSTILE, 0))
                held.settimeout(1.0)
                held.sendall(text(number))
                made.append(held)
            except OSError:
                continue
        return made

    held = stage.net.call(many)
    try:
        end = time.monotonic() + 6.0
        rounds = 0
        while time.monotonic() < end or rounds < 3:
            for connection in held:
                try:
                    connection.send(drip)
                except OSError:
                    continue
            code, said = stage.honest_upload(timeout=10.0)
            stage.attack(f"{name}, {len(held)} connections", code == 201, f"an honest upload beside it gets {code} {said[:200]!r}")
            rounds += 1
            # A machine a moment, not thousands: that would be an attack of its own.
            time.sleep(0.3)
    finally:
        for connection in held:
            connection.close()
    stage.serves()


def connections(stage: Stage) -> None:
    """2048 connections of one address that say nothing."""
    crowd(stage, "silent", 2048, lambda _: b"")
    crowd(stage, "half a head", 2048, lambda _: b"GET / HTTP/1.1\r\nX: ", b"x")


def dripping(stage: Stage) -> None:
    """1100 uploads that come a byte at a time."""
    def head(number: int) -> bytes:
        return (
            f"PUT /api/v1/nodes/{uuid((1 << 23) + number)}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            f"Content-Digest: {digest(b'x')}\r\n\r\n"
        ).encode()

    crowd(stage, "dripping", 1100, head, b"x")


def announced(stage: Stage) -> None:
    """Announced uploads of all the space that there is, and nothing sent."""
    free = shutil.disk_usage(stage.site.data).free

    def head(number: int) -> bytes:
        return (
            f"PUT /api/v1/nodes/{uuid((1 << 24) + number)}/upload HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {min(free // 2, 500 << 20)}\r\nContent-Digest: {digest(b'x')}\r\n\r\n"
        ).encode()

    crowd(stage, "announced", 64, head)


def http_rubbish(stage: Stage) -> None:
    """Requests that no client makes: an answer or an end, never a hang."""
    dice = random.Random(SEED)
    lines = [
        b"GET", b"GET /", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 4000, b"GET http://x/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /isos/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nffffffffffffffff\r\n",
        b"PUT /api/v1/nodes/x/upload HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"GET / HTTP/1.1\r\nRange: bytes=" + b"0-1," * 5000 + b"\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ]
    lines += [bytes(dice.randrange(256) for _ in range(dice.randrange(1, 400))) for _ in range(200)]
    for line in lines:
        connection = _open(stage, line)
        if connection is None:
            continue
        try:
            # It may have hung up already.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
            good = not answer or answer.startswith(b"HTTP/1.")
            stage.attack(f"request {line[:40]!r}", good and b"root:" not in answer, f"answers {answer[:100]!r}")
        except ConnectionError:
            stage.attack("reset", True)
        except OSError as error:
            stage.attack(f"request {line[:40]!r}", False, str(error))
        finally:
            connection.close()
    stage.serves()


def tftp_rubbish(stage: Stage) -> None:
    """TFTP requests by the thousand that are never acknowledged, and rubbish; an honest transfer goes through."""
    dice = random.Random(SEED)

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            port.bind((HOSTILE, 0))
            for number in range(3000):
                port.sendto(b"\0\1ipxe.efi\0octet\0blksize\x0065464\0windowsize\x0064\0" if number % 2 else bytes(dice.randrange(256) for _ in range(60)), (SERVER, 69))

    with stage.bounded_memory("TFTP requests"):
        stage.net.call(flood)
        done = stage.net.run(["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{size_download}", f"tftp://{SERVER}/ipxe.efi"], 30.0)
    stage.attack("3000 TFTP requests", done.stdout == b"997376", f"an honest transfer got {done.stdout!r} {done.stderr[-200:]!r}")
    stage.serves()


def strangers_words(stage: Stage) -> None:
    """Escapes, line breaks and text that runs backwards in every word that the master shows."""
    number = (1 << 25) + 1
    inventory = stage.inventory(number, f"SN{EVIL}")
    for name in ("vendor", "product"):
        inventory["system"]["value"][name] = f"{name}{EVIL}"
    code, said = stage.put(uuid(number), tar_gz([("inventory.json", json.dumps(inventory).encode()), (f"post/{EVIL.replace('/', '')[:60]}", b"x")]), HOSTILE)
    expect(code in (201, 400, 422), f"an upload of odd words gets {code} {said[:200]!r}")
    for path in (f"/{EVIL}", "/isos/%1b%5b2J%e2%80%ae", "/boot.ipxe?mac=%1b%5b2J&serial=%e2%80%aegnp&arch=%0a%0dreboot", "/grub/%1b"):
        connection = _open(stage, b"GET " + path.encode().replace(b" ", b"%20").replace(b"\r", b"%0d").replace(b"\n", b"%0a") + b" HTTP/1.1\r\nHost: \x1b[2J\r\nUser-Agent: \xe2\x80\xae\r\nConnection: close\r\n\r\n")
        if connection is not None:
            text = b""
            try:
                while piece := connection.recv(65536):
                    text += piece
            except OSError:
                pass
            connection.close()
            _clean(stage, f"the answer to {path[:20]!r}", text.decode("utf-8", "replace").replace("\r\n", "\n"))
    time.sleep(1.0)
    _clean(stage, "the log", stage.site.log.read_text(encoding="utf-8", errors="replace"))
    for view in ("/", "/api/v1/status", "/api/v1/nodes", "/metrics", "/boot.ipxe"):
        code, said = stage.ask("GET", view)
        _clean(stage, view, said.decode("utf-8", "replace"))
    recon = str(stage.site.recon)
    home = stage.site.folder / "words.tar.gz"
    home.unlink(missing_ok=True)
    done = subprocess.run([recon, "collect", str(stage.site.data), "-o", str(home)], capture_output=True, timeout=120, check=False)
    _clean(stage, "what collect prints", (done.stdout + done.stderr).decode("utf-8", "replace"))
    stage.serves()


def _clean(stage: Stage, where: str, text: str) -> None:
    found = sorted({repr(c) for c in _NEVER if c in text})
    if "log" in where or "print" in where:
        found += [] if "\nroot:x" not in text else ["a line break"]
    stage.attack(f"odd words in {where}", not found, f"{', '.join(found)} stand in it")


def kills(stage: Stage, count: int) -> None:
    """Killed at any moment: what was acknowledged is there."""
    dice = random.Random(SEED)
    for number in range(count):
        busy = threading.Event()

        def feed() -> None:
            while not busy.is_set():
                if stage.honest_upload(timeout=3.0)[0] == 0:
                    return

        threads = [threading.Thread(target=feed, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(dice.uniform(0.02, 0.6))
        stage.site.kill()
        busy.set()
        for thread in threads:
            thread.join(10)
        stage.all_there()
        stage.attack(f"kill {number}", True)
        stage.start()
    stage.serves()


class _Mount:
    """`faultfs.py` over a folder of the stage."""

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

        waiting.until(mounted, 10.0, "the file system of faults is mounted")

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


FAULTS: tuple[tuple[str, str], ...] = (
    ("write", "ENOSPC"), ("write", "EIO"), ("write", "EDQUOT"), ("write", "EROFS"), ("write", "short"), ("write", "slow 1"),
    ("fsync", "EIO"), ("fsync", "ENOSPC"), ("fsync", "slow 2"), ("fsyncdir", "EIO"), ("create", "ENOSPC"), ("create", "EIO"),
    ("create", "EROFS"), ("create", "EMFILE"), ("rename", "EIO"), ("rename", "ENOSPC"), ("unlink", "EIO"), ("mkdir", "ENOSPC"), ("mkdir", "EIO"),
    ("open", "EIO"), ("read", "EIO"), ("readdir", "EIO"), ("statfs", "EIO"), ("statfs", "full"), ("truncate", "EIO"), ("rmdir", "EIO"),
)


def file_system_faults(folder: Path, make: Callable[[Path, Path], Stage], counts: Stage) -> None:
    """A stick on which an operation fails: nothing is acknowledged that is not there, and all is well afterwards."""
    mount = _Mount(folder)
    try:
        with make(folder / "site", mount.mount) as stage:
            stage.start()
            stage.serves()
            for operation, fault in FAULTS:
                mount.say({operation: fault})
                answers = [stage.honest_upload(timeout=30.0) for _ in range(2)]
                mount.say({})
                code, said = waiting.until(
                    lambda: (lambda answer: answer if answer[0] == 201 else None)(stage.honest_upload(timeout=30.0)),
                    45.0, f"an upload is stored after {operation} {fault}",
                )
                # One that did not get its 201 has an answer that says whose fault it is, or the connection's end.
                odd = [answer for answer in answers if answer[0] not in (0, 201, 500, 503, 507)]
                counts.attack(f"{operation} {fault}", not odd, f"got {odd[:1]}")
                stage.all_there()
            # Once more from the start, as the next visit would.
            code, _ = stage.site.stop()
            expect(code == 0, f"the master ends with {code}")
            stage.start()
            stage.serves()
            stage.all_there()
    finally:
        mount.close()


def lying_cache(folder: Path, make: Callable[[Path, Path], Stage], counts: Stage, count: int) -> None:
    """Power gone at any moment, with all that was not made durable lost or in another order: what was acknowledged is there."""
    mount = _Mount(folder)
    acknowledged: list[tuple[float, str, str]] = []
    try:
        with make(folder / "site", mount.mount) as stage:
            stage.start()
            for _ in range(25):
                before = dict(stage.stored)
                code, said = stage.honest_upload(timeout=60.0)
                expect(code == 201, f"an upload gets {code} {said[:200]!r}")
                now = time.monotonic()
                acknowledged += [(now, node, serial) for node, serial in stage.stored.items() if node not in before]
            stage.site.kill()
            events = crash.events(mount.log)
            dice = random.Random(SEED)
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
                    _brought_home(stage, left, known, f"power gone before operation {cut} of {len(events)}")
                counts.attack(f"power gone before operation {cut}", True)
    finally:
        mount.close()


def _brought_home(stage: Stage, folder: Path, known: dict[str, str], what: str) -> None:
    try:
        stage.all_there(folder, known)
    except LabError as error:
        # A file that never became whole was never acknowledged either; collect names it and ends with 1.
        if "exit 1" not in str(error):
            raise LabError(f"{what}: {error}") from error
        stage.all_there(folder, known, damaged=True)


CHECKS: list[Scenario[Stage]] = [
    Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check)
    for check in (
        starts, bad_uploads, wrong_declarations, connections, dripping, announced, http_rubbish, tftp_rubbish, strangers_words,
    )
]
