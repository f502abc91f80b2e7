"""In which order does a whole test run go through the groups of scenarios?"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from collections.abc import Callable, Iterator, Sequence

from . import (
    scenarios_boot, scenarios_hardware, scenarios_ipv6, scenarios_late, scenarios_media, scenarios_memory, scenarios_modes,
    scenarios_power, scenarios_site, scenarios_storm,
)
from .errors import LabError
from .lab import Lab, Options
from .namespace import Namespace
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
    Group("outage", scenarios_power.Outage, scenarios_power.SCENARIOS, ordered=True),
    Group("full", scenarios_memory.FullStick, scenarios_memory.SCENARIOS),
    Group("media", scenarios_media.Media, scenarios_media.SCENARIOS),
    Group("ways", scenarios_boot.Ways, scenarios_boot.SCENARIOS),
    Group("hardware", scenarios_hardware.Museum, scenarios_hardware.SCENARIOS),
    Group("late", scenarios_late.Latecomers, scenarios_late.SCENARIOS),
    Group("storm", scenarios_storm.Storm, scenarios_storm.SCENARIOS),
    Group("foreign", scenarios_modes.Beside, scenarios_modes.BESIDE, ordered=True),
    Group("comes", scenarios_modes.ComesAndGoes, scenarios_modes.COMES, ordered=True),
    Group("sticks", scenarios_modes.TwoSticks, scenarios_modes.STICKS, ordered=True),
]

# What `demo --scenario` shows: the groups of one story.
STORIES: dict[str, Sequence[str]] = {
    "two-sticks": ("sticks",),
    "foreign-dhcp": ("foreign", "comes"),
    "ipv6": ("ipv6",),
}


def story(name: str) -> list[str]:
    """The scenarios of a story."""
    return [scenario.name for group in GROUPS if group.name in STORIES[name] for scenario in group.scenarios]


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
        if group.ordered:
            # What --only asks for may rest on the ones before it: those are run, and count, too.
            last = max(group.scenarios.index(scenario) for scenario in wanted)
            wanted = [s for s in group.scenarios[: last + 1] if s in wanted or not s.long]
        needs = sorted({name for scenario in wanted for name in scenario.needs})
        folder = options.workdir / group.name
        here = replace(options, workdir=folder)
        before = results.failed
        try:
            with Lab(here, report, label=group.name) as lab, group.open(lab, needs) as stage:
                for scenario in wanted:
                    results.run(scenario, stage)
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
    with Namespace("busy") as place:
        process = place.popen([sys.executable, "-c", "while True: pass"])
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
