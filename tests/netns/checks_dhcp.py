"""What does a DHCP client of any make get, and what does nobody get? One function an expectation, in the order they run."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from collections.abc import Iterator

from rawclient import RawClient, altered, fixture
from cable import CLIENT_LINK, SERVER, Site
from vdc import dhcp, waiting
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect

TOOLS = ("dhcpcd", "dhcrelay", "perfdhcp", "unshare")
_NETWORKD = "/usr/lib/systemd/systemd-networkd"
_PXE = "PXEClient:Arch:00007:UNDI:003000"
_SERVER = bytes(int(part) for part in SERVER.split("."))


def _mac(last: int) -> str:
    return f"52:54:00:2d:00:{last:02x}"


def _number(address: str) -> bytes:
    return socket.inet_aton(address)


def _plain(kind: str, mac: str, **options: bytes) -> bytes:
    """A captured dhclient packet, as another machine and with other options (`o50=...`)."""
    return altered(fixture(f"dhclient-{kind}.bin"), mac, {int(code[1:]): value for code, value in options.items()})


def _boot(port: RawClient, mac: str) -> str:
    """A machine with OVMF takes its address."""
    return port.take_address(fixture("ovmf-efi-discover.bin"), fixture("ovmf-efi-request.bin"), mac).your_address


@contextlib.contextmanager
def _machine(site: Site, label: str, mac: str) -> Iterator[Namespace]:
    """A machine of its own on the cable, with the port `eth0`."""
    with Namespace(label) as own:
        site.client.ip("link", "add", label, "link", CLIENT_LINK, "address", mac, "type", "macvlan", "mode", "bridge")
        site.client.ip("link", "set", label, "netns", own.name)
        own.ip("link", "set", label, "name", "eth0")
        own.ip("link", "set", "eth0", "up")
        yield own


def _settings(site: Site, text: str) -> None:
    (site.data / "recon.toml").write_text(text)


def _restart(site: Site, settings: str = "", network: str = f"{SERVER}/24") -> None:
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.said()}")
    _settings(site, settings)
    site.start(site.medium, network)


def _serve_all(site: Site) -> None:
    text = "[network]\nserve_all = true\n"
    settings = site.data / "recon.toml"
    if not settings.exists() or settings.read_text() != text:
        _restart(site, text)


def dhcp_starts(site: Site) -> None:
    site.start(site.medium)


def strangers_hear_nothing(site: Site) -> None:
    """A client without network boot gets not one packet, whatever it asks."""
    with RawClient(site.client, CLIENT_LINK) as port:
        for payload in (
            _plain("discover", _mac(1)),
            _plain("request", _mac(1), o50=bytes([10, 0, 0, 5])),
            _plain("request", _mac(1), o50=bytes([10, 0, 0, 5]), o54=_SERVER),
            altered(fixture("udhcpc-discover.bin"), _mac(1)),
            dhcp.build(8, _mac(1), 77, {}, client_address="192.168.219.77"),
        ):
            heard = [packet.kind for packet in port.answers(payload, _mac(1), 0.6)]
            expect(heard == [], f"a stranger's {dhcp.parse(payload).kind} is answered with {heard}")
    with _machine(site, "stranger", _mac(2)) as own:
        done = own.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "2", "-T", "1", "-s", "/bin/true"], timeout=20)
        expect(done.returncode != 0, "udhcpc got an address although it does not boot from the network")


def a_booted_port_is_known(site: Site) -> None:
    """What a machine boots asks again without saying what it is."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = _boot(port, _mac(3))
        offer = port.ask(_plain("discover", _mac(3)), _mac(3))
        expect(offer.your_address == address, f"{address}, then {offer.your_address}")


