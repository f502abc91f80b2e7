"""How long does a peer take, how much does it fetch, and how does the plain way compare?

The plain way is what people do without recon's initrd: boot the live image over the network into memory, then take the
inventory there. Both ways run one after the other against the same master, alone on the host. Where the seconds and the bytes go is read
from the peer's serial line and from the heads of HTTP on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from . import api, dhcp, fetches, report, stick, stick_files
from .errors import LabError
from .fetches import Fetch
from .lab import Lab
from .master import Master
from .nodes import identity
from .peer import Peer
from .peer_group import PeerGroup

# What a peer is at, each until the next; in the order of happening. A way that lacks a mark has the time in the one before.
STEPS = {
    "discover": "firmware and boot program", "kernel": "fetching the kernel", "initrd": "fetching the initrd, starting the kernel",
    "began": "recon: drivers of ports, address", "network": "recon: other drivers", "drivers": "recon: inventory and upload",
}
# Process 1 of the first stage, or recon as a service.
_BEGAN = re.compile(r"\[recon +[\d.]+s\] (first stage of recon|peer of )")
_MARKED = {"kernel": "kernel", "base": "initrd", "initrd": "initrd"}
_DRIVERS = re.compile(r"network after ([\d.]+) s, all after ([\d.]+) s")
_FILES = ("kernel", "initrd", "first/base.img", "first/ports.img", "first/modules.pack")
_PARTS = {
    "kernel": "kernel", "base": "base of the first stage", "port": "drivers of the port", "pack": "other drivers and programs",
    "initrd": "dracut's initrd", "image": "image", "other": "boot programs, scripts and the rest",
}


class Figures(NamedTuple):
    """One peer's way."""

    discover_to_stored: float
    by_master: float
    power_on_to_discover: float
    power_on_to_off: float | None
    wire: int
    sent: int
    # Seconds of each of STEPS.
    steps: dict[str, float]
    # Bytes of each part of what was sent.
    parts: dict[str, int]


def run(lab: Lab, rounds: int) -> list[str]:
    """Measures and returns the lines of a Markdown report."""
    peers: dict[str, list[Peer]] = {"inventory": [], "liveboot": []}
    for at in range(rounds):
        peers["inventory"].append(Peer(lab, "uefi", identity(0x40 + at, f"inventory-{at + 1}")))
        peers["liveboot"].append(Peer(lab, "liveboot", identity(0x60 + at, f"plain-{at + 1}")))
    medium = stick.make(lab.options.iso, lab.folder / "stick.raw")
    special = {p.identity.mac: {"post-action": "liveboot", "poweroff": "acpi"} for p in peers["liveboot"]}
    stick.add_data_partition(medium, {"recon.toml": stick_files.recon_toml("Measurement", special)})
    found: dict[str, list[Figures]] = {"inventory": [], "liveboot": []}
    with Master(lab, medium) as master:
        rss_idle = master.boot().get("rss_bytes")
        for pair in zip(peers["inventory"], peers["liveboot"], strict=True):
            for kind, peer in zip(("inventory", "liveboot"), pair, strict=True):
                found[kind].append(_one(lab, master, peer))
        rss = master.api.status().get("rss_bytes")
        sizes = {name: _length(master, f"/boot/x86_64/{name}") for name in _FILES}
        master.shut_down()
    return _lines(lab, master, found, sizes, rss_idle, rss)


def _one(lab: Lab, master: Master, peer: Peer) -> Figures:
    group = PeerGroup(master, [peer], at_once=1)
    try:
        group.wait_stored(peer.name, 420.0)
        group.wait_off(peer.name)
    finally:
        group.power_off_all()
    entry = group.progress.entries[peer.name]
    at = api.stage_seconds(entry)
    first = _first_discover(lab, peer)
    if peer.stored_at is None:
        raise LabError(f"{peer.name}: no time of its upload")
    fetched = fetches.of(fetches.read(lab.capture.frames()), peer.identity.mac, peer.machine.started_wall)
    sent = int(entry["bytes_sent"])
    parts = fetches.by_part(fetched)
    # What went by TFTP, and what is not known of a head that was not captured.
    parts["other"] = max(0, sent - sum(size for part, size in parts.items() if part != "other"))
    return Figures(
        peer.stored_at - first, at["stored"] - at["seen"], first - peer.machine.started_wall, peer.machine.off_after,
        peer.machine.guest_received, sent, steps(marks(first, fetched, _said(peer)), peer.stored_at), parts,
    )


