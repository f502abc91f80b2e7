"""Does the inventory of a guest match the hardware it was given, and what other tools find in it?

One guest with one of everything (`full_guest`), inventoried in its initrd. The site's own workload runs lshw, dmidecode, lspci,
ethtool, ipmitool and hwinfo beside `recon inventory` there, and times them; its results come home with the upload.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Sequence
from typing import Any

from . import bmc, collect, disks, full_guest, post_bundle, stick, stick_files, switch, tools
from .environment import Environment
from .errors import LabError
from .lab import Lab
from .master import Master
from .nodes import KINDS, Identity, identity
from .peer import Peer
from .suite import Scenario, expect, expect_none

_TOOLS = ("lshw", "hwinfo", "dmidecode", "lspci", "ethtool", "ipmitool")
_NAME = "full-guest"
_ROUNDS = 5
# What lshw looks at too; sensors, cables and self tests are counted apart.
_COMPARED = "system,bios,cpus,memory,disks,storage_controllers,nics,pci,usb,gpus,security"
_SCRIPT = f"""#!/bin/sh
B=${{0%/*}}
[ "$B" = "$0" ] && B=.
B=$(cd "$B" && pwd)
R=$RECON_RESULT
PATH=$B/bin:$PATH
now() {{ read -r up _ < /proc/uptime; echo "${{up%.*}}${{up#*.}}"; }}
timed() {{
    name=$1; shift
    begun=$(now)
    "$@" > "$R/$name" 2> "$R/$name.err"
    code=$?
    echo "$name $(( ($(now) - begun) * 10 )) $code" >> "$R/times.txt"
}}
i=0
while [ $i -lt {_ROUNDS} ]; do
    timed bare-lshw.json lshw -json
    timed recon.json recon inventory --format json --only {_COMPARED}
    # Ten seconds a time, all the same.
    [ $i -lt 2 ] && timed hwinfo.txt hwinfo --all
    i=$((i + 1))
done
# And lshw as its package has it, with the databases of names, which are part of recon.
mkdir -p /usr/share && mount -t tmpfs tmpfs /usr/share && mkdir /usr/share/misc && cp "$B"/share/*.ids /usr/share/misc/
for i in 1 2 3; do timed lshw.json lshw -json; done
umount /usr/share
timed dmidecode.txt dmidecode
timed lspci.txt lspci -i "$B/share/pci.ids" -Dvmmnnk
for port in /sys/class/net/*; do
    port=${{port##*/}}
    [ "$port" = lo ] && continue
    timed "ethtool.$port.txt" sh -c "ethtool -P $port; ethtool -i $port; ethtool $port"
