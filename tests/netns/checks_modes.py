"""Does a master do no harm on the wire: beside foreign DHCP servers, other masters, and clients that do not boot?

One function an expectation; each has wires of its own. The master runs its whole election, as the image does.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable

from checks_routed import relayed
from rawclient import RawClient, altered, fixture
from vdc import dhcp, foreign, waiting
from vdc.capture import Capture, udp
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect
from wires import FIRST, SECOND, Lan, Stick, client_mac, frames, raw

TOOLS = ("ip", "setpriv", "udhcpc", "dhclient", "curl", "tcpdump", "dnsmasq", "sysctl")
_VERDICT = 10.0
_OURS = "192.168.219.1"


def _masters(sticks: list[Stick], at: int = 0) -> list[str]:
    return [stick.name for stick in sticks if stick.mode(at) in ("serve", "proxy")]


def _stays(sticks: list[Stick], seconds: float, masters: list[str]) -> None:
    """The same ones speak for the wire all the time."""
    changes = [stick.link()["mode_changes"] for stick in sticks]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = _masters(sticks)
        expect(now == masters, f"masters were {masters}, are {now}")
        time.sleep(0.2)
    expect(changes == [stick.link()["mode_changes"] for stick in sticks], "a mode changed and changed back")


def _lease(place: Namespace, lan: Lan, name: str, boots: bool = False) -> str | None:
    """An address for dhclient: one of no special kind, or one that says that it boots from the network."""
    leases, config = lan.folder / f"{name}.leases", lan.folder / f"{name}.conf"
    leases.unlink(missing_ok=True)
    config.write_text('send vendor-class-identifier "PXEClient:Arch:00000:UNDI:002001";\n' if boots else "timeout 20;\n")
    place.run(
        ["dhclient", "-4", "-1", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(lan.folder / f"{name}.pid"), "eth0"], timeout=75,
    )
    found = re.findall(r"fixed-address ([0-9.]+);", leases.read_text()) if leases.exists() else []
    return str(found[-1]) if found else None


def _discover(place: Namespace, mac: str, name: str, seconds: float = 4.0) -> list[dhcp.Packet]:
    """Every OFFER that a captured client's DISCOVER brings."""
    with RawClient(place, "eth0") as port:
        return port.answers(altered(fixture(name), mac), mac, seconds, enough=8)


def _of_server(offers: list[dhcp.Packet], server: str) -> dhcp.Packet:
    found = [offer for offer in offers if offer.server == server]
    expect(found, f"no offer of {server} among those of {[offer.server for offer in offers]}")
    return found[0]


def second_stick_yields(lan: Lan) -> None:
    """A second master says within 3 s of its start that it yields, and takes over when the first one's power is cut."""
    one, two = lan.stick("one", 9), lan.stick("two", 1)
    one.start()
    link = one.becomes("serve", _VERDICT, address=True)
    expect(str(link["address"]).startswith(_OURS), f"address is {link['address']}")
    begun = two.start()
    yielded = two.becomes("yield", 3.0)
    took = time.monotonic() - begun
    expect(took <= 3.0, f"the verdict took {took:.1f} s")
    print(f"     the second stick yields {took:.2f} s after it was started")
    expect(_OURS in yielded["reason"], f"reason: {yielded['reason']}")
    _stays([one, two], 12.0, ["one"])
    client = lan.client(1)
    with lan.capture() as wire:
        expect(_lease(client, lan, "client", boots=True) is not None, "no address beside two masters")
        senders = {d.source_mac for d in wire.datagrams() if d.source_port == 67 and dhcp.parse(d.payload).your_address != "0.0.0.0"}
    expect(senders == {one.macs[0]}, f"addresses come from {senders}")
    one.kill()
    two.becomes("serve", 40.0, address=True)


