"""Which DHCP clients are answered, and with what? One function an expectation, in the order they run."""

from __future__ import annotations

import checks_dhcp_clients
import checks_dhcp_conflicts
from dhcp_helpers import (
    PXE_CLASS,
    SERVER_BYTES,
    ask_as_relay,
    boot,
    dhclient_packet,
    dhcrelay_running,
    mac_of,
    machine_on_cable,
    packed,
    restart,
    udhcpc_script,
)
from rawclient import RawClient, altered, fixture
from vdc import dhcp
from vdc.namespace import Namespace
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site


def dhcp_starts(site: Site) -> None:
    site.start(site.medium)


def unknown_clients_get_no_answer(site: Site) -> None:
    """A client without network boot gets not one packet, whatever it asks."""
    with RawClient(site.client, CLIENT_LINK) as port:
        for payload in (
            dhclient_packet("discover", mac_of(1)),
            dhclient_packet("request", mac_of(1), o50=bytes([10, 0, 0, 5])),
            dhclient_packet("request", mac_of(1), o50=bytes([10, 0, 0, 5]), o54=SERVER_BYTES),
            altered(fixture("udhcpc-discover.bin"), mac_of(1)),
            dhcp.build(8, mac_of(1), 77, {}, client_address="192.168.219.77"),
        ):
            heard = [packet.kind for packet in port.answers(payload, mac_of(1), 0.6)]
            expect(heard == [], f"a stranger's {dhcp.parse(payload).kind} is answered with {heard}")
    with machine_on_cable(site, "stranger", mac_of(2)) as own:
        done = own.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "2", "-T", "1", "-s", "/bin/true"], timeout=20)
        expect(done.returncode != 0, "udhcpc got an address although it does not boot from the network")


def a_booted_port_is_known(site: Site) -> None:
    """What a machine boots asks again without saying what it is."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = boot(port, mac_of(3))
        offer = port.ask(dhclient_packet("discover", mac_of(3)), mac_of(3))
        expect(offer.your_address == address, f"{address}, then {offer.your_address}")


def init_reboot(site: Site) -> None:
    """RFC 2131 §4.3.2: its own address is confirmed, another one refused, and an unknown client gets no answer."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = boot(port, mac_of(4))

        def ask(mac: str, wanted: str, drop: tuple[int, ...] = (54,)) -> list[str]:
            payload = altered(fixture("ovmf-efi-request.bin"), mac, {50: packed(wanted)}, drop)
            return [packet.kind for packet in port.answers(payload, mac, 1.0)]

        expect(ask(mac_of(4), address) == ["ack"], f"{address} is not confirmed to its holder")
        expect(ask(mac_of(4), "192.168.219.250") == ["nak"], "another address of the pool is not refused")
        expect(ask(mac_of(5), address) == [], "a machine of which nothing is known gets an answer")
        expect(ask(mac_of(5), "10.1.2.3") == ["nak"], "an address of another network is not refused")


def loops_starve_nobody(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        packet = altered(fixture("ovmf-efi-discover.bin"), mac_of(9))
        for _ in range(3000):
            port.send(packet, mac_of(9))
        other = altered(fixture("ovmf-efi-discover.bin"), mac_of(10))
        # Firmware asks again after some seconds; once is allowed.
        expect(any(port.answers(other, mac_of(10), 3.0) for _ in range(2)), "another machine is not answered")
    said = site.log_tail().count(f"{mac_of(9)}: asks for an address in a loop")
    expect(said == 1, f"the loop is said {said} times:\n{site.log_tail()}")


def leases_outlive_a_kill(site: Site) -> None:
    """Whatever was acknowledged is known after kill -9 at once."""
    with RawClient(site.client, CLIENT_LINK) as port:
        address = boot(port, mac_of(11))
        site.kill()
        site.start(site.medium)
        wish = altered(fixture("ovmf-efi-discover.bin"), mac_of(12), {50: packed(address)})
        other = port.ask(wish, mac_of(12)).your_address
        expect(other != address, f"{address} is offered to a second machine after a restart")
        confirm = altered(fixture("ovmf-efi-request.bin"), mac_of(11), {50: packed(address)}, (54,))
        said = [packet.kind for packet in port.answers(confirm, mac_of(11), 2.0)]
        expect(said == ["ack"], f"its holder is told {said}")


def relays_are_answered(site: Site) -> None:
    """RFC 3046: the answer goes to the relay's port 67, with the relay's option 82 unchanged."""
    relay = "192.168.219.3"
    site.client.ip("addr", "add", f"{relay}/24", "dev", CLIENT_LINK)

    try:
        information = b"\x01\x04port\x02\x20" + b"switch in the second row, rack 7 "[:32]
        offers = ask_as_relay(site.client, SERVER, relay, mac_of(13), {82: information})
        expect(len(offers) == 1, "the relay hears nothing")
        offer = offers[0]
        expect(offer.kind == "offer" and offer.mac == mac_of(13), f"{offer.kind} for {offer.mac}")
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
        try:
            script, seen = udhcpc_script(site, "far")
            with dhcrelay_running(site):
                done = far.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", str(script), "-V", PXE_CLASS])
            said = (site.folder / "dhcrelay.log").read_text(errors="replace")[-600:]
            expect(done.returncode == 0, f"no address through the relay: {done.stderr.decode()[-300:]}\n{said}")
            expect("siaddr=" + SERVER in seen.read_text(), f"next server: {seen.read_text()!r}")
        finally:
            site.client.ip("link", "del", "down0")
            site.client.ip("addr", "del", "192.168.219.4/24", "dev", CLIENT_LINK)


def reservations(site: Site) -> None:
    """A [[node]] with an address gets it, inside or outside the pool, and no other machine does."""
    restart(site, "".join(
        f'[[node]]\nmac = "{mac_of(last)}"\naddress = "{address}"\n'
        for last, address in ((20, "192.168.219.7"), (21, "192.168.219.240"))
    ))
    with RawClient(site.client, CLIENT_LINK) as port:
        expect(boot(port, mac_of(20)) == "192.168.219.7", "the address beside the pool is not given")
        wish = altered(fixture("ovmf-efi-discover.bin"), mac_of(22), {50: packed("192.168.219.240")})
        expect(port.ask(wish, mac_of(22)).your_address != "192.168.219.240", "a reserved address is given away")
        expect(boot(port, mac_of(21)) == "192.168.219.240", "the reserved address is not given")
        # A reservation is an invitation: the port needs no network boot.
        offer = port.ask(dhclient_packet("discover", mac_of(21)), mac_of(21))
        expect(offer.your_address == "192.168.219.240", f"offered {offer.your_address}")


def exhausted_pool_is_logged_once(site: Site) -> None:
    restart(site, network="10.78.0.1/29")
    with RawClient(site.client, CLIENT_LINK) as port:
        got = {boot(port, mac_of(30 + at)) for at in range(5)}
        expect(len(got) == 5, f"five machines have {sorted(got)}")
        for _ in range(3):
            left = altered(fixture("ovmf-efi-discover.bin"), mac_of(40))
            expect(port.answers(left, mac_of(40), 0.4) == [], "an address from an empty pool")
    said = site.log_tail().count("network.lease-range")
    expect(said == 1, f"the remedy is said {said} times:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = [
    *scenarios(dhcp_starts, unknown_clients_get_no_answer, a_booted_port_is_known, init_reboot), *checks_dhcp_conflicts.CHECKS,
    *scenarios(loops_starve_nobody, leases_outlive_a_kill, relays_are_answered, dhcrelay, reservations, exhausted_pool_is_logged_once),
    *checks_dhcp_clients.CHECKS,
]
