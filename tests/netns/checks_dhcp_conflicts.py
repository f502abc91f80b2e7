"""Are addresses that other hosts use, or that clients decline, left alone?"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from dhcp_helpers import PXE_CLASS, SERVER_BYTES, boot, mac_of, machine_on_cable, packed, restart
from rawclient import RawClient, altered, fixture
from vdc import dhcp, polling
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

_ETH_ARP = 0x0806


def declined_addresses_rest(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        address = boot(port, mac_of(6))
        port.send(dhcp.build(4, mac_of(6), 78, {50: packed(address), 54: SERVER_BYTES, 60: PXE_CLASS.encode()}), mac_of(6))
        again = port.ask(altered(fixture("ovmf-efi-discover.bin"), mac_of(6)), mac_of(6)).your_address
        expect(again != address, f"{address} was declined and is offered again")


def addresses_in_use_are_found(site: Site) -> None:
    """RFC 5227: an address that was set by hand is probed by ARP and not offered."""
    with machine_on_cable(site, "byhand", mac_of(7)) as own:
        own.ip("addr", "add", "192.168.219.200/24", "dev", "eth0")
        with RawClient(site.client, CLIENT_LINK) as port:
            # What the master knows of silence is a minute old at most; so is the machine. The wish makes it that address.
            deadline = time.monotonic() + 75.0
            while True:
                wish = altered(fixture("ovmf-efi-discover.bin"), mac_of(8), {50: packed("192.168.219.200")})
                offer = port.ask(wish, mac_of(8))
                if offer.your_address != "192.168.219.200":
                    break
                # It was known to be silent: the offer runs out, and so does that knowledge.
                expect(time.monotonic() < deadline, "an address in use is offered")
                port.send(dhcp.build(7, mac_of(8), 79, {54: SERVER_BYTES}, client_address="192.168.219.200"), mac_of(8))
                time.sleep(2.0)
    # It is logged a moment later, when it is clear that this is not proxy ARP for every address.
    said = "192.168.219.200 is used by"
    polling.wait_until(lambda: said in site.log.read_text(errors="replace") or None, 2.0, said, every=0.05)


@contextlib.contextmanager
def _answers_everything(site: Site, mac: str) -> Iterator[None]:
    """A neighbour that answers ARP for every address but the master's."""
    with machine_on_cable(site, "everybody", mac) as own:
        port, me, over = own.packet_socket("eth0", _ETH_ARP), bytes.fromhex(mac.replace(":", "")), threading.Event()
        port.settimeout(0.2)

        def answer() -> None:
            while not over.is_set():
                try:
                    frame = port.recv(2048)
                except OSError:
                    continue
                asks = frame[20:22] == b"\0\1" and frame[6:12] != me and frame[38:42] != SERVER_BYTES
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
                restart(site, network=f"{SERVER}/{prefix}")
                time.sleep(1.0)
                with RawClient(site.client, CLIENT_LINK) as port:
                    for number in range(machines):
                        expect(boot(port, mac_of(0x40 + number)) != "", "no address")
            said = site.log.read_text(errors="replace")
        finally:
            restart(site)
        lines = [line for line in said.splitlines() if "proxy ARP" in line and liar in line]
        expect(len(lines) == 1, f"/{prefix}: it is named {len(lines)} times:\n{said[-1500:]}")
        expect("is used by" not in said and "every address" not in said, f"/{prefix}: what is said does not hold:\n{said[-1500:]}")


CHECKS: list[Scenario[Site]] = scenarios(declined_addresses_rest, addresses_in_use_are_found, proxy_arp_empties_no_pool)