def sticks_together(lan: Lan) -> None:
    """Two sticks started at once, with two links each: one of them has both wires, and nothing changes any more."""
    sticks = [lan.stick("one", 9, (FIRST, SECOND)), lan.stick("two", 1, (FIRST, SECOND))]
    for stick in sticks:
        stick.start()
    for at in (0, 1):
        waiting.until(
            lambda at=at: True if all(s.mode(at) in ("serve", "yield") for s in sticks) else None,  # type: ignore[misc]
            15.0, "both decide",
        )
        expect(len(_masters(sticks, at)) == 1, f"link {at}: {_masters(sticks, at)} serve")
    expect(_masters(sticks, 0) == _masters(sticks, 1), "each stick has one wire")
    _stays(sticks, 12.0, _masters(sticks))


def split_heals(lan: Lan) -> None:
    """Two networks with a master each grow together: within 15 s one of them serves, and only one."""
    near, far = lan.stick("near", 9, (FIRST,)), lan.stick("far", 1, (SECOND,))
    for stick in (near, far):
        stick.start()
    for stick in (near, far):
        stick.becomes("serve", _VERDICT, address=True)
    lan.join()
    waiting.until(lambda: True if len(_masters([near, far])) == 1 else None, 15.0, "one of two masters yields")
    _stays([near, far], 12.0, ["far"])


