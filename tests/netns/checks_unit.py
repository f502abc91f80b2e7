"""What does systemd hear of a master? The check plays systemd's end of the socket."""

from __future__ import annotations

import os
import socket
import time

from veth_site import Site
from vdc.suite import Scenario, expect

_LIMIT_USEC = 4_000_000


def watchdog(site: Site) -> None:
    """Ready first, then fed for as long as links are managed, and off before the end."""
    path = site.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.setblocking(False)
        os.environ.update({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(_LIMIT_USEC)})
        try:
            site.start(site.iso)
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        time.sleep(3.0)
        site.stop()
        said: list[str] = []
        while True:
            try:
                said.append(heard.recv(4096).decode())
            except BlockingIOError:
                break
    expect(said[0].startswith("WATCHDOG_USEC=0\nREADY=1\n"), f"ready without a watchdog: {said}")
    expect(said[1] == f"WATCHDOG_USEC={_LIMIT_USEC}\nWATCHDOG=1\n", f"the watchdog begins: {said}")
    expect(said[-2:] == ["WATCHDOG_USEC=0\n", "STOPPING=1\n"], f"off before the end: {said}")
    fed = said[2:-2]
    # Every half second at most; a quarter of that is enough to live.
    expect(set(fed) == {"WATCHDOG=1\n"} and 2 <= len(fed) <= 60, f"fed: {said}")


CHECKS: list[Scenario[Site]] = [Scenario("watchdog", (watchdog.__doc__ or "").split("\n")[0], watchdog)]