done
timed fru.txt ipmitool fru
timed sdr.txt ipmitool sdr elist
timed sel.txt ipmitool sel info
timed lan.txt ipmitool lan print 1
timed users.txt ipmitool user list 1
timed mc.txt ipmitool mc info
timed capture.json recon inventory --format json --capture "$R/capture.tar"
exit 0
"""


class FullGuestSite(Environment):
    """A master, a switch, and the guest with one of everything, stored and off."""

    def set_up(self) -> None:
        lab = self.lab
        lab.namespace.add_bridge(full_guest.SECOND_BRIDGE)
        medium = stick.make(lab.options.iso, lab.folder / "full-guest-stick.raw")
        stick.add_data_partition(medium, {
            "recon.toml": stick_files.recon_toml("Full guest", {}),
            "post.tgz": post_bundle.pack(_TOOLS, _SCRIPT),
        })
        controller = self._stack.enter_context(bmc.Bmc(lab.namespace, lab.folder))
        tpm = self._stack.enter_context(full_guest.Tpm(lab))
        self.identity = identity(0x09, _NAME)
        master = self.own_master(Master(lab, medium))
        master.boot()
        group = self.own_peers(master, [FullGuestPeer(lab, self.identity, controller, tpm)])
        group.wait_stored_and_off(_NAME, 300.0, 240.0)
        master.shut_down()
        collected = collect.collect(lab.options.recon, medium, lab.folder / "full-guest-inventory.tar.gz")
        self.document: dict[str, Any] = collected.inventory(self.identity.uuid)
        found = collected.under(self.identity.uuid, "post")
        self.files: dict[str, bytes] = {name.rsplit("/", 1)[-1]: data for name, data in found.items()}
        (lab.folder / "full-guest.json").write_text(json.dumps(self.document, indent=1))
        for name, data in self.files.items():
            (lab.folder / f"tool.{name}").write_bytes(data)

    def text(self, name: str) -> str:
        if name not in self.files:
            raise LabError(f"the workload left no {name}; it left {sorted(self.files)}")
        return self.files[name].decode("utf-8", "replace")

    def part(self, name: str) -> Any:
        part = self.document[name]
        expect(part["status"] == "ok", f"{name} is {part['status']}: {part['reason']}")
        return part["value"]


class FullGuestPeer(Peer):
    """The guest as a peer of the harness."""

    def __init__(self, lab: Lab, who: Identity, controller: bmc.Bmc, tpm: full_guest.Tpm) -> None:
        super().__init__(lab, "uefi", who)
        self.kind = KINDS["uefi"]._replace(disks=(("nvme", "ext4"), ("sata", "lvm"), ("virtio", "raid"), ("usb", "random")))
        self.spec = full_guest.spec_of(who, lab.folder, controller, tpm)
        self.machine = lab.machine(self.spec)


Check = tuple[str, Any, Any]


def _differences(checks: Sequence[Check]) -> list[str]:
    return [f"{what}: given {given!r}, told {told!r}" for what, told, given in checks if told != given]


def given(site: FullGuestSite) -> None:
    """Item by item: what the machine was given."""
    system, bios, memory = site.part("system"), site.part("bios"), site.part("memory")
    cpus, nics, found = site.part("cpus"), site.part("nics"), site.part("disks")
    controller = site.part("bmc")
    security = site.part("security")
    dimms = [dimm for dimm in memory["dimms"] if dimm["populated"]]
    by_serial = {disk["serial"]: disk for disk in found}
    by_mac = {nic["permanent_mac"] or nic["mac"]: nic for nic in nics}
    checks: list[Check] = [
        ("serial", system["serial"], site.identity.serial),
        ("uuid", system["uuid"], site.identity.uuid),
        ("board serial", system["board"]["serial"], full_guest.BOARD_SERIAL),
        ("chassis serial", system["chassis"]["serial"], full_guest.CHASSIS_SERIAL),
        ("chassis asset tag", system["chassis"]["asset_tag"], full_guest.CHASSIS_ASSET),
        ("OEM strings", system["oem_strings"], [full_guest.OEM_STRING]),
        ("mode", bios["mode"], "uefi"),
        ("sockets, cores, threads", (cpus["sockets"], cpus["cores"], cpus["threads"]), (2, 4, 4)),
        ("modules", [dimm["size_bytes"] >> 30 for dimm in dimms], [16, 16, 2]),
        ("module serials", {dimm["serial"] for dimm in dimms}, {full_guest.DIMM_SERIAL}),
        ("module parts", {dimm["part_number"] for dimm in dimms}, {full_guest.DIMM_PART}),
        ("module makers", {dimm["manufacturer"] for dimm in dimms}, {full_guest.DIMM_MAKER}),
        ("module speeds", {dimm["speed_mtps"] for dimm in dimms}, {full_guest.DIMM_SPEED}),
        ("NUMA distances", [node["distances"] for node in memory["numa_nodes"]],
         [[10, full_guest.DISTANCE], [full_guest.DISTANCE, 10]]),
        ("disk serials", set(by_serial), {f"{site.identity.serial}D{at}" for at in range(4)}),
        ("transports", [by_serial[f"{site.identity.serial}D{at}"]["transport"] for at in range(4)],
         ["nvme", "sata", "virtio", "usb"]),
        ("sizes", {disk["size_bytes"] for disk in found}, {disks.SIZE}),
        ("read-only", {disk["read_only"] for disk in found}, {True}),
        ("MACs", set(by_mac), {site.identity.mac, full_guest.SECOND_MAC}),
        ("drivers", [by_mac[mac]["driver"] for mac in (site.identity.mac, full_guest.SECOND_MAC)], ["virtio_net", "igb"]),
        ("boot port", [nic["boot_port"] for nic in nics if nic["mac"] == site.identity.mac], [True]),
        ("both ports up", {nic["carrier"] for nic in nics}, {True}),
        ("TPM version", [tpm["version"] for tpm in security["tpms"]], ["2.0"]),
        ("Secure Boot", security["secure_boot"], False),
        ("BMC address", [lan["ipv4"] for lan in controller["lan"]], [bmc.ADDRESS]),
        ("BMC MAC", [lan["mac"] for lan in controller["lan"]], [bmc.MAC]),
        ("BMC users", {user["name"] for user in controller["users"] if user["name"]}, set(bmc.USERS.values())),
        ("SEL entries", controller["sel"]["entries_total"], bmc.EVENTS),
    ]
    board = controller["frus"][0].get("board") or {}
    checks += [
        ("FRU board serial", board.get("serial"), bmc.BOARD_SERIAL),
        ("FRU board name", board.get("product"), bmc.BOARD_NAME),
    ]
    readings = {sensor["name"]: sensor["value"] for sensor in controller["sensors"]["sensors"]}
    checks += [(f"sensor {name}", readings.get(name), float(value)) for _, name, value in bmc.SENSORS]
    wrong = _differences(checks)
    expect_none(wrong)


def cable_map(site: FullGuestSite) -> None:
    """Each port is at its own switch port, by the protocol spoken on its cable."""
    ports = {port["mac"]: port["neighbours"] for port in site.part("cabling")["ports"]}
    for mac, protocol in ((site.identity.mac, "lldp"), (full_guest.SECOND_MAC, "cdp")):
        heard = ports.get(mac, [])
        expect(len(heard) == 1, f"{mac} heard {heard}")
        neighbour = heard[0]
        wrong = _differences([
            ("protocol", neighbour["protocol"], protocol),
            ("system", neighbour["system_name"], switch.SYSTEM),
            ("VLAN", neighbour["port_vlan"], switch.VLAN),
            ("management", neighbour["management_addresses"], [switch.MANAGEMENT]),
        ])
        expect(not wrong, f"{mac}: {'; '.join(wrong)}")
        expect(re.fullmatch(r"tap\d+", neighbour["port_id"] or ""), f"{mac}: port {neighbour['port_id']!r}")
    first, second = (ports[mac][0]["port_id"] for mac in (site.identity.mac, full_guest.SECOND_MAC))
    expect(first != second, f"both cables end in {first}")


def _lshw(node: Any) -> list[dict[str, Any]]:
    """Every node of lshw's tree."""
    if isinstance(node, list):
        return [found for child in node for found in _lshw(child)]
    return [node, *(found for child in node.get("children", []) for found in _lshw(child))]


