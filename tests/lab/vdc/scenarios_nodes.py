"""Do diskless nodes run from memory what their master names, and say so?

The master is no stick here but a service with a folder of its own, as on an installed server of a farm; its network is the bridge of the
laboratory.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import time
from typing import Any

from . import polling, tools
from .api import Api, ApiError
from .environment import Environment
from .errors import LabError
from .machine import BRIDGE
from .nodes import Kind, identity
from .peer import Peer
from .process import kill
from .suite import Scenario, expect, expect_none

_NODE = Kind("bios", "virtio-net-pci", (("virtio", "ext4"), ("sata", "raid")), memory_mib=1536, bmc=False)
_KINDS = {
    "node-1": _NODE,
    "small-node": _NODE._replace(memory_mib=384),
}
_NUMBERS = {"node-1": 0xA0, "small-node": 0xA1}
_HOST_NAME = "worker-1"
_LOGIN = re.compile(rf"{_HOST_NAME} login:")
_MOTD = "{{hostname}} runs {{image}} at {{site}}\n"
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key.pub"
# What is asked of a node, line by line.
_INSIDE = "hostname; cat /etc/motd /etc/machine-id; systemctl is-system-running; stat -c %a /etc/ssh/ssh_host_ed25519_key"


class Farm(Environment):
    """A master with images in a folder, and the nodes that the chosen scenarios need."""

    def set_up(self) -> None:
        lab, image = self.lab, self.lab.options.node_image
        if image is None:
            raise LabError("--node-image FOLDER is needed: ./make-recipe-target debian-13 ramroot makes one")
        self.nodes = {name: Peer(lab, _KINDS[name], identity(_NUMBERS[name], name)) for name in self.names}
        data = lab.folder / "farm"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        self._stack.callback(shutil.rmtree, data, ignore_errors=True)
        rules = [f'[[node]]\nmac = "{node.identity.mac}"\nimage = "compute"\n' for node in self.nodes.values()]
        rules[0] += f'hostname = "{_HOST_NAME}"\noverlays = ["base"]\n'
        (data / "recon.toml").write_text("\n".join(['site = "Farm"\n', *rules]))
        motd = data / "overlays/base/etc/motd.in"
        motd.parent.mkdir(parents=True)
        motd.write_text(_MOTD)
        self.key = lab.folder / "operator"
        self.key.unlink(missing_ok=True)
        tools.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(self.key)])
        (data / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.recon("image", "add", str(image), "--name", "compute", "--data", str(data))
        listed = self.recon("image", "list", "--data", str(data))
        found = re.match(r"compute@([0-9a-f]{12})  nodes start it\n$", listed)
        expect(found, f"`recon image list` says {listed!r}")
        assert found is not None
        self.version = found[1]
        log = (lab.folder / "farm.log").open("wb")
        self._stack.callback(log.close)
        command = [str(lab.options.recon), "master", "--link", BRIDGE, "--data", str(data)]
        self.master = lab.namespace.popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(kill, self.master)
        self.api = Api(lab.namespace)

        def serves() -> bool | None:
            if self.master.poll() is not None:
                raise LabError(f"the master ended: {(lab.folder / 'farm.log').read_text()[-2000:]}")
            try:
                return True if self.api.status(timeout=1.0)["links"][0]["mode"] == "serve" else None
            except (ApiError, LookupError):
                return None

        polling.wait_until(serves, lab.seconds(30), "the farm's master serves")
        for node in self.nodes.values():
            self._stack.callback(node.machine.kill)

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


    def inside(self, node: Peer) -> list[str]:
        """What the node says of itself to who comes in by ssh, and knows its key from the master."""
        mac = node.identity.mac
        code, _, archive = Api(self.lab.namespace, "127.0.0.1").request("GET", f"/api/v1/own-files?mac={mac}")
        expect(code == 200, f"the node's own files: {code}: {archive[:300]!r}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            public = files.extractfile(_HOST_KEY)
            assert public is not None
            key = " ".join(public.read().decode().split()[:2])
        address = str(self.row(node)["address"])
        known = self.lab.folder / "known_hosts"
        known.write_text(f"{address} {key}\n")
        options = {"UserKnownHostsFile": str(known), "StrictHostKeyChecking": "yes", "BatchMode": "yes", "ConnectTimeout": "30"}
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = self.lab.namespace.run(["ssh", "-F", "none", "-i", str(self.key), *words, f"root@{address}", _INSIDE], timeout=self.lab.seconds(60))
        expect(bool(done.stdout), f"ssh ended with {done.returncode}: {done.stderr.decode()[-600:]}")
        return done.stdout.decode().splitlines()


def ram_node(farm: Farm) -> None:
    node = farm.nodes["node-1"]
    node.start()
    farm.wait_up(node)
    message = farm.row(node)["message"]
    expect(message == f"runs compute@{farm.version}", f"its row says {message!r}")
    line = node.machine.console.wait_for(_LOGIN, time.monotonic() + farm.lab.seconds(60))
    expect(line is not None, f"no login on its console:\n{node.machine.console.tail()}")
    name, motd, machine_id, state, mode = farm.inside(node)
    expect(name == _HOST_NAME, f"its name is {name!r}")
    expect(motd == f"{_HOST_NAME} runs compute at Farm", f"its motd is {motd!r}")
    expect(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{19}", machine_id), f"its machine-id is {machine_id!r}")
    expect(state == "running", f"its system is {state}")
    expect(mode == "600", f"its key has the permissions {mode}")
    node.machine.kill()
    expect_none(node.changes())


def ram_small(farm: Farm) -> None:
    node = farm.nodes["small-node"]
    node.start()
    said = re.compile(r"too little memory for this image: its root and a system in it take .* are missing")
    line = node.machine.console.wait_for(said, time.monotonic() + farm.lab.seconds(120))
    expect(line is not None, f"its console does not say that its memory is too small:\n{node.machine.console.tail()}")
    # It is on the screen before the master hears of it.
    polling.wait_until(lambda: said.search(str(farm.row(node).get("failure"))), farm.lab.seconds(20), "its row says so too")
    sent = int(farm.row(node)["bytes_sent"])
    expect(sent < 60_000_000, f"{sent} bytes went to a node that has no room for them")
    node.machine.kill()
    expect_none(node.changes())


SCENARIOS: list[Scenario[Farm]] = [
    Scenario("ram-node", "a diskless node: its root in memory, up by its own word, itself to who comes in by ssh, disks untouched", ram_node,
             ["node-1"], long=True),
    Scenario("ram-small", "a node with too little memory says how much is missing, before the download", ram_small, ["small-node"], long=True),
]
