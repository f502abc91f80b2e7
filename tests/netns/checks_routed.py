"""Does a floor behind a router boot? A relay and a router in one namespace, machines in another; one function an expectation."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from dhcp_helpers import PXE_CLASS, ask_as_relay, dhcrelay_running, packed, run_dhcpcd, udhcpc_script, wait_for_udhcpc
from vdc import dhcp, polling
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.process import terminate
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

TOOLS = ("dhcrelay", "dhclient", "udhcpc", "dhcpcd", "atftp", "curl", "unshare", "sysctl")
# The router's address on the master's link and on the floor's, and a loopback address from which it asks as relay.
_NEAR, _ROUTER, _LOOPBACK = "192.168.219.3", "10.1.0.1", "10.255.0.1"
_SETTINGS = f"""[network]
serve-all = true
[[subnet]]
subnet = "10.1.0.0/24"
via = "{_NEAR}"
relays = ["{_LOOPBACK}"]
"""


def routed_starts(site: Site) -> None:
    """The master serves with a network behind a router in its settings, and has a way there."""
    (site.data / "recon.toml").write_text(_SETTINGS)
    site.client.ip("addr", "add", f"{_NEAR}/24", "dev", CLIENT_LINK)
    site.client.ip("addr", "add", f"{_LOOPBACK}/32", "dev", "lo")
    site.client.run(["sysctl", "-w", "net.ipv4.ip_forward=1"])
    site.start(site.medium)
    routes = site.server.ip("-4", "route")
    expect(f"10.1.0.0/24 via {_NEAR}" in routes and f"{_LOOPBACK} via {_NEAR}" in routes, f"routes:\n{routes}")


@contextlib.contextmanager
def _floor(site: Site) -> Iterator[Namespace]:
    """A network behind the router, with the port `eth0` of one machine on it and ISC's relay beside it."""
    with Namespace("floor") as floor:
        site.client.ip("link", "add", "down0", "type", "veth", "peer", "name", "eth0", "netns", floor.name)
        site.client.ip("addr", "add", f"{_ROUTER}/24", "dev", "down0")
        site.client.ip("link", "set", "down0", "up")
        floor.ip("link", "set", "eth0", "up")
        try:
            with dhcrelay_running(site):
                yield floor
        finally:
            site.client.ip("link", "del", "down0")


def _relay_log(site: Site) -> str:
    return (site.folder / "dhcrelay.log").read_text(errors="replace")[-600:] + site.log_tail()