def init_reboot(site: Site) -> None:
    """RFC 2131 §4.3.2: what it had is confirmed, another address refused, and of the unknown nothing is said."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = _boot(port, _mac(4))

        def ask(mac: str, wanted: str, drop: tuple[int, ...] = (54,)) -> list[str]:
            payload = altered(fixture("ovmf-efi-request.bin"), mac, {50: _number(wanted)}, drop)
            return [packet.kind for packet in port.answers(payload, mac, 1.0)]

        expect(ask(_mac(4), address) == ["ack"], f"{address} is not confirmed to its holder")
        expect(ask(_mac(4), "192.168.219.250") == ["nak"], "another address of the pool is not refused")
        expect(ask(_mac(5), address) == [], "a machine of which nothing is known gets an answer")
        expect(ask(_mac(5), "10.1.2.3") == ["nak"], "an address of another network is not refused")


def declined_addresses_rest(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        address = _boot(port, _mac(6))
        port.send(dhcp.build(4, _mac(6), 78, {50: _number(address), 54: _SERVER, 60: _PXE.encode()}), _mac(6))
        again = port.ask(altered(fixture("ovmf-efi-discover.bin"), _mac(6)), _mac(6)).your_address
        expect(again != address, f"{address} was declined and is offered again")


def addresses_in_use_are_found(site: Site) -> None:
    """RFC 5227: an address that somebody set by hand is asked for on the wire and not offered."""
    with _machine(site, "byhand", _mac(7)) as own:
        own.ip("addr", "add", "192.168.219.200/24", "dev", "eth0")
        with RawClient(site.client, CLIENT_LINK) as port:
            # What the master knows of silence is a minute old at most; so is the machine. The wish makes it that address.
            deadline = time.monotonic() + 75.0
            while True:
                wish = altered(fixture("ovmf-efi-discover.bin"), _mac(8), {50: _number("192.168.219.200")})
                offer = port.ask(wish, _mac(8))
                if offer.your_address != "192.168.219.200":
                    break
                # It was known to be silent: the offer runs out, and so does that knowledge.
                expect(time.monotonic() < deadline, "an address in use is offered")
                port.send(dhcp.build(7, _mac(8), 79, {54: _SERVER}, client_address="192.168.219.200"), _mac(8))
                time.sleep(2.0)
    # It is said a moment later, when it is known that this is not one neighbour that answers for everything.
    said = "192.168.219.200 is used by"
    waiting.until(lambda: said in site.log.read_text(errors="replace") or None, 2.0, said, every=0.05)


@contextlib.contextmanager
def _answers_everything(site: Site, mac: str) -> Iterator[None]:
    """A neighbour that answers ARP for every address but the master's."""
    with _machine(site, "everybody", mac) as own:

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
            made.bind(("eth0", 0x0806))
            made.settimeout(0.2)
            return made

        port, me, over = own.call(make), bytes.fromhex(mac.replace(":", "")), threading.Event()

        def answer() -> None:
            while not over.is_set():
                try:
                    frame = port.recv(2048)
                except OSError:
                    continue
                asks = frame[20:22] == b"\0\1" and frame[6:12] != me and frame[38:42] != _SERVER
                if asks:
                    head = frame[22:28] + me + b"\x08\x06\0\1\x08\0\6\4\0\2"
                    port.send(head + me + frame[38:42] + frame[22:32])

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            port.close()


def proxy_arp_empties_no_pool(site: Site) -> None:
    """A neighbour that answers for every address is named; machines get addresses all the same, in large pools and small ones."""
    liar = "02:aa:bb:cc:dd:01"
    # Of the five addresses of the small pool some are leased since before.
    for prefix, machines in ((24, 4), (29, 2)):
        try:
            with _answers_everything(site, liar):
                _restart(site, network=f"{SERVER}/{prefix}")
                time.sleep(1.0)
                with RawClient(site.client, CLIENT_LINK) as port:
                    for number in range(machines):
                        expect(_boot(port, _mac(0x40 + number)) != "", "no address")
            said = site.log.read_text(errors="replace")
        finally:
            _restart(site)
        lines = [line for line in said.splitlines() if "proxy ARP" in line and liar in line]
        expect(len(lines) == 1, f"/{prefix}: it is named {len(lines)} times:\n{said[-1500:]}")
        expect("is used by" not in said and "every address" not in said, f"/{prefix}: what is said does not hold:\n{said[-1500:]}")


