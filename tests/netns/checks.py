"""What must real clients get from `recon master`? One function an expectation, in the order they run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import tarfile
from collections.abc import Callable

import checks_boot
from rawclient import RawClient, altered, fixture
from cable import CLIENT_LINK, CLIENT_MAC, SERVER, SERVER_LINK, Site
from vdc import api, collect, waiting
from vdc.suite import Scenario, expect

NODE = "4c4c4544-0042-3510-8052-b4c04f4a3232"
_OVMF, _IPXE, _BIOS = "52:54:00:2b:01:01", "52:54:00:2b:01:02", "52:54:00:2b:01:03"


def starts(site: Site) -> None:
    status = site.start(site.iso)
    link = status["links"][0]
    expect(link["name"] == "veth0" and str(link["address"]).startswith(SERVER), f"link is {link}")


def dhclient(site: Site) -> None:
    leases, config = site.folder / "dhclient.leases", site.folder / "dhclient.conf"
    # The system that a machine boots from here asks again without saying what it is; this port did boot.
    with RawClient(site.client, CLIENT_LINK) as port:
        port.ask(altered(fixture("ovmf-efi-discover.bin"), CLIENT_MAC), CLIENT_MAC)
    config.write_text("# nothing: what dhclient asks by itself\n")
    done = site.client.run(
        ["dhclient", "-4", "-1", "-v", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(site.folder / "dhclient.pid"), CLIENT_LINK],
        timeout=40,
    )
    expect(done.returncode == 0, f"dhclient: {done.stderr.decode()[-400:]}")
    text = leases.read_text()
    found = re.search(r"fixed-address ([0-9.]+);", text)
    expect(found is not None, f"no address in {text!r}")
    assert found is not None
    expect(f"domain-name-servers {SERVER}" in text, f"no DNS server in {text!r}")
    site.address = found.group(1)
    # The client stays in the foreground of this check only: its lease lasts, its process is ended with the namespace.
    site.client.ip("addr", "add", f"{site.address}/24", "dev", CLIENT_LINK)


def dhclient_pxe(site: Site) -> None:
    config = site.folder / "dhclient-pxe.conf"
    config.write_text(
        'option arch code 93 = unsigned integer 16;\nsend vendor-class-identifier "PXEClient:Arch:00000:UNDI:002001";\n'
        "send arch 0;\nrequest subnet-mask, bootfile-name, tftp-server-name;\n"
    )
    leases = site.folder / "dhclient-pxe.leases"
    done = site.client.run(
        ["dhclient", "-4", "-1", "-sf", "/bin/true", "-cf", str(config), "-lf", str(leases), "-pf",
         str(site.folder / "dhclient-pxe.pid"), CLIENT_LINK],
        timeout=40,
    )
    expect(done.returncode == 0, f"dhclient: {done.stderr.decode()[-400:]}")
    expect("undionly.kpxe" in leases.read_text(), f"no boot file in {leases.read_text()!r}")


def udhcpc_pxe(site: Site) -> None:
    script, seen = site.folder / "udhcpc.sh", site.folder / "udhcpc.env"
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] && env > {seen}\nexit 0\n')
    script.chmod(0o755)
    done = site.client.run(
        ["udhcpc", "-i", CLIENT_LINK, "-f", "-n", "-q", "-t", "5", "-s", str(script), "-V",
         "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007", "-O", "bootfile"],
        timeout=40,
    )
    expect(done.returncode == 0, f"udhcpc: {done.stderr.decode()[-400:]}")
    env = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    expect(env.get("ip") == site.address, f"dhclient had {site.address}, udhcpc from the same port got {env.get('ip')}")
    expect(env.get("siaddr") == SERVER, f"next server is {env.get('siaddr')}")
    named = env.get("boot_file", "") + env.get("bootfile", "")
    expect("snponly.efi" in named, f"boot file is {named!r}")


def replayed_ovmf(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        ack = port.take_address(fixture("ovmf-efi-discover.bin"), fixture("ovmf-efi-request.bin"), _OVMF)
        expect(ack.boot_file in ("snponly.efi", "ipxe.efi"), f"boot file is {ack.boot_file!r}")
        # The same port a moment later, now as iPXE: same address, but the script.
        second = port.take_address(fixture("ipxe-efi-discover.bin"), fixture("ipxe-efi-request.bin"), _OVMF)
        expect(second.your_address == ack.your_address, f"{ack.your_address}, then {second.your_address}")
        expect(second.boot_file.startswith(f"http://{SERVER}/boot.ipxe"), f"iPXE is sent to {second.boot_file!r}")


def replayed_bios(site: Site) -> None:
    with RawClient(site.client, CLIENT_LINK) as port:
        ack = port.take_address(fixture("ipxe-bios-discover.bin"), fixture("ipxe-bios-request.bin"), _IPXE)
        expect(ack.boot_file.startswith(f"http://{SERVER}/boot.ipxe"), f"BIOS iPXE is sent to {ack.boot_file!r}")
        # Plain BIOS firmware: the packet of iPXE's UNDI stack without what marks it as iPXE.
        plain = altered(fixture("ipxe-bios-discover.bin"), _BIOS, drop=(77, 175))
        offer = port.ask(plain, _BIOS)
        expect(offer.boot_file == "undionly.kpxe", f"BIOS firmware is offered {offer.boot_file!r}")
        expect(offer.your_address != ack.your_address, "two machines were offered one address")


def other_servers_request(site: Site) -> None:
    """A client that chose another server hears nothing; one that asks for a wrong address is refused."""
    with RawClient(site.client, CLIENT_LINK) as port:
        elsewhere = altered(fixture("ovmf-efi-request.bin"), _OVMF, {50: b"\x0a\x00\x00\x05", 54: b"\x0a\x00\x00\x01"})
        said = [packet.kind for packet in port.answers(elsewhere, _OVMF, 1.0)]
        expect(said == [], f"a request to another server is answered with {said}")
        wrong = altered(fixture("ovmf-efi-request.bin"), _OVMF, {50: b"\x0a\x00\x00\x05", 54: bytes([192, 168, 219, 1])})
        kinds = [packet.kind for packet in port.answers(wrong, _OVMF, 3.0)]
        expect(kinds == ["nak"], f"a request for an address of another network is answered with {kinds}")


def rubbish(site: Site) -> None:
    """Short, torn and random datagrams on every UDP port change nothing."""
    packet = fixture("ovmf-efi-discover.bin")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in (53, 67, 69):
                for size in (0, 1, 11, 12, 239, 240, 243, 300):
                    sender.sendto(packet[:size], (SERVER, port))
                sender.sendto(bytes(range(256)) * 4, (SERVER, port))

    site.client.call(send)
    with RawClient(site.client, CLIENT_LINK) as port_:
        port_.ask(altered(packet, _OVMF), _OVMF)
    expect("bang" in site.dig("bang", "A"), "DNS no longer answers")


def tftp_get(site: Site) -> None:
    for name in ("undionly.kpxe", "snponly.efi"):
        target = site.folder / f"got-{name}"
        done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", name, str(target)])
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        expect(target.exists(), f"tftp get {name}: {said}")
        expect(target.read_bytes() == (site.loaders / name).read_bytes(), f"{name} differs: {said}")


def tftp_blksize(site: Site) -> None:
    """With a block size firmware asks for; curl is the client at hand that negotiates one."""
    for size in ("512", "1428", "1468"):
        target = site.folder / f"curl-{size}"
        done = site.curl("--tftp-blksize", size, "-o", str(target), f"tftp://{SERVER}/undionly.kpxe")
        expect(done.returncode == 0, f"blksize {size}: {done.stderr.decode()}")
        expect(target.read_bytes() == (site.loaders / "undionly.kpxe").read_bytes(), f"blksize {size}: file differs")


def tftp_fits_the_link(site: Site) -> None:
    """What is agreed fits one packet of the link, whatever is asked: network stacks of firmware put no fragments together."""
    request = b"\0\1undionly.kpxe\0octet\0blksize\0%d\0"
    try:
        for mtu in (1400, 1280, 1500):
            site.server.ip("link", "set", SERVER_LINK, "mtu", str(mtu))
            for asked in (65464, 1468, 512):
                with site.client.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as port:
                    port.settimeout(5)
                    port.sendto(request % asked, (SERVER, 69))
                    said, peer = port.recvfrom(2000)
                    port.sendto(b"\0\5\0\0enough\0", peer)
                expect(said == b"\0\6blksize\0%d\0" % min(asked, mtu - 32), f"MTU {mtu}, {asked} bytes asked: {said!r}")
    finally:
        site.server.ip("link", "set", SERVER_LINK, "mtu", "1500")


def tftp_refuses(site: Site) -> None:
    before = {p: p.read_bytes() for p in site.loaders.iterdir()}
    mine = site.folder / "mine"
    mine.write_bytes(b"mine")
    done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "put", str(mine), "undionly.kpxe"])
    expect(b"rror" in done.stdout + done.stderr, f"a write is not refused: {done.stdout!r} {done.stderr!r}")
    expect({p: p.read_bytes() for p in site.loaders.iterdir()} == before, "a write changed the loaders")
    (site.folder / "secret").write_bytes(b"secret")
    for path in ("../secret", "/../secret", "/etc/passwd", "../../../../etc/passwd", "loaders/../../secret", "no-such-file"):
        target = site.folder / "stolen"
        done = site.client.run(["tftp", "-m", "binary", SERVER, "-c", "get", path, str(target)])
        expect(not target.exists() or target.stat().st_size == 0, f"tftp get {path} brought {target}")
        expect(b"rror" in done.stdout + done.stderr, f"{path}: {done.stdout!r} {done.stderr!r}")
        target.unlink(missing_ok=True)


def boot_script(site: Site) -> None:
    done = site.curl("-f", site.url(f"/boot.ipxe?mac={_OVMF.replace(':', '-')}"))
    text = done.stdout.decode()
    expect(done.returncode == 0 and text.startswith("#!ipxe\n"), f"{done.stderr!r} {text[:200]!r}")
    for word in ("/boot/x86_64/kernel", "/boot/x86_64/initrd", f"pxeaddr={SERVER}", "postaction=inventory"):
        expect(word in text, f"{word} is not in the script:\n{text}")
    expect(site.curl("-f", site.url("/menu.ipxe")).stdout.startswith(b"#!ipxe\n"), "menu.ipxe is no script")


def kernel_and_initrd(site: Site) -> None:
    for name, file in (("kernel", "linux"), ("initrd", "initrd")):
        done = site.curl("-f", site.url(f"/boot/x86_64/{name}"))
        wanted = (site.medium / "boot/x86_64/loader" / file).read_bytes()
        expect(done.stdout == wanted, f"{name}: {len(done.stdout)} of {len(wanted)} bytes, {done.stderr!r}")


def image_ranges(site: Site) -> None:
    image = site.iso.read_bytes()
    whole = site.curl("-f", site.url("/image.iso"))
    expect(whole.stdout == image, f"/image.iso: {len(whole.stdout)} of {len(image)} bytes")
    middle = site.curl("-f", "-r", "1000-1999", "-D", "-", "-o", str(site.folder / "part"), site.url("/image.iso"))
    expect(b" 206 " in middle.stdout.splitlines()[0], f"range: {middle.stdout!r}")
    expect((site.folder / "part").read_bytes() == image[1000:2000], "range brought other bytes")
    expect(f"bytes 1000-1999/{len(image)}".encode() in middle.stdout, f"Content-Range: {middle.stdout!r}")
    last = site.curl("-f", "-r", "-500", site.url("/image.iso"))
    expect(last.stdout == image[-500:], "the last 500 bytes differ")
    beyond = site.curl("-o", "/dev/null", "-w", "%{http_code}", "-r", f"{len(image)}-", site.url("/image.iso"))
    expect(beyond.stdout == b"416", f"a range behind the end gives {beyond.stdout!r}")


def head_and_missing(site: Site) -> None:
    head = site.curl("-I", site.url("/image.iso")).stdout.decode().lower()
    expect(f"content-length: {site.iso.stat().st_size}" in head, head)
    expect("accept-ranges: bytes" in head, head)
    for path in ("/nothing", "/boot/x86_64/nothing", "/boot/sparc/kernel", "/post.tgz", "/api/v1/nothing"):
        done = site.curl("-o", "/dev/null", "-w", "%{http_code}", site.url(path))
        expect(done.stdout == b"404", f"{path} gives {done.stdout!r}")
    for path in ("/nodes/../../secret", "/export/..%2f..%2fsecret", "/isos/%2e%2e/%2e%2e/secret", "//etc/passwd"):
        done = site.curl("--path-as-is", "-w", "%{http_code}", site.url(path))
        expect(done.stdout[-3:-2] == b"4" and b"secret" not in done.stdout[:-3], f"{path} gives {done.stdout[:80]!r}")


def stage_report(site: Site) -> None:
    body = json.dumps({"stage": "agent", "macs": [_OVMF], "message": "hello"})
    done = site.curl(
        "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json", "--data", body,
        site.url(f"/api/v1/nodes/{NODE}/stage"),
    )
    expect(done.stdout[:1] == b"2", f"stage report gives {done.stdout!r}")
    entry = site.api.node(NODE, _OVMF)
    expect(entry is not None and entry["id"] == NODE and api.reached(entry, "agent"), f"the node is {entry}")
    bad = site.curl("-w", "%{http_code}", "-o", "/dev/null", "--data", body, site.url("/api/v1/nodes/..%2fx/stage"))
    expect(bad.stdout[:1] == b"4", f"a node id that is none gives {bad.stdout!r}")


def _upload(site: Site) -> bytes:
    """A peer's upload, with the real inventory of this host."""
    done = site.client.run([str(site.recon), "inventory", "--format", "json"], timeout=60)
    expect(done.returncode == 0, f"recon inventory: {done.stderr.decode()[-300:]}")
    json.loads(done.stdout)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        entry = tarfile.TarInfo("inventory.json")
        entry.size = len(done.stdout)
        archive.addfile(entry, io.BytesIO(done.stdout))
    return target.getvalue()


