"""How long does a peer take, how much does it fetch, and how does the plain way compare?

The plain way is what people do without recon's initrd: boot the live image over the network into memory, then take the
inventory there. Both ways run one after the other against the same master, alone on the host.
"""

from __future__ import annotations

from typing import NamedTuple

from . import api, dhcp, report, stick, stick_files
from .errors import LabError
from .lab import Lab
from .master import Master
from .nodes import identity
from .peer import Peer
from .peer_group import PeerGroup


class Figures(NamedTuple):
    """One peer's way."""

    discover_to_stored: float
    by_master: float
    power_on_to_discover: float
    power_on_to_off: float | None
    wire: int
    sent: int


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
        initrd = _length(master, "/boot/x86_64/initrd")
        kernel = _length(master, "/boot/x86_64/kernel")
        master.shut_down()
    return _lines(lab, master, found, initrd, kernel, rss_idle, rss)


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
    return Figures(
        peer.stored_at - first, at["stored"] - at["seen"], first - peer.machine.started_wall, peer.machine.off_after,
        peer.machine.guest_received, int(entry["bytes_sent"]),
    )


def _first_discover(lab: Lab, peer: Peer) -> float:
    for datagram in lab.capture.datagrams():
        if datagram.destination_port == 67 and datagram.at >= peer.machine.started_wall:
            packet = dhcp.parse(datagram.payload)
            if packet.mac == peer.identity.mac and packet.kind == "discover":
                return datagram.at
    raise LabError(f"{peer.name}: no DISCOVER in the capture")


def _length(master: Master, path: str) -> int:
    status, headers, _ = master.api.request("HEAD", path)
    if status != 200 or "content-length" not in headers:
        raise LabError(f"HEAD {path}: status {status}, no length")
    return int(headers["content-length"])


def _mean(values: list[float]) -> str:
    middle = sum(values) / len(values)
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{middle:.1f}{spread}"


def _lines(
    lab: Lab, master: Master, found: dict[str, list[Figures]], initrd: int, kernel: int, rss_idle: int | None,
    rss: int | None,
) -> list[str]:
    ours, plain = found["inventory"], found["liveboot"]
    rows = [
        ["One UEFI peer, 2 vCPU, TCG", "postaction=inventory", "plain way (liveboot)"],
        ["seconds DISCOVER to stored", *(_mean([f.discover_to_stored for f in way]) for way in (ours, plain))],
        ["the same by the master's clock", *(_mean([f.by_master for f in way]) for way in (ours, plain))],
        ["seconds power-on to DISCOVER", *(_mean([f.power_on_to_discover for f in way]) for way in (ours, plain))],
        ["seconds power-on to off", *(_mean([f.power_on_to_off or 0.0 for f in way]) for way in (ours, plain))],
        ["bytes sent to the peer, by the master", *(report.size(max(f.sent for f in way)) for way in (ours, plain))],
        ["bytes to the peer on the wire", *(report.size(max(f.wire for f in way)) for way in (ours, plain))],
    ]
    ratio = sum(f.discover_to_stored for f in ours) / sum(f.discover_to_stored for f in plain)
    other = [
        ["Figure", "Value"],
        ["stick power-on to master ready", f"{master.ready_after or 0.0:.1f} s"],
        ["time of a peer, against the plain way", f"{100 * ratio:.0f} %"],
        ["ISO", report.size(lab.options.iso.stat().st_size)],
        ["kernel, initrd", f"{report.size(kernel)}, {report.size(initrd)}"],
        ["master's RSS, idle and after the peers", " and ".join("?" if x is None else report.size(x) for x in (rss_idle, rss))],
    ]
    return [report.markdown(rows), "", report.markdown(other)]
