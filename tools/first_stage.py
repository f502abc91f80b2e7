#!/usr/bin/env python3
"""Whether the first stage that was built holds what it must, and nothing else; by other means than it was made with.

  first_stage.py --root TREE --first DIR --table kiwi/common/first-stage.tsv

Every device that a network driver of the tree's kernel names is in ports.tsv, and its driver is in an image with all that it needs;
base.img has recon and what the table puts there; each file of the pack is what the manifest says; nothing that is forbidden is
anywhere. What is left out on purpose is named with its reason. Exit status 1: each line that begins with `error:` says what is wrong.
"""

import argparse
import gzip
import hashlib
import re
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

MANIFEST = "usr/lib/recon/first-stage/manifest.tsv"
# All that base.img has besides modules and their firmware.
BASE = {
    "bin", "dev", "dev/console", "dev/null", "etc", "etc/group", "etc/passwd", "init", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
    "usr/bin",
    "usr/bin/recon", "usr/lib", "usr/lib/firmware", "usr/lib/modules", "usr/lib/recon", "usr/lib/recon/first-stage", MANIFEST,
    "usr/lib64", "usr/sbin",
}
_HEADER_BYTES = 110
# Where modprobe.d(5) looks; a file in a later one stands for those of its name in earlier ones.
_MODPROBE_D = ("lib/modprobe.d", "usr/lib/modprobe.d", "run/modprobe.d", "etc/modprobe.d")
_NEVER = re.compile(r"^\s*install\s+(\S+)\s+(?:/usr)?/bin/(?:false|true)\s*$", re.MULTILINE)
_BLACKLIST = re.compile(r"^\s*blacklist\s+(\S+)\s*$", re.MULTILINE)


class Entry(NamedTuple):
    mode: int
    content: bytes


def entries(archive: bytes) -> Iterator[tuple[str, Entry]]:
    """Names and contents of a cpio archive (newc)."""
    at = 0
    while True:
        header = archive[at:at + _HEADER_BYTES]
        if header[:6] != b"070701":
            raise ValueError(f"no header of cpio at {at}")
        fields = [int(header[6 + 8 * number:14 + 8 * number], 16) for number in range(13)]
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        name = archive[at + _HEADER_BYTES:at + _HEADER_BYTES + name_bytes - 1].decode()
        at = (at + _HEADER_BYTES + name_bytes + 3) // 4 * 4
        if name == "TRAILER!!!":
            return
        yield name, Entry(mode, archive[at:at + size])
        at = (at + size + 3) // 4 * 4


def image(path: Path) -> dict[str, Entry]:
    done = subprocess.run(["zstd", "--decompress", "--stdout", "--quiet", str(path)], stdout=subprocess.PIPE, check=True)
    return dict(entries(done.stdout))


def stem(path: str) -> str:
    return re.sub(r"\.ko(\.(gz|xz|zst))?$", "", path)


def name_of(path: str) -> str:
    return stem(path).rsplit("/", 1)[-1].replace("-", "_")


def alike(text: str) -> str:
    return text.replace("-", "_")


