"""What must real clients get from `recon master` over IPv6? One function an expectation, in the order they run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from checks_upload import NODE, inventory_upload
from vdc import polling
from vdc.api import digest_header
from vdc.errors import LabError
from vdc.namespace import Namespace
from vdc.process import terminate
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, CLIENT_MAC, SERVER, Site

TOOLS = ("rdisc6", "dhclient", "dhcrelay", "dig", "curl", "dnsmasq", "tcpdump")
_PXE = "send dhcp6.client-arch-type 7;\n"
_ROUTER = "fd00:dead::1"


def _ipv6(site: Site) -> dict[str, Any]:
    """The link's IPv6 status as the API gives it, asked over IPv4."""
    status = site.inside.status(timeout=2.0)
    found: dict[str, Any] | None = status["links"][0].get("ipv6")
    if found is None:
        raise LabError(f"no IPv6 in {status['links'][0]}")
    return found


def _serving(site: Site, serving: bool, seconds: float) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = _ipv6(site)
        return found if found["serving"] is serving and not found["reason"].startswith("asking") else None

    return polling.wait_until(look, seconds, f"IPv6 is {'served' if serving else 'left alone'}", every=0.1)


def _server(site: Site) -> str:
    return str(_ipv6(site)["address"]).split("/")[0]


def ipv6_starts(site: Site) -> None:
    """Alone on the link: served within seconds, under a unique local address."""
    site.start(site.iso)
    found = _serving(site, True, 12.0)
    expect(re.match(r"fd[0-9a-f:]+::1/64$", found["address"]) is not None, f"address is {found['address']}")
    expect(found["reason"] == "alone" and found["foreign"] == [], f"IPv6 is {found}")


def ipv6_rdisc6(site: Site) -> None:
    """A host that asks for routers is sent to DHCPv6, and gets neither a gateway nor an address of its own making."""
    done = site.client.run(["rdisc6", "-1", "-r", "3", "-w", "3000", CLIENT_LINK], timeout=20)
    text = done.stdout.decode()
    expect(done.returncode == 0, f"rdisc6: {text} {done.stderr.decode()}")
    prefix = _server(site)[: -len("1")]
    for words in (
        r"Stateful address conf\. +: +Yes", r"Stateful other conf\. +: +Yes", r"Router lifetime +: +0 ", rf"Prefix +: +{prefix}/64",
        r"On-link +: +Yes", r"Autonomous address conf\.: +No", rf"Recursive DNS server +: +{_server(site)}",
    ):
        expect(re.search(words, text) is not None, f"{words!r} is not in\n{text}")


def _dhclient(site: Site, name: str, more: str, seconds: int, far: Namespace | None = None) -> str | None:
    """Runs dhclient once, on the client's port or on `eth0` of another machine; the text of its lease, if it got one."""
    machine, link = (site.client, CLIENT_LINK) if far is None else (far, "eth0")
    config = site.folder / f"{name}.conf"
    config.write_text(
        "option dhcp6.client-arch-type code 61 = array of unsigned integer 16;\n"
        "option dhcp6.bootfile-url code 59 = text;\n"
        f"{more}also request dhcp6.bootfile-url;\n"
    )
    leases = site.folder / f"{name}.leases"
    leases.unlink(missing_ok=True)
    done = machine.run(
        ["timeout", str(seconds), "dhclient", "-6", "-1", "-v", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(site.folder / f"{name}.pid"), "-D", "LL", link],
        timeout=seconds + 20,
    )
    text = leases.read_text() if leases.exists() else ""
    if "iaaddr" not in text:
        return None
    expect(done.returncode == 0, f"dhclient: {done.stderr.decode()[-400:]}")
    return text


@contextlib.contextmanager
def _capture(site: Site, words: str) -> Iterator[list[str]]:
    """Packets on the client's port while the block runs."""
    seen: list[str] = []
    log = site.folder / "capture6"
    with log.open("wb") as out, (site.folder / "capture6.err").open("wb") as errors:
        process = site.client.popen(["tcpdump", "-l", "-n", "-i", CLIENT_LINK, words], stdout=out, stderr=errors)
        ready = site.folder / "capture6.err"
        polling.wait_until(lambda: b"listening on" in ready.read_bytes() or None, 10.0, "tcpdump listens", every=0.05)
        yield seen
        time.sleep(0.2)  # what is still on its way to the file
        terminate(process)
    seen.extend(line for line in log.read_text(errors="replace").splitlines() if line)


