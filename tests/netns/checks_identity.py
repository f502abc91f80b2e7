"""Does a master keep machines with the same UUID apart, and report the clash?"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from bridged_lan import Lan, Stick
from vdc import collect, polling
from vdc.api import digest_header
from vdc.archive import tar_gz
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect, scenarios

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
        self.machine: Namespace = lan.client(number, f"board{number}")
        self.machine.ip("addr", "add", f"192.168.219.{240 + number}/24", "dev", "eth0")

    def _curl(self, *args: str) -> bytes:
        return self.machine.run(["curl", "-sS", "--max-time", "20", *args], timeout=30).stdout

    def upload(self, mark: str, quick: bool = False) -> None:
        text = json.dumps(_inventory(self.number, mark, quick)).encode()
        body, file = tar_gz([("inventory.json", text)]), self.lan.folder / f"upload{self.number}"
        file.write_bytes(body)
        said = self._curl(
            "-f", "-T", str(file), "-H", "Expect:", "-H", digest_header(body),
            f"http://{self.master}/api/v1/nodes/{self.id}/upload",
        )
        expect(said, f"the upload {mark} of board {self.number} is not taken")
        self.id = str(json.loads(said)["id"])

    def report_stage(self, stage: str) -> None:
        report = json.dumps({
            "stage": stage, "macs": [_port(self.number)],
            "evidence": {"system_serial": f"BOARD-{self.number}", "ports": [_port(self.number)]},
        })
        self._curl("-f", "--data", report, f"http://{self.master}/api/v1/nodes/{self.id}/stage")


def _rows(stick: Stick) -> dict[str, str]:
    return {str(node["id"]): str(node["stage"]) for node in stick.api.nodes()}


def _expect_in_every_view(lan: Lan, stick: Stick, rows: dict[str, str]) -> None:
    """API, table and status say the same."""
    expect(_rows(stick) == rows, f"the API has {_rows(stick)}, not {rows}")
    clashes: list[Any] = (stick.status() or {}).get("clashes", [])
    expect(len(clashes) == 1 and {m["id"] for m in clashes[0]["machines"]} == set(rows), f"clashes: {clashes}")
    done = stick.machine.run([str(lan.recon), "status"], timeout=20)
    # Long lines are broken for the terminal.
    screen = " ".join(done.stdout.decode().split())
    expect(f"CLASH: {_CLASH}" in screen, f"the screen does not name the clash:\n{done.stdout.decode()}")
    for board in (1, 2):
        expect(f"BOARD-{board}" in screen, f"the screen does not name board {board}:\n{done.stdout.decode()}")
    expect(screen.count("ONE OF 2 MACHINES OF THIS NAME") == 2, f"the rows do not say it:\n{done.stdout.decode()}")


def two_machines_one_uuid(lan: Lan) -> None:
    """Two machines with one UUID, two uploads each, a power cut in between, another stick: everything is kept, and the clash is reported in every view."""
    stick = lan.stick("one", 9)
    stick.start()
    stick.wait_for_mode("serve", 20.0, address=True)
    boards = [Board(lan, 1), Board(lan, 2)]
    for board in boards:
        board.report_stage("agent")
    expect(_rows(stick) == {_UUID: "agent", _marked(2): "agent"}, f"two agents are {_rows(stick)}")
    # What is quick tells nothing that sets the second one apart from the first: in doubt both are kept.
    boards[0].upload("1", quick=True)
    boards[1].upload("1", quick=True)
    stick.kill()
    stick.start()
    stick.wait_for_mode("serve", 20.0, address=True)
    for board in boards:
        board.upload("1")
    first = {_UUID: "stored", boards[1].id: "stored"}
    expect(boards[0].id == _UUID and len(first) == 2, f"the boards are kept as {[board.id for board in boards]}")
    _expect_in_every_view(lan, stick, first)
    stick.kill()
    stick.start()
    stick.wait_for_mode("serve", 20.0, address=True)
    # One truth after a restart: what is on the stick is stored, and the machines' system still speaks.
    _expect_in_every_view(lan, stick, first)
    boards[1].report_stage("off")
    _expect_in_every_view(lan, stick, {**first, boards[1].id: "off"})
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

    polling.wait_until(archived, 20.0, "both are in the tarball")
    collected = collect.collect(lan.recon, stick.folder / "data", lan.folder / "one.tar.gz")
    serials = {node: collected.inventory(node)["system"]["value"]["serial"] for node in collected.nodes}
    expect(serials == {boards[0].id: "BOARD-1", boards[1].id: "BOARD-2"}, f"collected {serials}")
    expect(f"CLASH: {_CLASH}" in collected.printed, f"collect does not name the clash:\n{collected.printed}")
    stick.kill()
    _another_stick(lan, stick, boards)


def _another_stick(lan: Lan, stick: Stick, boards: list[Board]) -> None:
    """The other board comes first to a second stick; collecting both sticks keeps the latest inventory of each board."""
    other = lan.stick("two", 7)
    other.start()
    # The machine of the first one is still there with its address, so the second takes another.
    address = str(other.wait_for_mode("serve", 30.0, address=True)["address"]).split("/")[0]
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


CHECKS: list[Scenario[Lan]] = scenarios(
    two_machines_one_uuid,
)