def proxy_beside_foreign(lan: Lan) -> None:
    """A foreign server from the start: boot files for firmware and iPXE, never an address; peers reach us."""
    with lan.foreign():
        stick = lan.stick("stick", 1)
        client = lan.client(1)
        begun = stick.start()
        stick.becomes("proxy", _VERDICT)
        expect(time.monotonic() - begun <= _VERDICT, "the verdict took too long")
        link = stick.becomes("proxy", 10.0, address=True)
        ours = str(link["address"]).split("/")[0]
        expect(ours.startswith("10.77.0."), f"our address there is {ours}")
        expect(
            any(s["address"] == foreign.ADDRESS and re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", s["mac"]) for s in link["foreign"]),
            f"the API names {link['foreign']}",
        )
        expect(foreign.ADDRESS in link["reason"], f"reason: {link['reason']}")
        for name, wanted in (
            ("ovmf-efi-discover.bin", "snponly.efi"), ("ipxe-efi-discover.bin", f"http://{ours}/boot.ipxe"),
            ("ipxe-bios-discover.bin", f"http://{ours}/boot.ipxe"),
        ):
            offers = _discover(client, client_mac(2), name)
            theirs, mine = _of_server(offers, foreign.ADDRESS), _of_server(offers, ours)
            expect(theirs.your_address.startswith("10.77.0."), f"the foreign server offers {theirs.your_address}")
            expect(mine.your_address == "0.0.0.0" and 51 not in mine.options, f"{name}: we offer {mine.your_address}")
            expect(mine.boot_file.startswith(wanted), f"{name}: boot file is {mine.boot_file!r}")
            expect(mine.vendor_class == "PXEClient" and 43 in mine.options, f"{name}: class {mine.vendor_class!r}")
        _boot_server(client, ours)
        address = _lease(client, lan, "client")
        expect(address is not None and address.startswith("10.77.0."), f"the client got {address}")
        client.ip("addr", "add", f"{address}/24", "dev", "eth0")
        script = client.run(["curl", "-sS", "-f", "--max-time", "5", f"http://{ours}/boot.ipxe?mac={client_mac(1).replace(':', '-')}"])
        expect(f"pxeaddr={ours}".encode() in script.stdout, f"the boot script: {script.stdout[:300]!r} {script.stderr!r}")
        loader = client.run(["curl", "-sS", "--max-time", "10", f"tftp://{ours}/snponly.efi"])
        expect(loader.stdout == (lan.loaders / "snponly.efi").read_bytes(), f"the loader by TFTP: {loader.stderr!r}")


def proxy_through_a_relay(lan: Lan) -> None:
    """Beside a foreign server, a relay of a network in recon.toml gets boot files and no address; one of another network nothing."""
    with lan.foreign():
        stick = lan.stick("stick", 1)
        stick.settings('[[subnet]]\nsubnet = "10.1.0.0/24"\nvia = "10.77.0.50"\n')
        router = lan.client(1, "router")
        router.ip("addr", "add", "10.77.0.50/24", "dev", "eth0")
        for relay in ("10.1.0.1", "10.9.0.1"):
            router.ip("addr", "add", f"{relay}/32", "dev", "lo")
        stick.start()
        ours = str(stick.becomes("proxy", 20.0, address=True)["address"]).split("/")[0]
        offers = relayed(router, ours, "10.1.0.1", client_mac(7), {82: b"\x01\x02p1"})
        expect(len(offers) == 1, f"the relay hears {offers}\n{stick.said()}")
        offer = offers[0]
        expect(offer.your_address == "0.0.0.0" and offer.boot_file == "snponly.efi", f"{offer.your_address}, {offer.boot_file!r}")
        expect(offer.options.get(82) == b"\x01\x02p1", f"relay information came back as {offer.options.get(82)!r}")
        for last in (8, 9):
            answers = relayed(router, ours, "10.9.0.1", client_mac(last), {}, 0.7)
            expect(answers == [], f"a machine of an unknown network gets {answers}")
        expect(stick.said().count("10.9.0.0/24") == 1, f"the unknown network is said otherwise:\n{stick.said()}")


def _boot_server(client: Namespace, ours: str) -> None:
    """Port 4011 answers a client that has an address, there."""
    address = "10.77.0.99"
    client.ip("addr", "add", f"{address}/24", "dev", "eth0")
    asked = dhcp.build(3, client_mac(1), 0x4011, {60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"}, address, broadcast=False)
    plain = dhcp.build(3, client_mac(1), 0x4012, {60: b"MSFT 5.0"}, address, broadcast=False)

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, 4011))
        made.settimeout(3.0)
        return made

    with contextlib.closing(client.call(make)) as port:
        port.sendto(plain, (ours, 4011))
        port.sendto(asked, (ours, 4011))
        answer = dhcp.parse(port.recv(2048))
    expect(answer.xid == 0x4011 and answer.kind == "ack", f"port 4011 answers {answer}")
    expect(answer.boot_file == "undionly.kpxe", f"port 4011 names {answer.boot_file!r}")
    client.ip("addr", "del", f"{address}/24", "dev", "eth0")


def plain_client_hears_nothing(lan: Lan) -> None:
    """Beside a foreign server a client without PXE options never gets one packet from us, by capture."""
    with lan.foreign():
        stick = lan.stick("stick", 1)
        stick.start()
        stick.becomes("proxy", 20.0, address=True)
        client = lan.client(3)
        with lan.capture("plain") as wire:
            with RawClient(client, "eth0") as port:
                for name in ("dhclient-discover.bin", "dhclient-request.bin", "udhcpc-discover.bin"):
                    port.send(altered(fixture(name), client_mac(3)), client_mac(3))
            address = _lease(client, lan, "plain")
            expect(address is not None and address.startswith("10.77.0."), f"the client got {address}")
            client.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "3", "-s", "/bin/true"], timeout=30)
            # One watch question of the master and whatever a mistaken answer would need.
            time.sleep(5.0)
            found = frames(wire)
        theirs = [frame for frame in found if frame.data[6:12] == raw(client_mac(3))]
        expect(len(theirs) >= 4, f"the capture holds {len(theirs)} packets of the client")
        ours = [frame for frame in found if frame.data[6:12] == raw(stick.macs[0])]
        expect(ours, "the capture holds none of our questions")
        for frame in ours:
            datagram = udp(frame)
            expect(frame.data[:6] != raw(client_mac(3)), "a frame to the client's MAC")
            about = datagram is not None and datagram.destination_port in (67, 68) and dhcp.parse(datagram.payload)
            if about:
                expect(about.mac == stick.macs[0], f"a {about.kind} about {about.mac}")


