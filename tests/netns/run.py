#!/usr/bin/env python3
"""Ring 2: real clients against `recon master`, in network namespaces joined by cables.

Needs root. Ends with the line `N passed, N failed`. Nothing is left behind but logs in the work folder.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import checks_basic
import checks_boot_from
import checks_dhcp
import checks_dhcp_clients
import checks_election
import checks_fairness
import checks_first_stage
import checks_http
import checks_identity
import checks_ipv6
import checks_own_address
import checks_own_files
import checks_post
import checks_proxy_dhcp
import checks_routed
import checks_settings
import checks_site_key
import checks_terminal_escapes
import checks_unit
import lan_helpers
import veth_site
from bridged_lan import Lan
from vdc import command, namespace, tools
from vdc.errors import LabError
from vdc.report import Report
from vdc.suite import Results, Scenario
from veth_site import Site

_TOOLS = (
    *veth_site.TOOLS, *checks_boot_from.TOOLS, *checks_dhcp_clients.TOOLS, *checks_http.TOOLS, *checks_ipv6.TOOLS, *checks_own_files.TOOLS,
    *checks_routed.TOOLS, *lan_helpers.TOOLS,
)
# Folder in the work folder -> checks that share one master on one cable, in order.
_SITE_SUITES: dict[str, list[Scenario[Site]]] = {
    "": checks_basic.CHECKS,
    "dhcp": checks_dhcp.CHECKS,
    "http": checks_http.CHECKS,
    "ipv6": checks_ipv6.CHECKS,
    "terminal-escapes": checks_terminal_escapes.CHECKS,
    "fairness": checks_fairness.CHECKS,
    "first-stage": checks_first_stage.CHECKS,
    "own-files": checks_own_files.CHECKS,
    "post": checks_post.CHECKS,
    "routed": checks_routed.CHECKS,
    "unit": checks_unit.CHECKS,
}
# Each of these has a LAN of its own.
_LAN_CHECKS: list[Scenario[Lan]] = [
    *checks_election.CHECKS, *checks_proxy_dhcp.CHECKS, *checks_settings.CHECKS, *checks_own_address.CHECKS, *checks_site_key.CHECKS,
    *checks_identity.CHECKS, *checks_boot_from.CHECKS,
]

# So many of them run at the same time: they wait for clocks, and one by one they take a twentieth of two processors.
_AT_ONCE = 4


def _run(recon: Path, folder: Path, report: Report, only: list[str]) -> int:
    tools.require_root()
    tools.require(sorted(set(_TOOLS)))
    recon = command.require_executable(recon)
    namespace.remove_stale()
    names = {check.name for suite in _SITE_SUITES.values() for check in suite} | {check.name for check in _LAN_CHECKS}
    if unknown := sorted(set(only) - names):
        raise LabError(f"no check is called {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    results = Results(report, folder)
    for name, suite in _SITE_SUITES.items():
        if not only or any(check.name in only for check in suite):
            _run_suite(recon, folder / name, suite, report, only, results)
    wanted = [check for check in _LAN_CHECKS if not only or check.name in only]
    if len(wanted) > 1:
        _run_at_once(recon, folder, wanted, report, results)
        return results.close()
    for check in wanted:
        with Lan(recon, folder / check.name) as lan:
            results.run(check, lan)
    return results.close()


def _run_at_once(recon: Path, folder: Path, checks: Sequence[Scenario[Lan]], report: Report, results: Results) -> None:
    """Each in a process of its own, by which its network namespaces are named. What it prints comes when it has ended."""
    running: set[subprocess.Popen[str]] = set()

    def one(check: Scenario[Lan]) -> tuple[int, list[str]]:
        argv = [sys.executable, __file__, "--recon", str(recon), "--workdir", str(folder / check.name), "--only", check.name]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
        running.add(process)
        said, _ = process.communicate()
        running.discard(process)
        return process.returncode, said.splitlines()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        started = {pool.submit(one, check): check for check in checks}
        try:
            for done in as_completed(started):
                code, lines = done.result()
                # The last line counts what the process ran.
                for line in lines[: len(lines) - (code in (0, 1))]:
                    report.plain(line)
                if code == 0:
                    results.passed += 1
                else:
                    results.failed += 1
                    results.failures.append(started[done].name)
                    if code != 1:
                        report.plain(f"FAILED {started[done].name}: its process ended with {code}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Each takes down what it made.
            for process in list(running):
                process.terminate()
            raise


def _run_suite(
    recon: Path, folder: Path, suite: list[Scenario[Site]], report: Report, only: list[str], results: Results,
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


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--recon", type=Path, required=True, help="the binary")
    parser.add_argument("--workdir", type=Path, help="logs go to netns/ in it (default: a temporary one, kept after a failure)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this check (again for more)")
    args = parser.parse_args(argv)
    report = Report()
    return command.run_in_folder("netns", report, args.workdir, lambda folder: _run(args.recon, folder, report, args.only))


if __name__ == "__main__":
    sys.exit(main())
