"""Which groups of scenarios are there, and in which order does a whole test run them?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from . import (
    scenarios_boot_paths,
    scenarios_bootloader,
    scenarios_failover,
    scenarios_first_stage,
    scenarios_foreign_dhcp,
    scenarios_full_stick,
    scenarios_hardware,
    scenarios_hotplug,
    scenarios_ipv6,
    scenarios_media,
    scenarios_nodes,
    scenarios_outage,
    scenarios_power_cuts,
    scenarios_site,
)
from .errors import LabError
from .lab import Lab, Options
from .namespace import Namespace
from .process import kill
from .report import Report
from .suite import Results, Scenario, chosen


class Group(NamedTuple):
    """Scenarios that share a master. `ordered`: later ones rely on what earlier ones did."""

    name: str
    open: Callable[[Lab, Sequence[str]], Any]
    scenarios: Sequence[Scenario[Any]]
    ordered: bool = False


GROUPS: list[Group] = [
    Group("site", scenarios_site.Site, scenarios_site.SCENARIOS),
    Group("ipv6", scenarios_ipv6.Ipv6Site, scenarios_ipv6.SCENARIOS, ordered=True),
    Group("outage", scenarios_outage.Outage, scenarios_outage.SCENARIOS, ordered=True),
    Group("full-stick", scenarios_full_stick.FullStick, scenarios_full_stick.SCENARIOS),
    Group("media", scenarios_media.Media, scenarios_media.SCENARIOS),
    Group("boot-paths", scenarios_boot_paths.BootPaths, scenarios_boot_paths.SCENARIOS),
    Group("boot-image", scenarios_bootloader.BootImages, scenarios_bootloader.SCENARIOS),
    Group("first-stage", scenarios_first_stage.FirstStage, scenarios_first_stage.SCENARIOS),
    Group("nodes", scenarios_nodes.Farm, scenarios_nodes.SCENARIOS),
    Group("hardware", scenarios_hardware.FullGuestSite, scenarios_hardware.SCENARIOS),
    Group("hotplug", scenarios_hotplug.HotplugSite, scenarios_hotplug.SCENARIOS),
    Group("power-cuts", scenarios_power_cuts.PowerCuts, scenarios_power_cuts.SCENARIOS),
    Group("foreign-dhcp", scenarios_foreign_dhcp.ForeignPresent, scenarios_foreign_dhcp.FOREIGN_PRESENT, ordered=True),
    Group("foreign-dhcp-comes", scenarios_foreign_dhcp.ForeignComesAndGoes, scenarios_foreign_dhcp.FOREIGN_COMES_AND_GOES, ordered=True),
    Group("failover", scenarios_failover.TwoSticks, scenarios_failover.SCENARIOS, ordered=True),
]

# What `demo --scenario` runs as tests: name -> what it is about, the groups it runs.
DEMO_GROUPS: dict[str, tuple[str, Sequence[str]]] = {
    "ram-nodes": ("diskless nodes by MAC, one with too little memory, and one that falls into the failsafe system and back", ("nodes",)),
    "two-sticks": ("two sticks on one network", ("failover",)),
    "ipv6": ("a machine without IPv4", ("ipv6",)),
    "foreign-dhcp": ("a foreign DHCP server that is there, comes and goes", ("foreign-dhcp", "foreign-dhcp-comes")),
}


def of_demo(name: str) -> list[Scenario[Any]]:
    """The scenarios that such a demo runs."""
    groups = DEMO_GROUPS[name][1]
    return [scenario for group in GROUPS if group.name in groups for scenario in group.scenarios]


def names() -> list[str]:
    return [scenario.name for group in GROUPS for scenario in group.scenarios]


def run(
    options: Options, report: Report, only: Sequence[str] | None, long: bool, results: Results,
) -> None:
    """Runs the chosen scenarios once."""
    for group in GROUPS:
        wanted = chosen(group.scenarios, only, long)
        if not wanted:
            continue
        if group.name == "nodes" and options.node_image is None and not only:
            report.plain("left out, as there is no --node-image: " + " ".join(scenario.name for scenario in wanted))
            continue
        if group.ordered and only:
            # A scenario that is named may depend on those before it: they are run and counted, too.
            last = max(group.scenarios.index(scenario) for scenario in wanted)
            wanted = list(group.scenarios[: last + 1])
        needs = sorted({name for scenario in wanted for name in scenario.needs})
        folder = options.workdir / group.name
        here = replace(options, workdir=folder)
        before = results.failed
        try:
            with Lab(here, report, label=group.name) as lab, group.open(lab, needs) as environment:
                for scenario in wanted:
                    results.run(scenario, environment)
        except LabError as error:
            for scenario in wanted:
                results.fail(scenario.name, f"{group.name} could not be set up: {error}")
        if not options.keep:
            _remove_bulk(folder, keep_sticks=results.failed > before)


def _remove_bulk(folder: Path, keep_sticks: bool) -> None:
    """Removes disks, and after a success sticks: logs and captures are what is read later."""
    for path in folder.glob("*.raw"):
        if ".disk" in path.name or not keep_sticks:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keeps one core busy, to see whether anything here depends on a quiet machine."""
    if not wanted:
        yield
        return
    # Inside a namespace of this run, so that even a killed harness leaves nothing spinning for long.
    with Namespace("busy") as namespace:
        process = namespace.popen([sys.executable, "-c", "while True: pass"])
        try:
            yield
        finally:
            kill(process)
