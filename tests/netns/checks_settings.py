"""Does a master obey `recon.toml`, and send nothing where it cannot read all of it?"""

from __future__ import annotations

import os
import time

from bridged_lan import FIRST, SECOND, Lan, Stick, client_mac, frames, raw
from lan_helpers import VERDICT_SECONDS, discover
from vdc.capture import Capture
from vdc.errors import LabError
from vdc.suite import Scenario, expect, scenarios


def _sent_by_kernel(frame: bytes) -> bool:
    """What any kernel sends of itself on a link that is up: ICMPv6 router and neighbour solicitations, MLD reports."""
    if frame[12:14] != b"\x86\xdd":
        return False
    at = 54 if frame[20] == 58 else 62 if frame[20] == 0 else 0
    return bool(at) and frame[at] in (133, 135, 143)


def configured_silent(lan: Lan) -> None:
    """A link that recon.toml names is silent: not one packet of ours leaves it, whoever asks."""
    stick = lan.stick("stick", 1, (FIRST, SECOND))
    stick.settings('[network]\nsilent = ["eth0"]\n')
    client = lan.client(7)
    with lan.capture("silent") as wire:
        stick.start()
        expect("recon.toml" in stick.wait_for_mode("silent", 5.0)["reason"], "the reason does not name recon.toml")
        stick.wait_for_mode("serve", VERDICT_SECONDS, at=1)
        expect(discover(client, client_mac(7), "ovmf-efi-discover.bin", 2.0) == [], "an answer on a silent link")
        sent = [frame for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and not _sent_by_kernel(frame.data)]
    expect(sent == [], f"{len(sent)} packets left a silent link")


def _enter_command(stick: Stick, word: str) -> str:
    """Enters a command at the screen of the stick's machine; returns the answer."""
    url = f"http://127.0.0.1/api/v1/settings/{word}"
    return stick.machine.run(["curl", "-sS", "-X", "POST", "--max-time", "5", url]).stdout.decode()


def _expect_held(stick: Stick, lan: Lan, what: str) -> None:
    """Settings with a mistake: nothing leaves any port, nothing is powered off, and the screen says where and what to do."""
    status = stick.status()
    if status is None:
        raise LabError("the API does not answer")
    expect(any(what in problem for problem in status["settings_problems"]), f"{what!r} is not in {status['settings_problems']}")
    expect("go and Enter" in str(status["settings_held"]), f"held: {status['settings_held']}")
    screen = stick.machine.run([str(lan.recon), "status"]).stdout.decode()
    words = " ".join(screen.split())
    expect("read and Enter once the file is mended" in words and "until a person decides" in words, f"the screen:\n{screen}")
    policy = stick.machine.run(["curl", "-sS", "http://127.0.0.1/api/v1/policy"]).stdout.decode()
    expect('"poweroff":"never"' in policy.replace(" ", ""), f"the policy: {policy}")


def settings_fail_closed(lan: Lan) -> None:
    """One unknown key: silent stays silent, never stays never, and no client is served until a person decides or the file is corrected."""
    restrains = '[network]\nsilent = ["eth0"]\n[peers]\npoweroff = "never"\n'
    stick = lan.stick("stick", 1, (FIRST, SECOND))
    stick.settings("sitte = 'A'\n" + restrains)
    client = lan.client(7)
    far = lan.machine("far")
    lan.plug(far, "eth0", client_mac(8), SECOND)
    with lan.capture("held") as wire, Capture(lan.network, SECOND, lan.folder / "held2.pcap") as other:
        stick.start()
        for at in (0, 1):
            expect("not read whole" in stick.wait_for_mode("silent", 5.0, at)["reason"], f"the reason: {stick.link(at)}")
        _expect_held(stick, lan, "recon.toml: line 1: unknown key \"sitte\"")
        for machine, number in ((client, 7), (far, 8)):
            expect(discover(machine, client_mac(number), "ovmf-efi-discover.bin", 4.0) == [], "an answer with settings that were not read")
        expect("at the next start" not in _enter_command(stick, "read"), "a file that is not mended was taken")
        stick.settings("sitte = 'A'\n[network\n" + restrains)
        _enter_command(stick, "read")
        _expect_held(stick, lan, "line 2")
        time.sleep(VERDICT_SECONDS)
        for at, seen in ((0, wire), (1, other)):
            sent = [frame for frame in frames(seen) if frame.data[6:12] == raw(stick.macs[at]) and not _sent_by_kernel(frame.data)]
            expect(sent == [], f"{len(sent)} packets left {stick.links[at]}")
        _enter_command(stick, "go")
        stick.wait_for_mode("serve", VERDICT_SECONDS, at=1)
        expect("recon.toml" in stick.wait_for_mode("silent", 5.0)["reason"], "the silent link is not silent after go")
        sent = [frame for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and not _sent_by_kernel(frame.data)]
        expect(sent == [], f"{len(sent)} packets left a silent link after go")
    policy = stick.machine.run(["curl", "-sS", "http://127.0.0.1/api/v1/policy"]).stdout.decode()
    expect('"poweroff":"never"' in policy.replace(" ", ""), f"the policy after go: {policy}")
    address = str(stick.link(1)["address"]).split("/")[0]
    far.ip("addr", "add", "192.168.219.9/24", "dev", "eth0")
    done = far.run(["curl", "-sS", "-X", "POST", "--max-time", "5", f"http://{address}/api/v1/settings/go"])
    expect(b"only on this machine" in done.stdout, f"somebody else may decide: {done.stdout!r} {done.stderr!r}")


def corrected_settings_are_read(lan: Lan) -> None:
    """A file that was mended is read at a person's word; settings that cannot be opened hold as well, also without an election."""
    stick = lan.stick("stick", 1)
    for make, what in (
        (lambda path: path.mkdir(), "it is a folder"), (os.mkfifo, "it is a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"), (lambda path: path.write_bytes(b"# K\xfcche\n"), "UTF-8"),
    ):
        path = stick.folder / "data" / "recon.toml"
        path.parent.mkdir(exist_ok=True)
        make(path)
        stick.start(elect=what != "it is a FIFO")
        stick.wait_for_mode("silent", 5.0)
        _expect_held(stick, lan, what)
        stick.kill()
        path.rmdir() if path.is_dir() else path.unlink()
    stick.settings("[network]\nlease-seconds = 5\n")
    stick.start()
    _expect_held(stick, lan, "network.lease-seconds: 5 is not between")
    stick.settings("[network]\nlease-seconds = 500\n")
    expect("in use" in _enter_command(stick, "read"), "the mended file is not taken")
    stick.wait_for_mode("serve", VERDICT_SECONDS, address=True)
    status = stick.status()
    expect(status is not None and status["settings_problems"] == [] and status["settings_held"] is None, f"status: {status}")


CHECKS: list[Scenario[Lan]] = scenarios(configured_silent, settings_fail_closed, corrected_settings_are_read)
