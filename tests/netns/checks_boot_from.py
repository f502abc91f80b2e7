"""Does `recon boot-from --plan` say what a web server's boot script would start, over TLS, through a proxy, from broken servers?"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridged_lan import Lan
from vdc import polling, tools
from vdc.namespace import Namespace
from vdc.process import kill
from vdc.suite import Scenario, expect, scenarios

TOOLS = ("nginx", "openssl", "setpriv")
_SERVER, _CLIENT = "192.0.2.1", "192.0.2.2"
_SECRET = "hunter2hunter2"
_SCRIPT = """#!ipxe
menu Which system?
item --gap -- Systems
item one The first
item --default two The second
choose --timeout 5000 system && goto ${system}
:one
shell
:two
set base %s
chain --autofree ${base}/second.ipxe?mac=${net0/mac}
"""
_SECOND = """#!ipxe
cpuid --ext 29 || echo no long mode
initrd --name initrd initrd.img?api_key=SECRET
kernel linux initrd=initrd coreos.inst.persistent-kargs="console=tty1 console=ttyS1,115200n8" recon.token=SECRET
initrd extra.txt /etc/extra.txt mode=600
boot
""".replace("SECRET", _SECRET)


def _bzimage() -> bytes:
    """The head of a kernel for PCs (Documentation/arch/x86/boot.rst), and something behind it."""
    head = bytearray(64 << 10)
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = b"\x0f\x02"
    head[0x238:0x23C] = (2047).to_bytes(4, "little")
    return bytes(head) + os.urandom(1 << 20)


class _Place:
    """Two machines on one cable: a web server and the one that boots from it."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.server, self.client = lan.client(1, "server"), lan.client(2, "client")
        for machine, address in ((self.server, _SERVER), (self.client, _CLIENT)):
            machine.ip("addr", "add", f"{address}/24", "dev", "eth0")
        self.web = lan.folder / "web"
        self.web.mkdir()
        (self.web / "second.ipxe").write_text(_SECOND)
        (self.web / "linux").write_bytes(_bzimage())
        (self.web / "initrd.img").write_bytes(b"070701" + os.urandom(3 << 20))
        (self.web / "extra.txt").write_text("any text")
        self.script("boot.ipxe", f"http://{_SERVER}")

    def script(self, name: str, base: str) -> None:
        (self.web / name).write_text(_SCRIPT % base)

    def plan(self, url: str, *more: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Without any of root's rights (capabilities(7)), and with nothing of the harness's environment."""
        words = [f"{name}={value}" for name, value in (env or {}).items()]
        return self.client.run([
            "env", "-i", *words, tools.path_of("setpriv"), "--bounding-set=-all", "--inh-caps=-all", str(self.lan.recon), "boot-from", "--plan", *more, url,
        ], timeout=120.0)

    def plan_json(self, url: str, *more: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        done = self.plan(url, "--json", *more, env=env)
        expect(done.returncode == 0, f"{url}: {done.stderr.decode()}")
        _no_secret(done)
        return dict(json.loads(done.stdout))

    def refused(self, url: str, why: str, *more: str, env: dict[str, str] | None = None) -> None:
        done = self.plan(url, *more, env=env)
        _no_secret(done)
        expect(done.returncode != 0, f"{url} is planned: {done.stdout.decode()}")
        expect(why in done.stderr.decode(), f"{url}: {why!r} is not in {done.stderr.decode()!r}")


def _no_secret(done: subprocess.CompletedProcess[bytes]) -> None:
    expect(_SECRET.encode() not in done.stdout + done.stderr, f"a secret is shown: {(done.stdout + done.stderr).decode()}")


@contextlib.contextmanager
def _nginx(place: _Place, servers: str) -> Iterator[None]:
    config = place.lan.folder / "nginx.conf"
    config.write_text(
        f"daemon off; user root; pid {place.lan.folder}/nginx.pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; root {place.web};\n{servers}\n}}\n",
    )
    with (place.lan.folder / "nginx.log").open("wb") as log:
        process = place.server.popen(["nginx", "-c", str(config)], stdout=log, stderr=log)
    try:
        polling.wait_until(lambda: True if _answers(place.server) else None, 10.0, "nginx answers", every=0.1)
        yield
    finally:
        kill(process)


def _answers(machine: Namespace) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((_SERVER, 80), timeout=1).close()
        except OSError:
            return False
        return True

    return machine.call(connect)


def _authority(folder: Path, name: str) -> None:
    tools.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={name}",
        "-addext", "keyUsage=critical,keyCertSign", "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"),
    ])


def _certificate(folder: Path, name: str, subject: str, start: str, end: str) -> None:
    """A certificate of the site's own authority for one name, from one date to another (YYYYMMDD)."""
    tools.run([
        "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
        "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.csr"),
    ])
    (folder / "index").write_text("")
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\nnew_certs_dir={folder}\ndatabase={folder}/index\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
        f"x509_extensions=x\nunique_subject=no\n[p]\ncommonName=supplied\n[x]\nsubjectAltName={subject}\n",
    )
    tools.run([
        "openssl", "ca", "-batch", "-notext", "-config", str(folder / "ca.cnf"), "-cert", str(folder / "site.pem"),
        "-keyfile", str(folder / "site.key"), "-startdate", f"{start}000000Z", "-enddate", f"{end}000000Z",
        "-in", str(folder / f"{name}.csr"), "-out", str(folder / f"{name}.pem"),
    ])


