"""Does a diskless node get what is its own, and nobody else? One function an expectation, in the order they run."""

from __future__ import annotations

import shutil
from pathlib import Path

from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, CLIENT_MAC, Site

TOOLS = ("tar", "ssh-keygen")
_ADDRESS = "192.168.219.240"
_OTHER_MAC = "52:54:00:2b:00:77"
_PATH = "/api/v1/own-files"
_KEY = (Path(__file__).resolve().parents[1] / "golden/own/key.pub").read_text().strip()
_SETTINGS = f"""site = "Hall 2"
[[node]]
mac = "{CLIENT_MAC}"
image = "compute"
hostname = "n1"
overlays = ["base"]
[[node]]
mac = "{_OTHER_MAC}"
image = "compute"
overlays = ["broken"]
"""


def own_files_start(site: Site) -> None:
    (site.data / "recon.toml").write_text(_SETTINGS)
    (site.data / "authorized_keys").write_text(f"{_KEY}\r\n")
    for name, text in (("base/etc/motd.in", "{{hostname}} of {{site}}\n"), ("base/usr/local/bin/up", "#!/bin/sh\n"), ("broken/a.in", "{{what}}")):
        path = site.data / "overlays" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    site.start(site.iso)
    site.client.ip("addr", "add", f"{_ADDRESS}/24", "dev", CLIENT_LINK)


def _asked(site: Site, query: str) -> tuple[int, bytes]:
    done = site.curl("-w", "\n%{http_code}", site.url(f"{_PATH}?{query}"))
    body, _, code = done.stdout.rpartition(b"\n")
    return int(code), body


def a_node_gets_what_is_its_own(site: Site) -> None:
    """GNU tar makes a root of it, and OpenSSH reads the key."""
    code, archive = _asked(site, f"mac={CLIENT_MAC}")
    expect(code == 200, f"{code}: {archive[:300]!r}")
    root = site.folder / "own"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (site.folder / "own.tar").write_bytes(archive)
    done = site.client.run(["tar", "-xpf", str(site.folder / "own.tar"), "-C", str(root)])
    expect(done.returncode == 0, f"tar: {done.stderr.decode()}")
    for name, mode, text in (
        ("etc/hostname", 0o644, "n1\n"), ("etc/motd", 0o644, "n1 of Hall 2\n"), ("usr/local/bin/up", 0o755, "#!/bin/sh\n"),
        ("root/.ssh/authorized_keys", 0o600, f"{_KEY}\n"),
    ):
        expect((root / name).read_text() == text, f"{name}: {(root / name).read_text()!r}")
        expect((root / name).stat().st_mode & 0o7777 == mode, f"{name} has the permissions {(root / name).stat().st_mode:o}")
    key = root / "etc/ssh/ssh_host_ed25519_key"
    read = site.client.run(["ssh-keygen", "-y", "-f", str(key)])
    expect(read.stdout == key.with_suffix(".pub").read_bytes(), f"ssh-keygen: {read.stdout!r} {read.stderr!r}")
    site.stop()
    site.start(site.iso)
    code, again = _asked(site, f"mac={CLIENT_MAC}")
    (site.folder / "own.tar").write_bytes(again)
    site.client.run(["tar", "-xpf", str(site.folder / "own.tar"), "-C", str(root)])
    expect(code == 200 and site.client.run(["ssh-keygen", "-y", "-f", str(key)]).stdout == read.stdout, "its key is another one after a restart")


def nobody_gets_what_is_anothers(site: Site) -> None:
    code, said = _asked(site, f"mac={_OTHER_MAC}")
    expect(code == 403 and b"PRIVATE" not in said, f"{code}: {said[:300]!r}")
    for query, wanted in (("", 400), ("mac=x", 400)):
        code, said = _asked(site, query)
        expect(code == wanted, f"{query}: {code}: {said[:300]!r}")
    # Nor does whoever is on the master's own machine.
    code, _, said = site.inside.request("GET", f"{_PATH}?mac={CLIENT_MAC}")
    expect(code == 403 and b"PRIVATE" not in said, f"{code}: {said[:300]!r}")
    expect("PRIVATE" not in site.log.read_text(errors="replace"), "the master's log has a key")


def a_port_that_took_the_address_is_another(site: Site) -> None:
    """The kernel knows who has an address, whatever a request says."""
    site.client.ip("link", "set", CLIENT_LINK, "address", "52:54:00:2b:00:99")
    try:
        site.client.ip("neigh", "flush", "dev", CLIENT_LINK)
        site.server.ip("neigh", "flush", "all")
        code, said = _asked(site, f"mac={CLIENT_MAC}")
        expect(code == 403, f"{code}: {said[:300]!r}")
    finally:
        site.client.ip("link", "set", CLIENT_LINK, "address", CLIENT_MAC)
        site.server.ip("neigh", "flush", "all")
    code, said = _asked(site, f"mac={CLIENT_MAC}")
    expect(code == 200, f"with its own MAC again: {code}: {said[:300]!r}")


CHECKS: list[Scenario[Site]] = scenarios(own_files_start, a_node_gets_what_is_its_own, nobody_gets_what_is_anothers, a_port_that_took_the_address_is_another)
