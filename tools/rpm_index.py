#!/usr/bin/env python3
"""Where trust in RPM packages begins: the signed index of each repository.

  rpm_index.py verify --out DIR --keys FILE… --source ALIAS=URL…
      Fetches repodata/repomd.xml and its signature from every source, has gpgv check it against the keys, and keeps it as
      DIR/ALIAS/repodata/. Prints who signed what. One index that does not verify ends it.
  rpm_index.py first-keys --out FILE --source ALIAS=URL…
      For a host that has no keys of the distribution: takes the keys that the sources offer (repomd.xml.key).
  rpm_index.py serve --dir DIR --port-file FILE --source ALIAS=URL…
      Serves the verified indexes on loopback, and sends whoever asks for anything else on to the mirror. So the package manager
      works from the very index that was verified; the checksums in it cover all other metadata and every package.

Exit status 1: the sentence on standard error says what is wrong and what to do.
"""

import argparse
import base64
import binascii
import http.server
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Sequence
from typing import NamedTuple

import mirror

_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"
_INDEX = ("repomd.xml", "repomd.xml.asc")
# Keyrings of distributions have some ten kilobytes a key.
_MAX_KEY_BYTES = 1 << 20
_SECONDS_BEFORE_SECOND_LOOK = 2.0


class Refused(Exception):
    """The text says what is wrong and what to do."""


class Untrusted(Exception):
    """A signature that is not good. The text is the part of a sentence that says why."""


class Signer(NamedTuple):
    fingerprint: str
    name: str