def agreement(site: FullGuestSite) -> None:
    """Ours against five tools in the same guest."""
    nodes = _lshw(json.loads(site.text("lshw.json")))
    dmi = site.text("dmidecode.txt")
    found, nics, functions = site.part("disks"), site.part("nics"), site.part("pci")
    by_class = functools.partial(lambda kind: [node for node in nodes if node.get("class") == kind])
    # lshw knows no serial of a USB disk behind UAS/BOT without SG_IO, and shows virtio's and NVMe's; so one way round only.
    serials = {node.get("serial") for node in by_class("disk")} - {None}
    ours = {disk["serial"] for disk in found}
    lspci = {
        (slot, f"{vendor}:{device}")
        for slot, vendor, device in re.findall(
            r"^Slot:\s+(\S+)\n(?:.*\n)*?Vendor:.*\[([0-9a-f]{4})\]\nDevice:.*\[([0-9a-f]{4})\]", site.text("lspci.txt"), re.M
        )
    }
    checks: list[Check] = [
        ("lshw: serials of disks it knows and we do not", serials - ours, set()),
        ("lshw: MACs", {node["serial"] for node in by_class("network") if "serial" in node}, {nic["mac"] for nic in nics}),
        ("dmidecode: UUID", re.findall(r"UUID: (\S+)", dmi)[:1], [site.part("system")["uuid"]]),
        ("dmidecode: DIMM serials", len(re.findall(rf"Serial Number: {full_guest.DIMM_SERIAL}", dmi)),
         len([dimm for dimm in site.part("memory")["dimms"] if dimm["populated"]])),
        ("lspci: functions", lspci, {(f["address"], f["id"]) for f in functions}),
    ]
    for nic in nics:
        said = site.text(f"ethtool.{nic['name']}.txt")
        driver = re.search(r"^driver: (\S+)", said, re.M)
        permanent = re.search(r"Permanent address: (\S+)", said)
        checks += [
            (f"ethtool: driver of {nic['name']}", driver and driver[1], nic["driver"]),
            (f"ethtool: permanent address of {nic['name']}", permanent and permanent[1], nic["permanent_mac"] or nic["mac"]),
        ]
    controller = site.part("bmc")
    sensors = [sensor["name"] for sensor in controller["sensors"]["sensors"]]
    lan = controller["lan"][0]
    sel = re.search(r"^Entries\s*:\s*(\d+)", site.text("sel.txt"), re.M)
    checks += [
        ("ipmitool: sensors", [line.split("|")[0].strip() for line in site.text("sdr.txt").splitlines() if "|" in line],
         sensors),
        ("ipmitool: board serial", bmc.BOARD_SERIAL in site.text("fru.txt"), True),
        ("ipmitool: SEL entries", sel and int(sel[1]), controller["sel"]["entries_total"]),
        ("ipmitool: address", re.findall(r"^IP Address\s+: (\S+)", site.text("lan.txt"), re.M), [lan["ipv4"]]),
        ("ipmitool: MAC", re.findall(r"^MAC Address\s+: (\S+)", site.text("lan.txt"), re.M), [lan["mac"]]),
    ]
    wrong = _differences(checks)
    expect_none(wrong)