def _digest(body: bytes) -> str:
    return f"Content-Digest: sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def _put(site: Site, body: bytes, *headers: str, node: str = NODE) -> tuple[str, bytes]:
    file, answer = site.folder / "upload", site.folder / "answer"
    file.write_bytes(body)
    answer.unlink(missing_ok=True)
    words: list[str] = []
    for header in headers:
        words += ["-H", header]
    done = site.curl(
        "-T", str(file), "-H", "Expect:", "-o", str(answer), "-w", "%{http_code}", *words,
        site.url(f"/api/v1/nodes/{node}/upload"),
    )
    return done.stdout.decode(), answer.read_bytes() if answer.exists() else b""


def upload_refused(site: Site) -> None:
    body = _upload(site)
    cases: dict[str, tuple[str, ...]] = {
        "422 with the digest of other bytes": (_digest(b"other"),),
        "400 without a digest": (),
        "400 with a digest that is none": ("Content-Digest: sha-256=:AAAA:",),
        "411 without a length": (_digest(body), "Transfer-Encoding: chunked"),
        "413 with a length beyond all bounds": (_digest(body), "Content-Length: 999999999999"),
    }
    for case, headers in cases.items():
        code, said = _put(site, body, *headers)
        expect(code == case[:3], f"upload {case}: got {code} {said[:200]!r}")
    code, said = _put(site, body, _digest(body), node="..%2f..%2fevil")
    expect(code in ("400", "404"), f"upload for a node id that is none: {code} {said[:200]!r}")
    expect(not [n for n in site.files_of(NODE) if n.endswith(".tar.gz")], f"something was stored: {site.files_of(NODE)}")


