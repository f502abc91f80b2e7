"""Do diskless nodes run from memory what their master names, and say so?

The master is no stick here but a service with a folder of its own, as on an installed server of a farm; its network is the bridge of the
laboratory.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from . import polling, tools
from .environment import Environment
from .errors import LabError
from .farm_master import FarmMaster
from .nodes import Kind, identity
from .peer import Peer
from .suite import Scenario, expect, expect_none

_NODE = Kind("bios", "virtio-net-pci", (("virtio", "ext4"), ("sata", "raid")), memory_mib=1536, bmc=False)
_KINDS = {
    "node-1": _NODE,
    "node-2": _NODE._replace(nic="e1000e"),
    "small-node": _NODE._replace(memory_mib=320),
    # Enough for the packed root alone.
    "packed-node": _NODE._replace(memory_mib=640),
    "bad-node": _NODE,
    "cut-node": _NODE,
    "cut-packed": _NODE,
    "roll-node": _NODE._replace(memory_mib=640),
}
_NUMBERS = {"node-1": 0xA0, "small-node": 0xA1, "bad-node": 0xA2, "node-2": 0xA3, "packed-node": 0xA4, "cut-node": 0xA5, "cut-packed": 0xA6, "roll-node": 0xA7}
_HOST_NAMES = {"node-1": "worker-1", "packed-node": "worker-2"}
_LOGIN = re.compile(r"worker-1 login:")
_MOTD = "{{hostname}} runs {{image}} at {{site}}\n"
# By name of a node.
_RULES = {
    **{name: f'image = "compute"\nhostname = "{own}"\noverlays = ["base"]' for name, own in _HOST_NAMES.items()},
    "node-2": 'image = "gpu"',
    # Of which there is one version only, whatever other scenarios bring.
    "small-node": 'image = "single"',
    "cut-node": 'image = "compute"',
    "roll-node": 'image = "compute"',
    "cut-packed": 'image = "compute"\nroot = "squashfs"',
    "bad-node": 'image = "shaky"\noverlays = ["broken"]',
}
# What a machine's firmware says when it starts.
_FIRMWARE = re.compile("iPXE|SeaBIOS")
# The first program of a system that does not come up.
_BROKEN = "#!/bin/sh\necho b >/proc/sysrq-trigger\nsleep 60\n"
# Connections of a node's download that are cut, and the time for which its master is away.
_CUTS = 13
_AWAY_SECONDS = 20.0
# A node in the failsafe system asks every minute whether it still should be.
_ASKS_SECONDS = 75.0
# What is asked of a node, line by line.
_WHO = "hostname; cat /etc/motd /etc/machine-id; systemctl is-system-running; stat -c %a /etc/ssh/ssh_host_ed25519_key"
# Whether its root is an overlay that can be written to, with owners and modes of the image below it.
_WRITES = "stat -f -c %T /; echo a >/etc/own && cat /etc/own; rm /etc/debian_version && ls /etc/debian_version; stat -c %U:%a /etc/shadow /usr/bin/su"


class Farm(Environment):
    """A master with images in a folder, and the nodes that the chosen scenarios need."""

    # Versions that differ in white space.
    _others = 0

    def set_up(self) -> None:
        lab, image = self.lab, self.lab.options.node_image
        if image is None:
            raise LabError("--node-image FOLDER is needed: ./make-recipe-target debian-13 ramroot makes one")
        self.nodes = {name: Peer(lab, _KINDS[name], identity(_NUMBERS[name], name)) for name in self.names}
        data = self.data = lab.folder / "farm"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        self._stack.callback(shutil.rmtree, data, ignore_errors=True)
        rules = [f'[[node]]\nmac = "{node.identity.mac}"\n{_RULES[name]}\n' for name, node in self.nodes.items()]
        (data / "recon.toml").write_text("\n".join(['site = "Farm"\n[peers]\nfailsafe-after = 1\n', *rules]))
        motd = data / "overlays/base/etc/motd.in"
        motd.parent.mkdir(parents=True)
        motd.write_text(_MOTD)
        self.key = lab.folder / "operator"
        self.key.unlink(missing_ok=True)
        tools.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(self.key)])
        (data / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        if "bad-node" in self.nodes:
            self.broken = data / "overlays/broken/sbin/init"
            self.broken.parent.mkdir(parents=True)
            self.broken.write_text(_BROKEN)
            self._add_twice(image, data)
        of_nodes = {"node-2": "gpu", "small-node": "single"}
        for name in ["compute", *(of_nodes[name] for name in self.names if name in of_nodes)]:
            self.recon("image", "add", str(image), "--name", name, "--data", str(data))
        listed = self.recon("image", "list", "--data", str(data))
        found = re.search(r"(?m)^compute@([0-9a-f]{12})  nodes start it$", listed)
        expect(found, f"`recon image list` says {listed!r}")
        assert found is not None
        self.version = found[1]
        self.master = self._stack.enter_context(FarmMaster(lab, data))
        self.api = self.master.api
        for node in self.nodes.values():
            self._stack.callback(node.machine.kill)

    def _add_twice(self, image: Path, data: Path) -> None:
        """Two versions of an image `shaky`."""
        self.recon("image", "add", str(image), "--name", "shaky", "--data", str(data))
        self.add_other("shaky")

    def add_other(self, name: str) -> None:
        """Another version of the image, whose manifest differs in white space, which counts from then on."""
        source = self.lab.folder / f"other-{name}"
        shutil.rmtree(source, ignore_errors=True)
        assert self.lab.options.node_image is not None
        shutil.copytree(self.lab.options.node_image, source, copy_function=os.link)
        manifest = source / "image.json"
        text = manifest.read_text()
        manifest.unlink()
        self._others += 1
        manifest.write_text(text + "\n" * self._others)
        self.recon("image", "add", str(source), "--name", name, "--data", str(self.data))
        shutil.rmtree(source)

    def cut(self) -> int:
        """Ends all connections of the master's web server, with a reset for whoever is at the other end; how many those were."""
        closed = tools.run(self.lab.namespace.argv(["ss", "-K", "-H", "-n", "-t", "state", "established", "sport = :80"]))
        return len(closed.splitlines())

    def recon(self, *words: str) -> str:
        return tools.run([str(self.lab.options.recon), *words], timeout=600)

    def row(self, node: Peer) -> dict[str, Any]:
        return self.api.node(node.identity.uuid, node.identity.mac) or {}

    def wait_up(self, node: Peer, seconds: float = 240.0) -> None:
        """Until the node's own system said that it is up."""
        begun = time.monotonic()

        def up() -> bool | None:
            if not node.machine.running:
                raise LabError(f"{node.name} ended:\n{node.machine.console.tail()}")
            return True if self.row(node).get("stage") == "up" else None

        try:
            polling.wait_until(up, self.lab.seconds(seconds), f"{node.name} is up")
        except LabError as error:
            row = self.row(node)
            raise LabError(
                f"{error}; it is at {row.get('stage')}: {row.get('failure') or row.get('message')}; its last console lines:\n"
                + node.machine.console.tail(30)
            ) from error
        self.lab.report.line(f"{node.name}: up, {time.monotonic() - begun:.1f} s after power on")


    def inside(self, node: Peer, words: str) -> list[str]:
        """What the node says to who comes in by ssh, and knows its key from the master."""
        mac, own = node.identity.mac, _HOST_NAMES[node.name]
        code, _, line = self.api.request("GET", f"/api/v1/host-key?mac={mac}")
        expect(code == 200 and line.decode().startswith(f"{own} ssh-ed25519 "), f"the node's key: {code}: {line[:300]!r}")
        key = line.decode().split(maxsplit=1)[1].strip()
        address = str(self.row(node)["address"])
        known = self.lab.folder / "known_hosts"
        known.write_text(f"{address} {key}\n")
        options = {"UserKnownHostsFile": str(known), "StrictHostKeyChecking": "yes", "BatchMode": "yes", "ConnectTimeout": "30"}
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = self.lab.namespace.run(["ssh", "-F", "none", "-i", str(self.key), *given, f"root@{address}", words], timeout=self.lab.seconds(60))
        expect(bool(done.stdout), f"ssh ended with {done.returncode}: {done.stderr.decode()[-600:]}")
        return done.stdout.decode().splitlines()


