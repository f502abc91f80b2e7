"""Which openSUSE packages does the stand-in repository hold?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vdc.errors import LabError

PACKAGES = Path(__file__).resolve().parent / "packages.tsv"
# Where each signing key's packages lie on openSUSE's mirrors, below the top.
REPOSITORIES: dict[str, str] = {
    "oss": "distribution/leap/15.4/repo/oss",
    "update-oss": "update/leap/15.4/oss",
    "update-backports": "update/leap/15.4/backports",
    "update-sle": "update/leap/15.4/sle",
}
KEYS = ("oss", "sle", "backports")


@dataclass(frozen=True)
class Package:
    """One row."""

    name: str
    debian: tuple[str, ...]
    requires: tuple[str, ...]
    key: str
    repository: str
    source: str


def read(path: Path = PACKAGES) -> list[Package]:
    """All rows, in their order; a row that is not whole is an error."""
    rows: list[Package] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 6 or not all(cells):
            raise LabError(f"{path.name}:{number}: six columns wanted, found {len(cells)}")
        name, debian, requires, key, repository, source = cells
        if key not in KEYS or repository not in REPOSITORIES:
            raise LabError(f"{path.name}:{number}: {name}: no key {key} or no repository {repository}")
        rows.append(Package(name, _words(debian), _words(requires), key, repository, source))
    names = [row.name for row in rows]
    doubled = sorted({name for name in names if names.count(name) > 1})
    unknown = sorted({word for row in rows for word in row.requires} - set(names) - {"debian-userland"})
    if doubled or unknown:
        raise LabError(f"{path.name}: rows twice: {' '.join(doubled) or 'none'}; required, but without a row: {' '.join(unknown) or 'none'}")
    return rows


def _words(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.split(","))
