"""Does every firmware get its way in, and a machine that comes back the next one? Real packets of firmware, real TFTP and HTTP clients."""

from __future__ import annotations

import re
import socket

from rawclient import RawClient, altered, fixture
from vdc import dhcp, polling
from vdc.dhcp import Packet
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

# Ports of their own: what one check does to a machine's loader_fallback is nothing to the next.
_ARCHS, _FALLBACK_MAC, _IPXE, _X86, _SCRIPT, _IMPATIENT, _SMALL, _LOOPING = (f"52:54:00:2b:02:{last:02x}" for last in range(1, 9))
_PLACEHOLDER = re.compile(r"@[A-Z_]+@|\{\{|\}\}|<[A-Z_]+>")


def _firmware(arch: int, name: str, mac: str) -> bytes:
    """OVMF's DISCOVER as firmware of another kind would send it."""
    text = f"{name}:Arch:{arch:05d}:UNDI:003001".encode()
    return altered(fixture("ovmf-efi-discover.bin"), mac, {93: arch.to_bytes(2, "big"), 60: text})


def _offer(site: Site, arch: int, name: str = "PXEClient", mac: str = _ARCHS) -> Packet:
    with RawClient(site.client, CLIENT_LINK) as port:
        return port.ask(_firmware(arch, name, mac), mac)


def architectures(site: Site) -> None:
    """Each kind of firmware is offered its boot program, HTTP Boot a whole URL and its own class in return."""
    wanted = {0: "undionly.kpxe", 7: "snponly.efi", 9: "snponly.efi"}
    for at, (arch, loader) in enumerate(wanted.items()):
        offer = _offer(site, arch, mac=f"52:54:00:2b:03:{at:02x}")
        expect(offer.boot_file == loader, f"architecture {arch} is offered {offer.boot_file!r}")
        expect(offer.options.get(60) == b"PXEClient", f"architecture {arch}: option 60 is {offer.options.get(60)!r}")
        # For firmware that reads both as C strings.
        expect(offer.options.get(66) == SERVER.encode() + b"\0", f"architecture {arch}: option 66 is {offer.options.get(66)!r}")
        expect(offer.options.get(67) == loader.encode() + b"\0", f"architecture {arch}: option 67 is {offer.options.get(67)!r}")
    for at, (arch, loader) in enumerate({16: "snponly.efi"}.items()):
        offer = _offer(site, arch, "HTTPClient", mac=f"52:54:00:2b:04:{at:02x}")
        named, end, behind = (offer.options.get(67) or b"").decode().partition("\0")
        expect(bool(end) and not behind, f"architecture {arch}: option 67 is {offer.options.get(67)!r}")
        expect(
            named.startswith(f"http://{SERVER}/loaders/") and named.endswith(loader), f"architecture {arch}: URL is {named!r}",
        )
        expect(offer.options.get(60) == b"HTTPClient", f"architecture {arch}: option 60 is {offer.options.get(60)!r}")


def unsupported_firmware(site: Site) -> None:
    """Machines for which there is no system get no address and no file; the master says what they are, once and in the table."""
    pi = "dc:a6:32:2b:02:01"
    with RawClient(site.client, CLIENT_LINK) as port:
        for arch, name, mac, want in (
            (6, "PXEClient", _X86, "32-bit"),
            (0, "PXEClient", pi, "Raspberry Pi: this image has no system for it"),
            (11, "PXEClient", "52:54:00:2b:05:01", "ARM 64-bit UEFI: this image has no system for it"),
            (19, "HTTPClient", "52:54:00:2b:05:02", "ARM UEFI 64 boot from HTTP: this image has no system for it"),
            (27, "PXEClient", "52:54:00:2b:05:03", "RISC-V 64-bit UEFI: this image has no system for it"),
            (22, "U-Boot.armv8", "52:54:00:2b:05:04", "U-Boot (armv8): this image has no system for it"),
        ):
            packet = _firmware(arch, name, mac)
            if name.startswith("U-Boot"):
                packet = altered(fixture("ovmf-efi-discover.bin"), mac, {93: arch.to_bytes(2, "big"), 60: name.encode()})
            for _ in range(2):
                answers = port.answers(packet, mac, 0.5)
                expect(answers == [], f"architecture {arch} ({name}) is offered {answers}")
            lines = [line for line in site.log.read_text(errors="replace").splitlines() if mac in line and want in line]
            expect(len(lines) == 1, f"the master says {len(lines)} times what {mac} is: {site.log_tail()}")
            row = site.api.node("", mac) or {}
            expect(want in str(row.get("failure")) and row.get("stage") == "seen", f"the table says {row}")


