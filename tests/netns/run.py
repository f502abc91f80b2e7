#!/usr/bin/env python3
"""Ring 2: real clients against `recon master`, in two network namespaces joined by a cable.

Needs root. Ends with the line `N passed, N failed`. Nothing is left behind but logs in the work folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

import rawclient  # noqa: F401  (its import makes `vdc` reachable)
from cable import TOOLS, Site
import checks_modes
from checks import CHECKS
import checks_crowd
import checks_dhcp
import checks_http
import checks_identity
import checks_ipv6
import checks_post
import checks_routed
import checks_unit
import checks_words
from vdc import namespace, tools
from vdc.errors import LabError
from vdc.lab import Interrupted, stop_on_signals
from vdc.report import Report
from vdc.suite import Results, Scenario
from wires import Lan


def _run(recon: Path, folder: Path, report: Report, only: List[str]) -> int:
    tools.require_root()
    tools.require(tuple(sorted({*TOOLS, *checks_dhcp.TOOLS, *checks_http.TOOLS, *checks_modes.TOOLS, *checks_ipv6.TOOLS_IPV6, *checks_routed.TOOLS})))
    if not os.access(recon, os.X_OK):
        raise LabError(f"--recon {recon}: not an executable file")
    namespace.remove_stale()
    results = Results(report, folder)
    modes = [check for check in (*checks_modes.CHECKS, *checks_identity.CHECKS) if not only or check.name in only]
    suites = (
        (CHECKS, folder), (checks_dhcp.CHECKS, folder / "dhcp"),
        (checks_http.CHECKS, folder / "http"), (checks_ipv6.CHECKS_IPV6, folder / "ipv6"),
        (checks_words.CHECKS, folder / "words"),
        (checks_crowd.CHECKS, folder / "crowd"), (checks_post.CHECKS, folder / "post"),
        (checks_routed.CHECKS, folder / "routed"), (checks_unit.CHECKS, folder / "unit"),
    )
    for suite, place in suites:
        if not only or any(check.name in only for check in suite):
            _site(recon, place, suite, report, only, results)
    for check in modes:
        with Lan(recon, folder / check.name) as lan:
            results.run(check, lan)
    return results.close()


def _site(
    recon: Path, folder: Path, suite: "List[Scenario[Site]]", report: Report, only: List[str], results: Results,
) -> None:
    """One suite on one cable. Its first check starts the master; `dhclient` gives the client the address that others use."""
    first = suite[0].name
    with Site(recon, folder) as site:
        for check in suite:
            if only and check.name not in only and check.name not in (first, "dhclient", "ipv6-dhclient-pxe"):
                continue
            results.run(check, site)
            if first in results.failures:
                report.plain("the master does not start: the other checks cannot run")
                results.failed += len(suite) - 1
                break


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recon", type=Path, required=True, help="the binary")
    parser.add_argument("--workdir", type=Path, help="logs go to netns/ in it (default: a temporary one, kept after a failure)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this check (again for more)")
    args = parser.parse_args(argv)
    report = Report()
    folder = args.workdir.resolve() / "netns" if args.workdir else Path(tempfile.mkdtemp(prefix="recon-netns-"))
    if args.workdir:
        # What an earlier run left would be taken for this one's.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    code = 2
    try:
        with stop_on_signals():
            code = _run(args.recon.resolve(), folder, report, args.only)
    except LabError as error:
        report.error(f"tests/netns/run.py: {error}")
    except Interrupted as signal:
        report.error(f"tests/netns/run.py: stopped by {signal}")
        code = 130
    if code == 0 and args.workdir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