def foreign_appears(lan: Lan) -> None:
    """A foreign server that appears ends our leases within 10 s; peers go on; when it goes we serve again."""
    stick = lan.stick("stick", 1)
    client = lan.client(4)
    stick.start()
    stick.becomes("serve", _VERDICT, address=True)
    address = _lease(client, lan, "before", boots=True)
    expect(address is not None and address.startswith("192.168.219."), f"the client got {address}")
    client.ip("addr", "add", f"{address}/24", "dev", "eth0")
    with lan.foreign():
        begun = time.monotonic()
        stick.becomes("proxy", _VERDICT)
        took = time.monotonic() - begun
        expect(took <= 10.0, f"it took {took:.1f} s")
        print(f"     proxy {took:.1f} s after the foreign server began")
        link = stick.becomes("proxy", 10.0, address=True)
        expect(str(link["old_address"]).startswith(_OURS) and link["leases_held"] == 1, f"the old leases: {link}")
        expect(any(s["address"] == foreign.ADDRESS for s in link["foreign"]), f"foreign: {link['foreign']}")
        for name in ("dhclient-discover.bin", "ovmf-efi-discover.bin"):
            offers = _discover(client, client_mac(5), name)
            given = {offer.server for offer in offers if offer.your_address != "0.0.0.0"}
            expect(given == {foreign.ADDRESS}, f"addresses are offered by {given}")
        renewal = dhcp.build(3, client_mac(4), 0x4444, {}, str(address))
        with RawClient(client, "eth0") as port:
            said = port.answers(renewal, client_mac(4), 1.5)
        expect(not [packet for packet in said if packet.server == _OURS], "a lease of ours is made longer")
        done = client.run(["curl", "-sS", "-f", "--max-time", "5", f"http://{_OURS}/api/v1/status"])
        expect(done.returncode == 0, f"a peer of before does not reach us any more: {done.stderr!r}")
        screen = stick.place.run([str(lan.recon), "status"]).stdout.decode()
        expect(foreign.ADDRESS in screen and "which run out" in screen, f"the screen:\n{screen}")
    # Fifteen questions unanswered, and the verdict of a quiet link.
    stick.becomes("serve", 85.0, address=True)
    expect(_lease(client, lan, "after", boots=True) == address, "the client lost its address over all that")


def foreign_boot_service(lan: Lan) -> None:
    """Where the foreign server boots machines, the link is silent, unless recon.toml says proxy."""
    with lan.foreign("their-own.efi"):
        stick = lan.stick("stick", 1)
        client = lan.client(6)
        stick.start()
        link = stick.becomes("silent", _VERDICT)
        expect("boots machines" in link["reason"] and foreign.ADDRESS in link["reason"], f"reason: {link['reason']}")
        offers = _discover(client, client_mac(6), "ovmf-efi-discover.bin", 2.0)
        expect({offer.server for offer in offers} == {foreign.ADDRESS}, f"offers: {offers}")
        stick.kill()
        stick.settings('[network]\nmode = "proxy"\n')
        stick.start()
        stick.becomes("proxy", 20.0, address=True)


def _kernels(frame: bytes) -> bool:
    """What any kernel sends of itself on a link that is up: ICMPv6 router and neighbour solicitations, MLD reports."""
    if frame[12:14] != b"\x86\xdd":
        return False
    at = 54 if frame[20] == 58 else 62 if frame[20] == 0 else 0
    return bool(at) and frame[at] in (133, 135, 143)


def told_silent(lan: Lan) -> None:
    """A link that recon.toml names is silent: not one packet of ours leaves it, whoever asks."""
    stick = lan.stick("stick", 1, (FIRST, SECOND))
    stick.settings('[network]\nsilent = ["eth0"]\n')
    client = lan.client(7)
    with lan.capture("silent") as wire:
        stick.start()
        expect("recon.toml" in stick.becomes("silent", 5.0)["reason"], "the reason does not name recon.toml")
        stick.becomes("serve", _VERDICT, at=1)
        expect(_discover(client, client_mac(7), "ovmf-efi-discover.bin", 2.0) == [], "an answer on a silent link")
        sent = [frame for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and not _kernels(frame.data)]
    expect(sent == [], f"{len(sent)} packets left a silent link")


