"""Does a machine that boots for its inventory get the first stage of its port, from an image and from a folder?"""

from __future__ import annotations

from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, FIRST_STAGE, SERVER, Site

_ADDRESS = "192.168.219.250"
_MAC = "52-54-00-2b-0f-01"
# Bus, vendor and device as iPXE says them -> paths of what is loaded, in order.
_PORTS = {
    "01-80-86-10-0e": ["base.img", "port/e1000.img"],
    "01-15-b3-10-17": ["base.img", "port/mlx5_core.img"],
    "0a-0b-da-81-53": ["base.img", "port/a_driver_of_27_characters_x.img"],
    # Its driver is in the base.
    "01-1a-f4-10-41": ["base.img"],
    "01-80-86-ff-ff": ["base.img", "ports.img"],
    "07-00-00-00-00": ["base.img", "ports.img"],
    "": ["base.img", "ports.img"],
}


def _script(site: Site, query: str) -> str:
    return site.curl("-f", site.url(f"/boot.ipxe?mac={_MAC}&uuid=&arch=x86_64&serial={query}")).stdout.decode()


def first_stage_starts(site: Site) -> None:
    site.add_first_stage()
    site.start(site.iso)
    site.client.ip("addr", "add", f"{_ADDRESS}/24", "dev", CLIENT_LINK)


def first_stage_by_port(site: Site) -> None:
    """The script loads what the port wants, the kernel is told of it by the same names, and every file comes whole and in parts."""
    _loads(site)
    for name, size in FIRST_STAGE.items():
        url = site.url(f"/boot/x86_64/first/{name}")
        wanted = (site.medium / "boot/x86_64/first" / name).read_bytes()
        head = site.curl("-f", "-I", url).stdout.decode().lower()
        expect(f"content-length: {size}\r" in head and "accept-ranges: bytes" in head, f"{name}: {head}")
        done = site.curl("-f", url)
        expect(done.stdout == wanted, f"{name}: {len(done.stdout)} of {size} bytes, {done.stderr!r}")
        part = site.curl("-f", "-r", "5000-9999", url)
        expect(part.stdout == wanted[5000:10000], f"{name}: a range of it has {len(part.stdout)} bytes")
    for name in ("ports.tsv", "port/virtio_pci.img", "port/..%2fbase.img", "port", ""):
        status = site.curl("-o", "/dev/null", "-w", "%{http_code}", site.url(f"/boot/x86_64/first/{name}")).stdout.decode()
        expect(status == "404", f"first/{name}: {status}")


def _loads(site: Site) -> None:
    for port, paths in _PORTS.items():
        text = _script(site, f"&bus={port}")
        names = [path.rsplit("/", maxsplit=1)[-1] for path in paths]
        words = "".join(f" initrd={name}" for name in names)
        expect(f"{words} pxeaddr={SERVER} " in text, f"{port}: not{words}:\n{text}")
        lines = "".join(
            f"initrd --name {name} http://{SERVER}/boot/x86_64/first/{path} || goto no_initrd\n"
            for name, path in zip(names, paths, strict=True)
        )
        expect(f"\n{lines}boot ||\n" in text, f"{port}: not these lines:\n{lines}\n{text}")


def first_stage_is_asked_for_the_port(site: Site) -> None:
    """Who does not say what its port is, as DHCP sends iPXE, is asked for it by one script more; GRUB cannot, and gets all drivers."""
    text = _script(site, "")
    expect(f"\nchain --replace http://{SERVER}/boot.ipxe?mac={_MAC}&uuid=${{uuid}}&" in text, text)
    expect("&bus=${netX/busid:hexhyp} ||" in text, text)
    menu = site.curl("-f", site.url("/menu.ipxe")).stdout.decode()
    expect("/first/ports.img || goto failed" in menu and "/boot/x86_64/initrd || goto failed" in menu, menu)
    grub = site.curl("-f", site.url(f"/boot.grub?mac={_MAC}")).stdout.decode()
    folder = f"(http,{SERVER})/boot/x86_64/first"
    expect(f"if initrd {folder}/base.img {folder}/ports.img; then" in grub, grub)


def first_stage_loops(site: Site) -> None:
    """A machine that loads kernel and first stage again and again without its agent reporting is named, and gets the initrd then."""
    for turn in range(4):
        text = _script(site, "&bus=01-80-86-10-0e")
        expect(("\nsleep 60 ||\n:retry" in text) == (turn == 3), f"try {turn + 1} gets:\n{text}")
        expect((" initrd=base.img initrd=e1000.img " in text) == (turn < 3), f"try {turn + 1} gets:\n{text}")
        expect((" initrd=initrd " in text) == (turn == 3), f"try {turn + 1} gets:\n{text}")
        for path in ("kernel?memory=4096&map=__&modules=_&action=inventory", "first/base.img", "first/port/e1000.img"):
            site.curl("-f", "-o", "/dev/null", site.url(f"/boot/x86_64/{path}"))
    row = site.api.node("", _MAC.replace("-", ":")) or {}
    expect("nothing came back" in str(row.get("failure")), f"the table says {row}")


def first_stage_from_a_folder(site: Site) -> None:
    """A mounted medium has the same; where a driver's image is missing or the table is damaged, the initrd is used and the console says why."""
    site.stop()
    site.start(site.medium)
    _loads(site)
    site.stop()
    folder = site.medium / "boot/x86_64/first"
    (folder / "port/mlx5_core.img").unlink()
    _is_not_used(site, "there is no port/mlx5_core.img")
    table = folder / "ports.tsv"
    table.write_bytes(table.read_bytes()[:-30])
    _is_not_used(site, "line 4 of ports.tsv is no alias")


def _is_not_used(site: Site, why: str) -> None:
    site.start(site.medium)
    text = _script(site, "&bus=01-80-86-10-0e")
    expect(f" initrd=initrd pxeaddr={SERVER} " in text and "/first/" not in text, text)
    said = f"the first stage on the boot medium is not used: {why}; machines boot with the larger initrd"
    expect(said in site.log.read_text(errors="replace"), f"the master says:\n{site.log_tail()}")
    status = site.curl("-o", "/dev/null", "-w", "%{http_code}", site.url("/boot/x86_64/first/base.img")).stdout.decode()
    expect(status == "404", f"a first stage that is not used comes with {status}")
    site.stop()


CHECKS: list[Scenario[Site]] = scenarios(
    first_stage_starts, first_stage_by_port, first_stage_is_asked_for_the_port, first_stage_loops, first_stage_from_a_folder,
)