def a_routed_floor_boots(site: Site) -> None:
    """Firmware's address, router, next server and boot program, then what it fetches through the router, and the agent's word."""
    with _floor(site) as floor:
        script, seen = udhcpc_script(site, "floor", configure=True)
        done = floor.run(["udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", str(script), "-V", PXE_CLASS])
        expect(done.returncode == 0, f"no address: {done.stderr.decode()[-300:]}\n{_relay_log(site)}")
        told = seen.read_text()
        address = re.findall(r"^ip=(.*)$", told, re.M)[-1]
        expect(address.startswith("10.1.0.") and int(address.rsplit(".", 1)[1]) >= 20, f"address {address}")
        for word in (f"router={_ROUTER}", f"siaddr={SERVER}", f"dns={SERVER}", f"serverid={SERVER}", "boot_file=snponly.efi"):
            expect(word in told, f"{word} is missing in\n{told}")
        loader = site.folder / "floor.efi"
        got = floor.run(["atftp", "--get", "-r", "snponly.efi", "-l", str(loader), SERVER, "69"], timeout=30)
        same = loader.exists() and loader.read_bytes() == (site.loaders / "snponly.efi").read_bytes()
        expect(same, f"TFTP through the router: {got.stderr.decode()[-300:]}")
        mac = floor.ip("link", "show", "dev", "eth0").split("link/ether ")[1].split()[0].replace(":", "-")
        text = floor.run(["curl", "-sS", f"http://{SERVER}/boot.ipxe?mac={mac}&arch=x86_64"]).stdout.decode()
        expect("recon.gateway=${netX/gateway}" in text, f"the initrd is not told its router:\n{text}")
        for path, name in (("/boot/x86_64/kernel", "linux"), ("/boot/x86_64/initrd", "initrd")):
            expect(f"http://{SERVER}{path}" in text, f"{path} is not named in\n{text}")
            body = floor.run(["curl", "-sS", "--max-time", "25", f"http://{SERVER}{path}"]).stdout
            expect(body == (site.medium / "boot/x86_64/loader" / name).read_bytes(), f"{path} is not what it is")
        # Behind a router the lease says whose address it is.
        own = f"http://{SERVER}/api/v1/own-files?mac="
        codes = [floor.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{own}{whose}"]).stdout for whose in (mac, "52-54-00-00-00-01")]
        expect(codes == [b"404", b"403"], f"files of its own: {codes}")
        nodes = [node for node in site.inside.nodes() if node.get("address") == address]
        expect(len(nodes) == 1 and nodes[0]["stage"] == "kernel", f"the table has {nodes}")


def routed_renewals(site: Site) -> None:
    """A renewal is sent to the server itself, through a router that is no relay for it."""
    with _floor(site) as floor:
        script, seen = udhcpc_script(site, "renewal", configure=True)
        process = floor.popen(["udhcpc", "-i", "eth0", "-f", "-R", "-t", "8", "-T", "1", "-s", str(script)])
        try:
            wait_for_udhcpc(seen, "bound", 20.0)
            os.kill(process.pid, signal.SIGUSR1)
            try:
                wait_for_udhcpc(seen, "renew")
            except LabError as error:
                raise LabError(f"{error}\n{_relay_log(site)}") from error
            addresses = set(re.findall(r"^ip=(.*)$", seen.read_text(), re.M))
            expect(len(addresses) == 1, f"it had {addresses}")
        finally:
            terminate(process)


def _pid_in(file: Path) -> int:
    """dhclient goes into the background first and writes its pid file then."""
    return polling.wait_until(lambda: int(file.read_text().strip() or 0) or None if file.exists() else None, 5.0, "dhclient's pid", every=0.05)


def routed_clients(site: Site) -> None:
    """dhclient and dhcpcd behind the relay; what was leased is confirmed after kill -9."""
    with _floor(site) as floor:
        leases, config = site.folder / "floor.leases", site.folder / "floor.conf"
        config.write_text("# nothing\n")
        argv = ["dhclient", "-4", "-v", "-1", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf", str(site.folder / "floor.pid")]
        for turn in range(2):
            done = floor.run([*argv, "eth0"], timeout=40)
            said = done.stderr.decode()
            expect(done.returncode == 0 and "10.1.0." in said, f"dhclient: {said[-400:]}\n{_relay_log(site)}")
            pid = site.folder / "floor.pid"
            os.kill(_pid_in(pid), signal.SIGKILL)
            pid.unlink()
            if turn == 0:
                site.kill()
                site.start(site.medium)
            else:
                expect("DHCPDISCOVER" not in said, f"after a restart its lease was not confirmed: {said[-400:]}")
        done = run_dhcpcd(floor, config)
        said = (done.stderr + done.stdout).decode()
        expect(done.returncode == 0 and "leased 10.1.0." in said, f"dhcpcd: {said[-500:]}\n{_relay_log(site)}")


def _through(site: Site, relay: str, mac: str, options: dict[int, bytes], seconds: float = 3.0) -> list[dhcp.Packet]:
    return ask_as_relay(site.client, SERVER, relay, mac, options, seconds)


def relays_choose_the_link(site: Site) -> None:
    """RFC 3527, RFC 5107, RFC 3011: a relay asks from its loopback for a link of its own, and in its own name."""
    said = b"\x01\x02p1\x05\x04" + packed("10.1.0.0") + b"\x0b\x04" + packed(_LOOPBACK)
    answers = _through(site, _LOOPBACK, "52:54:00:2d:01:01", {82: said})
    expect(len(answers) == 1, f"the relay hears nothing:\n{site.log_tail()}")
    offer = answers[0]
    expect(offer.your_address.startswith("10.1.0.") and offer.server == _LOOPBACK, f"{offer.your_address} of {offer.server}")
    expect(offer.options.get(82) == said, f"relay information came back as {offer.options.get(82)!r}")
    expect(offer.options.get(3) == packed(_ROUTER), f"router {offer.options.get(3)!r}")
    answers = _through(site, _NEAR, "52:54:00:2d:01:02", {118: packed("10.1.0.0")})
    expect(len(answers) == 1 and answers[0].your_address.startswith("10.1.0."), f"with option 118: {answers}")
    expect(answers[0].options.get(118) == packed("10.1.0.0"), "option 118 does not come back")


def unknown_networks_are_logged_once(site: Site) -> None:
    """A relay of a network that is not in recon.toml: no address, and one log line with what to write."""
    site.client.ip("addr", "add", "10.9.0.1/32", "dev", "lo")
    try:
        for last in (1, 2, 3):
            answers = _through(site, "10.9.0.1", f"52:54:00:2d:02:{last:02x}", {}, 0.7)
            expect(answers == [], f"a machine of an unknown network gets {answers}")
    finally:
        site.client.ip("addr", "del", "10.9.0.1/32", "dev", "lo")
    lines = [line for line in site.log.read_text(errors="replace").splitlines() if "10.9.0.0/24" in line]
    expect(len(lines) == 1 and "[[subnet]]" in lines[0], f"it is said {len(lines)} times:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = scenarios(
    routed_starts, a_routed_floor_boots, routed_renewals, routed_clients, relays_choose_the_link, unknown_networks_are_logged_once,
)
