"""Does `recon boot-from --plan` say what a web server's boot script would start, over TLS, through a proxy, from broken servers?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.parse
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

    def plan(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Without any of root's rights (capabilities(7)), and with nothing of the harness's environment."""
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return self.client.run([
            "env", "-i", *settings, tools.path_of("setpriv"), "--bounding-set=-all", "--inh-caps=-all", str(self.lan.recon), "boot-from", "--plan", *words,
        ], timeout=120.0)

    def plan_json(self, *words: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        """Its status says whether anything stands against it."""
        done = self.plan("--json", *words, env=env)
        _no_secret(done)
        expect(done.stdout != b"", f"{words}: {done.stderr.decode()}")
        made = dict(json.loads(done.stdout))
        problems = made["end"]["boot"]["problems"]
        expect(done.returncode == (1 if problems else 0), f"{words}: status {done.returncode} with {problems}: {done.stderr.decode()}")
        return made

    def refused(self, *words: str, why: str, env: dict[str, str] | None = None) -> None:
        done = self.plan(*words, env=env)
        _no_secret(done)
        expect(done.returncode != 0, f"{words} is planned: {done.stdout.decode()}")
        # A plan of a script that fails is a plan, and says why.
        told = (done.stdout + done.stderr).decode()
        expect(why in told, f"{words}: {why!r} is not in {told!r}")


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
        expect(any(line.endswith("taken is two") for line in made["said"]), f"said: {made['said']}")
        done = place.plan(f"http://{_SERVER}/boot.ipxe")
        _no_secret(done)
        text = done.stdout.decode()
        for words in ("Kernel    linux (1.1 MB, bzImage)", "Initrd    initrd (3.1 MB, cpio)", "kexec     "):
            expect(words in text, f"{words!r} is not in {text}")
        hexes = {name: hashlib.sha256((place.web / name).read_bytes()).hexdigest() for name in ("linux", "initrd.img")}
        for sums, problems in ((hexes, []), ({"linux": hexes["linux"]}, ["no sum is given for initrd.img"])):
            wanted = {"kernel": "linux", "initrds": ["/initrd.img"], "cmdline": "a=b", "sha256": sums}
            (place.web / "plan.json").write_text(json.dumps(wanted))
            boot = place.plan_json(f"http://{_SERVER}/plan.json")["end"]["boot"]
            expect((boot["command_line"], boot["problems"], len(boot["initrds"])) == ("a=b", problems, 1), f"a plan in JSON: {boot}")
        place.refused(f"http://{_SERVER}/none?token={_SECRET}", why="404 Not Found")
        place.refused(f"http://{_SERVER}/extra.txt", why="neither a boot script")
        place.refused(f"http://{_SERVER}:81/", why="no connection to")


def boot_from_tls(lan: Lan) -> None:
    """TLS is verified: the site's authority by --ca, and no certificate of an unknown one, out of date or for another name."""
    place = _Place(lan)
    with _nginx(place, _tls_servers(place)):
        authority = ("--ca", str(lan.folder / "site.pem"))
        for url in (f"https://{_SERVER}/tls.ipxe", f"http://{_SERVER}/in"):
            boot = place.plan_json(url, *authority)["end"]["boot"]
            expect(boot["kernel"]["url"] == f"https://{_SERVER}/linux", f"kernel: {boot['kernel']}")
        place.refused(f"https://{_SERVER}/tls.ipxe", why="--ca FILE names the site's own authority")
        place.refused(f"https://{_SERVER}:444/tls.ipxe", *authority, why="was good until 2020-02-01")
        place.refused(f"https://{_SERVER}:445/tls.ipxe", *authority, why="for other names: ")
        place.refused(f"https://{_SERVER}:446/tls.ipxe", *authority, why="is good from 2098-01-01")
        place.refused(f"https://{_SERVER}/out", *authority, why="leads out of TLS")
        place.refused(f"https://{_SERVER}:80/tls.ipxe", *authority, why="TLS")
        place.refused(f"https://{_SERVER}/tls.ipxe", "--ca", str(place.web / "extra.txt"), why="has no certificates")


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
        place.refused("https://192.0.2.9/", why="403 Forbidden", env={"https_proxy": through})


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
        place.refused(f"{base}/loop", why="more than 10 times")
        place.refused(f"{base}/page", why='a web page (HTML): "Please sign in"')
        place.refused(f"{base}/endless", why="the most here")
        place.refused(f"http://{_SERVER}/page.ipxe", why='web page (HTML): "Please sign in"')
        # One that knows another way goes it.
        (place.web / "page.ipxe").write_text(f"#!ipxe\nkernel http://{_SERVER}:8080/page || kernel linux x=y\nboot\n")
        boot = place.plan_json(f"http://{_SERVER}/page.ipxe")["end"]["boot"]
        expect(boot["kernel"]["url"] == f"http://{_SERVER}/linux", f"kernel: {boot['kernel']}")


_ALWAYS, _CONTROL, _INSTALLED, _SLOW = (f"0123456{digit}-89ab-4def-8123-456789abcdef" for digit in "1234")
_FILES = "/api/assisted-install/v2/infra-envs/{id}/downloads/files?{query}"
_API, _TOKENS, _IMAGES = (f"https://{_SERVER}:{port}" for port in (8443, 8444, 8445))
# As assisted-service writes it: the initrd first and by a name of its own, a value in quotation marks with a blank in it.
_ASSISTED = f"""#!ipxe
initrd --name initrd {_IMAGES}/images/{{id}}/pxe-initrd?arch=x86_64&image_token={_SECRET}&version=4.17
kernel {_IMAGES}/boot-artifacts/kernel?arch=x86_64&version=4.17 initrd=initrd coreos.live.rootfs_url={_IMAGES}/boot-artifacts/rootfs?arch=x86_64&version=4.17 \
random.trust_cpu=on rd.luks.options=discard ignition.firstboot ignition.platform.id=metal console=tty1 console=ttyS1,115200n8 \
coreos.inst.persistent-kargs="console=tty1 console=ttyS1,115200n8"
boot
"""
_ASSISTED_LINE = (
    f"initrd=initrd coreos.live.rootfs_url={_IMAGES}/boot-artifacts/rootfs?arch=x86_64&version=4.17 random.trust_cpu=on rd.luks.options=discard "
    "ignition.firstboot ignition.platform.id=metal console=tty1 console=ttyS1,115200n8 "
    'coreos.inst.persistent-kargs="console=tty1 console=ttyS1,115200n8"'
)


class _Assisted:
    """The service, the login and the image server of the assisted installer, each over TLS, and what each was asked."""

    def __init__(self, place: _Place) -> None:
        self.place = place
        self.asked: dict[int, list[str]] = {8443: [], 8444: [], 8445: []}
        self.age = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _authority(place.lan.folder, "site")
        _authority(place.lan.folder, "other")
        _certificate(place.lan.folder, "good", f"IP:{_SERVER}", "20200101", "20990101")
        self.context.load_cert_chain(place.lan.folder / "good.pem", place.lan.folder / "good.key")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for port, answer in ((8443, self._api), (8444, self._tokens), (8445, self._images)):
                stack.enter_context(_listener(self.place.server, port, self._serve(port, answer)))
            yield

    def _serve(self, port: int, answer: Callable[[str], tuple[str, bytes]]) -> Callable[[socket.socket], None]:
        def serve(connection: socket.socket) -> None:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                request = _request(stream)
                head = request.split("\r\n\r\n", 1)[0].lower()
                if "content-length: " in head:
                    length = int(head.split("content-length: ")[1].split("\r\n")[0])
                    while len(request.split("\r\n\r\n", 1)[1]) < length:
                        request += stream.recv(4096).decode()
                self.asked[port].append(request)
                status, body = answer(request)
                stream.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

        return serve

    def _api(self, request: str) -> tuple[str, bytes]:
        url = urllib.parse.urlsplit(request.split(" ")[1])
        query = dict(urllib.parse.parse_qsl(url.query))
        infra_env = next((one for one in (_ALWAYS, _CONTROL, _INSTALLED, _SLOW) if url.path == _FILES.format(id=one, query="")[:-1]), None)
        is_user = f"authorization: bearer access-{self.age}\r\n" in request.lower()
        if not is_user and query.get("api_key") != _SECRET:
            return "401 Unauthorized", b'{"code":401,"message":"unauthenticated"}'
        if infra_env is None or query.get("file_name") != "ipxe-script":
            return "404 Not Found", b'{"code":"404","reason":"not found"}'
        if infra_env != _ALWAYS and "mac" not in query:
            if infra_env == _SLOW:
                # So long that the next one needs another token.
                self.age += 1
                return "200 OK", b"#!ipxe\nchain files?file_name=ipxe-script&mac=${net0/mac}\n"
            signed = f"{_API}{_FILES.format(id=infra_env, query=f'api_key={_SECRET}&file_name=ipxe-script')}"
            return "200 OK", f"#!ipxe\nchain {signed}&mac=${{net0/mac}}\n".encode()
        if infra_env == _INSTALLED:
            return "404 Not Found", b'{"code":"404","reason":"the host is installed"}'
        return "200 OK", _ASSISTED.format(id=infra_env).encode()

    def _tokens(self, request: str) -> tuple[str, bytes]:
        form = dict(urllib.parse.parse_qsl(request.split("\r\n\r\n", 1)[1]))
        if (form.get("grant_type"), form.get("client_id")) != ("refresh_token", "cloud-services"):
            return "400 Bad Request", b'{"error":"invalid_request"}'
        answers = {
            _SECRET: ("200 OK", f'{{"access_token":"access-{self.age}","expires_in":900}}'.encode()),
            "empty": ("200 OK", b'{"token_type":"Bearer"}'),
        }
        return answers.get(form["refresh_token"], ("400 Bad Request", b'{"error":"invalid_grant","error_description":"Token is not active"}'))

    def _images(self, request: str) -> tuple[str, bytes]:
        path = request.split(" ")[1].split("?", maxsplit=1)[0]
        name = {"/boot-artifacts/kernel": "linux"}.get(path, "initrd.img" if path.endswith("/pxe-initrd") else None)
        return ("404 Not Found", b"") if name is None else ("200 OK", (self.place.web / name).read_bytes())

    def words(self, infra_env: str, *more: str) -> tuple[str, ...]:
        return ("--infra-env", infra_env, "--api", f"{_API}/api", *more)

    def refresh(self, token: str) -> tuple[str, ...]:
        """Words that name a refresh token."""
        path = self.place.lan.folder / "refresh-token"
        path.write_text(f"{token}\n")
        return ("--refresh-token-file", str(path), "--token-url", f"{_TOKENS}/token")


def boot_from_assisted(lan: Lan) -> None:
    """An infra-env of assisted-service over TLS: the token goes to the API alone, what fails is said, an installed machine is left to its disk."""
    place = _Place(lan)
    service = _Assisted(place)
    authority = ("--ca", str(lan.folder / "site.pem"))
    given = lan.folder / "token"
    with service.running():
        for infra_env in (_ALWAYS, _CONTROL):
            boot = place.plan_json(*service.words(infra_env, *authority, *service.refresh(_SECRET)))["end"]["boot"]
            expect(boot["command_line"] == _ASSISTED_LINE, f"command line: {boot['command_line']}")
            expect(boot["kernel"]["url"] == f"{_IMAGES}/boot-artifacts/kernel?arch=x86_64&version=4.17", f"kernel: {boot['kernel']}")
            names = [(initrd["name"], initrd["form"]) for initrd in boot["initrds"]]
            expect(names == [("initrd", "cpio")] and boot["problems"] == [], f"{boot}")
        mac = _query(service.asked[8443][-1]).get("mac")
        own = json.loads(place.client.ip("-json", "link", "show", "dev", "eth0"))[0]["address"]
        expect(mac == own, f"the second script is asked for {mac}")
        first = [request for request in service.asked[8443] if "mac=" not in request]
        expect(len(first) == 2 and all("authorization: bearer access-0" in request.lower() for request in first), f"asked: {first}")
        others = service.asked[8444] + service.asked[8445]
        expect(len(others) == 6 and not any("authorization" in request.lower() for request in others), f"a token went astray: {others}")
        expect(not any(_SECRET in request for request in service.asked[8443] if "api_key" not in request), "the refresh token went to the API")
        before = len(service.asked[8444])
        place.plan_json(*service.words(_SLOW, *authority, *service.refresh(_SECRET)))
        expect(len(service.asked[8444]) == before + 2, "a token that has become too old is not replaced once")
        last = [request.lower().split("authorization: bearer ")[1].split("\r\n")[0] for request in service.asked[8443][-3:]]
        expect(last == ["access-0", "access-0", "access-1"], f"the API was asked with {last}")
        done = place.plan(*service.words(_INSTALLED, *authority, *service.refresh(_SECRET)))
        _no_secret(done)
        expect(done.returncode == 0 and "which is installed or about to be: it boots from its disk" in done.stdout.decode(), f"{done}")
        place.refused(*service.words(_ALWAYS, *authority), why="401 Unauthorized")
        place.refused(*service.words(_ALWAYS, *authority, *service.refresh("expired")), why="400 (invalid_grant Token is not active)")
        place.refused(*service.words(_ALWAYS, *authority, *service.refresh("empty")), why="has no access_token")
        place.refused(*service.words(_ALWAYS, *service.refresh(_SECRET)), why="--ca FILE names the site's own authority")
        place.refused(*service.words(_ALWAYS, "--ca", str(lan.folder / "other.pem"), *service.refresh(_SECRET)), why="--ca FILE names the site's own authority")
        place.refused("--infra-env", "../x", *authority, why="is named by its UUID")
        unsafe = ("--infra-env", _ALWAYS, "--api", f"http://{_SERVER}/api", "--token-file", str(given))
        given.write_text(f"access-{service.age}\n")
        place.plan_json(*service.words(_ALWAYS, *authority, "--token-file", str(given)))
        place.refused(*unsafe, *authority, why="https alone")
        given.write_text(_SECRET)
        place.refused(*service.words(_ALWAYS, *authority, "--token-file", str(given)), why="401 Unauthorized")
        place.refused(*service.words(_ALWAYS[:-1] + "0", *authority, *service.refresh(_SECRET)), why="404 Not Found")


def _query(request: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.split(" ")[1]).query))


CHECKS: list[Scenario[Lan]] = scenarios(boot_from_plan, boot_from_tls, boot_from_proxy, boot_from_broken, boot_from_assisted)