def ram_node(farm: Farm) -> None:
    node, other = farm.nodes["node-1"], farm.nodes["node-2"]
    node.start()
    other.start()
    farm.wait_up(node)
    farm.wait_up(other)
    message = farm.row(other)["message"]
    expect(message == f"runs gpu@{farm.version}", f"the other one's row says {message!r}")
    other.machine.kill()
    expect_none(other.changes())
    message = farm.row(node)["message"]
    expect(message == f"runs compute@{farm.version}", f"its row says {message!r}")
    line = node.machine.console.wait_for(_LOGIN, time.monotonic() + farm.lab.seconds(60))
    expect(line is not None, f"no login on its console:\n{node.machine.console.tail()}")
    own = _HOST_NAMES[node.name]
    name, motd, machine_id, state, mode = farm.inside(node, _WHO)
    expect(name == own, f"its name is {name!r}")
    expect(motd == f"{own} runs compute at Farm", f"its motd is {motd!r}")
    expect(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{19}", machine_id), f"its machine-id is {machine_id!r}")
    expect(state == "running", f"its system is {state}")
    expect(mode == "600", f"its key has the permissions {mode}")
    node.machine.kill()
    expect_none(node.changes())


def ram_fail(farm: Farm) -> None:
    """Its first program restarts the machine: the version that counts, the one before, the failsafe system, and back."""
    node = farm.nodes["bad-node"]
    lines = [line for line in farm.recon("image", "list", "--data", str(farm.data)).splitlines() if line.startswith("shaky@")]
    new = next(line.split()[0] for line in lines if "nodes start it" in line)
    old = next(line.split()[0] for line in lines if "the one before" in line)
    node.start()
    given: list[str] = []

    def failsafe() -> str | None:
        if not node.machine.running:
            raise LabError(f"{node.name} ended:\n{node.machine.console.tail()}")
        row = farm.row(node)
        image = row.get("image")
        if image and image not in given:
            given.append(image)
        return str(row["failsafe"]) if row.get("failsafe") and row.get("stored_sha256") else None

    why = polling.wait_until(failsafe, farm.lab.seconds(420), "it is in the failsafe system, and its inventory stored")
    expect(given == [new, old], f"it was given {given}, and not {new}, then {old}")
    expect(why == f"{new} was started once and did not come up, nor did the one before, {old}", f"the master says {why!r}")
    for said in (re.compile(r"failsafe: shaky@\w+ was started once"), re.compile(r"failsafe:/#")):
        line = node.machine.console.wait_for(said, time.monotonic() + farm.lab.seconds(60))
        expect(line is not None, f"its console lacks {said.pattern}:\n{node.machine.console.tail()}")
    listed = _node_command(farm, "list")
    expect(f"failsafe: {why}" in listed, f"`recon node list` says {listed!r}")
    # A master that is started again knows of it, and the node stays where it is.
    since = time.monotonic()
    farm.master.kill()
    farm.master.start()
    time.sleep(_ASKS_SECONDS)
    again = node.machine.console.find(re.compile("the master has something else"))
    expect(again is None, f"after a restart of the master it starts again: {again}")
    farm.lab.report.line(f"{node.name}: still in the failsafe system {time.monotonic() - since:.0f} s after its master was killed")
    # Somebody mends it.
    farm.broken.unlink()
    _node_command(farm, "retry", node.identity.mac)
    farm.wait_up(node, 300.0)
    message = farm.row(node)["message"]
    expect(message == f"runs {new}", f"its row says {message!r}")
    node.machine.kill()
    expect_none(node.changes())


def ram_packed(farm: Farm) -> None:
    """There is no room for the root unpacked, so it stays packed, by itself."""
    node = farm.nodes["packed-node"]
    node.start()
    farm.wait_up(node)
    line = node.machine.console.find(re.compile(r"packed in memory \(squashfs\)"))
    expect(line is not None, f"its console does not say that its root is packed:\n{node.machine.console.tail()}")
    name, motd, _, state, _ = farm.inside(node, _WHO)
    own = _HOST_NAMES[node.name]
    expect((name, motd, state) == (own, f"{own} runs compute at Farm", "running"), f"it says {name!r}, {motd!r}, {state!r}")
    said = farm.inside(node, _WRITES)
    expect(said == ["overlayfs", "a", "root:640", "root:4755"], f"its root: {said}")
    node.machine.kill()
    expect_none(node.changes())


def ram_outage(farm: Farm) -> None:
    """In both forms."""
    for name in ("cut-node", "cut-packed"):
        _outage(farm, farm.nodes[name])


def _outage(farm: Farm, node: Peer) -> None:
    """While it fetches its root: connections are cut, the master is killed and comes back, and another version counts from then on."""
    listed = farm.recon("image", "list", "--data", str(farm.data))
    began = next(line.split()[0] for line in listed.splitlines() if line.startswith("compute@") and "nodes start it" in line)
    node.start()
    begins = re.compile(r"node \S+: starts compute@")
    seen = node.machine.console.wait_for(begins, time.monotonic() + farm.lab.seconds(180))
    expect(seen is not None, f"it does not begin with its image:\n{node.machine.console.tail()}")

    def fetches() -> bool:
        return node.machine.console.find(re.compile(r"starting it")) is None

    cuts = 0
    while cuts < _CUTS and fetches():
        cuts += farm.cut()
        time.sleep(0.2)
    expect(cuts >= _CUTS, f"its root was there after {cuts} cuts: too fast to show anything")
    expect(fetches(), "its root was there before the master was killed")
    farm.master.kill()
    farm.add_other("compute")
    time.sleep(_AWAY_SECONDS)
    farm.master.start()
    farm.wait_up(node, 400.0)
    message = farm.row(node)["message"]
    expect(message == f"runs {began}", f"its row says {message!r}, and it began with {began}")
    listed = farm.recon("image", "list", "--data", str(farm.data))
    expect(f"{began}  the one before" in listed, f"`recon image list` says {listed!r}")
    node.machine.kill()
    expect_none(node.changes())


def ram_roll(farm: Farm) -> None:
    """Another version counts, and a person has those that are up start again, one at a time."""
    node = farm.nodes["roll-node"]
    node.start()
    farm.wait_up(node)
    farm.add_other("compute")
    listed = farm.recon("image", "list", "--data", str(farm.data))
    new = next(line.split()[0] for line in listed.splitlines() if line.startswith("compute@") and "nodes start it" in line)
    said = _node_command(farm, "set-image", "all", "compute", "--batch", "1")
    expect("1 at a time" in said, f"`recon node set-image` says {said!r}")
    told = re.compile("the master has something else for this node: starting again")
    # A node speaks every five minutes.
    line = node.machine.console.wait_for(told, time.monotonic() + farm.lab.seconds(330))
    expect(line is not None, f"it was not told to start again:\n{node.machine.console.tail()}")
    runs = f"runs {new}"
    polling.wait_until(lambda: farm.row(node).get("message") == runs, farm.lab.seconds(300), f"it says: {runs}")
    # It is no different for a master that was started again.
    farm.master.kill()
    farm.master.start()
    listed = _node_command(farm, "list")
    expect(f"{new} for all, 1 at a time" in listed, f"`recon node list` says {listed!r}")
    said = _node_command(farm, "set-image", "all", "as-settings")
    expect("recon.toml" in said, f"`recon node set-image` says {said!r}")
    node.machine.kill()
    expect_none(node.changes())


def _node_command(farm: Farm, *words: str) -> str:
    """What `recon node` prints at the master."""
    done = farm.lab.namespace.run([str(farm.lab.options.recon), "node", *words])
    expect(done.returncode == 0, f"`recon node {' '.join(words)}`: {done.stderr.decode()}")
    return done.stdout.decode()


def ram_small(farm: Farm) -> None:
    node = farm.nodes["small-node"]
    node.start()
    said = re.compile(r"too little memory for this image: even its packed root and a system in it take .* are missing")
    line = node.machine.console.wait_for(said, time.monotonic() + farm.lab.seconds(120))
    expect(line is not None, f"its console does not say that its memory is too small:\n{node.machine.console.tail()}")
    # Its firmware is not asked again: recon starts what comes instead.
    instead = node.machine.console.wait_for(re.compile("its master has something else"), time.monotonic() + farm.lab.seconds(60))
    expect(instead is not None, f"it does not go on to something else:\n{node.machine.console.tail()}")
    assert instead is not None
    stored = polling.wait_until(
        lambda: (row := farm.row(node)) and row.get("failsafe") and row.get("stored_sha256") and row, farm.lab.seconds(240),
        "it is in the failsafe system, and its inventory stored",
    )
    expect(said.search(str(stored["failsafe"])), f"the master says {stored['failsafe']!r}")
    # Two kernels with their first stages, and no root.
    sent = int(stored["bytes_sent"])
    expect(sent < 90_000_000, f"{sent} bytes went to a node that has no room for a root")
    firmware = node.machine.console.find(_FIRMWARE, instead.at)
    expect(firmware is None, f"its firmware was there in between: {firmware}")
    line = node.machine.console.wait_for(re.compile(r"failsafe:/#"), time.monotonic() + farm.lab.seconds(60))
    expect(line is not None, f"there is no shell on its console:\n{node.machine.console.tail()}")
    node.machine.kill()
    expect_none(node.changes())


SCENARIOS: list[Scenario[Farm]] = [
    Scenario("ram-node", "two diskless nodes with an image each: roots in memory, up by their own word, itself to who comes in by ssh, disks untouched",
             ram_node, ["node-1", "node-2"], long=True),
    Scenario("ram-fail", "an image that does not come up: the version before, the failsafe system with a shell, and back by a person's word",
             ram_fail, ["bad-node"], long=True),
    Scenario("ram-packed", "a node with memory for the packed root alone keeps it so (squashfs), under an overlay that it writes to", ram_packed,
             ["packed-node"], long=True),
    Scenario("ram-outage", "a node whose download is cut 13 times, whose master is killed and comes back with another version: it starts what it began with",
             ram_outage, ["cut-node", "cut-packed"], long=True),
    Scenario("ram-roll", "another version goes to a node that is up, by a person's word: it starts again, and a restarted master still knows", ram_roll,
             ["roll-node"], long=True),
    Scenario("ram-small", "too little memory: how much is missing is said before the download, and the failsafe system comes without a restart",
             ram_small, ["small-node"], long=True),
]