def torn_upload(site: Site) -> None:
    """A peer that dies half-way leaves nothing that counts."""
    body = _upload(site)
    head = (
        f"PUT /api/v1/nodes/{NODE}/upload HTTP/1.1\r\nHost: {SERVER}\r\nContent-Length: {len(body)}\r\n{_digest(body)}\r\n\r\n"
    )
    with site.client.connect(SERVER, 80, 5.0) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10.0)
        answer = connection.recv(4096)
    expect(b" 201" not in answer[:16], f"half an upload is acknowledged: {answer[:80]!r}")
    expect(not [n for n in site.files_of(NODE) if n.endswith(".tar.gz")], f"something was stored: {site.files_of(NODE)}")


def upload(site: Site) -> None:
    body = _upload(site)
    digest = hashlib.sha256(body).hexdigest()
    code, said = _put(site, body, _digest(body))
    expect(code == "201", f"upload gives {code} {said[:300]!r}")
    stored = json.loads(said)
    expect((stored["id"], stored["sha256"], stored["size_bytes"]) == (NODE, digest, len(body)), f"answer is {stored}")
    names = [n for n in site.files_of(NODE) if n.endswith(".tar.gz")]
    expect(names == [f"000001-{digest}.tar.gz"], f"on the data partition are {names}")
    expect((site.data / "nodes" / NODE / names[0]).read_bytes() == body, "the stored file differs")
    entry = site.api.node(NODE, _OVMF)
    expect(entry is not None and entry["stored_sha256"] == digest, f"the node is {entry}")