def infiniband(site: Site) -> None:
    """RFC 4390: two ports without a hardware address get an address each, by their identifiers, and are shown by their GUIDs."""
    given: dict[int, str] = {}
    for last in (1, 2, 1):
        guid = bytes.fromhex("f4521403003839") + bytes([last])
        said = bytes.fromhex("ff00000000000200000" + "2c900") + guid
        packet = altered(fixture("ovmf-efi-discover.bin"), "00:00:00:00:00:00", {61: said}, (97,))
        # htype, hlen; the broadcast flag.
        packet = packet[:1] + b"\x20\x00" + packet[3:10] + b"\x80\x00" + packet[12:]
        with RawClient(site.client, CLIENT_LINK) as port:
            offer = port.ask(packet, "52:54:00:2b:06:01")
        expect(offer.options.get(61) == said, f"the identifier came back as {offer.options.get(61)!r}")
        expect(given.setdefault(last, offer.your_address) == offer.your_address, f"{offer.your_address} after {given[last]}")
    expect(len(set(given.values())) == 2, f"two ports have {given}")
    ports = sorted(node.get("port") or "" for node in site.inside.nodes())[-2:]
    expect(ports == [f"InfiniBand f452:1403:0038:390{last}" for last in (1, 2)], f"the table shows {ports}")


def ipxe_identifies_itself(site: Site) -> None:
    """The URL for iPXE fits the packet's header, and iPXE fills in what it knows of its machine."""
    with RawClient(site.client, CLIENT_LINK) as port:
        offer = port.ask(altered(fixture("ipxe-efi-discover.bin"), _IPXE), _IPXE)
    url = f"http://{SERVER}/boot.ipxe?mac={_IPXE.replace(':', '-')}"
    expect(offer.boot_file.startswith(url), f"iPXE is sent to {offer.boot_file!r}")
    for word in ("uuid=${uuid}", "arch=${buildarch}", "serial=${serial:uristring}"):
        expect(word in offer.boot_file, f"{word} is not in {offer.boot_file!r}")


def start_script(site: Site) -> None:
    """iPXE for UEFI finds its start script where it came from, with this link's address in it."""
    target = site.folder / "autoexec.ipxe"
    done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", "autoexec.ipxe", str(target)])
    expect(target.exists(), f"tftp get autoexec.ipxe: {done.stdout!r} {done.stderr!r}")
    text = target.read_text()
    expect(text.startswith("#!ipxe\n") and f"chain --replace http://{SERVER}/boot.ipxe?" in text, text[:500])
    over_http = site.curl("-f", site.url("/loaders/autoexec.ipxe"))
    expect(over_http.stdout.decode() == text, f"over HTTP comes another script: {over_http.stdout[:300]!r}")
    config = site.curl("-f", site.url("/loaders/grub/grub.cfg"))
    expect(f"(http,{SERVER})/boot.grub".encode() in config.stdout, f"GRUB is told {config.stdout[:300]!r}")


def names_as_firmware_writes_them(site: Site) -> None:
    """Shim finds GRUB by its own name for it, in any case; what it does without is not found, and no line says so."""
    grub = (site.loaders / "grub.efi").read_bytes()
    for at, name in enumerate(("grub.efi", "GRUB.EFI", "\\GRUBX64.EFI", "/EFI/BOOT/grubx64.efi")):
        target = site.folder / f"grub.{at}"
        # The client takes the name as it is, backslashes and all.
        done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", name, str(target)])
        expect(target.exists() and target.read_bytes() == grub, f"tftp get {name}: {done.stdout!r} {done.stderr!r}")
    for name in ("grub.efi", "/GRUBX64.EFI", "EFI/BOOT/grub.efi"):
        done = site.curl("-f", "--path-as-is", site.url(f"/loaders/{name}"))
        expect(done.stdout == grub, f"/loaders/{name}: {len(done.stdout)} bytes {done.stderr!r}")
    before = len(site.log.read_text(errors="replace"))
    for name in ("revocations.efi", "shim_certificate_0.efi", "mmx64.efi", "grub.cfg-01-52-54-00-2b-00-01", "grub.cfg-C0A8DB3C"):
        target = site.folder / "vain"
        done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", name, str(target)])
        said = (done.stdout + done.stderr).decode(errors="replace")
        expect("code 1" in said or "not found" in said.lower() or "no such file" in said.lower(), f"tftp get {name}: {said}")
        expect(not target.exists() or not target.stat().st_size, f"tftp get {name} brought a file")
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", site.url(f"/loaders/{name}")).stdout.decode()
        expect(status == "404", f"/loaders/{name}: {status}")
    lines = site.log.read_text(errors="replace")[before:]
    expect("revocations" not in lines and "grub.cfg-" not in lines and "mmx64" not in lines, f"the master says:\n{lines}")
    config = site.folder / "GRUB.CFG"
    done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", "GRUB.CFG", str(config)])
    expect(config.exists() and b"/boot.grub" in config.read_bytes(), f"tftp get GRUB.CFG: {done.stdout!r} {done.stderr!r}")


