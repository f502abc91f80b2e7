#!/usr/bin/env python3
"""The openSUSE recipe on a machine where no openSUSE packages can be had: the whole command, against a repository made from Debian's.

  run.py --workdir DIR               everything; root trees, packages and keys are kept in DIR/cache for the next run
  run.py --workdir DIR --only STEP   one step, and what it cannot do without (again for more)
  run.py --list                      name the steps and stop
  run.py --names                     only whether every openSUSE package that is asked for has a row in packages.tsv; takes a second

Runs as root. Ends with what this proves in words and the line `N passed, N failed`. No mount, process or namespace is left behind,
also after Ctrl-C or SIGTERM; logs and the ISO stay in the work folder.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import buildhost
import chroot
import roots
from build_run import BuildRun
from mirror import Mirror
from package_table import read
from steps import STEPS, check_names, summary
from vdc import command, tools
from vdc.errors import LabError
from vdc.report import Report
from vdc.suite import Results, chosen

_TOP = Path(__file__).resolve().parents[2]


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="root trees, packages, logs, ISO; some 10 GB")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step (again for more)")
    parser.add_argument("--tree", type=Path, default=_TOP, help="the checkout under test (default: this one)")
    parser.add_argument("--keep", action="store_true", help="keep the build host's root tree, for --only and for looking around")
    parser.add_argument("--names", action="store_true", help="look at the names of packages and stop")
    parser.add_argument("--list", action="store_true", help="name the steps and stop")
    return parser


def _run(args: argparse.Namespace, report: Report) -> int:
    roots.require_root()
    tools.require(sorted({*chroot.TOOLS, *roots.TOOLS, *buildhost.TOOLS}))
    workdir = args.workdir.resolve()
    run = BuildRun(workdir, args.tree.resolve(), report, fresh=not args.only)
    results = Results(report, run.logs)
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LabError(f"another run works in {workdir}") from error
    run.prepare()
    with Mirror(run.top) as run.mirror:
        report.line(f"mirror at {run.mirror.url}")
        try:
            for step in chosen(STEPS, args.only, True):
                results.run(step, run)
        finally:
            if not args.keep and not args.only:
                run.clean()
    if args.only or results.failed:
        report.plain("This was not a whole run, or not all went well: it proves no more than its single steps.")
    else:
        report.plain(summary(run))
    return results.close()


def _look_at_names(tree: Path, report: Report) -> int:
    report.plain(check_names(tree, read()))
    return 0


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    report = Report()
    if args.list:
        for step in STEPS:
            report.plain(f"{step.name:26} {step.about}")
        return 0
    if args.names:
        return command.run("run.py", report, lambda: _look_at_names(args.tree.resolve(), report), exit_error=1)
    unknown = sorted(set(args.only or ()) - {step.name for step in STEPS})
    if args.workdir is None or unknown:
        report.error(f"run.py: no such step: {', '.join(unknown)}; --list names them" if unknown else "run.py: --workdir DIR is needed")
        return 2
    return command.run("run.py", report, lambda: _run(args, report), exit_error=1)


if __name__ == "__main__":
    sys.exit(main())