def _tls_servers(place: _Place) -> str:
    """A port for each kind of certificate, and port 80."""
    folder = place.lan.folder
    _authority(folder, "site")
    ours, theirs = f"IP:{_SERVER}", "DNS:other.example"
    _certificate(folder, "good", ours, "20200101", "20990101")
    _certificate(folder, "expired", ours, "20200101", "20200201")
    _certificate(folder, "early", ours, "20980101", "20990101")
    _certificate(folder, "wrong", theirs, "20200101", "20990101")
    ports = {443: "good", 444: "expired", 445: "wrong", 446: "early"}
    servers = [
        f"server {{ listen {_SERVER}:{port} ssl http2; ssl_certificate {folder}/{name}.pem; ssl_certificate_key {folder}/{name}.key;\n"
        f"  location = /out {{ return 302 http://{_SERVER}/boot.ipxe; }} }}"
        for port, name in ports.items()
    ]
    place.script("tls.ipxe", f"https://{_SERVER}")
    return "\n".join([f"server {{ listen {_SERVER}:80; location = /in {{ return 302 https://{_SERVER}/tls.ipxe; }} }}", *servers])


def boot_from_plan(lan: Lan) -> None:
    """A plan of plain HTTP: menu, chained script, named and plain initrds, quoted words; as text and as JSON, and no secret in either."""
    place = _Place(lan)
    with _nginx(place, f"server {{ listen {_SERVER}:80; }}"):
        made = place.plan_json(f"http://{_SERVER}/boot.ipxe?token={_SECRET}")
        boot = made["end"]["boot"]
        expect(boot["kernel"]["url"] == f"http://{_SERVER}/linux", f"kernel: {boot['kernel']}")
        expect(boot["kernel"]["bytes"] == (place.web / "linux").stat().st_size, f"kernel: {boot['kernel']}")
        names = [(initrd["name"], initrd["path"]) for initrd in boot["initrds"]]
        expect(names == [("initrd", None), ("extra.txt", "/etc/extra.txt")], f"initrds: {names}")
        expect('persistent-kargs="console=tty1 console=ttyS1,115200n8" recon.token=[hidden]' in boot["command_line"], boot["command_line"])
        expect(boot["problems"] == [], f"problems: {boot['problems']}")
        files = sum((place.web / name).stat().st_size for name in ("linux", "initrd.img", "extra.txt"))
        expect(boot["memory"]["load_bytes"] == -(-files * 31 // 10), f"memory: {boot['memory']}")
        expect(any("chosen" in line and "two" in line for line in made["said"]), f"said: {made['said']}")
        done = place.plan(f"http://{_SERVER}/boot.ipxe")
        _no_secret(done)
        text = done.stdout.decode()
        for words in ("Kernel    linux (1.1 MB, bzImage)", "Initrd    initrd (3.1 MB, cpio)", "kexec     "):
            expect(words in text, f"{words!r} is not in {text}")
        place.refused(f"http://{_SERVER}/none?token={_SECRET}", "404 Not Found")
        place.refused(f"http://{_SERVER}/extra.txt", "neither a boot script")
        place.refused(f"http://{_SERVER}:81/", "no connection to")


def boot_from_tls(lan: Lan) -> None:
    """TLS is verified: the site's authority by --ca, and no certificate of an unknown one, out of date or for another name."""
    place = _Place(lan)
    with _nginx(place, _tls_servers(place)):
        authority = ("--ca", str(lan.folder / "site.pem"))
        for url in (f"https://{_SERVER}/tls.ipxe", f"http://{_SERVER}/in"):
            boot = place.plan_json(url, *authority)["end"]["boot"]
            expect(boot["kernel"]["url"] == f"https://{_SERVER}/linux", f"kernel: {boot['kernel']}")
        place.refused(f"https://{_SERVER}/tls.ipxe", "--ca FILE names the site's own authority")
        place.refused(f"https://{_SERVER}:444/tls.ipxe", "was good until 2020-02-01", *authority)
        place.refused(f"https://{_SERVER}:445/tls.ipxe", "for other names: ", *authority)
        place.refused(f"https://{_SERVER}:446/tls.ipxe", "is good from 2098-01-01", *authority)
        place.refused(f"https://{_SERVER}/out", "leads out of TLS", *authority)
        place.refused(f"https://{_SERVER}:80/tls.ipxe", "TLS", *authority)
        place.refused(f"https://{_SERVER}/tls.ipxe", "has no certificates", "--ca", str(place.web / "extra.txt"))


@contextlib.contextmanager
def _listener(machine: Namespace, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Serves each connection to a port of the server's in a thread of its own."""
    listener = machine.call(lambda: socket.create_server((_SERVER, port)))

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _request(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more:
            raise OSError("nothing was asked")
        data += more
    return data.decode()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def boot_from_proxy(lan: Lan) -> None:
    """https goes through a proxy by CONNECT, http whole; the proxy's user is told to it alone, no_proxy is heeded, a refusal is told."""
    place = _Place(lan)
    asked: list[str] = []

    def serve(connection: socket.socket) -> None:
        request = _request(connection)
        asked.append(request)
        if "192.0.2.9" in request:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        is_tunnel = request.startswith("CONNECT ")
        far = place.server.call(lambda: socket.create_connection((_SERVER, 443 if is_tunnel else 80), timeout=20))
        with far:
            if is_tunnel:
                connection.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
            else:
                far.sendall(request.replace(f"http://{_SERVER}", "", 1).encode())
            threading.Thread(target=_pump, args=(connection, far), daemon=True).start()
            _pump(far, connection)

    with _nginx(place, _tls_servers(place)), _listener(place.server, 3128, serve):
        authority = ("--ca", str(lan.folder / "site.pem"))
        through = f"http://user:{_SECRET}@{_SERVER}:3128"
        place.plan_json(f"https://{_SERVER}/tls.ipxe", *authority, env={"https_proxy": through})
        expect(len(asked) > 3 and all(f"CONNECT {_SERVER}:443 " in request for request in asked), f"asked: {asked}")
        expect(all("proxy-authorization: basic" in request.lower() for request in asked), f"asked: {asked}")
        asked.clear()
        place.plan_json(f"http://{_SERVER}/boot.ipxe", "--proxy", through)
        expect(len(asked) > 3 and all(request.startswith(f"GET http://{_SERVER}/") for request in asked), f"asked: {asked}")
        asked.clear()
        place.plan_json(f"https://{_SERVER}/tls.ipxe", *authority, env={"https_proxy": through, "no_proxy": "192.0.2.0/24"})
        expect(asked == [], f"asked in spite of no_proxy: {asked}")
        place.refused("https://192.0.2.9/", "403 Forbidden", env={"https_proxy": through})


def boot_from_broken(lan: Lan) -> None:
    """Servers that break, lie, loop or send pages: what can be had is had, and the rest is told."""
    place = _Place(lan)
    script = b"#!ipxe\n" + b"# filling\n" * 9000 + f"kernel http://{_SERVER}/linux x=y\nboot\n".encode()
    tries = {"cut": 0}

    def serve(connection: socket.socket) -> None:
        request = _request(connection)
        path = request.split(" ")[1]
        if path == "/cut":
            # 10,000 bytes at most of whatever was asked for.
            tries["cut"] += 1
            first = int(request.lower().split("range: bytes=")[1].split("-")[0]) if "range:" in request.lower() else 0
            head = f"HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes {first}-{len(script) - 1}/{len(script)}\r\n"
            if "range:" not in request.lower():
                head = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\n"
            connection.sendall(f"{head}Content-Length: {len(script) - first}\r\n\r\n".encode() + script[first : first + 10_000])
        elif path == "/loop":
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")
        elif path == "/page":
            page = b"<!DOCTYPE html><html><head><title>Please sign in</title></head></html>"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
        elif path == "/endless":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n#!ipxe\n")
            while True:
                connection.sendall(b"echo again\n" * 1000)
        else:
            connection.sendall(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n" if path == "/500" else b"nonsense\r\n\r\n")

    (place.web / "page.ipxe").write_text(f"#!ipxe\nkernel http://{_SERVER}:8080/page\nboot\n")
    with _nginx(place, f"server {{ listen {_SERVER}:80; }}"), _listener(place.server, 8080, serve):
        base = f"http://{_SERVER}:8080"
        boot = place.plan_json(f"{base}/cut")["end"]["boot"]
        expect(boot["command_line"] == "x=y", f"a script in pieces: {boot}")
        expect(tries["cut"] >= len(script) // 10_000, f"{tries} connections for {len(script)} bytes")
        place.refused(f"{base}/loop", "more than 10 times")
        place.refused(f"{base}/page", 'a web page (HTML): "Please sign in"')
        place.refused(f"{base}/endless", "the most here")
        problems = place.plan_json(f"http://{_SERVER}/page.ipxe")["end"]["boot"]["problems"]
        expect(any('web page (HTML): "Please sign in"' in problem for problem in problems), f"problems: {problems}")


CHECKS: list[Scenario[Lan]] = scenarios(boot_from_plan, boot_from_tls, boot_from_proxy, boot_from_broken)
