#!/usr/bin/env python3
"""The virtual data center: a stick boots a master, peers boot from it over the network, all as QEMU guests.

  run.py demo     one round for a person to watch: stages as they happen, table of nodes, tarball
  run.py test     the scenarios; ends with the line `N passed, N failed`
  run.py measure  seconds and bytes of one peer, beside the plain way, as Markdown tables
  run.py measure-nodes  the same of a diskless node, beside older ways
  run.py nvram-control   which NVRAM variables the firmware changes by itself

Runs as root, in a network namespace of its own; nothing is left behind, also after Ctrl-C or SIGTERM. Serial logs, captures,
the stick and the tarball stay in the work folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vdc import command, demo, demo_scenarios, firmware, measure, measure_nodes, nvram_control, scenario_groups, tools
from vdc.errors import LabError
from vdc.lab import Lab, Options, check_host
from vdc.report import Report
from vdc.suite import Results

_ROOT = Path(__file__).resolve().parents[2]
_BUSY_PATIENCE = 2.0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--workdir", type=Path, help="logs, captures, stick, tarball (default: builds/lab/<command>-<time>)")
    shared.add_argument("--accel", default="tcg,thread=multi", help="QEMU accelerator (default: %(default)s)")
    shared.add_argument("--patience", type=float, default=1.0, help="multiplies every deadline, for slow machines")
    product = argparse.ArgumentParser(add_help=False, parents=[shared])
    product.add_argument("--verbose", action="store_true", help="show every guest's serial line as it comes")
    product.add_argument("--iso", type=Path, help="the live image")
    product.add_argument("--recon", type=Path, help="the binary, for `recon collect`")
    product.add_argument("--keep", action="store_true", help="demo: keep the lab up; test: keep disks and sticks")

    parser = command.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("demo", parents=[product], help="one round to watch")
    one.add_argument("--firmware", default="uefi,bios,liveboot",
                     help="kinds of peers, in turn: uefi, bios, liveboot, nobmc, ipv6, http, secure")
    demos = {
        **{name: scenario.about for name, scenario in demo_scenarios.SCENARIOS.items()},
        **{name: about for name, (about, _) in scenario_groups.DEMO_GROUPS.items()},
    }
    one.add_argument("--scenario", choices=sorted(demos), help="a special round: " + "; ".join(
        f"{name}: {about}" for name, about in sorted(demos.items())))
    one.add_argument("--peers", type=int, help="how many (default: one of each kind named)")
    two = commands.add_parser("test", parents=[product], help="the scenarios")
    four = commands.add_parser("measure-nodes", parents=[product], help="figures of diskless nodes")
    four.add_argument("--lowest", action="store_true", help="try how little memory is enough, too")
    for some in (one, two, four):
        some.add_argument("--node-image", type=Path, metavar="FOLDER", help="an image of diskless nodes (target ramroot), for the scenarios about those")
    two.add_argument("--only", action="append", metavar="NAME", help="this scenario (again for more)")
    two.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole run N times")
    two.add_argument("--busy", action="store_true", help="keep one core busy meanwhile; doubles the deadlines")
    two.add_argument("--long", action="store_true", help="the slow scenarios too")
    two.add_argument("--list", action="store_true", help="name the scenarios and stop")
    three = commands.add_parser("measure", parents=[product], help="figures")
    three.add_argument("--rounds", type=int, default=1, metavar="N", help="each way N times")
    commands.add_parser("nvram-control", parents=[shared], help="what the firmware itself writes")
    return parser


def _options(args: argparse.Namespace) -> Options:
    if args.iso is None or args.recon is None:
        raise LabError("--iso IMAGE and --recon BINARY are needed")
    patience = args.patience * (_BUSY_PATIENCE if getattr(args, "busy", False) else 1.0)
    options = Options(args.iso.resolve(), args.recon.resolve(), _workdir(args), args.accel, patience, args.keep, args.verbose,
                      getattr(args, "node_image", None))
    check_host(options)
    command.require_executable(options.recon)
    return options


def _workdir(args: argparse.Namespace) -> Path:
    if args.workdir is not None:
        chosen: Path = args.workdir.resolve()
        return chosen
    return _ROOT / "builds" / "lab" / f"{args.command}-{time.strftime('%Y%m%d-%H%M%S')}"


def _demo_groups(args: argparse.Namespace, report: Report) -> int:
    options = _options(args)
    results = Results(report, options.workdir)
    scenarios = scenario_groups.of_demo(args.scenario)
    for scenario in scenarios:
        report.plain(f"  {scenario.name}: {scenario.about}")
    scenario_groups.run(options, report, [scenario.name for scenario in scenarios], False, results)
    return results.close()


def _demo(args: argparse.Namespace, report: Report) -> int:
    if args.scenario in scenario_groups.DEMO_GROUPS:
        return _demo_groups(args, report)
    if args.scenario:
        with Lab(_options(args), report) as lab:
            wrong = demo_scenarios.SCENARIOS[args.scenario].run(lab, args.keep)
        return _verdict(report, wrong, "every peer stored and ended as its policy says, all disks as before")
    kinds = [kind for kind in args.firmware.split(",") if kind]
    count = len(kinds) if args.peers is None else args.peers
    if not kinds or not 1 <= count <= 32:
        raise LabError("--peers must be from 1 to 32, --firmware must name at least one kind")
    with Lab(_options(args), report) as lab:
        wrong = demo.run(lab, kinds, count, args.keep)
    return _verdict(report, wrong, f"all {count} peers stored and ended as their policy says, all disks as before")


def _verdict(report: Report, wrong: list[str], good: str) -> int:
    for text in wrong:
        report.plain(f"NOT AS IT SHOULD BE: {text}")
    if not wrong:
        report.plain(f"\n{good}")
    return 1 if wrong else 0


def _list(report: Report) -> int:
    for group in scenario_groups.GROUPS:
        for scenario in group.scenarios:
            report.plain(f"{scenario.name:16} {scenario.about}{' (with --long)' if scenario.long else ''}")
    return 0


def _test(args: argparse.Namespace, report: Report) -> int:
    if args.list:
        return _list(report)
    unknown = sorted(set(args.only or ()) - set(scenario_groups.names()))
    if unknown:
        raise LabError(f"no such scenario: {', '.join(unknown)}; `run.py test --list` names them")
    options = _options(args)
    results = Results(report, options.workdir)
    with scenario_groups.busy_core(args.busy):
        for at in range(args.repeat):
            if args.repeat > 1:
                report.line(f"round {at + 1} of {args.repeat}")
            scenario_groups.run(options, report, args.only, args.long, results)
    return results.close()


def _measure(args: argparse.Namespace, report: Report) -> int:
    with Lab(_options(args), report) as lab:
        lines = measure.run(lab, args.rounds)
        (lab.folder / "figures.md").write_text("\n".join(lines) + "\n")
    report.plain("\n" + "\n".join(lines))
    return 0


def _measure_nodes(args: argparse.Namespace, report: Report) -> int:
    tools.require(("cpio", "file", "gzip", "xz", "zstd"))
    with Lab(_options(args), report) as lab:
        lines = measure_nodes.run(lab, args.lowest)
        (lab.folder / "figures.md").write_text("\n".join(lines) + "\n")
    report.plain("\n" + "\n".join(lines))
    return 0


def _nvram_control(args: argparse.Namespace, report: Report) -> int:
    tools.require_root()
    tools.require(("qemu-system-x86_64", "ip", "dnsmasq"))
    firmware.uefi()
    surprises = nvram_control.run(_workdir(args), args.accel, report)
    for text in surprises:
        report.plain(f"NOT KNOWN BEFORE: {text}")
    return 1 if surprises else 0


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    report = Report()
    run_command = {"demo": _demo, "test": _test, "measure": _measure, "measure-nodes": _measure_nodes, "nvram-control": _nvram_control}[args.command]
    return command.run(f"run.py {args.command}", report, lambda: run_command(args, report))


if __name__ == "__main__":
    sys.exit(main())