def ipv6_bystander(site: Site) -> None:
    """A machine that does not boot from the network gets not one DHCPv6 packet."""
    with _capture(site, "udp and src port 547") as seen:
        text = _dhclient(site, "bystander6", "", 6)
    expect(text is None, f"it got a lease: {text}")
    expect(seen == [], f"it was answered: {seen}")


def ipv6_dhclient_pxe(site: Site) -> None:
    text = _dhclient(site, "pxe6", _PXE, 20)
    expect(text is not None, f"no lease: {site.log_tail()}")
    assert text is not None
    found = re.search(r"iaaddr ([0-9a-f:]+) ", text)
    assert found is not None
    address, server = found.group(1), _server(site)
    expect(address.startswith(server[: -len("1")]), f"{address} is not of {server}")
    expect(f"tftp://[{server}]/snponly.efi" in text, f"no boot file in {text}")
    expect(server in text.split("dhcp6.name-servers", 1)[-1][:60], f"no DNS server in {text}")
    expect("recon.internal" in text, f"no search list in {text}")
    site.client.ip("-6", "addr", "add", f"{address}/64", "dev", CLIENT_LINK, "nodad")
    site.address6 = address
    entry = site.inside.node(f"mac-{CLIENT_MAC.replace(':', '')}", CLIENT_MAC)
    expect(entry is not None and entry["address"] == address, f"the node is {entry}")


def ipv6_after_netboot(site: Site) -> None:
    """The system of a machine that booted from the network is answered without saying so, with the address it has."""
    text = _dhclient(site, "system6", "", 20)
    expect(text is not None and f"iaaddr {site.address6} " in text, f"not {site.address6} in {text}")


def ipv6_stages(site: Site) -> None:
    """HTTP Boot and iPXE are each sent on to the next stage."""
    server = _server(site)
    http = _dhclient(site, "http6", "send dhcp6.client-arch-type 16;\n", 20)
    expect(f"http://[{server}]/loaders/snponly.efi" in (http or ""), f"HTTP Boot got {http}")
    # A user class is a length and a word (RFC 8415 §21.15); dhclient sends the bytes it is given.
    ipxe = _dhclient(
        site, "ipxe6", _PXE + "option dhcp6.user-class code 15 = string;\nsend dhcp6.user-class 00:04:69:50:58:45;\n", 20
    )
    expect(f"http://[{server}]/boot.ipxe" in (ipxe or ""), f"iPXE got {ipxe}")


def ipv6_dns(site: Site) -> None:
    server = _server(site)

    def dig(*args: str) -> str:
        done = site.client.run(["dig", "+time=2", "+tries=2", f"@{server}", *args])
        expect(done.returncode == 0, f"dig {args}: {done.stdout.decode()[-300:]}")
        return done.stdout.decode()

    for name in ("recon", "master", "bang"):
        expect(dig("+short", name, "AAAA").split() == [server], f"{name} has no AAAA")
        expect(dig("+short", name, "A").split() == [SERVER], f"{name} has no A")
    pointer = dig("+short", "-x", site.address6).strip()
    expect(pointer.endswith(".recon.internal."), f"{site.address6} has no name: {pointer!r}")
    expect(site.address6 in dig("+short", "+tcp", pointer, "AAAA").split(), f"{pointer} does not lead back")
    expect(dig("+short", "-x", server).strip() == "recon.recon.internal.", "the master's own address has no name")
    expect("NXDOMAIN" in dig("nobody.recon.internal", "AAAA"), "an unknown name of the zone")
    expect("NXDOMAIN" in dig("-x", f"{server}234"), "an unleased address of the prefix")
    for elsewhere in (["example.com", "AAAA"], ["-x", "2001:db8::1"]):
        expect("REFUSED" in dig(*elsewhere), f"{elsewhere} is not refused")


