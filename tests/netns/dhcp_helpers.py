"""What do the DHCP checks share: machines on the cable, packets of theirs, a relay?"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from rawclient import RawClient, altered, fixture
from vdc import dhcp, polling
from vdc.namespace import Namespace
from vdc.process import terminate
from vdc.suite import expect
from veth_site import CLIENT_LINK, SERVER, Site

PXE_CLASS = "PXEClient:Arch:00007:UNDI:003000"
SERVER_BYTES = bytes(int(part) for part in SERVER.split("."))


def mac_of(last: int) -> str:
    return f"52:54:00:2d:00:{last:02x}"


def packed(address: str) -> bytes:
    return socket.inet_aton(address)


def dhclient_packet(kind: str, mac: str, **options: bytes) -> bytes:
    """A captured dhclient packet, as another machine and with other options (`o50=...`)."""
    return altered(fixture(f"dhclient-{kind}.bin"), mac, {int(code[1:]): value for code, value in options.items()})


def boot(port: RawClient, mac: str) -> str:
    """A machine with OVMF takes its address."""
    return port.take_address(fixture("ovmf-efi-discover.bin"), fixture("ovmf-efi-request.bin"), mac).your_address


@contextlib.contextmanager
def machine_on_cable(site: Site, label: str, mac: str) -> Iterator[Namespace]:
    """A machine of its own on the cable, with the port `eth0`."""
    with Namespace(label) as own:
        site.client.ip("link", "add", label, "link", CLIENT_LINK, "address", mac, "type", "macvlan", "mode", "bridge")
        site.client.ip("link", "set", label, "netns", own.name)
        own.ip("link", "set", label, "name", "eth0")
        own.ip("link", "set", "eth0", "up")
        yield own


def restart(site: Site, settings: str = "", network: str = f"{SERVER}/24") -> None:
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.log_tail()}")
    (site.data / "recon.toml").write_text(settings)
    site.start(site.medium, network)


def serve_all(site: Site) -> None:
    text = "[network]\nserve_all = true\n"
    settings = site.data / "recon.toml"
    if not settings.exists() or settings.read_text() != text:
        restart(site, text)


def udhcpc_script(site: Site, name: str, configure: bool = False) -> tuple[Path, Path]:
    """A script for udhcpc that writes its environment to a file, and where asked for sets address and router; (script, file)."""
    script, seen = site.folder / f"{name}.sh", site.folder / f"{name}.env"
    set_up = '[ -n "$ip" ] && ip addr replace "$ip/$mask" dev eth0 && ip route replace default via "$router"\n' if configure else ""
    script.write_text(f'#!/bin/sh\n[ "$1" = deconfig ] && exit 0\n{{ env; echo "event=$1"; }} >> {seen}\n{set_up}exit 0\n')
    script.chmod(0o755)
    return script, seen


def wait_for_udhcpc(seen: Path, event: str, seconds: float = 15.0) -> None:
    """Waits until udhcpc called its script with this event."""
    polling.wait_until(lambda: (seen.exists() and f"event={event}" in seen.read_text()) or None, seconds, f"udhcpc: {event}", every=0.05)


def run_dhcpcd(machine: Namespace, config: Path, more: str = "") -> subprocess.CompletedProcess[bytes]:
    """Runs dhcpcd until it has a lease, with folders of its own so that it finds no state of this host."""
    config.write_text("duid\nnoipv6\nnohook resolv.conf, hostname, timesyncd, ntp.conf\n" + more)
    return machine.run(
        ["unshare", "-m", "sh", "-c",
         "mkdir -p /run/dhcpcd && mount -t tmpfs none /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && "
         f"exec dhcpcd -4 -1 -B -t 25 -f {config} eth0"],
        timeout=45,
    )


@contextlib.contextmanager
def dhcrelay_running(site: Site) -> Iterator[None]:
    """ISC's relay between `down0` and the cable."""
    with (site.folder / "dhcrelay.log").open("ab") as log:
        relay = site.client.popen(
            ["dhcrelay", "-4", "-d", "-a", "-m", "append", "--no-pid", "-id", "down0", "-iu", CLIENT_LINK, SERVER],
            stdout=log, stderr=log,
        )
    try:
        yield
    finally:
        terminate(relay)


def ask_as_relay(
    machine: Namespace, server: str, relay: str, mac: str, options: dict[int, bytes], seconds: float = 3.0,
) -> list[dhcp.Packet]:
    """What a relay at this address of a machine receives when it forwards a DISCOVER of `mac` to a server."""

    def listen() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((relay, 67))
        return made

    with machine.call(listen) as port:
        payload = altered(fixture("ovmf-efi-discover.bin"), mac, options)
        payload = payload[:3] + b"\x01" + payload[4:24] + packed(relay) + payload[28:]
        port.sendto(payload, (server, 67))
        found: list[dhcp.Packet] = []
        deadline = time.monotonic() + seconds
        while not found and (left := deadline - time.monotonic()) > 0:
            if select.select([port], [], [], left)[0]:
                found.append(dhcp.parse(port.recv(2048)))
        return found