def _filled(value: Any) -> int:
    """Values that say something, in a document."""
    if isinstance(value, dict):
        return sum(_filled(v) for k, v in value.items() if k not in ("millis", "status", "source", "items"))
    if isinstance(value, list):
        return sum(map(_filled, value))
    return 0 if value in (None, "", False) else 1


def beside_others(site: FullGuestSite) -> None:
    """Time and content beside lshw and hwinfo, in the same guest, in turns. The table is left in `figures.md`."""
    times: dict[str, list[int]] = {}
    for line in site.text("times.txt").splitlines():
        name, millis, code = line.split()
        expect(code == "0" or name.startswith(("sdr", "lan")), f"{name} ended with {code}: {site.text(name + '.err')[:200]}")
        times.setdefault(name, []).append(int(millis))
    best = {name: min(values) for name, values in times.items()}
    ours = max(best["recon.json"], 10)
    counts = {name: _filled(json.loads(site.text(name))) for name in ("recon.json", "lshw.json", "bare-lshw.json")}
    columns = ("recon.json", "lshw.json", "bare-lshw.json", "hwinfo.txt")
    rows = [
        "| In the same guest, the best of some | recon | lshw | lshw without names | hwinfo --all |", "|---|---|---|---|---|",
        f"| milliseconds | {' | '.join(str(best[name]) for name in columns)} |",
        f"| against recon | {' | '.join(f'{best[name] / ours:.1f}' for name in columns)} |",
        f"| values that say something | {' | '.join(str(counts.get(name, 'text')) for name in columns)} |",
    ]
    (site.lab.folder / "figures.md").write_text("\n".join(rows) + "\n")
    for row in rows:
        site.lab.report.plain(row)
    expect(counts["recon.json"] > counts["lshw.json"], f"fewer values than lshw: {counts}")
    named = {node.get("vendor") for node in _lshw(json.loads(site.text("lshw.json")))}
    expect("Red Hat, Inc." in named, f"lshw did not find its names: {sorted(filter(None, named))}")


def _told(part: dict[str, Any]) -> Any:
    return part["status"], part["value"]


def captured(site: FullGuestSite) -> None:
    """What a capture gives on another machine: nothing of the guest is asked again, and nothing of this host gets in."""
    there = json.loads(site.text("capture.json"))
    # The one total that a system call tells, and no file.
    totals = there["memory"]["value"]["totals"]
    there["memory"]["value"]["totals"] = [total for total in totals if total["source"] != "sysinfo"]
    with tempfile.TemporaryDirectory(dir=site.lab.folder) as folder:
        with tarfile.open(fileobj=io.BytesIO(site.files["capture.tar"])) as archive:
            archive.extractall(folder, filter="data")
        here = json.loads(tools.run([str(site.lab.options.recon), "inventory", "--root", folder, "--format", "json"]))
    differ = [
        name for name, part in there.items()
        # When and for how long it ran is another matter here.
        if name not in ("schema_version", "run") and _told(part) != _told(here[name])
    ]
    expect(not differ, f"parts that read otherwise from the capture: {', '.join(differ)}")


SCENARIOS: list[Scenario[FullGuestSite]] = [
    Scenario("hardware-given", "every item is what the machine was given", given),
    Scenario("cable-map", "LLDP and CDP on two ports become the right cable map", cable_map),
    Scenario("hardware-tools", "lshw, dmidecode, lspci, ethtool and ipmitool agree in the same machine", agreement),
    Scenario("hardware-capture", "a capture read on another machine is the same inventory", captured),
    Scenario("hardware-beside", "more values than lshw; times beside lshw and hwinfo", beside_others),
]
