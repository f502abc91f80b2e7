#!/usr/bin/env python3
"""Checks that the image's files use nothing that the oldest supported system does not know yet: ages.py --top TOP

Units, udev rules, dracut's words, kernel words, boot scripts and the options of programs are read for their directives, and each
is looked up in kiwi/ages.tsv, which says the first version that has it and where that is written. Fails with one line a place for
a directive that is not in the table, or that is younger than the oldest system. An older system drops a word that it does not
know in silence or with a line in its log, so nothing else would show it before a machine behaves wrongly.

What is not looked up: names of units, which may be absent; names that are ours (the prefixes of OURS); the text of messages;
programs that are as old as the systems themselves (coreutils, sed, find); iPXE, which has no versions to go by.
"""

import argparse
import itertools
import os
import re
import sys
from collections import namedtuple
from pathlib import Path

from ages_readers import (
    read_dracut_conf,
    read_dracut_module,
    read_grub,
    read_ipxe,
    read_kiwi_type,
    read_modprobe,
    read_modules_load,
    read_rust,
    read_shell,
    read_sshd,
    read_sysctl,
    read_udev,
    read_unit,
)
from ages_scan import Bad

# One line of the table. `ignored` marks what older versions may leave out without harm.
Age = namedtuple("Age", "program directive first ignored source line")
# The oldest version of a program on any system that we support.
Oldest = namedtuple("Oldest", "version who")
TABLE = "kiwi/ages.tsv"


def places(top):
    """Every reader with its files. A reader without files is a fault: the files have moved, and the check would see nothing."""
    overlay = sorted(path for path in (top / "overlay").rglob("*") if path.is_file() and not path.is_symlink())

    def below(pattern):
        return [path for path in overlay if re.search(pattern, str(path.relative_to(top / "overlay")))]

    def shell(paths):
        return [path for path in paths if path.suffix == ".sh" or re.match(rb"^#!.*[ /](ba)?sh\b", path.read_bytes()[:80])]

    dracut_modules = below(r"/dracut/modules\.d/.*/module-setup\.sh$")
    golden = top / "tests/golden/ipxe"
    scripts = sorted((top / "tools").glob("*.sh")) + sorted((top / "kiwi").rglob("*.sh")) + shell(overlay)
    scripts += [path for path in (top / "make-recipe-target", top / ".ci/run") if path.exists()]
    sources = [path for path in sorted((top / "src").rglob("*.rs")) if path.name != "tests.rs" and "tests" not in path.parts]
    return (
        ("units", read_unit, sorted((top / "services").iterdir()) + below(r"/systemd/(system/.*|.*\.conf\.d/[^/]*)$")),
        ("udev rules", read_udev, below(r"/udev/rules\.d/.*\.rules$")),
        ("dracut.conf", read_dracut_conf, below(r"/dracut\.conf\.d/.*\.conf$")),
        ("dracut modules", read_dracut_module, dracut_modules),
        ("shell scripts", read_shell, scripts),
        ("sysctl", read_sysctl, below(r"/sysctl\.d/.*\.conf$")),
        ("modprobe.d", read_modprobe, below(r"/modprobe\.d/.*\.conf$")),
        ("modules-load.d", read_modules_load, below(r"/modules-load\.d/.*\.conf$")),
        ("sshd_config", read_sshd, below(r"/ssh/.*sshd_config$")),
        (
            "GRUB scripts",
            read_grub,
            sorted((top / "kiwi").rglob("grub.cfg.template"))
            + sorted(golden.glob("*.grub"))
            + sorted(golden.glob("grub.cfg")),
        ),
        ("iPXE scripts", read_ipxe, sorted(golden.glob("*.ipxe"))),
        ("KIWI types", read_kiwi_type, sorted((top / "kiwi/common").glob("*.xml"))),
        ("sources", read_rust, sources),
    )


def uses_of(top):
    """All uses in the tree, and what could not be read."""
    uses, errors = [], []
    for what, reader, files in places(top):
        if not files:
            errors.append(f"no {what} found below {top}: tools/ages.py looks in the wrong place")
        for path in files:
            try:
                uses.extend(reader(os.path.relpath(path, top), path.read_text(encoding="utf-8")))
            except Bad as error:
                errors.append(str(error))
            except (OSError, UnicodeDecodeError) as error:
                errors.append(f"{path}: {error}")
    return uses, errors


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def read_table(text):
    """Oldest versions, ages by program and directive, and what is wrong with the table itself."""
    oldest, ages, errors, keys = {}, {}, [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 4 or not all(field.strip() for field in fields):
            errors.append(f"{TABLE}:{number}: four fields are wanted, none of them empty")
            continue
        if fields[0] == "oldest":
            oldest[fields[1]] = Oldest(fields[2], fields[3])
            continue
        program, directive, first, source = fields
        version = re.match(r"^(?:<=|ignored-before )?(\d+(?:\.\d+)*)$", first)
        if not version:
            errors.append(f"{TABLE}:{number}: {first} is no version: N, <=N or ignored-before N")
            continue
        if program not in oldest:
            errors.append(f"{TABLE}:{number}: no oldest version of {program} at the top of the table")
            continue
        if (program, directive) in ages:
            errors.append(f"{TABLE}:{number}: {directive} stands there twice")
        keys.append((program, directive, number))
        ages[program, directive] = Age(
            program, directive, version.group(1), first.startswith("ignored-before "), source, number
        )
    for before, after in itertools.pairwise(keys):
        if before[:2] > after[:2]:
            errors.append(f"{TABLE}:{after[2]}: {after[1]} is not in order (program, then directive, by their bytes)")
    return oldest, ages, errors


def judge(uses, oldest, ages):
    """One sentence for each directive that is unknown or too young, at each of its places, and each line nobody needs."""
    errors = []
    for use in dict.fromkeys(uses):
        age = ages.get((use.program, use.directive))
        place = f"{use.file}:{use.line}: {use.directive}"
        if age is None:
            errors.append(
                f"{place} ({use.program}) is not in {TABLE}: look up the first version that has it, and add it with its source"
            )
        elif not age.ignored and numbers(age.first) > numbers(oldest[use.program].version):
            has = oldest[use.program]
            errors.append(
                f"{place} is from {use.program} {age.first}; the oldest system we support has {has.version} ({has.who})"
            )
    used = {(use.program, use.directive) for use in uses}
    for key, age in ages.items():
        if key not in used:
            errors.append(f"{TABLE}:{age.line}: nothing uses {age.directive} ({age.program})")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--top", type=Path, required=True, help="top folder of the project")
    parser.add_argument("--list", action="store_true", help="print what was found instead of judging it")
    arguments = parser.parse_args()
    uses, errors = uses_of(arguments.top)
    if arguments.list:
        for use in uses:
            print(f"{use.program}\t{use.directive}\t{use.file}:{use.line}")
        return 0
    oldest, ages, faults = read_table((arguments.top / TABLE).read_text(encoding="utf-8"))
    errors += faults + judge(uses, oldest, ages)
    for error in errors:
        print(error, file=sys.stderr)
    if not errors:
        print(f"{len(uses)} uses of {len(ages)} directives: none is younger than the oldest system")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