def ipv6_files(site: Site) -> None:
    """TFTP and HTTP, and scripts that stay on IPv6."""
    server = _server(site)
    for size in ("512", "1428"):
        target = site.folder / f"tftp6-{size}"
        done = site.curl("--tftp-blksize", size, "-o", str(target), f"tftp://[{server}]/snponly.efi")
        expect(done.returncode == 0, f"TFTP with {size}: {done.stderr.decode()}")
        expect(target.read_bytes() == (site.loaders / "snponly.efi").read_bytes(), f"TFTP with {size}: file differs")
    script = site.curl("-f", f"http://[{server}]/boot.ipxe?mac={CLIENT_MAC.replace(':', '-')}").stdout.decode()
    kernel = next((line for line in script.splitlines() if line.startswith("kernel ")), "")
    for word in (f"http://[{server}]", f"pxeaddr={server}", f"recon.address={site.address6}/64"):
        expect(word in kernel, f"{word} is not in {script}")
    url = kernel.split()[1]
    done = site.curl("-f", url)
    expect(done.stdout == (site.medium / "boot/x86_64/loader/linux").read_bytes(), f"{url} differs")
    with site.client.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as port:
        port.settimeout(5)
        port.sendto(b"\0\1snponly.efi\0octet\0blksize\x001468\0", (server, 69))
        said, peer = port.recvfrom(2000)
        port.sendto(b"\0\5\0\0enough\0", peer)
    # A link of 1500 bytes less the headers of IPv6, UDP and TFTP.
    expect(said == b"\0\6blksize\x001448\0", f"1468 bytes asked over IPv6: {said!r}")


def ipv6_upload(site: Site) -> None:
    body = inventory_upload(site)
    file = site.folder / "upload6"
    file.write_bytes(body)
    done = site.curl(
        "-T", str(file), "-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}", "-H", digest_header(body),
        f"http://[{_server(site)}]/api/v1/nodes/{NODE}/upload",
    )
    expect(done.stdout == b"201", f"upload gives {done.stdout!r}")
    names = [n for n in site.files_of(NODE) if n.endswith(".tar.gz")]
    expect(names == [f"000001-{hashlib.sha256(body).hexdigest()}.tar.gz"], f"on the data partition are {names}")
    rows = site.inside.nodes()
    expect([row["id"] for row in rows] == [NODE], f"the uploader is not the machine that took the address: {rows}")


def _wait_for_link_local(machine: Namespace, link: str) -> None:
    """Waits until duplicate address detection of the link-local address is over."""
    def look() -> bool | None:
        shown = machine.ip("-6", "addr", "show", "dev", link)
        return ("fe80" in shown and "tentative" not in shown) or None

    polling.wait_until(look, 10.0, f"the link-local address of {link}", every=0.1)


def ipv6_relay(site: Site) -> None:
    """RFC 8415 §19: a client behind ISC's relay on our link gets its address; one on another link is not served, which is logged once."""
    server = _server(site)
    ours, other = server[:-1] + "fff7", "2001:db8:7::1"
    for number, (address, works) in enumerate(((ours, True), (other, False))):
        with Namespace(f"far6-{number}") as far:
            site.client.ip("link", "add", "down6", "type", "veth", "peer", "name", "eth0", "netns", far.name)
            site.client.ip("link", "set", "down6", "up")
            site.client.ip("-6", "addr", "add", f"{address}/128", "dev", "down6", "nodad")
            far.ip("link", "set", "eth0", "up")
            for machine, link in ((site.client, "down6"), (far, "eth0")):
                _wait_for_link_local(machine, link)
            with (site.folder / "dhcrelay6.log").open("ab") as log:
                relay = site.client.popen(
                    ["dhcrelay", "-6", "-d", "--no-pid", "-I", "-l", f"{address}%down6", "-u", f"{server}%{CLIENT_LINK}"],
                    stdout=log, stderr=log,
                )
            try:
                text = _dhclient(site, f"relay6-{number}", _PXE, 20 if works else 4, far)
            finally:
                terminate(relay)
                site.client.ip("link", "del", "down6")
            log_text = (site.folder / "dhcrelay6.log").read_text(errors="replace")[-800:]
            expect((text is not None) == works, f"by {address}: {text}\n{log_text}\n{site.log_tail()}")
            if text is not None:
                expect(f"iaaddr {server[:-1]}" in text and f"tftp://[{server}]/snponly.efi" in text, f"the lease is {text}")
    said = site.log.read_text(errors="replace").count(f"link of {other}")
    expect(said == 1, f"it is said {said} times:\n{site.log_tail()}")


def ipv6_rubbish(site: Site) -> None:
    """Torn and random datagrams on every UDP port, and odd router messages, change nothing."""
    server = _server(site)

    def send() -> None:
        index = socket.if_nametoindex(CLIENT_LINK)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            for to in ((server, 53, 0, 0), (server, 69, 0, 0), ("ff02::1:2", 547, 0, index)):
                for kind in range(0, 15):
                    for size in (0, 1, 3, 5, 40, 300, 1200):
                        sender.sendto(bytes([kind]) + os.urandom(size), to)
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            for size in (2, 4, 12, 40):
                sender.sendto(bytes([133, 0]) + os.urandom(size), ("ff02::2", 0, 0, index))
            # An advertisement that passed a router: hop limit 64. It must not silence the master.
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 64)
            sender.sendto(bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8), ("ff02::1", 0, 0, index))

    site.client.call(send)
    text = _dhclient(site, "again6", _PXE, 20)
    expect(text is not None and f"iaaddr {site.address6} " in text, f"DHCPv6 no longer answers: {text}")
    expect(_ipv6(site)["serving"] is True, f"IPv6 is {_ipv6(site)}")


