"""What is tried, and what does it show?"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path

import image
import sign
import susehost
from build_run import BuildRun
from buildhost import RECIPE
from mirror import ALTERED_INDEX, ALTERED_PACKAGE, MISSING, STALLING, STRANGERS_KEY, packages, require_altered
from package_table import KEYS, REPOSITORIES, Package
from vdc.errors import LabError, Timeout
from vdc.process import kill
from vdc.suite import Scenario, expect

# Files of the overlay that a person may well change; neither is read by the build itself.
_EDITED = "overlay/etc/sysctl.d/50-recon.conf"
_EDITED_TOO = "overlay/etc/modules-load.d/recon.conf"
_MARK = "# a change of the test\n"
# Words that the tool uses for its expensive steps: a refusal must come before them.
_KIWI_BEGAN = "preparing the root tree"
# The whole round in the laboratory takes two minutes on a quiet machine with two cores.
_LAB_SECONDS = 3600.0
_NOTHING = "nothing changed"


def _recipe_packages(tree: Path) -> set[str]:
    """Names in the description of the recipe and what it includes."""
    folder = tree / "kiwi"
    files = [folder / RECIPE / "appliance.kiwi"]
    names: set[str] = set()
    for file in files:
        for element in ElementTree.parse(file).iter():
            if element.tag == "include":
                files.append(folder / "common" / element.attrib["from"].split("//")[1])
            elif element.tag == "package":
                names.add(element.attrib["name"])
    return names


def check_names(tree: Path, rows: list[Package]) -> str:
    """Every name that the recipe and the set-up of openSUSE hosts use has a row, and a row says where its name comes from."""
    by_name = {row.name: row for row in rows}
    wanted = {**dict.fromkeys(_recipe_packages(tree), "the recipe"), **dict.fromkeys(susehost.names(tree), "set-up")}
    missing = sorted(f"{name} ({who})" for name, who in wanted.items() if name not in by_name)
    expect(not missing, f"packages.tsv has no row for {', '.join(missing)}: confirm the name and add it with its source")
    bare = sorted(name for name in wanted if by_name[name].source == "-")
    expect(not bare, f"packages.tsv names no source for {', '.join(bare)}")
    unsure = sorted(name for name, who in wanted.items() if by_name[name].source.startswith("not confirmed"))
    return f"{len(wanted)} names; not confirmed for 15.4: {', '.join(unsure) or 'none'}"


def _names(run: BuildRun) -> None:
    run.report.line(check_names(run.tree, run.rows))


def _signed(run: BuildRun) -> None:
    """rpm itself takes every package with the three keys, and with one of them only that one's."""
    everything = sign.check_packages(run.top, run.keys, run.roots.maker, KEYS)
    bad = sorted(name for name, good in everything.items() if not good)
    expect(not bad, f"rpmkeys with all keys refuses {', '.join(bad[:5])}")
    for key in KEYS:
        alone = sign.check_packages(run.top, run.keys, run.roots.maker, (key,))
        wanted = sum(1 for row in run.rows if row.key == key) + (1 if key == "sle" else 0)
        expect(sum(alone.values()) == wanted, f"rpmkeys with the key {key} takes {sum(alone.values())} packages, {wanted} are signed by it")
    for path in REPOSITORIES.values():
        require_altered((run.top / path / "repodata/repomd.xml").read_bytes())


def _fetched(run: BuildRun, mark: int) -> int:
    return len(packages(run.mirror.since(mark)))


def _built(run: BuildRun, name: str, dated: bool) -> int:
    """One build that must succeed; how many packages it fetched."""
    mark = len(run.mirror.requests)
    outcome = run.build(name, dated)
    expect(outcome.code == 0, f"exit {outcome.code}: {outcome.tail()}")
    expect(run.host().iso.is_file(), "the command ended well, and there is no ISO")
    run.forget_image()
    return _fetched(run, mark)


def _first(run: BuildRun) -> None:
    """On a fresh machine: set-up, KIWI's venv, link, both zypper phases, initrd, ISO."""
    count = _built(run, "first-build", dated=True)
    wanted = len(_recipe_packages(run.tree))
    expect(count >= wanted, f"{count} packages were fetched for a recipe of {wanted}: has the machine not been fresh?")


def _second(run: BuildRun) -> None:
    """One file of the overlay changed: a new root tree, from packages that are already here."""
    host = run.need_iso()
    host.edit(_EDITED, _MARK)
    count = _built(run, "second-build", dated=True)
    expect(_KIWI_BEGAN in run.outcomes["second-build"].text, "an overlay file changed, and the root tree was not made anew")
    expect(count <= 3, f"{count} packages were fetched again")
    file = run.image().root / _EDITED[len("overlay/"):]
    expect(file.read_text().endswith(_MARK), f"{file.name} of the image is not the changed one")