def _decide(stick: Stick, word: str) -> str:
    """What a person types at the screen of the stick's machine, who is told the answer."""
    url = f"http://127.0.0.1/api/v1/settings/{word}"
    return stick.place.run(["curl", "-sS", "-X", "POST", "--max-time", "5", url]).stdout.decode()


def _held(stick: Stick, lan: Lan, what: str) -> None:
    """Settings with a mistake: nothing leaves any port, nothing is powered off, and the screen says where and what to do."""
    status = stick.status()
    if status is None:
        raise LabError("the API does not answer")
    expect(any(what in problem for problem in status["settings_problems"]), f"{what!r} is not in {status['settings_problems']}")
    expect("go and Enter" in str(status["settings_held"]), f"held: {status['settings_held']}")
    screen = stick.place.run([str(lan.recon), "status"]).stdout.decode()
    words = " ".join(screen.split())
    expect("read and Enter once the file is mended" in words and "until a person decides" in words, f"the screen:\n{screen}")
    policy = stick.place.run(["curl", "-sS", "http://127.0.0.1/api/v1/policy"]).stdout.decode()
    expect('"poweroff":"never"' in policy.replace(" ", ""), f"the policy: {policy}")


def settings_fail_closed(lan: Lan) -> None:
    """One unknown key: silent stays silent, never stays never, and nobody is served until a person says so or the file is mended."""
    restrains = '[network]\nsilent = ["eth0"]\n[peers]\npoweroff = "never"\n'
    stick = lan.stick("stick", 1, (FIRST, SECOND))
    stick.settings("sitte = 'A'\n" + restrains)
    client = lan.client(7)
    far = lan.machine("far")
    lan.plug(far, "eth0", client_mac(8), SECOND)
    with lan.capture("held") as wire, Capture(lan.wire, SECOND, lan.folder / "held2.pcap") as other:
        stick.start()
        for at in (0, 1):
            expect("not read whole" in stick.becomes("silent", 5.0, at)["reason"], f"the reason: {stick.link(at)}")
        _held(stick, lan, "recon.toml: line 1: unknown key \"sitte\"")
        for place, number in ((client, 7), (far, 8)):
            expect(_discover(place, client_mac(number), "ovmf-efi-discover.bin", 4.0) == [], "an answer with settings that were not read")
        expect("at the next start" not in _decide(stick, "read"), "a file that is not mended was taken")
        stick.settings("sitte = 'A'\n[network\n" + restrains)
        _decide(stick, "read")
        _held(stick, lan, "line 2")
        time.sleep(_VERDICT)
        for at, seen in ((0, wire), (1, other)):
            sent = [frame for frame in frames(seen) if frame.data[6:12] == raw(stick.macs[at]) and not _kernels(frame.data)]
            expect(sent == [], f"{len(sent)} packets left {stick.links[at]}")
        _decide(stick, "go")
        stick.becomes("serve", _VERDICT, at=1)
        expect("recon.toml" in stick.becomes("silent", 5.0)["reason"], "the silent link is not silent after go")
        sent = [frame for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and not _kernels(frame.data)]
        expect(sent == [], f"{len(sent)} packets left a silent link after go")
    policy = stick.place.run(["curl", "-sS", "http://127.0.0.1/api/v1/policy"]).stdout.decode()
    expect('"poweroff":"never"' in policy.replace(" ", ""), f"the policy after go: {policy}")
    address = str(stick.link(1)["address"]).split("/")[0]
    far.ip("addr", "add", "192.168.219.9/24", "dev", "eth0")
    done = far.run(["curl", "-sS", "-X", "POST", "--max-time", "5", f"http://{address}/api/v1/settings/go"])
    expect(b"only on this machine" in done.stdout, f"somebody else may decide: {done.stdout!r} {done.stderr!r}")


