"""Does a master beside a foreign DHCP server hand out boot files and no addresses?"""

from __future__ import annotations

import contextlib
import re
import socket
import time

from bridged_lan import Lan, client_mac, frames, raw
from dhcp_helpers import ask_as_relay
from lan_helpers import OURS, VERDICT_SECONDS, discover, lease, offer_of
from rawclient import RawClient, altered, fixture
from vdc import dhcp, foreign_dhcp
from vdc.capture import udp
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect, scenarios


def proxy_beside_foreign(lan: Lan) -> None:
    """A foreign server from the start: boot files for firmware and iPXE, never an address; peers reach us."""
    with lan.foreign():
        stick = lan.stick("stick", 1)
        client = lan.client(1)
        begun = stick.start()
        stick.wait_for_mode("proxy", VERDICT_SECONDS)
        expect(time.monotonic() - begun <= VERDICT_SECONDS, "the verdict took too long")
        link = stick.wait_for_mode("proxy", 10.0, address=True)
        ours = str(link["address"]).split("/")[0]
        expect(ours.startswith("10.77.0."), f"our address there is {ours}")
        expect(
            any(s["address"] == foreign_dhcp.ADDRESS and re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", s["mac"]) for s in link["foreign"]),
            f"the API names {link['foreign']}",
        )
        expect(foreign_dhcp.ADDRESS in link["reason"], f"reason: {link['reason']}")
        for name, wanted in (
            ("ovmf-efi-discover.bin", "snponly.efi"), ("ipxe-efi-discover.bin", f"http://{ours}/boot.ipxe"),
            ("ipxe-bios-discover.bin", f"http://{ours}/boot.ipxe"),
        ):
            offers = discover(client, client_mac(2), name)
            theirs, mine = offer_of(offers, foreign_dhcp.ADDRESS), offer_of(offers, ours)
            expect(theirs.your_address.startswith("10.77.0."), f"the foreign server offers {theirs.your_address}")
            expect(mine.your_address == "0.0.0.0" and 51 not in mine.options, f"{name}: we offer {mine.your_address}")
            expect(mine.boot_file.startswith(wanted), f"{name}: boot file is {mine.boot_file!r}")
            expect(mine.vendor_class == "PXEClient" and 43 in mine.options, f"{name}: class {mine.vendor_class!r}")
        _boot_server(client, ours)
        address = lease(client, lan, "client")
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
        ours = str(stick.wait_for_mode("proxy", 20.0, address=True)["address"]).split("/")[0]
        offers = ask_as_relay(router, ours, "10.1.0.1", client_mac(7), {82: b"\x01\x02p1"})
        expect(len(offers) == 1, f"the relay hears {offers}\n{stick.log_tail()}")
        offer = offers[0]
        expect(offer.your_address == "0.0.0.0" and offer.boot_file == "snponly.efi", f"{offer.your_address}, {offer.boot_file!r}")
        expect(offer.options.get(82) == b"\x01\x02p1", f"relay information came back as {offer.options.get(82)!r}")
        for last in (8, 9):
            answers = ask_as_relay(router, ours, "10.9.0.1", client_mac(last), {}, 0.7)
            expect(answers == [], f"a machine of an unknown network gets {answers}")
        expect(stick.log_tail().count("10.9.0.0/24") == 1, f"the unknown network is said otherwise:\n{stick.log_tail()}")


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


def plain_client_gets_no_answer(lan: Lan) -> None:
    """Beside a foreign server a client without PXE options never gets one packet from us, by capture."""
    with lan.foreign():
        stick = lan.stick("stick", 1)
        stick.start()
        stick.wait_for_mode("proxy", 20.0, address=True)
        client = lan.client(3)
        with lan.capture("plain") as wire:
            with RawClient(client, "eth0") as port:
                for name in ("dhclient-discover.bin", "dhclient-request.bin", "udhcpc-discover.bin"):
                    port.send(altered(fixture(name), client_mac(3)), client_mac(3))
            address = lease(client, lan, "plain")
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
    stick.wait_for_mode("serve", VERDICT_SECONDS, address=True)
    address = lease(client, lan, "before", boots=True)
    expect(address is not None and address.startswith("192.168.219."), f"the client got {address}")
    client.ip("addr", "add", f"{address}/24", "dev", "eth0")
    with lan.foreign():
        begun = time.monotonic()
        stick.wait_for_mode("proxy", VERDICT_SECONDS)
        took = time.monotonic() - begun
        expect(took <= 10.0, f"it took {took:.1f} s")
        print(f"     proxy {took:.1f} s after the foreign server began")
        link = stick.wait_for_mode("proxy", 10.0, address=True)
        expect(str(link["old_address"]).startswith(OURS) and link["leases_held"] == 1, f"the old leases: {link}")
        expect(any(s["address"] == foreign_dhcp.ADDRESS for s in link["foreign"]), f"foreign: {link['foreign']}")
        for name in ("dhclient-discover.bin", "ovmf-efi-discover.bin"):
            offers = discover(client, client_mac(5), name)
            given = {offer.server for offer in offers if offer.your_address != "0.0.0.0"}
            expect(given == {foreign_dhcp.ADDRESS}, f"addresses are offered by {given}")
        renewal = dhcp.build(3, client_mac(4), 0x4444, {}, str(address))
        with RawClient(client, "eth0") as port:
            said = port.answers(renewal, client_mac(4), 1.5)
        expect(not [packet for packet in said if packet.server == OURS], "a lease of ours is made longer")
        done = client.run(["curl", "-sS", "-f", "--max-time", "5", f"http://{OURS}/api/v1/status"])
        expect(done.returncode == 0, f"a peer of before does not reach us any more: {done.stderr!r}")
        screen = stick.machine.run([str(lan.recon), "status"]).stdout.decode()
        expect(foreign_dhcp.ADDRESS in screen and "which run out" in screen, f"the screen:\n{screen}")
    # Fifteen questions unanswered, and the verdict of a quiet link.
    stick.wait_for_mode("serve", 85.0, address=True)
    expect(lease(client, lan, "after", boots=True) == address, "the client lost its address over all that")


def foreign_boot_service(lan: Lan) -> None:
    """Where the foreign server boots machines, the link is silent, unless recon.toml says proxy."""
    with lan.foreign("their-own.efi"):
        stick = lan.stick("stick", 1)
        client = lan.client(6)
        stick.start()
        link = stick.wait_for_mode("silent", VERDICT_SECONDS)
        expect("boots machines" in link["reason"] and foreign_dhcp.ADDRESS in link["reason"], f"reason: {link['reason']}")
        offers = discover(client, client_mac(6), "ovmf-efi-discover.bin", 2.0)
        expect({offer.server for offer in offers} == {foreign_dhcp.ADDRESS}, f"offers: {offers}")
        stick.kill()
        stick.settings('[network]\nmode = "proxy"\n')
        stick.start()
        stick.wait_for_mode("proxy", 20.0, address=True)


CHECKS: list[Scenario[Lan]] = scenarios(
    proxy_beside_foreign, proxy_through_a_relay, plain_client_gets_no_answer, foreign_appears, foreign_boot_service,
)
