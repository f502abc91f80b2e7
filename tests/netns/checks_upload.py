"""What does the master acknowledge of a peer's stage reports and uploads, and what does it refuse?"""

from __future__ import annotations

import hashlib
import json
import socket

from checks_dhcp_firmware import OVMF_MAC
from vdc import api
from vdc.api import digest_header
from vdc.archive import tar_gz
from vdc.suite import expect, scenarios
from veth_site import SERVER, Site

NODE = "4c4c4544-0042-3510-8052-b4c04f4a3232"


def stage_report(site: Site) -> None:
    body = json.dumps({"stage": "agent", "macs": [OVMF_MAC], "message": "hello"})
    done = site.curl(
        "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json", "--data", body,
        site.url(f"/api/v1/nodes/{NODE}/stage"),
    )
    expect(done.stdout[:1] == b"2", f"stage report gives {done.stdout!r}")
    entry = site.api.node(NODE, OVMF_MAC)
    expect(entry is not None and entry["id"] == NODE and api.reached(entry, "agent"), f"the node is {entry}")
    bad = site.curl("-w", "%{http_code}", "-o", "/dev/null", "--data", body, site.url("/api/v1/nodes/..%2fx/stage"))
    expect(bad.stdout[:1] == b"4", f"a node id that is none gives {bad.stdout!r}")


def inventory_upload(site: Site) -> bytes:
    """A peer's upload, with the real inventory of this host."""
    done = site.client.run([str(site.recon), "inventory", "--format", "json"], timeout=60)
    expect(done.returncode == 0, f"recon inventory: {done.stderr.decode()[-300:]}")
    json.loads(done.stdout)
    return tar_gz([("inventory.json", done.stdout)])


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
    body = inventory_upload(site)
    cases: dict[str, tuple[str, ...]] = {
        "422 with the digest of other bytes": (digest_header(b"other"),),
        "400 without a digest": (),
        "400 with a digest that is none": ("Content-Digest: sha-256=:AAAA:",),
        "411 without a length": (digest_header(body), "Transfer-Encoding: chunked"),
        "413 with a length beyond all bounds": (digest_header(body), "Content-Length: 999999999999"),
    }
    for case, headers in cases.items():
        code, said = _put(site, body, *headers)
        expect(code == case[:3], f"upload {case}: got {code} {said[:200]!r}")
    code, said = _put(site, body, digest_header(body), node="..%2f..%2fevil")
    expect(code in ("400", "404"), f"upload for a node id that is none: {code} {said[:200]!r}")
    expect(not [n for n in site.files_of(NODE) if n.endswith(".tar.gz")], f"something was stored: {site.files_of(NODE)}")


def torn_upload(site: Site) -> None:
    """A peer that dies half-way leaves nothing that counts."""
    body = inventory_upload(site)
    head = (
        f"PUT /api/v1/nodes/{NODE}/upload HTTP/1.1\r\nHost: {SERVER}\r\nContent-Length: {len(body)}\r\n{digest_header(body)}\r\n\r\n"
    )
    with site.client.connect(SERVER, 80, 5.0) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10.0)
        answer = connection.recv(4096)
    expect(b" 201" not in answer[:16], f"half an upload is acknowledged: {answer[:80]!r}")
    expect(not [n for n in site.files_of(NODE) if n.endswith(".tar.gz")], f"something was stored: {site.files_of(NODE)}")


def upload(site: Site) -> None:
    body = inventory_upload(site)
    digest = hashlib.sha256(body).hexdigest()
    code, said = _put(site, body, digest_header(body))
    expect(code == "201", f"upload gives {code} {said[:300]!r}")
    stored = json.loads(said)
    expect((stored["id"], stored["sha256"], stored["size_bytes"]) == (NODE, digest, len(body)), f"answer is {stored}")
    names = [n for n in site.files_of(NODE) if n.endswith(".tar.gz")]
    expect(names == [f"000001-{digest}.tar.gz"], f"on the data partition are {names}")
    expect((site.data / "nodes" / NODE / names[0]).read_bytes() == body, "the stored file differs")
    entry = site.api.node(NODE, OVMF_MAC)
    expect(entry is not None and entry["stored_sha256"] == digest, f"the node is {entry}")


CHECKS = scenarios(stage_report, upload_refused, torn_upload, upload)