def _said(peer: Peer) -> list[tuple[float, str]]:
    """Lines of the peer's serial line, with the wall clock."""
    return [(peer.machine.started_wall + line.at, line.text) for line in peer.machine.console.lines()]


def marks(first: float, fetched: Sequence[Fetch], said: Sequence[tuple[float, str]]) -> dict[str, float]:
    """When the peer was where; what was not seen is left out."""
    found = {"discover": first}
    for fetch in fetched:
        if fetch.method == "GET" and fetch.part in _MARKED:
            found.setdefault(_MARKED[fetch.part], fetch.at)
    for at, text in said:
        if _BEGAN.search(text):
            found.setdefault("began", at)
        told = _DRIVERS.search(text)
        if told is not None:
            # Said when all are loaded.
            found["network"] = at - float(told[2]) + float(told[1])
            found["drivers"] = at
    return found


def steps(found: dict[str, float], stored: float) -> dict[str, float]:
    """Seconds of each step."""
    known = [mark for mark in STEPS if mark in found]
    times = [*(found[mark] for mark in known), stored]
    return {mark: end - begin for mark, (begin, end) in zip(known, pairwise(times), strict=True)}


def _first_discover(lab: Lab, peer: Peer) -> float:
    for datagram in lab.capture.datagrams():
        if datagram.destination_port == 67 and datagram.at >= peer.machine.started_wall:
            packet = dhcp.parse(datagram.payload)
            if packet.mac == peer.identity.mac and packet.kind == "discover":
                return datagram.at
    raise LabError(f"{peer.name}: no DISCOVER in the capture")


def _length(master: Master, path: str) -> int | None:
    """Length of a file; None where the master has none of that name."""
    status, headers, _ = master.api.request("HEAD", path)
    if status == 404:
        return None
    if status != 200 or "content-length" not in headers:
        raise LabError(f"HEAD {path}: status {status}, no length")
    return int(headers["content-length"])


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    middle = sum(values) / len(values)
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{middle:.1f}{spread}"


def _lines(
    lab: Lab, master: Master, found: dict[str, list[Figures]], sizes: dict[str, int | None], rss_idle: int | None, rss: int | None,
) -> list[str]:
    ours, plain = found["inventory"], found["liveboot"]
    rows = [
        ["One UEFI peer, 2 vCPU, TCG", "postaction=inventory", "plain way (liveboot)"],
        ["seconds DISCOVER to stored", *(_mean([f.discover_to_stored for f in way]) for way in (ours, plain))],
        *(
            [f"- {text}", *(_mean([f.steps[mark] for f in way if mark in f.steps]) for way in (ours, plain))]
            for mark, text in STEPS.items()
        ),
        ["the same by the master's clock", *(_mean([f.by_master for f in way]) for way in (ours, plain))],
        ["seconds power-on to DISCOVER", *(_mean([f.power_on_to_discover for f in way]) for way in (ours, plain))],
        ["seconds power-on to off", *(_mean([f.power_on_to_off or 0.0 for f in way]) for way in (ours, plain))],
        ["bytes sent to the peer, by the master", *(report.size(max(f.sent for f in way)) for way in (ours, plain))],
        *(
            [f"- {text}", *(report.size(most) if most else "-" for most in (max(f.parts[part] for f in way) for way in (ours, plain)))]
            for part, text in _PARTS.items()
        ),
        ["bytes to the peer on the wire", *(report.size(max(f.wire for f in way)) for way in (ours, plain))],
    ]
    ratio = sum(f.discover_to_stored for f in ours) / sum(f.discover_to_stored for f in plain)
    other = [
        ["Figure", "Value"],
        ["stick power-on to master ready", f"{master.ready_after or 0.0:.1f} s"],
        ["time of a peer, against the plain way", f"{ratio:.2f}"],
        ["bytes of a peer, against the plain way", f"{max(f.sent for f in ours) / max(f.sent for f in plain):.2f}"],
        ["ISO", report.size(lab.options.iso.stat().st_size)],
        [", ".join(sizes), ", ".join("-" if size is None else report.size(size) for size in sizes.values())],
        ["master's RSS, idle and after the peers", " and ".join("?" if x is None else report.size(x) for x in (rss_idle, rss))],
    ]
    return [report.markdown(rows), "", report.markdown(other)]