def listings(site: Site) -> None:
    (site.data / "isos").mkdir(exist_ok=True)
    (site.data / "isos" / "rescue.iso").write_bytes(b"rescue")
    expect(NODE in site.curl("-f", site.url("/nodes/")).stdout.decode(), "/nodes/ does not list the node")
    expect("rescue.iso" in site.curl("-f", site.url("/isos/")).stdout.decode(), "/isos/ does not list a file")
    expect(site.curl("-f", site.url("/isos/rescue.iso")).stdout == b"rescue", "/isos/rescue.iso differs")


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
    """The top of the zone has its SOA and its server, forward and reverse, and nobody gets a copy of it."""
    zone = site.dig("+short", "-x", site.address).strip().split(".", 1)[1]
    reverse = ".".join(reversed(SERVER.split(".")[:3])) + ".in-addr.arpa"
    for top in (zone, reverse):
        expect(site.dig("+short", top, "SOA").startswith(f"recon.{zone} "), f"{top}: {site.dig(top, 'SOA')}")
        expect(site.dig("+short", top, "NS").strip() == f"recon.{zone}", f"{top}: {site.dig(top, 'NS')}")
    expect("Transfer failed" in site.dig(zone, "AXFR"), f"AXFR: {site.dig(zone, 'AXFR')}")


