"""What can a person watch with `demo --scenario`?"""

from __future__ import annotations

from typing import NamedTuple
from collections.abc import Callable

from . import demo, rough, scenarios_boot
from .lab import Lab
from .machine import BRIDGE


class Scene(NamedTuple):
    """`run` does the whole round and returns what was not as it should be; the bool says whether to keep the lab up."""

    about: str
    run: Callable[[Lab, bool], list[str]]


def _http_boot(lab: Lab, keep: bool) -> list[str]:
    return demo.run(lab, ["http", "secure"], 2, keep)


def _lossy(lab: Lab, keep: bool) -> list[str]:
    with rough.Rough(lab.namespace, BRIDGE, scenarios_boot.ROUGH, scenarios_boot.FAULTS, lab.folder / "rough.log"):
        return demo.run(lab, ["uefi"], 1, keep, bridge=scenarios_boot.ROUGH)


def _ipv6(lab: Lab, keep: bool) -> list[str]:
    return demo.run(lab, ["ipv6"], 1, keep)


SCENES: dict[str, Scene] = {
    "http-boot": Scene("a machine that boots from HTTP only, and one with Secure Boot", _http_boot),
    "ipv6": Scene("a UEFI machine boots, reports and uploads over a cable without IPv4", _ipv6),
    "lossy": Scene("a peer behind a cable with loss, delay, copies and disorder (some minutes)", _lossy),
}