def scripts_are_complete(site: Site) -> None:
    """No script leaves with a placeholder, and what iPXE says of its machine is in the table."""
    mac = _SCRIPT.replace(":", "-")
    query = f"mac={mac}&uuid=4c4c4544-0042-3510-8052-b4c04f4a3233&arch=x86_64&serial=AB%2012"
    for path in ("boot.ipxe", "menu.ipxe", "boot.grub"):
        text = site.curl("-f", site.url(f"/{path}?{query}")).stdout.decode()
        expect(f"http://{SERVER}/" in text or f"(http,{SERVER})" in text, f"{path}: {text[:200]!r}")
        expect(not _PLACEHOLDER.search(text), f"{path} has a placeholder:\n{text}")
        expect(text.isascii(), f"{path} is not plain ASCII")
    row = site.api.node("", _SCRIPT) or {}
    expect((row.get("boot_arch"), row.get("serial")) == ("x86_64", "AB 12"), f"the table says {row}")
    refused = site.curl("-f", site.url(f"/boot.ipxe?mac={mac}&arch=arm64")).stdout.decode()
    expect("arm64" in refused and "kernel http" not in refused, f"an arm64 machine is told:\n{refused}")
    row = site.api.node("", _SCRIPT) or {}
    expect("arm64" in str(row.get("failure")), f"the table says {row}")


def ports_without_an_ethernet_address(site: Site) -> None:
    """Ports without an Ethernet address (InfiniBand: 8 or 20 bytes, or none) get a script that boots, not one that asks again."""
    infiniband = "80-00-02-08-fe-80-00-00-00-00-00-00-00-02-c9-03-00-9c-81-e2"
    for mac in ("", infiniband, infiniband[-23:], "rubbish"):
        text = site.curl("-f", site.url(f"/boot.ipxe?mac={mac}&uuid=&arch=x86_64&serial=")).stdout.decode()
        expect("\nkernel " in text and "boot.ipxe" not in text, f"mac={mac}: {text[:500]}")
        expect("BOOTIF" not in text and "recon.address" not in text, f"mac={mac}: {text[:500]}")


def _scripted(site: Site, mac: str) -> str:
    """What a machine's boot program gets for a script."""
    query = f"mac={mac.replace(':', '-')}&uuid=&arch=x86_64&serial="
    return site.curl("-f", site.url(f"/boot.ipxe?{query}")).stdout.decode()


def too_little_memory(site: Site) -> None:
    """A machine that says that it has too little memory gets no kernel, but the reason, on its screen and ours, once."""
    text = _scripted(site, _SMALL)
    url = text.split("\nkernel ")[1].split(" ")[0]
    # The medium here is small: 3 MiB of initrd want some 96 MiB.
    small = "memory=63&map=00-00-00-00-ff-ff-00-00__&action=inventory"
    base = url.split("?")[0]
    for _ in range(3):
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", f"{base}?{small}").stdout.decode()
        expect(status == "409", f"the kernel is given with status {status}")
    why = site.curl("-f", site.url(f"/why.ipxe?{small}")).stdout.decode()
    expect("it has 64 MiB" in why and "exit 1" in why, f"the machine is told:\n{why}")
    row = site.api.node("", _SMALL) or {}
    expect("too little memory" in str(row.get("failure")) and row.get("stage") == "loader", f"the table says {row}")
    said = site.log.read_text(errors="replace").count("too little memory")
    expect(said == 1, f"it is said {said} times:\n{site.log_tail()}")
    for plenty in ("memory=&map=__&action=inventory", "memory=4096&map=__&action=inventory", ""):
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", f"{base}?{plenty}").stdout.decode()
        expect(status == "200", f"with {plenty!r} the kernel is answered with {status}")
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", site.url(f"/why.ipxe?{plenty}")).stdout.decode()
        expect(status == "404", f"with {plenty!r} there is a reason: {status}")


