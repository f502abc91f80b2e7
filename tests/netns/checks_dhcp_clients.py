"""Do udhcpc, dhclient, dhcpcd, systemd-networkd and perfdhcp get, renew and release addresses?"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from dhcp_helpers import PXE_CLASS, mac_of, machine_on_cable, packed, restart, run_dhcpcd, serve_all, udhcpc_script, wait_for_udhcpc
from rawclient import RawClient, altered, fixture
from vdc import polling
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.process import terminate
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, Site

TOOLS = ("dhcpcd", "dhcrelay", "perfdhcp", "unshare")
_NETWORKD = "/usr/lib/systemd/systemd-networkd"


def serve_all_clients(site: Site) -> None:
    """With serve_all, udhcpc gets an address, renews it by unicast, and gives it back."""
    serve_all(site)
    with machine_on_cable(site, "udhcpc", mac_of(50)) as own:
        script, seen = udhcpc_script(site, "udhcpc-serve-all")
        process = own.popen(["udhcpc", "-i", "eth0", "-f", "-R", "-t", "8", "-T", "1", "-s", str(script)])
        try:
            wait_for_udhcpc(seen, "bound")
            address = re.findall(r"^ip=(.*)$", seen.read_text(), re.M)[-1]
            own.ip("addr", "add", f"{address}/24", "dev", "eth0")
            os.kill(process.pid, signal.SIGUSR1)
            wait_for_udhcpc(seen, "renew")
        finally:
            terminate(process)
    # After the RELEASE the address is free, so another machine that asks for it gets it.
    with RawClient(site.client, CLIENT_LINK) as port:
        wish = altered(fixture("ovmf-efi-discover.bin"), mac_of(51), {50: packed(address)})
        expect(port.ask(wish, mac_of(51)).your_address == address, f"{address} was released and is not free")


def _addresses(own: Namespace) -> list[str]:
    return re.findall(r"inet (192\.168\.219\.\d+)/24", own.ip("-4", "addr", "show", "dev", "eth0"))


def isc_dhclient(site: Site) -> None:
    """dhclient: DISCOVER to ACK, then INIT-REBOOT with its lease file, then RELEASE."""
    serve_all(site)
    leases, config = site.folder / "isc.leases", site.folder / "isc.conf"
    config.write_text("# nothing\n")
    argv = ["dhclient", "-4", "-v", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf", str(site.folder / "isc.pid")]
    with machine_on_cable(site, "dhclient", mac_of(52)) as own:
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
    serve_all(site)
    with machine_on_cable(site, "dhcpcd", mac_of(53)) as own:
        done = run_dhcpcd(own, site.folder / "dhcpcd.conf", "option rapid_commit\n")
        expect(done.returncode == 0, f"dhcpcd: {done.stderr.decode()[-500:]}{done.stdout.decode()[-300:]}")
        expect("leased 192.168.219." in (done.stderr + done.stdout).decode(), f"{done.stderr.decode()[-500:]}")


def networkd(site: Site) -> None:
    """systemd-networkd, as it asks on a live system."""
    serve_all(site)
    if not Path(_NETWORKD).exists():
        raise LabError("missing tool: systemd-networkd (package systemd / systemd-network)")
    unit = site.folder / "lan.network"
    unit.write_text("[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n")
    with machine_on_cable(site, "networkd", mac_of(54)) as own, (site.folder / "networkd.log").open("wb") as log:
        # Read-only /sys tells it that there is no udev to wait for; its folders are its own.
        process = own.popen(
            ["unshare", "-m", "sh", "-c",
             ("mount -o remount,bind,ro /sys; mount -t tmpfs none /run/systemd && mkdir -p /run/systemd/network /run/systemd/netif && "
             f"cp {unit} /run/systemd/network/ && chown -R systemd-network /run/systemd/netif && exec {_NETWORKD}")],
            stdout=log, stderr=log,
        )
        try:
            polling.wait_until(lambda: _addresses(own) or None, 20.0, "networkd sets an address", every=0.1)
        except LabError as error:
            said = (site.folder / "networkd.log").read_text(errors="replace")[-600:]
            raise LabError(f"{error}:\n{said}\n{site.log_tail()}") from error
        finally:
            terminate(process)


def perfdhcp(site: Site) -> None:
    """Kea's load generator: every exchange ends, and no address is given twice."""
    # A busy disk makes syncs slow; what counts here is that answers come, not how soon.
    restart(site, network="10.77.0.1/16")
    site.client.ip("addr", "add", "10.77.0.2/16", "dev", CLIENT_LINK)
    try:
        done = site.client.run(
            ["perfdhcp", "-4", "-l", "10.77.0.2", "-r", "150", "-R", "5000", "-p", "4", "-u", "-d", "8", "-W", "4000000", "-o",
             "60," + PXE_CLASS.encode().hex(), "10.77.0.1"],
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
    """After kill -9, as many leases are in the journal as were acknowledged."""
    site.kill()
    lines = sum(path.read_bytes().count(b'"bound"') for path in site.data.glob("leases-*.jsonl"))
    expect(lines >= acks, f"{acks} leases were acknowledged, {lines} are written")


CHECKS: list[Scenario[Site]] = scenarios(serve_all_clients, isc_dhclient, dhcpcd, networkd, perfdhcp)