def settings_are_mended(lan: Lan) -> None:
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
        stick.becomes("silent", 5.0)
        _held(stick, lan, what)
        stick.kill()
        path.rmdir() if path.is_dir() else path.unlink()
    stick.settings("[network]\nlease-seconds = 5\n")
    stick.start()
    _held(stick, lan, "network.lease-seconds: 5 is not between")
    stick.settings("[network]\nlease-seconds = 500\n")
    expect("in use" in _decide(stick, "read"), "the mended file is not taken")
    stick.becomes("serve", _VERDICT, address=True)
    status = stick.status()
    expect(status is not None and status["settings_problems"] == [] and status["settings_held"] is None, f"status: {status}")


def own_address_in_use(lan: Lan) -> None:
    """Who has the address that the master would take keeps it: the master names him and takes another; so it does when he comes later."""
    host, first, machine = lan.client(1), "192.168.219.1", lan.client(2, "machine")
    host.ip("addr", "add", f"{first}/24", "dev", "eth0")
    stick = lan.stick("stick", 1)
    stick.start()
    stick.becomes("serve", _VERDICT + 3.0)
    ours = str(stick.link()["address"]).split("/")[0]
    expect(ours == "192.168.219.2", f"the master has {ours}")
    expect(client_mac(1) in str(stick.link()["reason"]), f"the API does not name who has it: {stick.link()}")
    expect(f"{first} is used by {client_mac(1)}" in stick.said(), f"nor does the screen:\n{stick.said()}")
    offer = _of_server(_discover(machine, client_mac(2), "ovmf-efi-discover.bin"), ours)
    expect(offer.your_address.startswith("192.168.219."), f"a machine is offered {offer.your_address}")
    # Another host takes the address that is ours now, and does not ask before.
    host.ip("addr", "add", f"{ours}/24", "dev", "eth0")

    def left() -> str | None:
        # RFC 5227 §2.3: what a host says that uses an address.
        me = raw(client_mac(1))
        announcement = b"\0\1\x08\0\6\4\0\1" + me + socket.inet_aton(ours) + bytes(6) + socket.inet_aton(ours)
        port = host.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        with contextlib.closing(port):
            port.bind(("eth0", 0))
            port.send(b"\xff" * 6 + me + b"\x08\x06" + announcement)
        now = str(stick.link().get("address") or ours).split("/")[0]
        return now if now != ours else None

    now = waiting.until(left, 40.0, "the master leaves a contested address", every=1.0)
    expect(now == "192.168.219.3", f"the master went to {now}")
    again = _of_server(_discover(machine, client_mac(2), "ovmf-efi-discover.bin"), now)
    expect(again.your_address == offer.your_address, f"{offer.your_address} became {again.your_address}")


def two_beside_foreign(lan: Lan) -> None:
    """Two sticks beside a foreign server: one proxies, the other yields to it."""
    with lan.foreign():
        sticks = [lan.stick("one", 9), lan.stick("two", 1)]
        for stick in sticks:
            stick.start()
        waiting.until(
            lambda: True if sorted(stick.mode() for stick in sticks) == ["proxy", "yield"] else None, 20.0, "one proxies",
        )
        _stays(sticks, 8.0, _masters(sticks))


def two_keys_apart(lan: Lan) -> None:
    """A stick that has not the first one's key falls silent beside it, says why, and never follows; with the key copied it does."""
    one, two = lan.stick("one", 9), lan.stick("two", 1)
    one.key = two.key = None
    one.start()
    one.becomes("serve", _VERDICT, address=True)
    two.start()
    link = two.becomes("silent", _VERDICT)
    reason = str(link["reason"])
    expect("site.key" in reason and "does not have this stick's key" in reason and _OURS in reason, f"reason: {reason}")
    expect([(s["recon"], s["ours"]) for s in link["foreign"]] == [(True, False)], f"foreign: {link['foreign']}")
    _stays([one, two], 15.0, ["one"])
    keys = [(stick.folder / "data" / "site.key") for stick in (one, two)]
    expect(keys[0].read_bytes() != keys[1].read_bytes(), "two sticks made the same key")
    expect(keys[0].stat().st_mode & 0o777 == 0o600, f"others may read the key: {keys[0].stat().st_mode:o}")
    client = lan.client(1)
    client.ip("addr", "add", "192.168.219.9/24", "dev", "eth0")
    for name in ("site.key", "export/site.key", "nodes/../site.key", "export/%2e%2e/site.key"):
        done = client.run(["curl", "-sS", "--path-as-is", "--max-time", "5", f"http://{_OURS}/{name}"])
        expect(b"not here" in done.stdout, f"{name} is served: {done.stdout!r}")
    two.kill()
    keys[1].write_bytes(keys[0].read_bytes())
    two.start()
    two.becomes("yield", 3.0)


