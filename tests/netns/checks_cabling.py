#!/usr/bin/env python3
"""Does recon hear what switches say, on real sockets, and what servers give a boot image?

Two network namespaces joined by cables: one is the machine that listens, the other plays the switches. The ports of a namespace
have no hardware behind them, which is what recon looks for, so the listening is done by ignored unit tests of the library. Needs
root. Ends with the line `N passed, N failed`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from vdc import command, namespace, tools
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.report import Report
from vdc.resource import Resource
from vdc.suite import Results, Scenario, expect, scenarios
from vdc.switch import MANAGEMENT, SYSTEM, VLAN, cdp, lldp

_TOP = Path(__file__).resolve().parents[2]
_TEST = "probe::cabling::tests::neighbours_on_real_sockets"
_CABLES = 3
# A switch speaks every 30 s; this one more often, so that the checks are done soon.
_PAUSE = 0.2


class Rack(Resource):
    """The machine with its ports `port0` to `port2`, at the other end of each the switch port `sw0` to `sw2`."""

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self.binary = binary

    def set_up(self) -> None:
        self.machine = self._stack.enter_context(Namespace("machine"))
        self.switches = self._stack.enter_context(Namespace("switches"))
        for n in range(_CABLES):
            self.machine.ip("link", "add", f"port{n}", "type", "veth", "peer", "name", f"sw{n}", "netns", self.switches.name)
            self.switches.ip("link", "set", f"sw{n}", "up")
            self.machine.ip("link", "set", f"port{n}", "up")

    def listen(
        self, ports: Sequence[str], seconds: int, frames: Sequence[tuple[Namespace, str, bytes]],
    ) -> tuple[dict[str, Any], float]:
        """What recon tells of the ports while each frame is sent again and again, and how long it took."""
        raw_sockets = [(machine.packet_socket(link), frame) for machine, link, frame in frames]
        begun = time.monotonic()
        process = self.machine.popen(
            ["env", f"RECON_TEST_PORTS={','.join(ports)}", f"RECON_TEST_WAIT={seconds}", str(self.binary), "--ignored",
             "--exact", _TEST, "--nocapture"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                expect(time.monotonic() < begun + seconds + 20, "recon listens beyond its time")
                for raw_socket, frame in raw_sockets:
                    raw_socket.send(frame)
                try:
                    process.wait(_PAUSE)
                except subprocess.TimeoutExpired:
                    continue
            took = time.monotonic() - begun
            said = process.stdout.read().decode() if process.stdout else ""
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            for raw_socket, _ in raw_sockets:
                raw_socket.close()
        found = [line[line.index("{"):] for line in said.splitlines() if '{"status"' in line]
        expect(len(found) == 1, f"the test said:\n{said[-2000:]}")
        # The harness writes the test's name in front of the line, and its result behind it.
        return json.JSONDecoder().raw_decode(found[0])[0], took


def _ports(part: dict[str, Any]) -> dict[str, Any]:
    expect(part["status"] == "ok", f"cabling is {part['status']}: {part['reason']}")
    return {port["port"]: port for port in part["value"]["ports"]}


def both_protocols(rack: Rack) -> None:
    """Two cables, one switch with LLDP and one with CDP: each port has its own neighbour, and listening ends early."""
    part, took = rack.listen(["port0", "port1"], 30, [
        (rack.switches, "sw0", lldp("Ethernet1/7")), (rack.switches, "sw1", cdp("GigabitEthernet1/0/8")),
    ])
    ports = _ports(part)
    for name, protocol, theirs in (("port0", "lldp", "Ethernet1/7"), ("port1", "cdp", "GigabitEthernet1/0/8")):
        expect(len(ports[name]["neighbours"]) == 1, f"{name} heard {ports[name]['neighbours']}")
        told = ports[name]["neighbours"][0]
        seen = (told["protocol"], told["system_name"], told["port_id"], told["port_vlan"], told["management_addresses"])
        expect(seen == (protocol, SYSTEM, theirs, VLAN, [MANAGEMENT]), f"{name} told {seen}")
        expect(ports[name]["carrier"] is True, f"{name} has carrier {ports[name]['carrier']}")
    expect(part["value"]["ended"] == "all_heard", f"ended: {part['value']['ended']}")
    expect(took < 15, f"took {took:.1f} s although both had spoken")


def every_group_and_tag(rack: Rack) -> None:
    """LLDP to each of its three group addresses, and with a priority tag, is received; so are two switches on one cable."""
    plain = lldp("a")
    frames = [bytes.fromhex("0180c2000003") + lldp("b")[6:], bytes.fromhex("0180c2000000") + lldp("c")[6:]]
    tagged = lldp("d")
    frames += [plain, tagged[:12] + b"\x81\x00\xe0\x00" + tagged[12:]]
    # The silent port keeps it listening until the time is over.
    part, _ = rack.listen(["port0", "port1"], 4, [(rack.switches, "sw0", frame) for frame in frames])
    heard = {told["port_id"] for told in _ports(part)["port0"]["neighbours"]}
    expect(heard == {"a", "b", "c", "d"}, f"heard {sorted(heard)}")


def silence(rack: Rack) -> None:
    """A port without a neighbour takes the time given and no more; own and damaged frames are no neighbour."""
    damaged = lldp("x")[:20]
    part, took = rack.listen(["port0", "port1"], 3, [
        (rack.machine, "port0", lldp("own")), (rack.switches, "sw0", b"\xff" * 6 + bytes(6) + b"\x08\x00" + bytes(60)),
        (rack.switches, "sw1", damaged),
    ])
    ports = _ports(part)
    expect(not ports["port0"]["neighbours"] and not ports["port1"]["neighbours"], f"heard {ports}")
    expect(ports["port1"]["damaged_frames"] > 0, "damaged frames are not counted")
    expect(part["value"]["ended"] == "time_over", f"ended: {part['value']['ended']}")
    expect(3.0 <= took < 8.0, f"took {took:.1f} s")


def late_carrier(rack: Rack) -> None:
    """A port that gets its carrier after others were heard is waited for."""
    rack.switches.ip("link", "set", "sw2", "down")
    spoken: list[float] = []

    def plug() -> None:
        time.sleep(2.0)
        rack.switches.ip("link", "set", "sw2", "up")
        spoken.append(time.monotonic())

    helper = threading.Thread(target=plug)
    helper.start()
    try:
        part, _ = rack.listen(["port0", "port2"], 6, [(rack.switches, "sw0", lldp("a"))])
    except OSError:
        raise LabError("the port that was down took no frame") from None
    finally:
        helper.join(10)
    ports = _ports(part)
    expect(ports["port2"]["carrier"] is True, "the late carrier was not seen")
    expect(part["value"]["ended"] == "time_over" and spoken, f"ended: {part['value']['ended']}")


def without_rights(rack: Rack) -> None:
    """Without CAP_NET_RAW the part says that it was denied."""
    plain = rack.binary
    wrapper = Path(tempfile.mkdtemp(prefix="recon-cabling-")) / "unprivileged"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --bounding-set -net_raw --inh-caps -net_raw {plain} "$@"\n')
    wrapper.chmod(0o755)
    rack.binary = wrapper
    try:
        part, _ = rack.listen(["port0"], 3, [])
    finally:
        rack.binary = plain
        wrapper.unlink()
        wrapper.parent.rmdir()
    expect(part["status"] == "denied", f"cabling is {part['status']}: {part['reason']}")


def switches_on(rack: Rack) -> None:
    """A port that is down is up after recon switched it on."""
    rack.machine.ip("link", "set", "port2", "down")
    argv = ["env", "RECON_TEST_PORT=port2", str(rack.binary), "--ignored", "--exact", "sys::ports::tests::a_port_is_switched_on"]
    done = rack.machine.run(argv)
    expect(b"1 passed" in done.stdout, f"the test said:\n{done.stdout.decode()[-2000:]}")
    flags = rack.machine.ip("-o", "link", "show", "port2").split("<")[1].split(">")[0].split(",")
    expect("UP" in flags, f"port2 has {flags}")


def switches_back(rack: Rack) -> None:
    """Ports switched on for a look are off again afterwards, also after a panic; one that got an address stays on."""
    def is_up(port: str) -> bool:
        return "UP" in rack.machine.ip("-o", "link", "show", port).split("<")[1].split(">")[0].split(",")

    for port in ("port1", "port2"):
        rack.machine.ip("link", "set", port, "up")
    rack.machine.ip("address", "add", "192.0.2.1/24", "dev", "port1")
    try:
        argv = ["env", "RECON_TEST_PORTS=port1,port2", str(rack.binary), "--ignored", "--exact",
                "role::ports::tests::ports_go_back_even_after_a_panic"]
        done = rack.machine.run(argv)
        expect(b"1 passed" in done.stdout, f"the test said:\n{done.stdout.decode()[-2000:]}")
        expect(is_up("port1"), "port1, which has an address, was switched off")
        expect(not is_up("port2"), "port2 was left on")
    finally:
        rack.machine.ip("address", "del", "192.0.2.1/24", "dev", "port1")
        rack.machine.ip("link", "set", "port2", "up")


def gives_names(rack: Rack) -> None:
    """A port gets the name of its place; one whose name another interface has keeps its own, also where only the kernel knows of that."""
    ports = [f"port{n}" for n in range(_CABLES)]
    for port in ports:
        rack.machine.ip("link", "set", port, "down")
    rack.machine.ip("link", "add", "enp0s5", "type", "veth", "peer", "name", "peer5")
    try:
        argv = ["env", f"RECON_TEST_PORTS={','.join(ports)}", str(rack.binary), "--ignored", "--exact",
                "role::ports::tests::ports_get_the_names_of_their_places"]
        done = rack.machine.run(argv)
        expect(b"1 passed" in done.stdout, f"the test said:\n{done.stdout.decode()[-2000:]}")
        shown = rack.machine.ip("-o", "link", "show")
        expect(all(f" {name}@" in shown for name in ("enp0s3", "port1", "port2", "enp0s5")), f"interfaces: {shown}")
        rack.machine.ip("link", "set", "enp0s3", "name", "port0")
    finally:
        rack.machine.ip("link", "del", "enp0s5")
        for port in ports:
            rack.machine.ip("link", "set", port, "up")


def _addresses(rack: Rack, range6: str, how: str, test: str = "asking::tests::addresses_of_both_families_are_given") -> str:
    """What dnsmasq logged while a test of the boot image ran behind it."""
    rack.machine.ip("link", "add", "eth0", "type", "veth", "peer", "name", "server0", "netns", rack.switches.name)
    try:
        rack.switches.ip("address", "add", "192.0.2.1/24", "dev", "server0")
        rack.switches.ip("address", "add", "fd00::1/64", "dev", "server0", "nodad")
        rack.switches.ip("link", "set", "server0", "up")
        rack.machine.ip("link", "set", "eth0", "up")
        with tempfile.TemporaryDirectory(prefix="recon-addresses-") as folder:
            server = rack.switches.popen([
                "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--port=0", "--interface=server0", "--bind-interfaces",
                "--user=root", "--log-dhcp", f"--log-facility={folder}/log", "--enable-ra", f"--dhcp-leasefile={folder}/leases", f"--pid-file={folder}/pid",
                "--dhcp-range=192.0.2.10,192.0.2.50,1h", "--dhcp-boot=http://192.0.2.1/boot.ipxe", "--dhcp-option=option:dns-server,192.0.2.1",
                f"--dhcp-range={range6}", "--dhcp-option=option6:dns-server,[fd00::1]", "--dhcp-option=option6:59,http://[fd00::1]/boot.ipxe",
            ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                argv = ["env", f"RECON_TEST_IPV6={how}", str(rack.binary), "--ignored", "--exact",
                        f"role::boot_node::{test}"]
                done = rack.machine.run(argv, timeout=90.0)
            finally:
                server.kill()
                server.wait(10)
            log = Path(folder, "log").read_text()
        expect(b"1 passed" in done.stdout, f"the test said:\n{done.stdout.decode()[-2000:]}")
    finally:
        rack.machine.ip("link", "del", "eth0")
    return log


def given_addresses(rack: Rack) -> None:
    """A boot image is given addresses, name servers and a URL by DHCP and DHCPv6."""
    _addresses(rack, "fd00::10,fd00::50,64,1h", "given")


def made_addresses(rack: Rack) -> None:
    """The same where its IPv6 address is its own and the rest is told without one (RFC 4862, RFC 8415 §6.1)."""
    _addresses(rack, "fd00::,ra-stateless", "made")


def held_addresses(rack: Rack) -> None:
    """A boot image asks for more time with its addresses, and is given it."""
    log = _addresses(rack, "fd00::10,fd00::50,64,1h", "given", "leases::tests::what_was_given_is_asked_for_again_at_half_its_time")
    given = {word: sum(word in line for line in log.splitlines()) for word in ("DHCPACK(", "DHCPREPLY(")}
    expect(all(count == 2 for count in given.values()), f"answers of dnsmasq, each should be 2: {given}\n{log[-3000:]}")
    # Of the server that gave it, and of no other (RFC 8415 §18.2.4).
    expect("DHCPRENEW(" in log, f"dnsmasq was never asked to renew an address of IPv6\n{log[-3000:]}")


def advertised_servers(rack: Rack) -> None:
    """The same where nobody answers by DHCPv6: its router names who resolves names (RFC 8106)."""
    _addresses(rack, "fd00::,ra-only", "advertised")


CHECKS: list[Scenario[Rack]] = scenarios(
    given_addresses, made_addresses, advertised_servers, held_addresses, gives_names, switches_on,
    switches_back, both_protocols, every_group_and_tag, silence, without_rights, late_carrier,
)


def _test_binary() -> Path:
    """The library's unit tests, built where needed."""
    built = subprocess.run(
        ["cargo", "test", "--locked", "--lib", "--no-run", "--message-format=json"], cwd=_TOP, stdout=subprocess.PIPE, check=True,
    )
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("profile", {}).get("test"):
            return Path(message["executable"])
    raise LabError("cargo names no test binary")


def _run(report: Report, only: Sequence[str]) -> int:
    tools.require_root()
    tools.require(("ip", "setpriv", "cargo", "dnsmasq"))
    namespace.remove_stale()
    results = Results(report, Path(tempfile.gettempdir()))
    with Rack(_test_binary()) as rack:
        for check in CHECKS:
            if not only or check.name in only:
                results.run(check, rack)
    return results.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this check (again for more)")
    args = parser.parse_args(argv)
    report = Report()
    return command.run(Path(__file__).name, report, lambda: _run(report, args.only))


if __name__ == "__main__":
    sys.exit(main())