def export_over_http(site: Site) -> None:
    """The tarball is made on request, or is the file on the medium where that is current."""
    def look() -> collect.Harvest | None:
        done = site.curl("-f", site.url("/export/recon-inventory.tar.gz"))
        if done.returncode != 0:
            return None
        target = site.folder / "export.tar.gz"
        target.write_bytes(done.stdout)
        found = collect.read(target)
        return found if found.nodes == {NODE} else None

    waiting.until(look, 15.0, "/export/recon-inventory.tar.gz holds the node")


def stops(site: Site) -> None:
    code, took = site.stop()
    expect(code == 0, f"exit code after SIGTERM is {code}:\n{site.said()}")
    expect(took < 10.0, f"the end took {took:.1f} s")

    def bind() -> None:
        for port, kind in ((67, socket.SOCK_DGRAM), (69, socket.SOCK_DGRAM), (53, socket.SOCK_DGRAM), (80, socket.SOCK_STREAM)):
            with socket.socket(socket.AF_INET, kind) as probe:
                # TIME_WAIT of finished connections is the kernel's, not ours.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("0.0.0.0", port))

    site.server.call(bind)


def collects(site: Site) -> None:
    harvest = collect.collect(site.recon, site.data, site.folder / "collected.tar.gz")
    expect(harvest.nodes == {NODE}, f"collected {sorted(harvest.nodes)}")
    # A file that is torn by a power cut is never taken for whole.
    folder = site.data / "nodes" / NODE
    whole = next(p for p in folder.iterdir() if p.name.endswith(".tar.gz"))
    torn = folder / ("000002-" + "ab" * 32 + ".tar.gz")
    torn.write_bytes(whole.read_bytes()[:100])
    again = collect.collect(site.recon, site.data, site.folder / "collected-again.tar.gz", damaged=True)
    torn.unlink()
    expect(torn.name in again.printed, f"the torn upload is not named:\n{again.printed}")
    expect(again.nodes == {NODE}, f"beside a torn upload were collected {sorted(again.nodes)}")
    expect(again.file(NODE, "inventory.json") == harvest.file(NODE, "inventory.json"), "another upload was taken")


def starts_again(site: Site) -> None:
    """From a folder as medium, on data that is there already."""
    (site.data / "recon.toml").write_text('site = "x"\n')
    status = site.start(site.medium)
    expect(status["settings_problems"] == [] and status["site"] == "x", f"status: {status}")
    expect(status["nodes_stored"] == 1, f"{status['nodes_stored']} nodes are stored")
    done = site.curl("-f", site.url("/boot/x86_64/initrd"))
    expect(done.stdout == (site.medium / "boot/x86_64/loader/initrd").read_bytes(), "initrd from a folder differs")
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.said()}")


def _scenarios(*checks: Callable[[Site], None]) -> list[Scenario[Site]]:
    return [Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check) for check in checks]


CHECKS: list[Scenario[Site]] = [
    *_scenarios(
        starts, dhclient, dhclient_pxe, udhcpc_pxe, replayed_ovmf, replayed_bios, other_servers_request, rubbish, tftp_get,
        tftp_blksize, tftp_fits_the_link, tftp_refuses, boot_script, kernel_and_initrd, image_ranges, head_and_missing, stage_report,
        upload_refused, torn_upload, upload, listings, dns_own_names, dns_leased_node, dns_unknown, dns_zone, export_over_http,
    ),
    *checks_boot.CHECKS,
    *_scenarios(stops, collects, starts_again),
]
