"""Does a master keep apart machines that call themselves the same, and say so? One function an expectation; each has wires of its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from typing import Any

from vdc import collect, waiting
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect
from wires import Lan, Stick

_MASTER = "192.168.219.1"
_UUID = "93d4e5a1-7f46-11e5-bf8b-080027123456"
_CLASH = f"two machines name themselves by the UUID {_UUID}"


def _port(board: int) -> str:
    return f"d0:63:b4:00:00:{board:02x}"


def _marked(board: int) -> str:
    return f"{_UUID}-{_port(board).replace(':', '')}"


def _inventory(board: int, mark: str, quick: bool) -> dict[str, Any]:
    """What the firmware of a board says: one UUID for all of them. What is quick lacks the ports."""
    nics = [] if quick else [{"name": "eth0", "mac": _port(board), "permanent_mac": _port(board)}]
    return {
        "schema_version": 2,
        "run": {"status": "ok", "value": {"boot_id": f"boot of board {board}, visit {mark}"}},
        "system": {"status": "ok", "value": {
            "vendor": "SolidRun", "product": "LX2160ACEX7", "serial": None if quick else f"BOARD-{board}", "uuid": _UUID,
        }},
        "nics": {"status": "ok", "value": nics},
    }


class Board:
    """A machine that does what a peer does, by hand."""

    def __init__(self, lan: Lan, number: int) -> None:
        self.lan = lan
        self.number = number
        self.id = _UUID
        self.master = _MASTER
        self.place: Namespace = lan.client(number, f"board{number}")
        self.place.ip("addr", "add", f"192.168.219.{240 + number}/24", "dev", "eth0")

    def _curl(self, *args: str) -> bytes:
        return self.place.run(["curl", "-sS", "--max-time", "20", *args], timeout=30).stdout

    def upload(self, mark: str, quick: bool = False) -> None:
        text = json.dumps(_inventory(self.number, mark, quick)).encode()
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w:gz") as archive:
            entry = tarfile.TarInfo("inventory.json")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        body, file = target.getvalue(), self.lan.folder / f"upload{self.number}"
        file.write_bytes(body)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        said = self._curl(
            "-f", "-T", str(file), "-H", "Expect:", "-H", f"Content-Digest: sha-256=:{digest}:",
            f"http://{self.master}/api/v1/nodes/{self.id}/upload",
        )
        expect(said, f"the upload {mark} of board {self.number} is not taken")
        self.id = str(json.loads(said)["id"])

    def says(self, stage: str) -> None:
        report = json.dumps({
            "stage": stage, "macs": [_port(self.number)],
            "evidence": {"system_serial": f"BOARD-{self.number}", "ports": [_port(self.number)]},
        })
        self._curl("-f", "--data", report, f"http://{self.master}/api/v1/nodes/{self.id}/stage")


def _rows(stick: Stick) -> dict[str, str]:
    return {str(node["id"]): str(node["stage"]) for node in stick.api.nodes()}


def _everywhere(lan: Lan, stick: Stick, rows: dict[str, str]) -> None:
    """API, table and status say the same."""
    expect(_rows(stick) == rows, f"the API has {_rows(stick)}, not {rows}")
    clashes: list[Any] = (stick.status() or {}).get("clashes", [])
    expect(len(clashes) == 1 and {m["id"] for m in clashes[0]["machines"]} == set(rows), f"clashes: {clashes}")
    done = stick.place.run([str(lan.recon), "status"], timeout=20)
    # Long lines are broken for the terminal.
    screen = " ".join(done.stdout.decode().split())
    expect(f"CLASH: {_CLASH}" in screen, f"the screen does not name the clash:\n{done.stdout.decode()}")
    for board in (1, 2):
        expect(f"BOARD-{board}" in screen, f"the screen does not name board {board}:\n{done.stdout.decode()}")
    expect(screen.count("ONE OF 2 MACHINES OF THIS NAME") == 2, f"the rows do not say it:\n{done.stdout.decode()}")


def two_machines_one_uuid(lan: Lan) -> None:
    """Two machines with one UUID, two uploads each, a power cut in between, another stick: all kept, and the clash said everywhere."""
    stick = lan.stick("one", 9)
    stick.start()
    stick.becomes("serve", 20.0, address=True)
    boards = [Board(lan, 1), Board(lan, 2)]
    for board in boards:
        board.says("agent")
    expect(_rows(stick) == {_UUID: "agent", _marked(2): "agent"}, f"two agents are {_rows(stick)}")
    # What is quick tells nothing that sets the second one apart from the first: in doubt both are kept.
    boards[0].upload("1", quick=True)
    boards[1].upload("1", quick=True)
    stick.kill()
    stick.start()
    stick.becomes("serve", 20.0, address=True)
    for board in boards:
        board.upload("1")
    first = {_UUID: "stored", boards[1].id: "stored"}
    expect(boards[0].id == _UUID and len(first) == 2, f"the boards are kept as {[board.id for board in boards]}")
    _everywhere(lan, stick, first)
    stick.kill()
    stick.start()
    stick.becomes("serve", 20.0, address=True)
    # One truth after a restart: what is on the stick is stored, and the machines' system still speaks.
    _everywhere(lan, stick, first)
    boards[1].says("off")
    _everywhere(lan, stick, {**first, boards[1].id: "off"})
    for board in boards:
        board.id = _UUID  # It booted again, and knows only what its firmware says.
        board.upload("2")
    expect({board.id for board in boards} == set(first), f"names changed: {[board.id for board in boards]}")

    def archived() -> bool | None:
        whole = stick.folder / "data/recon-inventory.tar.gz"
        if not whole.exists():
            return None
        with_all = collect.read(whole)
        return True if with_all.nodes == set(first) else None

    waiting.until(archived, 20.0, "both are in the tarball")
    harvest = collect.collect(lan.recon, stick.folder / "data", lan.folder / "one.tar.gz")
    serials = {node: harvest.inventory(node)["system"]["value"]["serial"] for node in harvest.nodes}
    expect(serials == {boards[0].id: "BOARD-1", boards[1].id: "BOARD-2"}, f"collected {serials}")
    expect(f"CLASH: {_CLASH}" in harvest.printed, f"collect does not name the clash:\n{harvest.printed}")

    # Another stick, to which the other board came first.
    stick.kill()
    other = lan.stick("two", 7)
    other.start()
    # The machine of the first one is still there with its address, so the second takes another.
    address = str(other.becomes("serve", 30.0, address=True)["address"]).split("/")[0]
    for board in reversed(boards):
        board.master, board.id = address, _UUID
        board.upload("3")
    expect([board.id for board in boards] == [_marked(1), _UUID], f"kept as {[board.id for board in boards]}")
    other.kill()
    tarball = lan.folder / "both.tar.gz"
    done = subprocess.run(
        [str(lan.recon), "collect", str(stick.folder / "data"), str(other.folder / "data"), "-o", str(tarball)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )
    printed = done.stdout.decode()
    expect(done.returncode == 0 and f"CLASH: {_CLASH}" in printed, f"collect of two sticks:\n{printed}")
    both = collect.read(tarball)
    found = sorted(both.inventory(node)["system"]["value"]["serial"] for node in both.nodes)
    expect(found == ["BOARD-1", "BOARD-2"], f"two sticks gave {found}:\n{printed}")
    visits = {both.inventory(node)["run"]["value"]["boot_id"][-1] for node in both.nodes}
    expect(visits == {"3"}, f"visits {visits} were taken:\n{printed}")


CHECKS: list[Scenario[Lan]] = [
    Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check) for check in (two_machines_one_uuid,)
]