def kernel_loops(site: Site) -> None:
    """A machine that loads kernel and initrd again and again without its agent reporting: named, slowed down, never refused."""
    for turn in range(4):
        text = _scripted(site, _LOOPING)
        expect(("\nsleep 60 ||\n:retry" in text) == (turn == 3), f"try {turn + 1} gets:\n{text}")
        for path in ("kernel", "initrd"):
            site.curl("-f", "-o", "/dev/null", site.url(f"/boot/x86_64/{path}"))
    text = _scripted(site, _LOOPING)
    expect("\nsleep 120 ||\n:retry" in text and "\nkernel http" in text, f"after four tries:\n{text}")
    grub = site.curl("-f", site.url(f"/boot.grub?mac={_LOOPING}")).stdout.decode()
    expect("sleep 120" in grub and "linux (http" in grub, f"GRUB gets:\n{grub}")
    row = site.api.node("", _LOOPING) or {}
    expect(row.get("starts_in_vain") == 4 and "nothing came back" in str(row.get("failure")), f"the table says {row}")
    # A boot program that fetches both again within one script, and does not start them.
    url = text.split("\nkernel ")[1].split(" ")[0].split("?")[0] + "?memory=&map=__&action=inventory"
    for turn in range(4):
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", url).stdout.decode()
        expect(status == ("200" if turn < 3 else "409"), f"kernel {turn + 1} of one script: {status}")
        site.curl("-f", "-o", "/dev/null", site.url("/boot/x86_64/initrd"))
    why = site.curl("-f", site.url("/why.ipxe?memory=&map=__&action=inventory")).stdout.decode()
    expect("did not start them" in why, f"the machine is told:\n{why}")
    expect(site.curl("-f", "-o", "/dev/null", site.url("/boot/x86_64/kernel")).returncode == 0, "who has no script is refused, too")
    _scripted(site, _LOOPING)
    expect(site.curl("-f", "-o", "/dev/null", url).returncode == 0, "its next script gets no kernel")
    lines = [line for line in site.log.read_text(errors="replace").splitlines() if "it loops" in line]
    expect(len(lines) == 1 and _LOOPING in lines[0], f"it is said {len(lines)} times:\n{site.log_tail()}")


def impatient_firmware(site: Site) -> None:
    """Firmware that accepts no offer: none of the offers sends it to a boot server, and a request on port 4011 is answered all the same."""
    with RawClient(site.client, CLIENT_LINK) as port:
        for number in range(8):
            offer = port.ask(_firmware(7, "PXEClient", _IMPATIENT), _IMPATIENT)
            # PXE 2.1 table 2-1: discovery control, take the boot file of this offer.
            expect(offer.options.get(43, b"")[:3] == b"\x06\x01\x08", f"offer {number + 1}: option 43 is {offer.options.get(43)!r}")
            expect(offer.boot_file == "snponly.efi", f"offer {number + 1} names {offer.boot_file!r}")
    ask = dhcp.build(3, _IMPATIENT, 0x4011, {60: b"PXEClient:Arch:00007:UNDI:003001", 93: b"\0\7"}, site.address, broadcast=False)
    with site.client.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as own:
        own.settimeout(5.0)
        own.sendto(ask, (SERVER, 4011))
        answer = dhcp.parse(own.recv(2048))
    expect((answer.kind, answer.boot_file) == ("ack", "snponly.efi"), f"port 4011 answers {answer}")


def loader_fallback(site: Site) -> None:
    """Firmware that comes back after it fetched a boot program gets the next one; what then starts is remembered."""
    address: list[str] = []

    def come_back() -> str:
        with RawClient(site.client, CLIENT_LINK) as port:
            ack = port.take_address(fixture("ovmf-efi-discover.bin"), fixture("ovmf-efi-request.bin"), _FALLBACK_MAC)
        address[:] = [ack.your_address]
        return ack.boot_file

    def as_machine(*argv: str) -> None:
        """Asks from the machine's own address, as its firmware would."""
        site.client.ip("addr", "add", f"{address[0]}/24", "dev", CLIENT_LINK)
        try:
            done = site.curl("--interface", address[0], "-f", "-o", "/dev/null", *argv)
            expect(done.returncode == 0, f"{argv}: {done.stderr!r}")
        finally:
            site.client.ip("addr", "del", f"{address[0]}/24", "dev", CLIENT_LINK)

    def wait_for(loader: str) -> str | None:
        # An answer within the second after the fetch counts as a late copy of the question, so a machine asks again.
        return polling.wait_until(lambda: loader if come_back() == loader else None, 10.0, f"{loader} is offered", every=0.3)

    expect(come_back() == "snponly.efi", "the first boot program is another")
    as_machine(f"tftp://{SERVER}/snponly.efi")
    as_machine(f"tftp://{SERVER}/autoexec.ipxe")
    wait_for("ipxe.efi")
    row = site.api.node("", _FALLBACK_MAC) or {}
    expect((row.get("loader"), row.get("failed_loaders")) == ("ipxe.efi", ["snponly.efi"]), f"the table says {row}")
    expect("snponly.efi did not start" in site.log.read_text(errors="replace"), "the master does not say so")
    as_machine(f"tftp://{SERVER}/ipxe.efi")
    as_machine(site.url(f"/boot.ipxe?mac={_FALLBACK_MAC.replace(':', '-')}"))
    expect(come_back() == "ipxe.efi", "what started is not remembered")


CHECKS: list[Scenario[Site]] = scenarios(
    architectures, impatient_firmware, unsupported_firmware, infiniband, ipxe_identifies_itself, ports_without_an_ethernet_address, start_script,
    names_as_firmware_writes_them, scripts_are_complete, too_little_memory, kernel_loops, loader_fallback,
)