def loops_starve_nobody(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        packet = altered(fixture("ovmf-efi-discover.bin"), _mac(9))
        for _ in range(3000):
            port.send(packet, _mac(9))
        other = altered(fixture("ovmf-efi-discover.bin"), _mac(10))
        # Firmware asks again after some seconds; once is allowed.
        expect(any(port.answers(other, _mac(10), 3.0) for _ in range(2)), "another machine is not answered")
    said = site.said().count(f"{_mac(9)}: asks for an address in a loop")
    expect(said == 1, f"the loop is said {said} times:\n{site.said()}")


def leases_outlive_a_kill(site: Site) -> None:
    """Whatever was acknowledged is known after kill -9 at once."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = _boot(port, _mac(11))
        site.kill()
        site.start(site.medium)
        wish = altered(fixture("ovmf-efi-discover.bin"), _mac(12), {50: _number(address)})
        other = port.ask(wish, _mac(12)).your_address
        expect(other != address, f"{address} is offered to a second machine after a restart")
        confirm = altered(fixture("ovmf-efi-request.bin"), _mac(11), {50: _number(address)}, (54,))
        said = [packet.kind for packet in port.answers(confirm, _mac(11), 2.0)]
        expect(said == ["ack"], f"its holder is told {said}")


def relays_are_answered(site: Site) -> None:
    """RFC 3046: the answer goes to the relay's port 67, with what the relay said as it said it."""
    relay = "192.168.219.3"
    site.client.ip("addr", "add", f"{relay}/24", "dev", CLIENT_LINK)

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((relay, 67))
        return made

    try:
        with site.client.call(listen) as port:
            information = b"\x01\x04port\x02\x20" + b"switch in the second row, rack 7 "[:32]
            payload = altered(fixture("ovmf-efi-discover.bin"), _mac(13), {82: information})
            payload = payload[:3] + b"\x01" + payload[4:24] + _number(relay) + payload[28:]
            port.sendto(payload, (SERVER, 67))
            expect(bool(select.select([port], [], [], 3.0)[0]), "the relay hears nothing")
            offer = dhcp.parse(port.recv(2048))
        expect(offer.kind == "offer" and offer.mac == _mac(13), f"{offer.kind} for {offer.mac}")
        expect(offer.options.get(82) == information, f"relay information came back as {offer.options.get(82)!r}")
        expect(list(offer.options)[-1] == 82, f"options in the order {list(offer.options)}")
    finally:
        site.client.ip("addr", "del", f"{relay}/24", "dev", CLIENT_LINK)


def dhcrelay(site: Site) -> None:
    """A client behind ISC dhcrelay, which adds its option 82 and takes it off again."""
    with Namespace("far") as far:
        site.client.ip("link", "add", "down0", "type", "veth", "peer", "name", "eth0", "netns", far.name)
        site.client.ip("addr", "add", "192.168.219.4/24", "dev", CLIENT_LINK)
        site.client.ip("addr", "add", "192.168.219.5/32", "dev", "down0")
        site.client.ip("link", "set", "down0", "up")
        far.ip("link", "set", "eth0", "up")
        with (site.folder / "dhcrelay.log").open("wb") as log:
            process = site.client.popen(
                ["dhcrelay", "-4", "-d", "-a", "-m", "append", "--no-pid", "-id", "down0", "-iu", CLIENT_LINK, SERVER],
                stdout=log, stderr=log,
            )
        try:
            script, seen = _script(site, "far")
            done = far.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", str(script), "-V", _PXE])
            said = (site.folder / "dhcrelay.log").read_text(errors="replace")[-600:]
            expect(done.returncode == 0, f"no address through the relay: {done.stderr.decode()[-300:]}\n{said}")
            expect("siaddr=" + SERVER in seen.read_text(), f"next server: {seen.read_text()!r}")
        finally:
            _end(process)
            site.client.ip("link", "del", "down0")
            site.client.ip("addr", "del", "192.168.219.4/24", "dev", CLIENT_LINK)


def reservations(site: Site) -> None:
    """A [[node]] with an address gets it, in or beside the pool, and nobody else does."""
    _restart(site, "".join(
        f'[[node]]\nmac = "{_mac(last)}"\naddress = "{address}"\n'
        for last, address in ((20, "192.168.219.7"), (21, "192.168.219.240"))
    ))
    with RawClient(site.client, CLIENT_LINK) as port:
        expect(_boot(port, _mac(20)) == "192.168.219.7", "the address beside the pool is not given")
        wish = altered(fixture("ovmf-efi-discover.bin"), _mac(22), {50: _number("192.168.219.240")})
        expect(port.ask(wish, _mac(22)).your_address != "192.168.219.240", "a reserved address is given away")
        expect(_boot(port, _mac(21)) == "192.168.219.240", "the reserved address is not given")
        # A reservation is an invitation: the port needs no network boot.
        offer = port.ask(_plain("discover", _mac(21)), _mac(21))
        expect(offer.your_address == "192.168.219.240", f"offered {offer.your_address}")


def exhausted_pool_is_said_once(site: Site) -> None:
    _restart(site, network="10.78.0.1/29")
    with RawClient(site.client, CLIENT_LINK) as port:
        got = {_boot(port, _mac(30 + at)) for at in range(5)}
        expect(len(got) == 5, f"five machines have {sorted(got)}")
        for _ in range(3):
            left = altered(fixture("ovmf-efi-discover.bin"), _mac(40))
            expect(port.answers(left, _mac(40), 0.4) == [], "an address from an empty pool")
    said = site.said().count("network.lease-range")
    expect(said == 1, f"the remedy is said {said} times:\n{site.said()}")


def _script(site: Site, name: str) -> tuple[Path, Path]:
    """A script for udhcpc that writes down what it is told."""
    script, seen = site.folder / f"{name}.sh", site.folder / f"{name}.env"
    script.write_text(f'#!/bin/sh\n[ "$1" = deconfig ] || {{ env; echo "event=$1"; }} >> {seen}\nexit 0\n')
    script.chmod(0o755)
    return script, seen


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


def everybody_is_served(site: Site) -> None:
    """With serve_all, udhcpc gets an address, renews it by unicast, and gives it back."""
    _serve_all(site)
    with _machine(site, "udhcpc", _mac(50)) as own:
        script, seen = _script(site, "udhcpc-serve-all")
        process = own.popen(["udhcpc", "-i", "eth0", "-f", "-R", "-t", "8", "-T", "1", "-s", str(script)])
        try:
            def event(name: str) -> bool:
                return seen.exists() and f"event={name}" in seen.read_text()

            waiting.until(lambda: event("bound") or None, 15.0, "udhcpc is bound", every=0.05)
            address = re.findall(r"^ip=(.*)$", seen.read_text(), re.M)[-1]
            own.ip("addr", "add", f"{address}/24", "dev", "eth0")
            os.kill(process.pid, signal.SIGUSR1)
            waiting.until(lambda: event("renew") or None, 15.0, "udhcpc renews", every=0.05)
        finally:
            _end(process)
    # RELEASE: nobody has it, so another machine that wishes for it gets it.
    with RawClient(site.client, CLIENT_LINK) as port:
        wish = altered(fixture("ovmf-efi-discover.bin"), _mac(51), {50: _number(address)})
        expect(port.ask(wish, _mac(51)).your_address == address, f"{address} was released and is not free")


def _addresses(own: Namespace) -> list[str]:
    return re.findall(r"inet (192\.168\.219\.\d+)/24", own.ip("-4", "addr", "show", "dev", "eth0"))


def isc_dhclient(site: Site) -> None:
    """dhclient: DISCOVER to ACK, then INIT-REBOOT with its lease file, then RELEASE."""
    _serve_all(site)
    leases, config = site.folder / "isc.leases", site.folder / "isc.conf"
    config.write_text("# nothing\n")
    argv = ["dhclient", "-4", "-v", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf", str(site.folder / "isc.pid")]
    with _machine(site, "dhclient", _mac(52)) as own:
        for run, word in ((["-1"], "DHCPDISCOVER"), (["-1"], "DHCPREQUEST"), (["-r"], "DHCPRELEASE")):
            done = own.run([*argv, *run, "eth0"], timeout=40)
            said = done.stderr.decode()
            expect(done.returncode == 0 and word in said, f"dhclient {run}: {said[-400:]}")
            if word == "DHCPREQUEST":
                expect("DHCPDISCOVER" not in said, f"its lease was not confirmed: {said[-400:]}")
            pid = site.folder / "isc.pid"
            if word != "DHCPRELEASE" and pid.exists():
                os.kill(int(pid.read_text()), signal.SIGKILL)


def dhcpcd(site: Site) -> None:
    """dhcpcd, which names itself by a DUID (RFC 4361) and wants option 61 back (RFC 6842)."""
    _serve_all(site)
    with _machine(site, "dhcpcd", _mac(53)) as own:
        config = site.folder / "dhcpcd.conf"
        config.write_text("duid\nnoipv6\nnohook resolv.conf, hostname, timesyncd, ntp.conf\noption rapid_commit\n")
        done = own.run(
            ["unshare", "-m", "sh", "-c",
             "mkdir -p /run/dhcpcd && mount -t tmpfs none /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && "
             f"exec dhcpcd -4 -1 -B -t 25 -f {config} eth0"],
            timeout=45,
        )
        expect(done.returncode == 0, f"dhcpcd: {done.stderr.decode()[-500:]}{done.stdout.decode()[-300:]}")
        expect("leased 192.168.219." in (done.stderr + done.stdout).decode(), f"{done.stderr.decode()[-500:]}")


def networkd(site: Site) -> None:
    """systemd-networkd, as it asks on a live system."""
    _serve_all(site)
    if not Path(_NETWORKD).exists():
        raise LabError("missing tool: systemd-networkd (package systemd / systemd-network)")
    unit = site.folder / "lan.network"
    unit.write_text("[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n")
    with _machine(site, "networkd", _mac(54)) as own, (site.folder / "networkd.log").open("wb") as log:
        # Read-only /sys tells it that there is no udev to wait for; its folders are its own.
        process = own.popen(
            ["unshare", "-m", "sh", "-c",
             "mount -o remount,bind,ro /sys; mount -t tmpfs none /run/systemd && mkdir -p /run/systemd/network /run/systemd/netif && "
             f"cp {unit} /run/systemd/network/ && chown -R systemd-network /run/systemd/netif && exec {_NETWORKD}"],
            stdout=log, stderr=log,
        )
        try:
            waiting.until(lambda: _addresses(own) or None, 20.0, "networkd sets an address", every=0.1)
        except LabError as error:
            said = (site.folder / "networkd.log").read_text(errors="replace")[-600:]
            raise LabError(f"{error}:\n{said}\n{site.said()}") from error
        finally:
            _end(process)


def perfdhcp(site: Site) -> None:
    """Kea's load generator: every exchange ends, and no address is given twice."""
    # A busy disk makes syncs slow; what counts here is that answers come, not how soon.
    _restart(site, network="10.77.0.1/16")
    site.client.ip("addr", "add", "10.77.0.2/16", "dev", CLIENT_LINK)
    try:
        done = site.client.run(
            ["perfdhcp", "-4", "-l", "10.77.0.2", "-r", "150", "-R", "5000", "-p", "4", "-u", "-d", "8", "-W", "4000000", "-o",
             "60," + _PXE.encode().hex(), "10.77.0.1"],
            timeout=40,
        )
        text = done.stdout.decode()
        (site.folder / "perfdhcp.log").write_text(text)
        drops = [float(value) for value in re.findall(r"drops ratio: ([0-9.]+) %", text)]
        expect(len(drops) == 2 and max(drops) < 1.0, f"drops: {drops}\n{text[-1500:]}{done.stderr.decode()[-300:]}")
        twice = re.findall(r"non unique addresses: (\d+)", text)
        expect(all(value == "0" for value in twice) and twice != [], f"addresses given twice: {twice}\n{text[-1500:]}")
        acks = int(re.findall(r"received packets: (\d+)", text)[-1])
        expect(acks > 450, f"only {acks} exchanges")
        _durable(site, acks)
    finally:
        site.client.ip("addr", "del", "10.77.0.2/16", "dev", CLIENT_LINK)


def _durable(site: Site, acks: int) -> None:
    """After kill -9, as many leases are on the medium as were acknowledged."""
    site.kill()
    lines = sum(path.read_bytes().count(b'"bound"') for path in site.data.glob("leases-*.jsonl"))
    expect(lines >= acks, f"{acks} leases were acknowledged, {lines} are written")


CHECKS: list[Scenario[Site]] = [
    Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check)
    for check in (
        dhcp_starts, strangers_hear_nothing, a_booted_port_is_known, init_reboot, declined_addresses_rest,
        addresses_in_use_are_found, proxy_arp_empties_no_pool, loops_starve_nobody, leases_outlive_a_kill, relays_are_answered, dhcrelay, reservations,
        exhausted_pool_is_said_once, everybody_is_served, isc_dhclient, dhcpcd, networkd, perfdhcp,
    )
]
