"""Which demos with special peers does `demo --scenario` run?"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from . import demo, netem, scenarios_boot_paths
from .lab import Lab
from .machine import BRIDGE


class DemoScenario(NamedTuple):
    """`run` does the whole round and returns what was not as it should be; the bool says whether to keep the lab up."""

    about: str
    run: Callable[[Lab, bool], list[str]]


def _http_boot(lab: Lab, keep: bool) -> list[str]:
    return demo.run(lab, ["http", "secure"], 2, keep)


def _lossy(lab: Lab, keep: bool) -> list[str]:
    with netem.ImpairedLink(lab.namespace, BRIDGE, scenarios_boot_paths.IMPAIRED, scenarios_boot_paths.IMPAIRMENTS, lab.folder / "netem.log"):
        return demo.run(lab, ["uefi"], 1, keep, bridge=scenarios_boot_paths.IMPAIRED)


SCENARIOS: dict[str, DemoScenario] = {
    "http-boot": DemoScenario("a machine that boots from HTTP only, and one with Secure Boot", _http_boot),
    "lossy": DemoScenario("a peer behind a cable with loss, delay, copies and disorder (some minutes)", _lossy),
}
