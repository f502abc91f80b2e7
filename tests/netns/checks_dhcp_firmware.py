"""Which address and boot file do dhclient, udhcpc and captured firmware get?"""

from __future__ import annotations

import re
import socket

from rawclient import RawClient, altered, fixture
from vdc.suite import expect, scenarios
from veth_site import CLIENT_LINK, CLIENT_MAC, SERVER, Site

OVMF_MAC, IPXE_MAC, BIOS_MAC = "52:54:00:2b:01:01", "52:54:00:2b:01:02", "52:54:00:2b:01:03"


def dhclient(site: Site) -> None:
    leases, config = site.folder / "dhclient.leases", site.folder / "dhclient.conf"
    # The system that a machine boots from here asks again without saying what it is; this port did boot.
    with RawClient(site.client, CLIENT_LINK) as port:
        port.ask(altered(fixture("ovmf-efi-discover.bin"), CLIENT_MAC), CLIENT_MAC)
    config.write_text("# nothing: what dhclient asks by itself\n")
    done = site.client.run(
        ["dhclient", "-4", "-1", "-v", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(site.folder / "dhclient.pid"), CLIENT_LINK],
        timeout=40,
    )
    expect(done.returncode == 0, f"dhclient: {done.stderr.decode()[-400:]}")
    text = leases.read_text()
    found = re.search(r"fixed-address ([0-9.]+);", text)
    expect(found is not None, f"no address in {text!r}")
    assert found is not None
    expect(f"domain-name-servers {SERVER}" in text, f"no DNS server in {text!r}")
    site.address = found.group(1)
    # The client stays in the foreground of this check only: its lease lasts, its process is ended with the namespace.
    site.client.ip("addr", "add", f"{site.address}/24", "dev", CLIENT_LINK)


def dhclient_pxe(site: Site) -> None:
    config = site.folder / "dhclient-pxe.conf"
    config.write_text(
        'option arch code 93 = unsigned integer 16;\nsend vendor-class-identifier "PXEClient:Arch:00000:UNDI:002001";\n'
        "send arch 0;\nrequest subnet-mask, bootfile-name, tftp-server-name;\n"
    )
    leases = site.folder / "dhclient-pxe.leases"
    done = site.client.run(
        ["dhclient", "-4", "-1", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(site.folder / "dhclient-pxe.pid"), CLIENT_LINK],
        timeout=40,
    )
    expect(done.returncode == 0, f"dhclient: {done.stderr.decode()[-400:]}")
    expect("undionly.kpxe" in leases.read_text(), f"no boot file in {leases.read_text()!r}")


def udhcpc_pxe(site: Site) -> None:
    script, seen = site.folder / "udhcpc.sh", site.folder / "udhcpc.env"
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] && env > {seen}\nexit 0\n')
    script.chmod(0o755)
    done = site.client.run(
        ["udhcpc", "-i", CLIENT_LINK, "-f", "-n", "-q", "-t", "5", "-s", str(script), "-V",
         "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007", "-O", "bootfile"],
        timeout=40,
    )
    expect(done.returncode == 0, f"udhcpc: {done.stderr.decode()[-400:]}")
    env = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    expect(env.get("ip") == site.address, f"dhclient had {site.address}, udhcpc from the same port got {env.get('ip')}")
    expect(env.get("siaddr") == SERVER, f"next server is {env.get('siaddr')}")
    named = env.get("boot_file", "") + env.get("bootfile", "")
    expect("snponly.efi" in named, f"boot file is {named!r}")


def replayed_ovmf(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        ack = port.take_address(fixture("ovmf-efi-discover.bin"), fixture("ovmf-efi-request.bin"), OVMF_MAC)
        expect(ack.boot_file in ("snponly.efi", "ipxe.efi"), f"boot file is {ack.boot_file!r}")
        # The same port a moment later, now as iPXE: same address, but the script.
        second = port.take_address(fixture("ipxe-efi-discover.bin"), fixture("ipxe-efi-request.bin"), OVMF_MAC)
        expect(second.your_address == ack.your_address, f"{ack.your_address}, then {second.your_address}")
        expect(second.boot_file.startswith(f"http://{SERVER}/boot.ipxe"), f"iPXE is sent to {second.boot_file!r}")


def replayed_bios(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        ack = port.take_address(fixture("ipxe-bios-discover.bin"), fixture("ipxe-bios-request.bin"), IPXE_MAC)
        expect(ack.boot_file.startswith(f"http://{SERVER}/boot.ipxe"), f"BIOS iPXE is sent to {ack.boot_file!r}")
        # Plain BIOS firmware: the packet of iPXE's UNDI stack without what marks it as iPXE.
        plain = altered(fixture("ipxe-bios-discover.bin"), BIOS_MAC, drop=(77, 175))
        offer = port.ask(plain, BIOS_MAC)
        expect(offer.boot_file == "undionly.kpxe", f"BIOS firmware is offered {offer.boot_file!r}")
        expect(offer.your_address != ack.your_address, "two machines were offered one address")


def other_servers_request(site: Site) -> None:
    """A client that chose another server hears nothing; one that asks for a wrong address is refused."""
    with RawClient(site.client, CLIENT_LINK) as port:
        elsewhere = altered(fixture("ovmf-efi-request.bin"), OVMF_MAC, {50: b"\x0a\x00\x00\x05", 54: b"\x0a\x00\x00\x01"})
        said = [packet.kind for packet in port.answers(elsewhere, OVMF_MAC, 1.0)]
        expect(said == [], f"a request to another server is answered with {said}")
        wrong = altered(fixture("ovmf-efi-request.bin"), OVMF_MAC, {50: b"\x0a\x00\x00\x05", 54: bytes([192, 168, 219, 1])})
        kinds = [packet.kind for packet in port.answers(wrong, OVMF_MAC, 3.0)]
        expect(kinds == ["nak"], f"a request for an address of another network is answered with {kinds}")


def rubbish(site: Site) -> None:
    """Short, torn and random datagrams on every UDP port change nothing."""
    packet = fixture("ovmf-efi-discover.bin")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in (53, 67, 69):
                for size in (0, 1, 11, 12, 239, 240, 243, 300):
                    sender.sendto(packet[:size], (SERVER, port))
                sender.sendto(bytes(range(256)) * 4, (SERVER, port))

    site.client.call(send)
    with RawClient(site.client, CLIENT_LINK) as port_:
        port_.ask(altered(packet, OVMF_MAC), OVMF_MAC)
    expect("bang" in site.dig("bang", "A"), "DNS no longer answers")


CHECKS = scenarios(dhclient, dhclient_pxe, udhcpc_pxe, replayed_ovmf, replayed_bios, other_servers_request, rubbish)
