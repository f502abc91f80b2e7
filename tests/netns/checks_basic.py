"""Does a master start, serve every protocol, stop, and start again on the same data? One function an expectation, in the order they run."""

from __future__ import annotations

import socket

import checks_boot
import checks_dhcp_firmware
import checks_dns
import checks_download
import checks_tftp
import checks_upload
from checks_upload import NODE
from vdc import collect, polling
from vdc.suite import Scenario, expect, scenarios
from veth_site import SERVER, Site


def starts(site: Site) -> None:
    status = site.start(site.iso)
    link = status["links"][0]
    expect(link["name"] == "veth0" and str(link["address"]).startswith(SERVER), f"link is {link}")


def listings(site: Site) -> None:
    (site.data / "isos").mkdir(exist_ok=True)
    (site.data / "isos" / "rescue.iso").write_bytes(b"rescue")
    expect(NODE in site.curl("-f", site.url("/nodes/")).stdout.decode(), "/nodes/ does not list the node")
    expect("rescue.iso" in site.curl("-f", site.url("/isos/")).stdout.decode(), "/isos/ does not list a file")
    expect(site.curl("-f", site.url("/isos/rescue.iso")).stdout == b"rescue", "/isos/rescue.iso differs")


def export_over_http(site: Site) -> None:
    """The tarball is made on request, or is the file on the medium where that is current."""
    def look() -> collect.InventoryTarball | None:
        done = site.curl("-f", site.url("/export/recon-inventory.tar.gz"))
        if done.returncode != 0:
            return None
        target = site.folder / "export.tar.gz"
        target.write_bytes(done.stdout)
        found = collect.read(target)
        return found if found.nodes == {NODE} else None

    polling.wait_until(look, 15.0, "/export/recon-inventory.tar.gz holds the node")


def stops(site: Site) -> None:
    code, took = site.stop()
    expect(code == 0, f"exit code after SIGTERM is {code}:\n{site.log_tail()}")
    expect(took < 10.0, f"the end took {took:.1f} s")

    def bind() -> None:
        for port, kind in ((67, socket.SOCK_DGRAM), (69, socket.SOCK_DGRAM), (53, socket.SOCK_DGRAM), (80, socket.SOCK_STREAM)):
            with socket.socket(socket.AF_INET, kind) as probe:
                # TIME_WAIT of finished connections is the kernel's, not ours.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("0.0.0.0", port))

    site.server.call(bind)


def collects(site: Site) -> None:
    collected = collect.collect(site.recon, site.data, site.folder / "collected.tar.gz")
    expect(collected.nodes == {NODE}, f"collected {sorted(collected.nodes)}")
    # A file that is torn by a power cut is never taken for whole.
    folder = site.data / "nodes" / NODE
    whole = next(p for p in folder.iterdir() if p.name.endswith(".tar.gz"))
    torn = folder / ("000002-" + "ab" * 32 + ".tar.gz")
    torn.write_bytes(whole.read_bytes()[:100])
    again = collect.collect(site.recon, site.data, site.folder / "collected-again.tar.gz", damaged=True)
    torn.unlink()
    expect(torn.name in again.printed, f"the torn upload is not named:\n{again.printed}")
    expect(again.nodes == {NODE}, f"beside a torn upload were collected {sorted(again.nodes)}")
    expect(again.file(NODE, "inventory.json") == collected.file(NODE, "inventory.json"), "another upload was taken")


def starts_again(site: Site) -> None:
    """From a folder as medium, on data that is there already."""
    (site.data / "recon.toml").write_text('site = "x"\n')
    status = site.start(site.medium)
    expect(status["settings_problems"] == [] and status["site"] == "x", f"status: {status}")
    expect(status["nodes_stored"] == 1, f"{status['nodes_stored']} nodes are stored")
    done = site.curl("-f", site.url("/boot/x86_64/initrd"))
    expect(done.stdout == (site.medium / "boot/x86_64/loader/initrd").read_bytes(), "initrd from a folder differs")
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = [
    *scenarios(starts), *checks_dhcp_firmware.CHECKS, *checks_tftp.CHECKS, *checks_download.CHECKS, *checks_upload.CHECKS, *scenarios(listings),
    *checks_dns.CHECKS, *scenarios(export_over_http), *checks_boot.CHECKS, *scenarios(stops, collects, starts_again),
]