def _third(run: BuildRun) -> None:
    """Another change, and keys that rpm takes: packages' own signatures are checked, with the index in the cache."""
    host = run.need_iso()
    host.restore(_EDITED)
    host.edit(_EDITED_TOO, _MARK)
    count = _built(run, "third-build", dated=False)
    expect(_KIWI_BEGAN in run.outcomes["third-build"].text, "an overlay file changed, and the root tree was not made anew")
    expect(count <= 3, f"{count} packages were fetched again")


def _nothing(run: BuildRun) -> None:
    """The same command again takes seconds."""
    if not run.outcomes:
        # A step on its own: an earlier run had its mirror at another port.
        _built(run, "build-before", dated=False)
    before = run.host().iso.stat().st_mtime_ns
    mark = len(run.mirror.requests)
    outcome = run.build("nothing-changed", dated=False, timeout=300)
    expect(outcome.code == 0 and _NOTHING in outcome.text, f"exit {outcome.code}: {outcome.tail()}")
    expect(run.host().iso.stat().st_mtime_ns == before, "the ISO was made anew")
    expect(_fetched(run, mark) == 0, "packages were fetched")
    expect(outcome.seconds < 30, f"it took {outcome.seconds:.0f} s")


def _contents(run: BuildRun) -> None:
    """Loaders, rpm's database, unsupported drivers, what stays out, the network of the initrd, the medium rule."""
    held = run.image()
    wrong: list[str] = []
    checks: list[Callable[[], None]] = [
        partial(image.check_loaders, held, run.contents), partial(image.check_database, held, sorted(_recipe_packages(run.tree))),
        partial(image.check_modules, held), partial(image.check_left_out, held), partial(image.check_initrd, held),
    ]
    for check in checks:
        try:
            check()
        except LabError as error:
            wrong.append(str(error))
    expect(not wrong, "; ".join(wrong))


def _refused(run: BuildRun, fault: str, name: str, seconds: float, words: str) -> None:
    """A build that wants packages and must end before KIWI begins, in time and with a sentence."""
    host = run.need_iso()
    host.edit(_EDITED, _MARK)
    try:
        with run.mirror.at_fault(fault):
            outcome = run.build(name, dated=False, timeout=seconds * 5)
    finally:
        host.restore(_EDITED)
    expect(outcome.code != 0, "the build went on")
    expect(_KIWI_BEGAN not in outcome.text, f"KIWI had begun: {outcome.tail()}")
    expect(len(outcome.sentences()) == 1, f"one sentence wanted: {outcome.tail()}")
    expect(re.search(words, outcome.sentences()[0], re.IGNORECASE), f"not the reason: {outcome.sentences()[0]}")
    expect(outcome.seconds < seconds, f"it took {outcome.seconds:.0f} s: {outcome.sentences()[0]}")


def _bad_index(run: BuildRun) -> None:
    _refused(run, ALTERED_INDEX, "bad-index-ends-build", 60, "signature|verif|altered")


def _stranger(run: BuildRun) -> None:
    _refused(run, STRANGERS_KEY, "stranger's-key-ends-build", 60, "key|signed")


def _missing(run: BuildRun) -> None:
    _refused(run, MISSING, "missing-mirror", 10, "repomd|index|mirror")


def _stalling(run: BuildRun) -> None:
    _refused(run, STALLING, "stalling-mirror", 120, "answer|time|second")


def _altered_package(run: BuildRun) -> None:
    """A package that is not what the signed index says is not installed."""
    host = run.need_iso()
    expect(host.forget_package("nano"), "KIWI's cache does not hold the package")
    host.edit(_EDITED, _MARK)
    try:
        with run.mirror.at_fault(ALTERED_PACKAGE, "nano"):
            outcome = run.build("altered-package", dated=True)
    finally:
        host.restore(_EDITED)
    expect(outcome.code != 0, "the build went on")
    whole = run.logs / "altered-package.target.log"
    said = outcome.text + (whole.read_text(errors="replace") if whole.exists() else "")
    reason = re.search(r"nano[^\n]*(corrupt|checksum|digest)|(corrupt|checksum|digest)[^\n]*nano", said, re.IGNORECASE)
    expect(reason, f"not for the package's sake: {outcome.tail()}")


def _check(run: BuildRun) -> None:
    """The target `check` asks the mirror for every package, for this release and for its neighbour of the same layout."""
    for recipe in (RECIPE, "suse-leap-15.6"):
        outcome = run.build(f"check-{recipe}", dated=True, target="check", recipe=recipe)
        expect(outcome.code == 0, f"{recipe}: exit {outcome.code}: {outcome.tail()}")
        expect("zypper finds every package of the image" in outcome.text, f"{recipe}: zypper was not asked: {outcome.tail()}")


