#!/usr/bin/env python3
"""A hostile client beside an honest one: what `recon master` must survive, and which inventories must be collected all the same.

Needs root. Ends with `N tried, N survived` and the line `N passed, N failed`.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "netns"))

import attack_escapes
import attack_network
import attack_storage
import attack_uploads
from attack_target import Target
from vdc import command, namespace, tools
from vdc.errors import LabError
from vdc.report import Report
from vdc.suite import Results, Scenario
from veth_site import TOOLS, Site

_CHECKS = [*attack_uploads.CHECKS, *attack_network.CHECKS, *attack_escapes.CHECKS]
_APART = ("bombs", "kills", "file-system-faults", "lying-cache")
_SEED = 1


def _run(recon: Path, folder: Path, report: Report, only: list[str], long: bool, seed: int) -> int:
    tools.require_root()
    tools.require(sorted({*TOOLS, "umount"}))
    recon = command.require_executable(recon)
    names = [check.name for check in _CHECKS] + list(_APART)
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise LabError(f"no attack {', '.join(unknown)}; there are {', '.join(names)}")
    namespace.remove_stale()
    results = Results(report, folder)

    def make(subfolder: Path, data: Path) -> Target:
        return Target(Site(recon, subfolder), data, seed)

    with Target(Site(recon, folder / "master"), seed=seed) as target:
        _attack(target, results, only, attack_storage.LONG_KILLS if long else attack_storage.KILLS)
    if "starts" in results.failures:
        return results.close()
    # These have a master each, on a file system of their own; the first target keeps the counts.
    crashes = attack_storage.LONG_CRASHES if long else attack_storage.CRASHES
    for check in (
        Scenario("file-system-faults", "", partial(attack_storage.file_system_faults, folder / "faults", make)),
        Scenario("lying-cache", "", partial(attack_storage.lying_cache, folder / "cache", make, crashes)),
    ):
        if not only or check.name in only:
            results.run(check, target)
    report.plain(f"{target.tried} tried, {target.survived} survived")
    return results.close()


def _attack(target: Target, results: Results, only: list[str], kills: int) -> None:
    """All attacks on one master; `starts` comes first and is always run."""
    bombs = Scenario("bombs", "", attack_uploads.bombs)
    checks = [*_CHECKS, Scenario("kills", "", partial(attack_storage.kills, kills))]
    if only:
        checks.append(bombs)
    for check in checks:
        if not only or check.name in only or check.name == "starts":
            results.run(check, target)
        if "starts" in results.failures:
            return
        if not target.site.running:
            target.start()
    if not only:
        # Last, because what it stores takes long to read.
        results.run(bombs, target)
        results.run(Scenario("all-collected", "", Target.expect_collected), target)


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--recon", type=Path, required=True, help="the binary")
    parser.add_argument("--workdir", type=Path, help="logs go to attack/ in it (default: a temporary one, kept after a failure)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this attack (again for more)")
    parser.add_argument("--long", action="store_true", help="ten times as many kills and power cuts")
    parser.add_argument("--seed", type=int, default=_SEED, help="of the random choices")
    args = parser.parse_args(argv)
    report = Report()
    return command.run_in_folder(
        "attack", report, args.workdir, lambda folder: _run(args.recon, folder, report, args.only, args.long, args.seed),
    )


if __name__ == "__main__":
    sys.exit(main())