class Tree:
    """What the root tree says of its kernel's modules."""

    def __init__(self, root: Path) -> None:
        found = [folder for top in ("usr/lib/modules", "lib/modules") for folder in sorted((root / top).glob("*")) if (folder / "modules.dep").exists()]
        if not found:
            raise SystemExit(f"error: {root} has no kernel's modules (modules.dep): was its build broken off? Build the image again")
        folder = found[0]
        self.paths: dict[str, str] = {}
        self.needs: dict[str, list[str]] = {}
        for line in (folder / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self.paths[name_of(path)] = stem(path).removeprefix("kernel/")
            self.needs[name_of(path)] = [name_of(need) for need in needs.split()]
        self.aliases: dict[str, list[str]] = defaultdict(list)
        for line in (folder / "modules.alias").read_text().splitlines():
            if line.startswith("alias "):
                pattern, _, name = line.removeprefix("alias ").rpartition(" ")
                self.aliases[name].append(pattern)
        self.builtin = {name_of(line) for line in (folder / "modules.builtin").read_text().splitlines()}
        texts = self._modprobe_d(root)
        self.forbidden = {alike(name) for text in texts for name in _NEVER.findall(text)}
        self.blacklist = {alike(name) for text in texts for name in _BLACKLIST.findall(text)}

    @staticmethod
    def _modprobe_d(root: Path) -> list[str]:
        files = {path.name: path for folder in _MODPROBE_D for path in sorted((root / folder).glob("*.conf"))}
        # A link to /dev/null stands for an empty file, also where the tree has no such device.
        return [path.read_text() for path in files.values() if not (path.is_symlink() and str(path.readlink()) == "/dev/null")]

    def without_image(self, name: str) -> str | None:
        """Why a driver has no image, as far as modprobe.d says."""
        if name in self.forbidden | self.blacklist:
            return "blacklisted by modprobe.d"
        need = next((need for need in self.needs[name] if need in self.forbidden), None)
        return need and f"it needs {need}, which modprobe.d forbids"


class Table:
    """The rows of kiwi/common/first-stage.tsv that say what is not there."""

    def __init__(self, text: str) -> None:
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        for line in text.splitlines():
            if line and not line.startswith("#"):
                word, *fields = line.split("\t")
                self.rows[word].append(fields)

    def why(self, word: str, path: str) -> str | None:
        """The reason in the first row of a word that fits a module's path."""
        return next((fields[-1] for fields in self.rows[word] if fnmatchcase(alike(path), alike(fields[0]))), None)

    def forbids(self, path: str) -> str | None:
        return None if self.why("allow", path) is not None else self.why("never", path)


class Manifest:
    def __init__(self, text: str) -> None:
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        for line in text.splitlines():
            word, *fields = line.split("\t")
            self.rows[word].append(fields)
        self.files = {fields[0]: fields for fields in self.rows["file"]}


class Stage:
    """The files of the first stage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = image(folder / "base.img")
        self.manifest = Manifest(self.base[MANIFEST].content.decode())
        self.ports = {path.stem: image(path) for path in sorted((folder / "port").glob("*.img"))}
        self.any_port = image(folder / "ports.img")
        lines = [line.split("\t") for line in (folder / "ports.tsv").read_text().splitlines()]
        self.patterns = {(pattern, name) for pattern, name, *_ in lines}
        # Whose third field says that there is no image.
        self.imageless = {name for _, name, *place in lines if place == ["base"]}


def modules_in(names: dict[str, Entry]) -> set[str]:
    return {name_of(name) for name in names if name.endswith(".ko")}


def check_ports(tree: Tree, table: Table, stage: Stage) -> Iterator[str]:
    """Every device of every network driver leads to an image that is whole."""
    base = modules_in(stage.base)
    left_out = defaultdict(list)
    devices = drivers = 0
    for name, path in sorted(tree.paths.items()):
        patterns = [pattern for pattern in tree.aliases[name] if pattern.startswith("pci:")]
        if not path.startswith("drivers/net/") or not patterns:
            continue
        why = table.why("except", path) or table.forbids(path) or tree.without_image(name)
        if why is not None:
            left_out[why].append(name)
            continue
        drivers += 1
        devices += len(patterns)
        yield from (f"error: {pattern} of {name} is not in ports.tsv" for pattern in patterns if (pattern, name) not in stage.patterns)
        there = base | modules_in(stage.ports.get(name, {}))
        yield from (f"error: {need} is neither in port/{name}.img nor in base.img" for need in [name, *tree.needs[name]] if need not in there)
        wanted = base if name in base else modules_in(stage.any_port)
        if name not in wanted and table.why("rare", path) is None:
            yield f"error: {name} is not in ports.img, and no row of the table says why"
    for pattern, name in sorted(stage.patterns):
        if name not in stage.ports and name not in base and name not in tree.builtin:
            yield f"error: ports.tsv has {pattern} for {name}, which is nowhere"
    for name in sorted({name for _, name in stage.patterns}):
        if (name in stage.imageless) == (name in stage.ports):
            yield f"error: ports.tsv {'denies' if name in stage.ports else 'does not deny'} that {name} has an image of its own"
    yield f"{devices} kinds of PCI devices of {drivers} network drivers have their images"
    yield from (f"without an image: {', '.join(names)} ({why})" for why, names in left_out.items())
    if devices < 100:
        yield f"error: only {devices} kinds of PCI devices; modules.alias is not what was expected"


def check_boot(tree: Tree, table: Table, stage: Stage) -> Iterator[str]:
    """What the boot image needs besides ports is there with what that needs, or built in: nobody is there to fetch it from."""
    there = modules_in(stage.base) | modules_in(stage.any_port)
    for glob, _ in table.rows["boot"]:
        names = {name for name, path in tree.paths.items() if fnmatchcase(alike(path), alike(glob))}
        if not names and name_of(glob) not in tree.builtin:
            yield f"error: no module fits {glob}, which the table wants in ports.img"
        for name in sorted(names):
            yield from (f"error: {need} is neither in ports.img nor in base.img" for need in [name, *tree.needs[name]] if need not in there)


def check_base(stage: Stage) -> Iterator[str]:
    """recon, its manifest and modules; no shell, no libraries, no program."""
    for name, entry in stage.base.items():
        plain = re.match(r"usr/lib/(modules|firmware)/", name) and (stat.S_ISDIR(entry.mode) or name.endswith(".ko") or name.startswith("usr/lib/firmware/"))
        if name not in BASE and not plain:
            yield f"error: base.img holds {name}"
    yield from (f"error: base.img has no {name}" for name in sorted(BASE - set(stage.base)))
    yield f"base.img: recon, its manifest, {len(modules_in(stage.base))} modules"


def check_manifest(stage: Stage) -> Iterator[str]:
    """Each file of the pack is what its record says, and each record's paths are somewhere."""
    pack = (stage.folder / "modules.pack").read_bytes()
    for path, _mode, offset, packed, size, digest in stage.manifest.rows["file"]:
        member = pack[int(offset):int(offset) + int(packed)]
        try:
            content = gzip.decompress(member)
        except (OSError, EOFError) as error:
            yield f"error: {path} does not come out of the pack: {error}"
            continue
        if len(content) != int(size) or hashlib.sha256(content).hexdigest() != digest:
            yield f"error: {path} in the pack is not what the manifest says"
    links = {fields[0] for fields in stage.manifest.rows["link"]}
    wanted = [path for fields in stage.manifest.rows["module"] for path in (fields[1], *filter(None, fields[4].split(",")))]
    wanted += [path for fields in stage.manifest.rows["group"] for path in fields[1].split(",")]
    for path in wanted:
        if path not in stage.manifest.files and path not in links and path.lstrip("/") not in stage.base:
            yield f"error: the manifest names {path}, which is neither in the pack nor in base.img"
    yield f"modules.pack: {len(stage.manifest.files)} files have their sums"


def check_forbidden(tree: Tree, table: Table, stage: Stage) -> Iterator[str]:
    """What modprobe.d or the table forbids is in no piece."""
    places = {"base.img": set(stage.base), "ports.img": set(stage.any_port), "modules.pack": set(stage.manifest.files)}
    places |= {f"port/{name}.img": set(names) for name, names in stage.ports.items()}
    for place, paths in places.items():
        for path in sorted(path for path in paths if path.endswith(".ko")):
            name = name_of(path)
            if name in tree.forbidden or table.forbids(tree.paths[name]) is not None:
                yield f"error: {place} holds {name}, which is forbidden"


def check(root: Path, first: Path, table_file: Path) -> Iterator[str]:
    tree, table, stage = Tree(root), Table(table_file.read_text()), Stage(first)
    yield from check_ports(tree, table, stage)
    yield from check_boot(tree, table, stage)
    yield from check_base(stage)
    yield from check_manifest(stage)
    yield from check_forbidden(tree, table, stage)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("root", "first", "table"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    words = parser.parse_args()
    said = list(check(words.root, words.first, words.table))
    print("\n".join(said))
    return 1 if any(line.startswith("error:") for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())
