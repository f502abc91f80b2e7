"""What do the checks with several masters or foreign servers on a LAN share?"""

from __future__ import annotations

import re
import time

from bridged_lan import Lan, Stick
from rawclient import RawClient, altered, fixture
from vdc import dhcp
from vdc.namespace import Namespace
from vdc.suite import expect

TOOLS = ("ip", "setpriv", "udhcpc", "dhclient", "curl", "tcpdump", "dnsmasq", "sysctl")
VERDICT_SECONDS = 10.0
OURS = "192.168.219.1"


def masters_of(sticks: list[Stick], at: int = 0) -> list[str]:
    return [stick.name for stick in sticks if stick.mode(at) in ("serve", "proxy")]


def expect_stable(sticks: list[Stick], seconds: float, masters: list[str]) -> None:
    """The same sticks are masters all the time, without a change in between."""
    changes = [stick.link()["mode_changes"] for stick in sticks]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = masters_of(sticks)
        expect(now == masters, f"masters were {masters}, are {now}")
        time.sleep(0.2)
    expect(changes == [stick.link()["mode_changes"] for stick in sticks], "a mode changed and changed back")


def lease(machine: Namespace, lan: Lan, name: str, boots: bool = False) -> str | None:
    """An address for dhclient: one of no special kind, or one that says that it boots from the network."""
    leases, config = lan.folder / f"{name}.leases", lan.folder / f"{name}.conf"
    leases.unlink(missing_ok=True)
    config.write_text('send vendor-class-identifier "PXEClient:Arch:00000:UNDI:002001";\n' if boots else "timeout 20;\n")
    machine.run(
        ["dhclient", "-4", "-1", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(lan.folder / f"{name}.pid"), "eth0"], timeout=75,
    )
    found = re.findall(r"fixed-address ([0-9.]+);", leases.read_text()) if leases.exists() else []
    return str(found[-1]) if found else None


def discover(machine: Namespace, mac: str, name: str, seconds: float = 4.0) -> list[dhcp.Packet]:
    """Every OFFER that a captured client's DISCOVER brings."""
    with RawClient(machine, "eth0") as port:
        return port.answers(altered(fixture(name), mac), mac, seconds, enough=8)


def offer_of(offers: list[dhcp.Packet], server: str) -> dhcp.Packet:
    found = [offer for offer in offers if offer.server == server]
    expect(found, f"no offer of {server} among those of {[offer.server for offer in offers]}")
    return found[0]
