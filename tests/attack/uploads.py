"""Uploads that no peer makes: each a name, a body, and what the master may answer."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator

from vdc.archive import tar_gz

_REFUSED = (400, 413, 422)
# Odd, but nothing is lost or wrong when it is taken.
_EITHER = (201, *_REFUSED)


def _raw(*headers: bytes, end: bool = True) -> bytes:
    return gzip.compress(b"".join(headers) + (bytes(1024) if end else b""), 1)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _header(name: bytes, size: int = 0, kind: bytes = b"0", link: bytes = b"", **raw: bytes) -> bytes:
    """A ustar header; `raw` sets a field to bytes as they are: mode, length (that is the size), mtime, checksum, magic, prefix."""
    fields = {
        "mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "length": b"%011o\0" % (size % 8**11),
        "mtime": b"00000000000\0", "checksum": b" " * 8, "magic": b"ustar\x0000", "prefix": b"", **raw,
    }
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x", name, fields["mode"], fields["uid"], fields["gid"], fields["length"],
        fields["mtime"], fields["checksum"], kind, link, fields["magic"], b"", b"", b"", b"", fields["prefix"],
    )
    if "checksum" not in raw:
        block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
    return block


def _pax(**records: str) -> bytes:
    lines = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + len(str(len(body) + 2))
        lines += str(length).encode() + body
    return _header(b"pax", len(lines), b"x") + _padded(lines)


def _member(name: bytes, data: bytes, kind: bytes = b"0", link: bytes = b"") -> bytes:
    return _header(name, len(data), kind, link) + _padded(data)


Upload = tuple[str, bytes, tuple[int, ...]]


def malformed(inventory: bytes) -> Iterator[Upload]:
    """Every malformed upload; `inventory` is one that the master would store."""
    good = _member(b"inventory.json", inventory)
    yield from _malformed_gzip(good, tar_gz([("inventory.json", inventory)], level=1))
    yield from _malformed_inventory(good, inventory)
    yield from _malformed_members(good)


def _malformed_gzip(good: bytes, whole: bytes) -> Iterator[Upload]:
    yield "nothing at all", b"", _REFUSED
    yield "one byte", b"\x1f", _REFUSED
    yield "text", b"hello", _REFUSED
    yield "a tar that is not packed", gzip.decompress(whole), _REFUSED
    yield "zeros", bytes(4096), _REFUSED
    yield "an empty gzip", gzip.compress(b""), _REFUSED
    yield "an archive without members", _raw(), _REFUSED
    for cut in (10, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        yield f"cut after {cut} bytes", whole[:cut], _REFUSED
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x40
    yield "a flipped bit", bytes(flipped), _REFUSED
    yield "a wrong checksum of gzip", whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:], _REFUSED
    yield "a wrong length of gzip", whole[:-4] + struct.pack("<I", 7), _REFUSED
    yield "rubbish behind it", whole + b"rubbish", _EITHER
    yield "zeros behind it", whole + bytes(512), _EITHER
    yield "two gzip members", whole + whole, _EITHER
    yield "no end mark", _raw(good, end=False), _EITHER
    yield "a long extra field of gzip", whole[:3] + b"\x04" + whole[4:10] + struct.pack("<H", 60000) + bytes(60000) + whole[10:], _EITHER
    yield "a name field of gzip without an end", whole[:3] + b"\x08" + whole[4:10] + b"x" * 70000, _REFUSED
    yield "an unknown method of gzip", whole[:2] + b"\x07" + whole[3:], _REFUSED
    yield "deflate that goes on for ever", whole[:10] + b"\0\xff\xff\0\0" * 3, _REFUSED


def _malformed_inventory(good: bytes, inventory: bytes) -> Iterator[Upload]:
    yield "another file only", _raw(_member(b"other.json", inventory)), _REFUSED
    yield "inventory.json in a folder", _raw(_member(b"a/inventory.json", inventory)), _REFUSED
    yield "two inventories, of which the first counts", _raw(good, good), _EITHER
    yield "an empty inventory", _raw(_member(b"inventory.json", b"")), _REFUSED
    yield "an inventory that is a list", _raw(_member(b"inventory.json", b"[]")), _REFUSED
    yield "an inventory that is no JSON", _raw(_member(b"inventory.json", b"{")), _REFUSED
    yield "JSON and more", _raw(_member(b"inventory.json", b"{} {}")), _REFUSED
    yield "JSON that is not UTF-8", _raw(_member(b"inventory.json", b'{"a":"\xff\xfe"}')), _EITHER
    yield "JSON with a lone surrogate", _raw(_member(b"inventory.json", b'{"a":"\\ud800"}')), _EITHER
    yield "JSON with a key twice", _raw(_member(b"inventory.json", b'{"system":1,"system":2}')), _EITHER
    yield "a number beyond all bounds", _raw(_member(b"inventory.json", b'{"a":1e999999}')), _EITHER
    yield "a long number", _raw(_member(b"inventory.json", b'{"a":' + b"9" * 100_000 + b"}")), _EITHER
    yield "deep JSON", _raw(_member(b"inventory.json", b'{"a":' + b"[" * 200_000)), _REFUSED
    yield "deep JSON that ends", _raw(_member(b"inventory.json", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")), _EITHER
    yield "a system that is a number", _raw(_member(b"inventory.json", b'{"system":7,"net":"x"}')), _EITHER


def _malformed_members(good: bytes) -> Iterator[Upload]:
    yield "an absolute path", _raw(good, _member(b"/etc/passwd", b"x")), _EITHER
    yield "a path that climbs", _raw(good, _member(b"../../x", b"x")), _REFUSED
    yield "a path that climbs inside", _raw(good, _member(b"a/../../x", b"x")), _REFUSED
    yield "a symbolic link", _raw(good, _member(b"a", b"", b"2", b"/etc/shadow")), _EITHER
    yield "an inventory that is a link", _raw(_member(b"inventory.json", b"", b"2", b"/etc/shadow")), _REFUSED
    yield "a hard link", _raw(good, _member(b"a", b"", b"1", b"inventory.json")), _EITHER
    for kind, what in ((b"3", "a character device"), (b"4", "a block device"), (b"6", "a FIFO"), (b"7", "a contiguous file"), (b"S", "a sparse file")):
        yield what, _raw(good, _member(b"a", b"", kind)), _EITHER
    yield "a name of zeros", _raw(good, _member(b"", b"x")), _EITHER
    yield "a name with a line break", _raw(good, _member(b"a\nb\x1b[2J", b"x")), _EITHER
    yield "a name that is not UTF-8", _raw(good, _member(b"\xff\xfe", b"x")), _EITHER
    yield "a name of 60,000 characters", _raw(good, _pax(path="x" * 60_000), _member(b"x", b"x")), _EITHER
    yield "a name by GNU's way without an end", _raw(good, _header(b"././@LongLink", 1 << 30, b"L")), _REFUSED
    yield "a folder a thousand deep", _raw(good, _pax(path="a/" * 1000 + "x"), _member(b"x", b"x")), _EITHER
    yield "a size in letters", _raw(good, _header(b"a", length=b"zzzzzzzzzzz\0")), _REFUSED
    yield "a size beyond the file", _raw(good, _header(b"a", 1 << 32)), _REFUSED
    yield "a negative size", _raw(good, _negative()), _REFUSED
    yield "a size in pax beyond all bounds", _raw(good, _pax(size="99999999999999999999"), _member(b"a", b"x")), _REFUSED
    yield "a wrong checksum of a header", _raw(good, _header(b"a", checksum=b"0000000\0")), _REFUSED
    yield "a pax record that lies about its length", _raw(good, _header(b"pax", 9, b"x") + _padded(b"99 a=b\nxx"), _member(b"a", b"x")), _EITHER
    yield "an unknown type", _raw(good, _member(b"a", b"x", b"Z")), _EITHER
    yield "a hundred thousand members", _raw(good, *[_header(b"p%d" % n) for n in range(100_000)]), _EITHER


def _negative() -> bytes:
    """A size in base 256 with the sign bit."""
    block = bytearray(_header(b"a"))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def bomb(inventory: bytes) -> bytes:
    """A gigabyte of zeros behind an inventory, in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts: list[bytes] = [packer.compress(_member(b"inventory.json", inventory) + _header(b"zeros", 1 << 30))]
    for _ in range(1024):
        parts.append(packer.compress(bytes(1 << 20)))
    parts.append(packer.compress(bytes(1024)) + packer.flush())
    return b"".join(parts)


def dense(million: int) -> bytes:
    """JSON of a few kilobytes when packed that a tree of values makes gigabytes of."""
    body = b'{"a":[' + b"[]," * (million * 1_000_000 // 3) + b"0]}"
    return tar_gz([("inventory.json", body)])
