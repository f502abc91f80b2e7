"""Does a peer finish whatever the site's own workload does? One function an expectation, in the order they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from vdc.archive import tar_gz
from vdc.errors import LabError
from vdc.suite import Scenario, expect, scenarios
from veth_site import CLIENT_LINK, SERVER, Site

# Slow machines under load included; a peer that is held up has ten minutes.
_LIMIT = 120.0
_ADDRESS = "192.168.219.240"
# A peer as on a machine of its own: /run is its own, and gone with it. It may not switch this host off.
_OWN_RUN = 'mkdir -p /run/recon && mount -t tmpfs recon-run /run/recon && exec "$@"'


def post_starts(site: Site) -> None:
    (site.data / "recon.toml").write_text('[peers]\npoweroff = "never"\n')
    site.start(site.iso)
    site.client.ip("addr", "add", f"{_ADDRESS}/24", "dev", CLIENT_LINK)


def _peer(site: Site, script: str, walls: bool, runs: int = 1) -> tuple[str, float]:
    """Runs a peer with this post.sh, as often as systemd would; returns its output and the seconds it took. Without `walls` it may
    not make namespaces."""
    (site.data / "post.tgz").write_bytes(tar_gz([("post.sh", script.encode())]))
    bounds = "-sys_boot" if walls else "-sys_boot,-sys_admin"
    peer = (
        f'setpriv --bounding-set {bounds} "{site.recon}" peer --master {SERVER} --poweroff never --cable-wait 0'
    )
    again = "; ".join([peer] * runs)
    # Not by `ip netns exec`, which hides the control groups.
    argv = [
        "nsenter", f"--net=/run/netns/{site.client.name}", "unshare", "--mount", "sh", "-c", _OWN_RUN, "sh", "sh", "-c", again,
    ]
    begun = time.monotonic()
    log = site.folder / "peer.log"
    with log.open("wb") as out:
        peers = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        code = peers.wait(_LIMIT)
    except subprocess.TimeoutExpired as late:
        raise LabError(f"the peer still runs after {_LIMIT:.0f} s:\n{log.read_text(errors='replace')[-1500:]}") from late
    finally:
        if peers.poll() is None:
            os.killpg(peers.pid, signal.SIGKILL)
            peers.wait(10)
    said = log.read_text(errors="replace")
    expect(code == 0, f"the peer ended with {code}:\n{said[-1500:]}")
    return said, time.monotonic() - begun


def _stored(site: Site) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Document, status of the workload and names of its results, of the newest upload."""
    nodes = [folder for folder in (site.data / "nodes").iterdir() if folder.is_dir()]
    expect(len(nodes) == 1, f"stored are {nodes}")
    newest = max(nodes[0].glob("*.tar.gz"))
    with tarfile.open(newest) as archive:
        names = archive.getnames()

        def load(name: str) -> dict[str, Any]:
            file = archive.extractfile(name)
            assert file is not None
            found: dict[str, Any] = json.load(file)
            return found
        status = load("post/status.json") if "post/status.json" in names else {}
        return load("inventory.json"), status, [name for name in names if name.startswith("post/result/")]


def _alive(token: str) -> list[str]:
    """Processes of this host with a word in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if token.encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
            except OSError:
                pass
    return found


_HOSTILE = """
cd "$RECON_RESULT"
i=0; while [ $i -lt 12000 ]; do : > "many-$i"; i=$((i+1)); done
mkfifo fifo; ln -s /proc proc; ln -s /dev/zero zero
truncate -s 8T sparse
printf 'x' > "$(printf 'new\\nline\\033[2J')"
n=$(printf '%0200d' 0); p=.; for i in 1 2 3 4 5 6; do p="$p/$n"; mkdir -p "$p"; done; echo 1 > "$p/long"
head -c 200000000 /dev/zero > fill 2> /dev/null
(setsid sh -c 'trap "" TERM HUP; while :; do echo noise; sleep 0.1; done' &)
setsid sleep 300 < /dev/null > /dev/null 2>&1 &
kill $PPID; kill -HUP $PPID; kill -STOP $PPID
echo through
exit 0
"""


def post_hostile(site: Site) -> None:
    """Thousands of files, long names, FIFOs, daemons and signals: the peer finishes and says what it left out."""
    for walls in (True, False):
        token = f"CHECK{time.monotonic_ns()}"
        # Twice, as a person may: only one that did not come back is not run again.
        said, took = _peer(site, f"export TOKEN={token}\n{_HOSTILE}", walls, runs=2)
        expect(took < 90, f"it took {took:.0f} s:\n{said[-1500:]}")
        document, status, results = _stored(site)
        expect(status.get("succeeded") is True, f"walls {walls}: status is {status}")
        expect(len(results) == 2000, f"{len(results)} files came home")
        reasons = " ".join(item["reason"] for item in document["run"]["items"] if item["item"] == "post")
        for word in ("more than 2000 files", "neither a file nor a folder", "bytes in all", "a name of more than"):
            expect(word in reasons, f"{word!r} is not in the inventory: {reasons}")
            expect(word in said, f"{word!r} is not on the console:\n{said[-3000:]}")
        expect("for 600 s at most" in said, f"the bound is not shown:\n{said[-1500:]}")
        expect(_alive(token) == [], f"walls {walls}: left behind are {_alive(token)}")


def post_bomb(site: Site) -> None:
    """More processes than are allowed are refused to the workload, not to the machine."""
    token = f"CHECK{time.monotonic_ns()}"
    script = f"""export TOKEN={token}
b() {{ n=0; while [ $n -lt 9000 ]; do sleep 100 & n=$((n+1)); done; }}
b 2> "$RECON_RESULT/errors"
exit 3
"""
    for walls in (True, False):
        said, took = _peer(site, script, walls)
        expect(took < 110, f"it took {took:.0f} s:\n{said[-1500:]}")
        _, status, _ = _stored(site)
        # The shell gives up where it may not fork; what it would come to is 3.
        expect(status.get("exit_code") not in (0, 3), f"9000 processes were let in: {status}")
        expect(_alive(token) == [], f"walls {walls}: left behind are {len(_alive(token))}")


def post_ends_the_peer(site: Site) -> None:
    """A workload that ends the peer is not run again by the next, which takes home what there is."""
    token = f"CHECK{time.monotonic_ns()}"
    script = f"""export TOKEN={token}
setsid sleep 300 < /dev/null > /dev/null 2>&1 &
echo 1 > "$RECON_RESULT/before"
read _ _ _ keeper _ < /proc/$$/stat
read _ _ _ peer _ < /proc/$keeper/stat
kill -9 $peer
sleep 100
"""
    said, took = _peer(site, script, walls=False, runs=2)
    expect(took < 90, f"it took {took:.0f} s:\n{said[-1500:]}")
    _, status, results = _stored(site)
    expect(any("not run again" in problem for problem in status["problems"]), f"status is {status}")
    expect(results == ["post/result/before"], f"results are {results}")
    expect(_alive(token) == [], f"left behind are {_alive(token)}")
    expect("not run again" in said, f"the console does not say so:\n{said[-1500:]}")


def post_stops(site: Site) -> None:
    code, _ = site.stop()
    expect(code == 0, f"exit code is {code}:\n{site.log_tail()}")


CHECKS: list[Scenario[Site]] = scenarios(
    post_starts, post_hostile, post_bomb, post_ends_the_peer, post_stops
)
