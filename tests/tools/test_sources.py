"""What the build believes of a package mirror: signatures, absent files, silent servers, wrong clocks, and what it tells the person."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar
from unittest import mock

TOP = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).resolve().parent / "fixtures"
sys.path.insert(0, str(TOP / "tools"))

import mirror  # noqa: E402
import rpm_index  # noqa: E402

# Of the key in fixtures/index.pub.asc, as gpg printed it when it was made.
FINGERPRINT = next(line.split("=")[1].strip() for line in (FIXTURES / "fingerprints").read_text().splitlines() if line.startswith("index"))


class Mirror:
    """A web server on loopback that serves one folder, with a Date header of the test's choice."""

    def __init__(self, folder: Path, date: str | None = None) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

            def date_time_string(self, timestamp: float | None = None) -> str:
                return date if date and timestamp is None else super().date_time_string(timestamp)

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Base(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        wait = mock.patch.object(rpm_index, "_SECONDS_BEFORE_SECOND_LOOK", 0.0)
        wait.start()
        self.addCleanup(wait.stop)

    def repository(self, signature: str = "repomd.xml.asc") -> Path:
        """A mirror's folder with one repository, `oss`."""
        data = self.folder / "mirror" / "oss" / "repodata"
        data.mkdir(parents=True)
        shutil.copy(FIXTURES / "repomd.xml", data / "repomd.xml")
        shutil.copy(FIXTURES / signature, data / "repomd.xml.asc")
        shutil.copy(FIXTURES / "index.pub.asc", data / "repomd.xml.key")
        return self.folder / "mirror"

    def verify(self, url: str, *keys: str) -> list[str]:
        return rpm_index.verify(str(self.folder / "out"), [str(FIXTURES / key) for key in keys], {"oss": f"{url}/oss"})


class Index(Base):
    def test_a_signed_index_is_kept_and_its_signer_is_named(self) -> None:
        with Mirror(self.repository()) as server:
            lines = self.verify(server.url, "stranger.pub.asc", "index.pub.asc")
        self.assertEqual(lines, [f"oss: index signed by {FINGERPRINT} (Test index key)"])
        kept = self.folder / "out" / "oss" / "repodata"
        self.assertEqual((kept / "repomd.xml").read_bytes(), (FIXTURES / "repomd.xml").read_bytes())

    def test_a_changed_index_ends_it(self) -> None:
        top = self.repository()
        with (top / "oss" / "repodata" / "repomd.xml").open("a") as file:
            file.write(" ")
        with Mirror(top) as server, self.assertRaisesRegex(rpm_index.Refused, "signature does not fit"):
            self.verify(server.url, "index.pub.asc")
        self.assertFalse((self.folder / "out" / "oss" / "repodata" / "repomd.xml").exists())
        # A mirror in the middle of an update is given a second look, not a third.
        self.assertEqual(server.asked.count("/oss/repodata/repomd.xml"), 2)

    def test_a_strangers_key_ends_it(self) -> None:
        with Mirror(self.repository()) as server, self.assertRaisesRegex(rpm_index.Refused, f"signed with the key {FINGERPRINT[-16:]}.*--keys FILE"):
            self.verify(server.url, "stranger.pub.asc")

    def test_no_signature_at_all_ends_it(self) -> None:
        top = self.repository()
        (top / "oss" / "repodata" / "repomd.xml.asc").write_text("not a signature\n")
        with Mirror(top) as server, self.assertRaisesRegex(rpm_index.Refused, "no signature that gpgv can read"):
            self.verify(server.url, "index.pub.asc")

    def test_a_page_to_log_in_at_is_no_index(self) -> None:
        top = self.repository()
        (top / "oss" / "repodata" / "repomd.xml").write_text("<html>please log in</html>")
        with Mirror(top) as server, self.assertRaisesRegex(rpm_index.Refused, "no package index but something else"):
            self.verify(server.url, "index.pub.asc")

    def test_a_missing_signature_ends_it(self) -> None:
        top = self.repository()
        (top / "oss" / "repodata" / "repomd.xml.asc").unlink()
        with Mirror(top) as server, self.assertRaisesRegex(rpm_index.Refused, "no such file.*404"):
            self.verify(server.url, "index.pub.asc")

    def test_a_key_whose_copy_here_has_expired_is_still_that_key(self) -> None:
        with Mirror(self.repository("repomd.old.asc")) as server:
            lines = self.verify(server.url, "old.pub.asc")
        self.assertIn("it has expired", lines[0])

    def test_a_mirror_with_another_clock_is_said(self) -> None:
        with (Mirror(self.repository(), date="Thu, 01 Jan 2015 00:00:00 GMT") as server,
              self.assertRaisesRegex(rpm_index.Refused, "2015-01-01.*set the right time")):
            self.verify(server.url, "index.pub.asc")

    def test_keys_that_the_mirror_offers_are_kept_whole(self) -> None:
        with Mirror(self.repository()) as server:
            rpm_index.first_keys(str(self.folder / "first.asc"), {"oss": f"{server.url}/oss"})
            self.assertTrue(self.verify(server.url, str(self.folder / "first.asc")))

    def test_files_that_are_no_keys_are_refused_by_name(self) -> None:
        with self.assertRaisesRegex(rpm_index.Refused, "repomd.xml holds no ASCII-armoured OpenPGP key"):
            rpm_index.read_keys([str(FIXTURES / "repomd.xml")])
        with self.assertRaisesRegex(rpm_index.Refused, "No such file"):
            rpm_index.read_keys([str(FIXTURES / "none.asc")])

    def test_dearmor_agrees_with_gpg(self) -> None:
        # gpgv reads a keyring only if the bytes are right; the test above would fail otherwise. Here: blocks are counted.
        text = "".join((FIXTURES / name).read_text() for name in ("index.pub.asc", "stranger.pub.asc"))
        self.assertEqual(len(rpm_index.dearmor("noise\n" + text.replace("\n", "\r\n"))), 2)

    def test_words_of_a_key_cannot_write_on_the_terminal(self) -> None:
        lines = ["[GNUPG:] GOODSIG 00 evil \x1b[2J name", "[GNUPG:] VALIDSIG AA 2026-01-01 0 0 4 0 1 8 00 BB"]
        self.assertEqual(rpm_index.judge(lines), rpm_index.Signer("BB", "evil ?[2J name"))

    def test_a_revoked_key_is_refused_although_its_signature_fits(self) -> None:
        with self.assertRaisesRegex(rpm_index.Untrusted, "revoked"):
            rpm_index.judge(["[GNUPG:] REVKEYSIG 00 name", "[GNUPG:] VALIDSIG AA 2026-01-01 0 0 4 0 1 8 00 BB"])


class Served(Base):
    """What the package manager sees: the verified index from here, everything else from the mirror."""

    TABLE: ClassVar[dict[str, str]] = {"oss": "http://mirror.invalid/repo/oss", "local": "file:///srv/repo"}

    def test_who_answers_what(self) -> None:
        for path, expected in (
            ("/oss/repodata/repomd.xml", ("index", "oss/repodata/repomd.xml")),
            ("/oss//repodata/repomd.xml.asc", ("index", "oss/repodata/repomd.xml.asc")),
            ("/oss/repodata/repomd%2exml", ("index", "oss/repodata/repomd.xml")),
            ("/oss/./repodata/repomd.xml", ("none", "")),
            ("/oss/repodata/abc-primary.xml.gz", ("go", "http://mirror.invalid/repo/oss/repodata/abc-primary.xml.gz")),
            ("/oss/x86_64/a%2Bb-1.rpm?x=1", ("go", "http://mirror.invalid/repo/oss/x86_64/a%2Bb-1.rpm?x=1")),
            ("/local/x86_64/a%2Bb.rpm", ("file", "/srv/repo/x86_64/a+b.rpm")),
            ("/local/%2e%2e/%2e%2e/etc/passwd", ("none", "")),
            ("/none/repodata/repomd.xml", ("none", "")),
            ("/", ("none", "")),
        ):
            self.assertEqual(rpm_index.answer(path, self.TABLE), expected, path)

    def test_the_index_that_was_verified_is_the_one_that_is_served(self) -> None:
        top = self.repository()
        (top / "oss" / "a.rpm").write_bytes(b"package")
        port_file = self.folder / "port"
        with Mirror(top) as server:
            self.verify(server.url, "index.pub.asc")
            # From now on the mirror lies about its index.
            (top / "oss" / "repodata" / "repomd.xml").write_text("another")
            child = subprocess.Popen([sys.executable, str(TOP / "tools" / "rpm_index.py"), "serve", "--dir", str(self.folder / "out"),
                                      "--port-file", str(port_file), "--source", f"oss={server.url}/oss"])
            try:
                here = f"http://127.0.0.1:{_wait_for(port_file)}"
                self.assertEqual(_get(f"{here}/oss/repodata/repomd.xml"), (FIXTURES / "repomd.xml").read_bytes())
                self.assertEqual(_get(f"{here}/oss/a.rpm"), b"package")
                with self.assertRaises(urllib.error.HTTPError) as caught:
                    _get(f"{here}/elsewhere/a.rpm")
                self.assertEqual(caught.exception.code, 404)
            finally:
                child.terminate()
                child.wait(10)


def _wait_for(port_file: Path) -> str:
    for _ in range(200):
        if port_file.exists():
            return port_file.read_text().strip()
        time.sleep(0.05)
    raise AssertionError("the server did not say its port")


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        data: bytes = response.read()
        return data


class Asking(Base):
    """Each cause ends within seconds and in a sentence that says what to do."""

    def test_absent(self) -> None:
        with Mirror(self.repository()) as server, self.assertRaisesRegex(mirror.Absent, "404"):
            mirror.fetch(f"{server.url}/nothing")
        with self.assertRaises(mirror.Absent):
            mirror.fetch(f"file://{self.folder}/nothing")

    def test_refused_and_unknown_names(self) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            with self.assertRaisesRegex(mirror.NoAnswer, "refuses the connection.*http_proxy"):
                mirror.fetch(f"http://127.0.0.1:{held.getsockname()[1]}/x")
        self.assertIn("cannot be resolved", mirror.why("host", urllib.error.URLError(socket.gaierror(-2, "x")), {}))

    def test_a_server_that_accepts_and_says_nothing(self) -> None:
        with socket.socket() as silent, mock.patch.object(mirror, "SECONDS_TO_WAIT", 0.3):
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with self.assertRaisesRegex(mirror.NoAnswer, "does not answer within"):
                mirror.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/x")

    def test_a_server_that_drips(self) -> None:
        drips = iter([b"x"] * 100)
        ticks = iter(range(100))
        with self.assertRaises(socket.timeout):
            mirror._read(mock.Mock(read1=lambda _: next(drips)), 10.0, lambda: float(next(ticks)))

    def test_a_server_that_never_ends(self) -> None:
        part = b"x" * (1 << 16)
        with self.assertRaisesRegex(mirror.NoAnswer, "is this a package mirror"):
            mirror._read(mock.Mock(read1=lambda _: part, geturl=lambda: "http://host/x"), 1e9, lambda: 0.0)

    def test_a_proxy_is_named(self) -> None:
        error = urllib.error.URLError(ConnectionRefusedError())
        self.assertIn("the proxy http://proxy:1 refuses the connection", mirror.why("host", error, {"http": "http://proxy:1"}))

    def test_words_that_are_no_address(self) -> None:
        for word in ("mirror.example/opensuse", "/srv/mirror", ""):
            with self.assertRaisesRegex(mirror.NoAnswer, "no address of a mirror"):
                mirror.fetch(word)

    def test_a_clock_is_judged_by_a_day(self) -> None:
        noon = 1_800_000_000.0
        header = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(noon))
        self.assertIsNone(mirror.skew_sentence(header, noon + 80_000))
        self.assertRegex(mirror.skew_sentence(header, noon + 100_000) or "", "set the right time")
        for nothing in (None, "", "yesterday"):
            self.assertIsNone(mirror.skew_sentence(nothing, noon))


if __name__ == "__main__":
    unittest.main()
