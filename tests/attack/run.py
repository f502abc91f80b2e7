#!/usr/bin/env python3
"""A hostile client beside an honest one: what `recon master` must survive, and what must come home all the same.

Needs root. Ends with `N tried, N survived` and the line `N passed, N failed`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import attacks
from stage import Stage
from cable import TOOLS, Site
from vdc import namespace, tools
from vdc.errors import LabError
from vdc.lab import Interrupted, stop_on_signals
from vdc.report import Report
from vdc.suite import Results, Scenario

_APART = ("bombs", "kills", "file-system-faults", "lying-cache")


def _run(recon: Path, folder: Path, report: Report, only: list[str], long: bool) -> int:
    tools.require_root()
    tools.require(tuple(sorted({*TOOLS, "umount"})))
    if not os.access(recon, os.X_OK):
        raise LabError(f"--recon {recon}: not an executable file")
    names = [check.name for check in attacks.CHECKS] + list(_APART)
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise LabError(f"no attack {', '.join(unknown)}; there are {', '.join(names)}")
    namespace.remove_stale()
    results = Results(report, folder)

    def make(place: Path, data: Path) -> Stage:
        return Stage(Site(recon, place), data)

    kills = attacks.LONG_KILLS if long else attacks.KILLS
    crashes = attacks.LONG_CRASHES if long else attacks.CRASHES
    wanted = lambda name: not only or name in only  # noqa: E731
    with Stage(Site(recon, folder / "master")) as stage:
        checks = [*attacks.CHECKS, Scenario("kills", "", lambda at: attacks.kills(at, kills))]
        if only:
            checks.append(Scenario("bombs", "", attacks.bombs))
        for check in checks:
            if wanted(check.name) or check.name == "starts":
                results.run(check, stage)
            if "starts" in results.failures:
                return results.close()
            if stage.site._process is None:
                stage.start()
        if not only:
            # Last, because what is stored of it takes long to read.
            results.run(Scenario("bombs", "", attacks.bombs), stage)
            results.run(Scenario("all-there", "", lambda at: at.all_there()), stage)
    # These have a master each, on a file system of their own; the first stage goes on counting.
    for check in (
        Scenario("file-system-faults", "", lambda at: attacks.file_system_faults(folder / "faults", make, at)),
        Scenario("lying-cache", "", lambda at: attacks.lying_cache(folder / "cache", make, at, crashes)),
    ):
        if wanted(check.name):
            results.run(check, stage)
    report.plain(f"{stage.tried} tried, {stage.survived} survived")
    return results.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recon", type=Path, required=True, help="the binary")
    parser.add_argument("--workdir", type=Path, help="logs go to attack/ in it (default: a temporary one, kept after a failure)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this attack (again for more)")
    parser.add_argument("--long", action="store_true", help="ten times as many kills and power cuts")
    parser.add_argument("--seed", type=int, default=attacks.SEED, help="of what is left to chance")
    args = parser.parse_args(argv)
    attacks.SEED = args.seed
    report = Report()
    folder = args.workdir.resolve() / "attack" if args.workdir else Path(tempfile.mkdtemp(prefix="recon-attack-"))
    if args.workdir:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    code = 2
    try:
        with stop_on_signals():
            code = _run(args.recon.resolve(), folder, report, args.only, args.long)
    except LabError as error:
        report.error(f"tests/attack/run.py: {error}")
    except Interrupted as signal:
        report.error(f"tests/attack/run.py: stopped by {signal}")
        code = 130
    if code == 0 and args.workdir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