def _suse_host(run: BuildRun) -> None:
    """Set-up of a Leap host: every name is found, Python 3.11 is chosen over Leap's own, KIWI is installed with it."""
    root = run.workdir / "susehost"
    susehost.make(root, run.roots.maker, run.mirror.url, run.top, run.keys)
    susehost.check_out(root, run.tree)
    text = susehost.set_up(root, run.tree, run.cache, run.logs / "suse-host-setup.log")
    expect(re.search(r"^python python3\.11$", text, re.MULTILINE), f"the tool chose another Python: {text.strip()[-300:]}")
    expect(re.search(r"^kiwi .*\d+\.\d+", text, re.MULTILINE), f"KIWI does not start: {text.strip()[-300:]}")
    database = sign.installed(root)
    missing = sorted(susehost.names(run.tree) - database)
    expect(not missing, f"set-up ended well and these are not installed: {', '.join(missing)}")


def _lab(run: BuildRun) -> None:
    """The ISO boots a master from a stick; one UEFI and one BIOS peer come over the network, store and turn off."""
    host = run.need_iso()
    folder = run.workdir / "lab"
    log = run.logs / "lab.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                "nice", sys.executable, str(run.tree / "tests/lab/run.py"), "demo", "--firmware", "uefi,bios", "--iso", str(host.iso),
                "--recon", str(host.recon), "--workdir", str(folder), "--patience", "2",
            ],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            process.wait(_LAB_SECONDS)
        except BaseException as stop:
            # It has a namespace and guests of its own, which it takes down itself.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(120)
            if isinstance(stop, subprocess.TimeoutExpired):
                raise Timeout(f"the laboratory was not done after {_LAB_SECONDS:.0f} s (see {log})") from stop
            raise
        finally:
            kill(process, 30)
    text = log.read_text(errors="replace")
    expect(process.returncode == 0, f"exit {process.returncode}: {text.strip()[-1500:]}")


def _left(run: BuildRun) -> None:
    """No mount, no loop device and no process of a root tree is left."""
    inside = str(run.workdir)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1].startswith(inside)]
    expect(not mounts, f"still mounted: {', '.join(mounts)}")
    loops = [file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    expect(not [name for name in loops if inside in name], f"loop devices: {', '.join(loops)}")
    living = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if str((folder / "root").readlink()).startswith(inside):
                    living.append(f"{folder.name} {(folder / 'comm').read_text().strip()}")
            except OSError:
                continue  # gone meanwhile
    expect(not living, f"still running in a root tree: {', '.join(living)}")


STEPS: list[Scenario[BuildRun]] = [
    Scenario("names-confirmed", "every package name of recipe and set-up has a row and a source", _names),
    Scenario("repository-signed", "rpm takes each package by the key it is signed with", _signed),
    Scenario("first-build", "the whole command on a fresh Debian 13", _first),
    Scenario("second-build-warm-cache", "one overlay file changed: new root tree, no downloads", _second),
    Scenario("third-build", "the same with rpm's own check of packages", _third),
    Scenario("nothing-changed", "the command again takes seconds", _nothing),
    Scenario("image-contents", "what must be in the ISO and what must not", _contents),
    Scenario("bad-index-ends-build", "an index that does not fit its signature", _bad_index),
    Scenario("stranger's-key-ends-build", "an index signed by a key that nobody named", _stranger),
    Scenario("missing-mirror", "a mirror without the release", _missing),
    Scenario("stalling-mirror", "a mirror that takes the connection and is silent", _stalling),
    Scenario("altered-package-ends-build", "a package that is not what the index says", _altered_package),
    Scenario("check-asks-mirror", "the target `check` with a mirror, also for Leap 15.6", _check),
    Scenario("suse-host-setup", "what the tool installs on an openSUSE host", _suse_host),
    Scenario("lab-uefi-and-bios", "master, UEFI peer and BIOS peer from the ISO", _lab),
    Scenario("nothing-left", "no mounts, loop devices or processes", _left),
]


def summary(run: BuildRun) -> str:
    """What a run proves and what only openSUSE's own repository would."""
    older = {"bullseye": "kernel 5.10, systemd 247, glibc 2.31, dracut 051: a little older than Leap 15.4's in every one"}.get(
        run.roots.donor_suite, "newer in kernel, systemd and dracut than Leap 15.4, because the mirror no longer has Debian 11",
    )
    return f"""
What this proves: the one command sets up a fresh Debian 13, believes only an index signed by the keys it was given, and makes the
ISO with KIWI and zypper through both of its phases, again from its cache, and not at all where nothing changed. It ends with a
reason where the mirror, the index or a package is not right. The overlay, the units, the initrd's configuration and the binary work
on a userland that is {older}
(Debian {run.roots.donor_suite} under openSUSE's names and paths). Set-up of an openSUSE host asks for names that its table of
sources confirms, and finds its way past Leap's Python 3.6.

What only a real repository would prove: that openSUSE's packages can be installed together (their real requirements and scriptlets),
that its kernel 5.14 has each module by the name used here and its kmod takes them, its signed shim and GRUB under Secure Boot, its
dracut 055, its iPXE of 2018, and that the mirror still has the release. `./make-recipe-target {RECIPE} check --mirror URL` asks a
real mirror for the first of these within a minute.
"""