def two_keys_together(lan: Lan) -> None:
    """Two sticks with different keys started at once: one serves, the other is silent, and nobody follows anybody."""
    sticks = [lan.stick("one", 9), lan.stick("two", 1)]
    for stick in sticks:
        stick.key = None
        stick.start()
    waiting.until(
        lambda: True if sorted(stick.mode() for stick in sticks) == ["serve", "silent"] else None, 20.0, "one serves, one is silent",
    )
    _stays(sticks, 12.0, _masters(sticks))


def _forged(kind: int, text: bytes, more: dict[int, bytes]) -> bytes:
    """What anybody can send who knows how recon machines talk, but has no key."""
    payload = dhcp.build(kind, client_mac(9), int.from_bytes(os.urandom(4), "big"), {60: text, 226: b"\x01" + os.urandom(16), **more})
    return (b"\2" if kind == 2 else b"\1") + payload[1:]


def forged_master(lan: Lan) -> None:
    """Who has no key is followed by nobody: not by forged questions, announcements or replays, and one forged word costs nothing."""
    forger = lan.client(9, "forger")
    stick, second = lan.stick("one", 9), lan.stick("two", 1)
    seen: list[str] = []

    def flood(seconds: float, make: Callable[[], bytes], watched: Stick) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            port.send(make(), client_mac(9))
            seen.append(watched.mode())
            time.sleep(0.1)

    def question() -> bytes:
        return _forged(1, b"recon:probe:000000000001", {225: os.urandom(16)})

    def announcement() -> bytes:
        return _forged(2, b"recon:master:000000000001", {54: bytes([192, 168, 219, 66])})

    with RawClient(forger, "eth0") as port:
        stick.start()
        flood(12.0, question, stick)
        expect(stick.mode() == "serve", f"forged questions keep the link from being served: {stick.link()}")
        port.send(announcement(), client_mac(9))
        time.sleep(5.0)
        expect(stick.mode() == "serve" and stick.link()["mode_changes"] <= 2, f"one forged word ends service: {stick.link()}")
        # What a true master says, to be said again later.
        with lan.capture("true") as wire:
            second.start()
            second.becomes("yield", 3.0)
            time.sleep(5.0)
            true = [frame.data for frame in frames(wire) if frame.data[6:12] == raw(stick.macs[0]) and b"recon:master:" in frame.data]
        expect(len(true) >= 2, f"{len(true)} announcements were captured")
        stick.kill()
        until = time.monotonic() + 32.0
        while time.monotonic() < until:
            for frame in true:
                port.whole(frame)
            time.sleep(0.25)
        link = second.link()
        expect(link["mode"] not in ("yield", "serve"), f"replays keep a stick waiting: {link}")
        expect("site.key" in link["reason"], f"reason: {link['reason']}")
        second.kill()
        flooded = lan.stick("three", 5)
        flooded.start()
        flooded.becomes("serve", _VERDICT)
        flood(8.0, announcement, flooded)
        link = flooded.link()
        expect(link["mode"] == "proxy" and "does not have this stick's key" in link["reason"], f"beside a forger: {link}")
    expect("yield" not in seen, f"a forger is followed: {seen}")


CHECKS: list[Scenario[Lan]] = [
    Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check)
    for check in (
        second_stick_yields, sticks_together, split_heals, proxy_beside_foreign, proxy_through_a_relay, plain_client_hears_nothing, foreign_appears,
        foreign_boot_service, told_silent, settings_fail_closed, settings_are_mended, own_address_in_use, two_beside_foreign,
        two_keys_apart, two_keys_together, forged_master,
    )
]
