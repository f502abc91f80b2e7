"""What do HTTP clients download: boot script, kernel, initrd, ranges of the image?"""

from __future__ import annotations

from checks_dhcp_firmware import OVMF_MAC
from vdc.suite import expect, scenarios
from veth_site import SERVER, Site


def boot_script(site: Site) -> None:
    done = site.curl("-f", site.url(f"/boot.ipxe?mac={OVMF_MAC.replace(':', '-')}"))
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


CHECKS = scenarios(boot_script, kernel_and_initrd, image_ranges, head_and_missing)
