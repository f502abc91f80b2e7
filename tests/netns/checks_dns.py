"""Which names does the master's DNS server answer for?"""

from __future__ import annotations

from vdc.suite import expect, scenarios
from veth_site import SERVER, Site


def dns_own_names(site: Site) -> None:
    for name in ("recon", "master", "bang", "BANG"):
        expect(site.dig("+short", name, "A").split() == [SERVER], f"{name}: {site.dig(name, 'A')}")


def dns_leased_node(site: Site) -> None:
    pointer = site.dig("+short", "-x", site.address).strip()
    expect(pointer.endswith("."), f"{site.address} has no name: {site.dig('-x', site.address)}")
    expect(site.dig("+short", pointer, "A").split() == [site.address], f"{pointer} does not lead back")


def dns_unknown(site: Site) -> None:
    zone = site.dig("+short", "-x", site.address).strip().split(".", 1)[1]
    expect("NXDOMAIN" in site.dig(f"nobody.{zone}", "A"), f"nobody: {site.dig(f'nobody.{zone}', 'A')}")
    # What may be a top-level domain is none of ours to deny (RFC 8020), and there are names of ours below some.
    for name in ("nobody", "com", "internal", "arpa"):
        expect("status: REFUSED" in site.dig(name, "NS"), f"{name}: {site.dig(name, 'NS')}")


def dns_zone(site: Site) -> None:
    """The top of the zone has its SOA and its server, forward and reverse, and zone transfers are refused."""
    zone = site.dig("+short", "-x", site.address).strip().split(".", 1)[1]
    reverse = ".".join(reversed(SERVER.split(".")[:3])) + ".in-addr.arpa"
    for top in (zone, reverse):
        expect(site.dig("+short", top, "SOA").startswith(f"recon.{zone} "), f"{top}: {site.dig(top, 'SOA')}")
        expect(site.dig("+short", top, "NS").strip() == f"recon.{zone}", f"{top}: {site.dig(top, 'NS')}")
    expect("Transfer failed" in site.dig(zone, "AXFR"), f"AXFR: {site.dig(zone, 'AXFR')}")


CHECKS = scenarios(dns_own_names, dns_leased_node, dns_unknown, dns_zone)