def printable(text: str) -> str:
    """Words of a key or a server, fit for a terminal: control characters and what is not ASCII become question marks."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:200]


def dearmor(text: str) -> list[bytes]:
    """The binary keys in an ASCII-armoured text (RFC 9580 section 6.2), one for each block."""
    keys = []
    inside: list[str] | None = None
    for line in map(str.strip, text.splitlines()):
        if line == _BEGIN:
            inside = []
        elif line == _END and inside is not None:
            # Headers end with an empty line; the line that begins with "=" is the checksum.
            body = inside[inside.index("") + 1:] if "" in inside else inside
            try:
                keys.append(base64.b64decode("".join(part for part in body if not part.startswith("=")), validate=True))
            except binascii.Error as error:
                raise Refused(f"a key block is damaged: {error}") from error
            inside = None
        elif inside is not None:
            inside.append(line)
    return keys


def read_keys(paths: Sequence[str]) -> list[bytes]:
    """Binary keys of all files; a file that holds none is an error."""
    keys: list[bytes] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                data = file.read(_MAX_KEY_BYTES + 1)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}") from error
        if len(data) > _MAX_KEY_BYTES:
            raise Refused(f"{path} has more than {_MAX_KEY_BYTES >> 10} KiB: is it a file of OpenPGP keys?")
        try:
            found = dearmor(data.decode("ascii", "replace"))
        except Refused as error:
            raise Refused(f"{path}: {error}") from error
        if not found:
            raise Refused(f"{path} holds no ASCII-armoured OpenPGP key")
        keys += found
    return keys


def judge(status_lines: Sequence[str]) -> Signer:
    """Reads what `gpgv --status-fd` said of one signature (GnuPG's doc/DETAILS). Raises Untrusted where it is not good."""
    name = ""
    signer = None
    unknown = ""
    for line in status_lines:
        words = line.split(" ")
        if words[:1] != ["[GNUPG:]"] or len(words) < 3:
            continue
        if words[1] in ("GOODSIG", "EXPKEYSIG"):
            # Distributions prolong their keys; a copy of the key that was not prolonged is still that key.
            name = printable(" ".join(words[3:])) + (", by this host's copy of the key it has expired" if words[1] == "EXPKEYSIG" else "")
        elif words[1] == "VALIDSIG":
            # The last word is the fingerprint of the primary key, words[2] that of the key which signed.
            signer = words[11] if len(words) > 11 else words[2]
        elif words[1] in ("BADSIG", "EXPSIG", "REVKEYSIG"):
            raise Untrusted({
                "BADSIG": "its signature does not fit: it was changed on the way or on the mirror",
                "EXPSIG": "its signature has expired",
                "REVKEYSIG": "the key that signed it was revoked",
            }[words[1]])
        elif words[1] in ("ERRSIG", "NO_PUBKEY"):
            unknown = printable(words[2])
    if signer:
        return Signer(printable(signer), name)
    if unknown:
        raise Untrusted(f"it is signed with the key {unknown}, which is none of those that this host trusts for it")
    raise Untrusted("it has no signature that gpgv can read")


def gpgv(keyring: str, signature: str, data: str) -> Signer:
    """Who signed `data`. gpgv looks neither at the age of a key nor at its trust: whoever is in the keyring is trusted."""
    try:
        done = subprocess.run(["gpgv", "--status-fd", "1", "--keyring", keyring, signature, data],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except FileNotFoundError as error:
        raise Refused("gpgv is missing: install the package gpgv (Debian) or gpg2 (openSUSE)") from error
    return judge(done.stdout.decode("utf-8", "replace").splitlines())


def sources(words: Sequence[str]) -> dict[str, str]:
    """ALIAS=URL words as a table; the URLs end without a slash."""
    table = {}
    for word in words:
        alias, _, url = word.partition("=")
        if not re.match(r"^[A-Za-z0-9._-]+$", alias) or not url:
            raise Refused(f"{word!r} is not ALIAS=URL")
        table[alias] = url.rstrip("/")
    return table


def _fetch(url: str) -> tuple[bytes, str | None]:
    try:
        return mirror.fetch(url)
    except mirror.Absent as absent:
        hint = {
            ".asc": ". The index is not signed there, or its signature was not mirrored: take another mirror",
            ".key": ". This host has no keys of openSUSE and the mirror offers none: name them with --keys FILE",
        }.get(url[-4:], "")
        raise Refused(f"the mirror has no such file: {printable(str(absent))}{hint}") from absent
    except mirror.NoAnswer as silence:
        raise Refused(printable(str(silence))) from silence


def verify(out: str, key_files: Sequence[str], table: dict[str, str]) -> list[str]:
    """Fetches and verifies every index; returns a line for each. Nothing of an index that fails is kept."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        keyring = os.path.join(scratch, "keyring.gpg")
        with open(keyring, "wb") as file:
            file.write(b"".join(read_keys(key_files)))
        for alias, url in table.items():
            kept = os.path.join(out, alias, "repodata")
            os.makedirs(kept, exist_ok=True)
            try:
                fetched, signer = _verified(url, scratch, keyring)
            except Untrusted:
                # A mirror that is just being updated has the new one of the two files already. Once is enough for that.
                time.sleep(_SECONDS_BEFORE_SECOND_LOOK)
                try:
                    fetched, signer = _verified(url, scratch, keyring)
                except Untrusted as error:
                    raise Refused(f"the index of {printable(url)} is not to be trusted: {error}. Take another mirror, or name the right keys with "
                                  "--keys FILE") from error
            # libzypp asks for the key as well; it gets the whole keyring that the index was checked with.
            fetched["repomd.xml.key"] = b"".join(_armoured(path) for path in key_files)
            for name, data in fetched.items():
                with open(os.path.join(kept, name), "wb") as file:
                    file.write(data)
            lines.append(f"{alias}: index signed by {signer.fingerprint} ({signer.name})")
    return lines


def _verified(url: str, scratch: str, keyring: str) -> tuple[dict[str, bytes], Signer]:
    fetched = {}
    for name in _INDEX:
        fetched[name], date = _fetch(f"{url}/repodata/{name}")
        skew = mirror.skew_sentence(date, time.time())
        if skew:
            raise Refused(skew)
        with open(os.path.join(scratch, name), "wb") as file:
            file.write(fetched[name])
    if b"<repomd" not in fetched["repomd.xml"][:4096]:
        raise Refused(f"{printable(url)}/repodata/repomd.xml is no package index but something else, perhaps a page to log in at: is this a mirror?")
    index, signature = (os.path.join(scratch, name) for name in _INDEX)
    return fetched, gpgv(keyring, signature, index)


def _armoured(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_KEY_BYTES).rstrip(b"\n") + b"\n"


def first_keys(out: str, table: dict[str, str]) -> None:
    """Keeps the keys that the sources themselves offer. What they are worth is for the person to say, who is shown them."""
    seen: list[bytes] = []
    for url in table.values():
        data, _ = _fetch(f"{url}/repodata/repomd.xml.key")
        if not dearmor(data.decode("ascii", "replace")):
            raise Refused(f"{printable(url)}/repodata/repomd.xml.key is no OpenPGP key")
        if data not in seen:
            seen.append(data)
    # Under another name first: half a file must not be taken for all keys the next time.
    with open(out + ".new", "wb") as file:
        file.write(b"".join(data.rstrip(b"\n") + b"\n" for data in seen))
    os.replace(out + ".new", out)


def answer(path: str, table: dict[str, str]) -> tuple[str, str]:
    """What a request for `path` (/ALIAS/…) gets: ("index", ALIAS/repodata/NAME), ("file", local path), ("go", URL) or ("none", "")."""
    parts = urllib.parse.urlsplit(path)
    alias, _, rest = parts.path.lstrip("/").partition("/")
    url = table.get(urllib.parse.unquote(alias))
    rest = re.sub(r"/+", "/", rest).lstrip("/")
    plain = urllib.parse.unquote(rest)
    if url is None or ".." in plain.split("/") or "." in plain.split("/"):
        return "none", ""
    # However it is written: the mirror's own index is out of reach.
    if plain in [f"repodata/{name}" for name in (*_INDEX, "repomd.xml.key")]:
        return "index", f"{alias}/{plain}"
    if url.startswith("file://"):
        return "file", urllib.parse.unquote(urllib.parse.urlsplit(url).path + "/" + rest)
    return "go", f"{url}/{rest}" + (f"?{parts.query}" if parts.query else "")


def _handler(folder: str, table: dict[str, str]) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            kind, where = answer(self.path, table)
            if kind == "none":
                self.send_error(404)
                return
            if kind == "go":
                self.send_response(302)
                self.send_header("Location", where)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            try:
                with open(os.path.join(folder, where) if kind == "index" else where, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    self.send_response(200)
                    self.send_header("Content-Length", str(size))
                    self.end_headers()
                    if self.command == "GET":
                        self.copy(file)
            except (OSError, ValueError):
                self.send_error(404)

        def copy(self, file) -> None:  # type: ignore[no-untyped-def]
            while True:
                part = file.read(1 << 16)
                if not part:
                    return
                self.wfile.write(part)

        def log_message(self, *words: object) -> None:
            """The package manager's own log says what was fetched."""

    return Handler


def serve(folder: str, port_file: str, table: dict[str, str]) -> None:
    """Until it is ended. The port is written under another name first, so that a file that is there is whole."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(folder, table))
    with open(port_file + ".new", "w") as file:
        file.write(f"{server.server_address[1]}\n")
    os.replace(port_file + ".new", port_file)
    parent = os.getppid()
    server.timeout = 1.0
    # Whoever started this may be killed without a chance to end it.
    while os.getppid() == parent:
        server.handle_request()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    for name, words in (("verify", ("out", "keys")), ("first-keys", ("out",)), ("serve", ("dir", "port-file"))):
        command = commands.add_parser(name)
        command.add_argument("--source", action="append", required=True, metavar="ALIAS=URL")
        for word in words:
            command.add_argument("--" + word, required=True, nargs="+" if word == "keys" else None)
    args = parser.parse_args()
    try:
        table = sources(args.source or [])
        if args.command == "verify":
            print("\n".join(verify(args.out, args.keys, table)))
        elif args.command == "first-keys":
            first_keys(args.out, table)
        elif args.command == "serve":
            serve(args.dir, args.port_file, table)
        else:
            parser.error("no command")
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
