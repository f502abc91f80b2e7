"""What do the steps of a run share: the repository, the mirror that serves it, the build host and what was built?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import contents
import rpms
import sign
from buildhost import RECIPE, BuildHost, Outcome
from chroot import remove_tree
from image import Image, unpack
from mirror import Mirror
from package_table import KEYS, PACKAGES, Package, read
from roots import Roots, make
from vdc.errors import LabError
from vdc.report import Report

# Needed to work, beyond what rows of the table name.
_DONOR_EXTRAS = ("file", "linux-image-amd64", "pkg-config")
# A change in one of these makes another repository.
_MAKERS = ("contents.py", "rpms.py", "sign.py", "package_table.py", "packages.tsv")
# Seconds that a whole build may take on a machine with two busy cores.
BUILD_SECONDS = 3600.0


@dataclass
class BuildRun:
    """Made once a run; what is expensive is made when the first step asks for it."""

    workdir: Path
    tree: Path
    report: Report
    fresh: bool
    roots: Roots = field(init=False)
    rows: list[Package] = field(init=False)
    keys: sign.Keys = field(init=False)
    mirror: Mirror = field(init=False)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _image: Image | None = None
    _host: BuildHost | None = None

    @property
    def cache(self) -> Path:
        return self.workdir / "cache"

    @property
    def logs(self) -> Path:
        return self.workdir / "logs"

    @property
    def top(self) -> Path:
        """The folder that the mirror serves."""
        return self.cache / "mirror"

    @property
    def contents(self) -> Path:
        return self.cache / "contents"

    def prepare(self) -> None:
        """Root trees, packages, keys, repository: from the cache where they are whole and of the same making."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.rows = read()
        donors = sorted({name for row in self.rows for name in row.debian} | set(_DONOR_EXTRAS))
        self.roots = make(self.cache, donors, self.report.line)
        self.keys = sign.Keys(self.roots.maker, self.cache / "keys")
        self.keys.make()
        stamp, want = self.cache / "repository.stamp", self._making()
        if stamp.exists() and stamp.read_text() == want and self.top.is_dir() and self.contents.is_dir():
            return
        stamp.unlink(missing_ok=True)
        self.report.line(f"making {len(self.rows)} packages with openSUSE's names")
        log = self.logs / "packages.log"
        log.unlink(missing_ok=True)
        made, work = self.cache / "rpms", self.roots
        for folder in (made, self.top):
            remove_tree(folder)
        laid = contents.lay_out(self.rows, work.donor, work.maker, self.contents)
        files = rpms.build(self.rows, laid, work.donor, work.maker, made, log)
        remove_tree(self.contents / "rpmbuild")
        sign.publish(self.rows, files, self.top, self.keys, work.maker, log)
        stamp.write_text(want)

    def _making(self) -> str:
        folder = PACKAGES.parent
        digest = hashlib.sha256()
        for name in _MAKERS:
            digest.update((folder / name).read_bytes())
        for name in ("donor", "maker"):
            digest.update((self.cache / f"{name}.stamp").read_bytes())
        digest.update(b"".join(self.keys.public(name).read_bytes() for name in KEYS))
        return digest.hexdigest() + "\n"

    def trusted(self, dated: bool) -> list[Path]:
        """The keys a person would name; with the one that rpm refuses, or without."""
        return [self.keys.public(name) for name in (*KEYS, *((sign.DATED,) if dated else ()))]

    def host(self) -> BuildHost:
        """The build host; made anew in a whole run, taken as an earlier one left it where single steps are asked for."""
        if self._host is None:
            host = BuildHost(self.workdir / "host", self.cache, self.tree, self.logs)
            if self.fresh or not host.checkout.is_dir():
                self.report.line("making a fresh build host (Debian 13)")
                host.make(self.roots.base)
            self._host = host
        return self._host

    def build(self, name: str, dated: bool, timeout: float = BUILD_SECONDS, target: str = "target", recipe: str = RECIPE) -> Outcome:
        """Runs the person's command and keeps how it went."""
        host = self.host()
        host.trust(self.trusted(dated))
        mark = len(self.mirror.requests)
        outcome = host.make_target(self.mirror.url, timeout, name, target, recipe)
        self.outcomes[name] = outcome
        fetched = [request for request in self.mirror.since(mark) if request.path.endswith(".rpm") and request.status == 200]
        self.report.line(f"{name}: exit {outcome.code} after {outcome.seconds:.0f} s, {len(fetched)} packages fetched")
        (self.logs / f"{name}.requests").write_text(
            "".join(f"{request.method} {request.status} {request.sent} {request.path}\n" for request in self.mirror.since(mark)),
        )
        return outcome

    def need_iso(self) -> BuildHost:
        host = self.host()
        if not host.iso.exists():
            # One that failed in this run fails again, for minutes.
            first = self.outcomes.get("first-build") or self.build("first-build", dated=True)
            if first.code != 0 or not host.iso.exists():
                raise LabError(f"there is no ISO: the build failed (see {self.logs}/first-build.log)")
        return host

    def image(self) -> Image:
        """The ISO's contents, unpacked."""
        if self._image is None:
            self._image = unpack(self.need_iso())
        return self._image

    def forget_image(self) -> None:
        self._image = None

    def clean(self) -> None:
        """Takes away the trees that a later run makes anew; the ISO is kept beside the logs."""
        host = self.workdir / "host"
        for iso in host.glob("root/recon/builds/*/*.iso"):
            iso.rename(self.workdir / iso.name)
        for name in ("host", "susehost"):
            remove_tree(self.workdir / name)
