"""Which files did a machine fetch over HTTP, when, and how large were they?

Read from the heads of requests and answers in a capture. A length is what the answer announces: a download that broke off
counts whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .capture import Frame

_PORT = 80
_FIRST = "/boot/x86_64/first/"
# Parts of what a machine is sent, in the order in which it asks for them.
PARTS = ("kernel", "base", "port", "pack", "initrd", "image", "other")
_PART_OF = {
    "/boot/x86_64/kernel": "kernel", "/boot/x86_64/initrd": "initrd", "/image.iso": "image",
    f"{_FIRST}base.img": "base", f"{_FIRST}modules.pack": "pack", f"{_FIRST}ports.img": "port",
}


class Fetch(NamedTuple):
    """One request and the head of its answer; `status` is 0 where no answer was captured."""

    at: float
    mac: str
    method: str
    path: str
    status: int = 0
    length: int = 0

    @property
    def part(self) -> str:
        """Which part of the system it is; of the first stage, ports have one image each."""
        return "port" if self.path.startswith(f"{_FIRST}port/") else _PART_OF.get(self.path, "other")

    @property
    def sent(self) -> int:
        """Bytes of the body."""
        return 0 if self.method == "HEAD" else self.length


class _Segment(NamedTuple):
    """The head of a TCP segment's payload, and whose it is: (client's address and port, sequence number)."""

    at: float
    source_mac: str
    client: tuple[bytes, int]
    asks: bool
    number: int
    head: bytes


def _segment(frame: Frame) -> _Segment | None:
    data = frame.data
    if len(data) < 54:
        return None
    if data[12:14] == b"\x08\x00" and data[14] >> 4 == 4 and data[23] == 6:
        start, ends = 14 + (data[14] & 15) * 4, (data[26:30], data[30:34])
    elif data[12:14] == b"\x86\xdd" and data[20] == 6:
        start, ends = 54, (data[22:38], data[38:54])
    else:
        return None
    if len(data) < start + 20:
        return None
    source, destination, number = struct.unpack(">HHI", data[start : start + 8])
    asks = destination == _PORT
    client = (ends[0], source) if asks else (ends[1], destination)
    head = data[start + (data[start + 12] >> 4) * 4 :]
    return _Segment(frame.at, ":".join(f"{b:02x}" for b in data[6:12]), client, asks, number, head)


def _words(head: bytes) -> list[str]:
    return head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


def read(frames: Iterable[Frame]) -> list[Fetch]:
    """Every request in a capture, in order. Answers belong to the requests of their connection in the order of both."""
    found: list[Fetch] = []
    waiting: dict[tuple[bytes, int], list[int]] = {}
    seen: set[tuple[tuple[bytes, int], bool, int]] = set()
    for segment in filter(None, map(_segment, frames)):
        key = (segment.client, segment.asks, segment.number)
        # One that was sent again.
        if key in seen:
            continue
        words = _words(segment.head)
        if segment.asks and words[0] in ("GET", "HEAD") and len(words) > 1:
            waiting.setdefault(segment.client, []).append(len(found))
            found.append(Fetch(segment.at, segment.source_mac, words[0], words[1].partition("?")[0]))
        elif not segment.asks and words[0].startswith("HTTP/") and len(words) > 1 and words[1].isdigit() and waiting.get(segment.client):
            at = waiting[segment.client].pop(0)
            found[at] = found[at]._replace(status=int(words[1]), length=_length(segment.head))
        else:
            continue
        seen.add(key)
    return found


def of(fetches: Sequence[Fetch], mac: str, since: float = 0.0) -> list[Fetch]:
    """Those of one machine, from a moment of the wall clock on."""
    return [fetch for fetch in fetches if fetch.mac == mac and fetch.at >= since]


def by_part(fetches: Iterable[Fetch]) -> dict[str, int]:
    """Bytes of each part."""
    sizes = dict.fromkeys(PARTS, 0)
    for fetch in fetches:
        sizes[fetch.part] += fetch.sent
    return sizes


def system_files(fetches: Iterable[Fetch]) -> Iterator[str]:
    """What was fetched whole of the system that is booted, by its path below `/boot/x86_64/`, in order."""
    return (fetch.path.removeprefix("/boot/x86_64/") for fetch in fetches if fetch.method == "GET" and fetch.part not in ("other", "pack"))
