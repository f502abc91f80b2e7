"""What does a demo show, from the stick in the master to the inventory tarball?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from . import api, collect, report, stick, stick_files
from .errors import LabError
from .lab import Lab
from .machine import BRIDGE
from .master import Master
from .nodes import KINDS, identity
from .peer import Peer
from .peer_group import PeerGroup
from .scenarios_site import BY_HAND

_SHOWN = ("seen", "addressed", "loader", "kernel", "agent", "collected", "stored")


def run(lab: Lab, firmware: Sequence[str], count: int, keep: bool, bridge: str = BRIDGE) -> list[str]:
    """Boots a master and its peers, brings the inventory home; returns what was not as it should be."""
    unknown = [kind for kind in firmware if kind not in KINDS]
    if unknown:
        raise LabError(f"no such kind of peer: {', '.join(unknown)}; there are {', '.join(sorted(KINDS))}")
    kinds = [firmware[at % len(firmware)] for at in range(count)]
    peers = [Peer(lab, kind, identity(0x10 + at, f"{kind}-{at + 1}"), bridge=bridge) for at, kind in enumerate(kinds)]
    medium = stick.make(lab.options.iso, lab.folder / "stick.raw")
    special = {p.identity.mac: {"post-action": "liveboot", "poweroff": "acpi"} for p in peers if p.kind.liveboot}
    if special:
        stick.add_data_partition(medium, {"recon.toml": stick_files.recon_toml("Virtual Data Center", special)})
    lab.report.line(f"stick: {medium} ({report.size(lab.options.iso.stat().st_size)} image, 1 GiB free behind it)")
    wrong: list[str] = []
    with Master(lab, medium) as master:
        status = master.boot()
        storage = status["storage"]
        where = storage["device"] if storage["durable"] else f"memory: {storage['problem']}"
        lab.report.line(f"{master.spec.name}: keeps uploads on {where}")
        group = PeerGroup(master, peers, at_once=2)
        try:
            for peer in peers:
                wrong += _follow(group, peer)
            _keep_up(lab, keep)
        finally:
            group.power_off_all()
        group.progress.poll()
        master.shut_down()
        wrong += master.changes()
        for peer in peers:
            wrong += peer.changes()
    collected = collect.collect(lab.options.recon, medium, lab.folder / "inventory.tar.gz")
    missing = [p.name for p in peers if p.identity.uuid not in collected.nodes]
    wrong += [f"{name}: not in the tarball" for name in missing]
    _summary(lab, master, group, collected)
    master.remove_disks()
    for peer in peers:
        peer.remove_disks()
    return wrong


def _follow(group: PeerGroup, peer: Peer) -> list[str]:
    """Waits for one peer's end, whatever its policy makes of it."""
    try:
        group.wait_stored(peer.name, 1500.0 if peer.spec.ports[0].bridge != BRIDGE else 480.0 if peer.kind.liveboot or peer.kind.secure else 240.0)
        if peer.kind.bmc:
            group.wait_off(peer.name)
        else:
            group.wait(peer.name, "says what to do by hand", lambda p: True if p.machine.console.find(BY_HAND) else None, 60)
            group.done(peer.name)
            peer.machine.kill()
    except LabError as error:
        group.done(peer.name)
        return [f"{peer.name}: {error}"]
    return []


def _keep_up(lab: Lab, keep: bool) -> None:
    if keep:
        lab.report.line(f"the lab stays up: `ip netns exec {lab.namespace.name} curl http://192.168.219.1/api/v1/nodes`")
        lab.report.line("press Enter here to shut the master down and collect, Ctrl-C to drop everything")
        with contextlib.suppress(EOFError):  # nobody at the keyboard: go on
            input()


def _summary(lab: Lab, master: Master, group: PeerGroup, collected: collect.InventoryTarball) -> None:
    rows = [["peer", "boot", *(f"{stage} s" for stage in _SHOWN), "off s", "fetched"]]
    for peer in group.peers:
        entry = group.progress.entries.get(peer.name, {})
        at = api.stage_seconds(entry)
        first = at.get("seen", 0.0)
        off = peer.machine.off_after
        cells = [f"{at[stage] - first:.1f}" if stage in at else "-" for stage in _SHOWN]
        # Power-off is on the clock of the host; power-on is its zero, so `seen` is some seconds later.
        rows.append([
            peer.name, peer.spec.firmware, *cells, "-" if off is None else f"{off:.1f}",
            report.size(int(entry.get("bytes_sent", 0))),
        ])
    lab.report.plain(f"\nSeconds after the first DHCP packet of each peer (off: after its power on); "
                     f"master ready {master.ready_after or 0.0:.1f} s after power on:")
    lab.report.plain(report.table(rows))
    lab.report.plain("\nWhat the stick brought home (recon collect):")
    lab.report.plain(collected.printed.rstrip())
    lab.report.plain(f"\ntarball: {collected.tarball}\nstick:   {master.stick}\nlogs:    {lab.folder}")