def ipv6_restart(site: Site) -> None:
    """A restart keeps the prefix and every address."""
    before = _server(site)
    code, took = site.stop()
    expect(code == 0 and took < 10.0, f"exit code {code} after {took:.1f} s:\n{site.log_tail()}")
    gone = site.server.run(["ip", "-6", "addr", "show", "dev", "veth0", "scope", "global"]).stdout.decode()
    expect(before not in gone, f"the address is still there: {gone}")
    site.start(site.iso)
    _serving(site, True, 12.0)
    expect(_server(site) == before, f"{before} became {_server(site)}")
    text = _dhclient(site, "restart6", _PXE, 20)
    expect(text is not None and f"iaaddr {site.address6} " in text, f"not {site.address6} in {text}")


def ipv6_own_address_in_use(site: Site) -> None:
    """A host that has the IPv6 address that the master would take keeps it and is named; the master takes another prefix."""
    before = _server(site)
    site.stop()
    site.client.ip("-6", "addr", "add", f"{before}/128", "dev", CLIENT_LINK, "nodad")
    try:
        site.start(site.iso)
        _serving(site, True, 12.0)
        expect(_server(site) != before, f"the master took {before}, which another machine has")
        said = site.log.read_text(errors="replace")
        expect(f"{before} is used by {CLIENT_MAC}" in said, f"nothing on the console:\n{site.log_tail()}")
        site.stop()
    finally:
        site.client.ip("-6", "addr", "del", f"{before}/128", "dev", CLIENT_LINK)
    site.start(site.iso)
    _serving(site, True, 12.0)
    expect(_server(site) == before, f"{before} became {_server(site)}")


def ipv6_foreign(site: Site) -> None:
    """Another router that comes up silences the master in IPv6 within 10 s, is named, and stays the only one that answers."""
    site.client.ip("-6", "addr", "add", f"{_ROUTER}/64", "dev", CLIENT_LINK, "nodad")
    log = site.folder / "dnsmasq6.log"
    with log.open("wb") as out:
        process = site.client.popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", f"--interface={CLIENT_LINK}",
             "--bind-interfaces", "--enable-ra", "--dhcp-range=fd00:dead::10,fd00:dead::50,64,1h",
             f"--dhcp-leasefile={site.folder}/dnsmasq6.leases", "--log-facility=-", "--user=root"],
            stdout=out, stderr=out,
        )
    try:
        found = _serving(site, False, 10.0)
    except LabError as error:
        raise LabError(f"{error}\n{log.read_text(errors='replace')[-800:]}") from error
    finally:
        terminate(process)
    expect("is here already: fe80::" in found["reason"] and CLIENT_MAC in found["reason"], f"reason is {found['reason']!r}")
    expect("no IPv6 from here" in site.log_tail(), f"nothing on the console:\n{site.log_tail()}")
    expect(site.inside.status(timeout=2.0)["links"][0]["mode"] == "serve", "IPv4 is no longer served")
    with _capture(site, "udp and src port 547") as seen:
        text = _dhclient(site, "silent6", _PXE, 6)
    expect(text is None and seen == [], f"answered beside another router: {seen} {text}")


def ipv6_without(site: Site) -> None:
    """Where the system has no IPv6, IPv4 is served all the same, and the status gives the reason."""
    site.stop()
    site.server.run(["sysctl", "-q", "-w", "net.ipv6.conf.veth0.disable_ipv6=1"])
    status = site.start(site.iso)
    link = status["links"][0]
    expect(link["mode"] == "serve" and link["ipv6"]["serving"] is False, f"link is {link}")
    expect("fd" in link["ipv6"]["reason"], f"reason is {link['ipv6']['reason']!r}")
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = scenarios(
    ipv6_starts, ipv6_rdisc6, ipv6_bystander, ipv6_dhclient_pxe, ipv6_after_netboot, ipv6_stages, ipv6_dns, ipv6_files,
    ipv6_upload, ipv6_relay, ipv6_rubbish, ipv6_restart, ipv6_own_address_in_use, ipv6_foreign, ipv6_without,
)
