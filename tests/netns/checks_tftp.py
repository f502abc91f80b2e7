"""What do TFTP clients get: block sizes, large links, errors?"""

from __future__ import annotations

import socket

from vdc.suite import expect, scenarios
from veth_site import SERVER, SERVER_LINK, Site


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


CHECKS = scenarios(tftp_get, tftp_blksize, tftp_fits_the_link, tftp_refuses)
