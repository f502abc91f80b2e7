"""Does a master leave an address to the host that has it already (RFC 5227)?"""

from __future__ import annotations

import socket

from bridged_lan import Lan, client_mac, raw
from lan_helpers import VERDICT_SECONDS, discover, offer_of
from vdc import polling
from vdc.suite import Scenario, expect, scenarios


def own_address_in_use(lan: Lan) -> None:
    """A host that has the master's address keeps it: the master names the host and takes another address, also when the host comes later."""
    host, first, machine = lan.client(1), "192.168.219.1", lan.client(2, "machine")
    host.ip("addr", "add", f"{first}/24", "dev", "eth0")
    stick = lan.stick("stick", 1)
    stick.start()
    stick.wait_for_mode("serve", VERDICT_SECONDS + 3.0)
    ours = str(stick.link()["address"]).split("/")[0]
    expect(ours == "192.168.219.2", f"the master has {ours}")
    expect(client_mac(1) in str(stick.link()["reason"]), f"the API does not name who has it: {stick.link()}")
    expect(f"{first} is used by {client_mac(1)}" in stick.log_tail(), f"nor does the screen:\n{stick.log_tail()}")
    offer = offer_of(discover(machine, client_mac(2), "ovmf-efi-discover.bin"), ours)
    expect(offer.your_address.startswith("192.168.219."), f"a machine is offered {offer.your_address}")
    # Another host takes the address that is ours now, and does not ask before.
    host.ip("addr", "add", f"{ours}/24", "dev", "eth0")

    def left() -> str | None:
        # RFC 5227 §2.3: what a host says that uses an address.
        me = raw(client_mac(1))
        announcement = b"\0\1\x08\0\6\4\0\1" + me + socket.inet_aton(ours) + bytes(6) + socket.inet_aton(ours)
        with host.packet_socket("eth0") as port:
            port.send(b"\xff" * 6 + me + b"\x08\x06" + announcement)
        now = str(stick.link().get("address") or ours).split("/")[0]
        return now if now != ours else None

    now = polling.wait_until(left, 40.0, "the master leaves a contested address", every=1.0)
    expect(now == "192.168.219.3", f"the master went to {now}")
    again = offer_of(discover(machine, client_mac(2), "ovmf-efi-discover.bin"), now)
    expect(again.your_address == offer.your_address, f"{offer.your_address} became {again.your_address}")


CHECKS: list[Scenario[Lan]] = scenarios(own_address_in_use)
