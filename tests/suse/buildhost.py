"""How does a person's build go on a fresh Debian 13?

The machine is a root tree with what debootstrap's smallest system has, this host's Rust toolchain and a checkout of the tree under
test. What the tool needs beyond that it must install itself. Fetched Debian packages, wheels and crates are kept between runs.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from chroot import Bind, Chroot, adopt_settings, copy_tree, remove_tree
from roots import archives
from vdc import tools
from vdc.errors import LabError

TOOLS = ("git", "cp", "nice", "tar")
CHECKOUT = "/root/recon"
RECIPE = "suse-leap-15.4"
KEYS = "/root/mirror-keys.asc"
_CACHE_OF_KIWI = "var/cache/kiwi"


@dataclass(frozen=True)
class Outcome:
    """How one command of the person went."""

    code: int
    text: str
    seconds: float

    def tail(self) -> str:
        return self.text.strip()[-1500:]

    def sentences(self) -> list[str]:
        """Lines by which the tool itself says why it ended."""
        return [line for line in self.text.splitlines() if line.startswith("make-recipe-target: ")]


class BuildHost:
    """The root tree and the commands in it."""

    def __init__(self, root: Path, cache: Path, tree: Path, logs: Path) -> None:
        self.root, self._tree, self._logs, self._cache = root, tree, logs, cache
        home = Path.home()
        kept = {name: cache / name for name in ("pip", "registry", "target")}
        for folder in kept.values():
            folder.mkdir(parents=True, exist_ok=True)
        self._place = Chroot(
            root,
            (
                archives(cache, "trixie"), Bind(home / ".rustup", "/root/.rustup"), Bind(home / ".cargo/bin", "/root/.cargo/bin"),
                Bind(kept["registry"], "/root/.cargo/registry", writable=True), Bind(kept["pip"], "/root/.cache/pip", writable=True),
                Bind(kept["target"], f"{CHECKOUT}/target", writable=True),
            ),
        )

    @property
    def checkout(self) -> Path:
        return self.root / CHECKOUT.lstrip("/")

    @property
    def results(self) -> Path:
        return self.checkout / "builds" / RECIPE

    @property
    def iso(self) -> Path:
        return self.results / f"recon-{RECIPE}.iso"

    @property
    def recon(self) -> Path:
        """The binary that the build linked."""
        return self._cache / "target/x86_64-unknown-linux-gnu/release/recon"

    def make(self, base: Path) -> None:
        """A fresh machine, a fresh checkout."""
        for needed in (Path.home() / ".rustup", Path.home() / ".cargo/bin"):
            if not needed.is_dir():
                raise LabError(f"no Rust toolchain in {needed}: the build host borrows this machine's")
        remove_tree(self.root)
        copy_tree(base, self.root)
        adopt_settings(self.root)
        own = Path.home() / ".cargo/registry"
        if own.is_dir() and not any((self._cache / "registry").iterdir()):
            tools.run(["cp", "-a", "--reflink=auto", f"{own}/.", str(self._cache / "registry")], timeout=300)
        for name in ("config.toml", "config"):
            settings = Path.home() / ".cargo" / name
            if settings.exists():
                self._place.write(f"/root/.cargo/{name}", settings.read_text())
        self._check_out()

    def trust(self, keys: list[Path]) -> None:
        """The file of keys that the person names."""
        self._place.write(KEYS, "".join(key.read_text() for key in keys))

    def _check_out(self) -> None:
        """Every file that git knows or would add, with its times: cargo goes by them."""
        self.checkout.mkdir(parents=True, exist_ok=True)
        listed = tools.run(["git", "-C", str(self._tree), "ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        for name in sorted({name for name in listed.split("\0") if name}):
            source, target = self._tree / name, self.checkout / name
            if not source.exists() and not source.is_symlink():
                continue  # deleted, not yet committed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        # The binary is linked here, with the compiler and the C library that the tool installs on this machine.
        (self.checkout / "src/main.rs").touch()

    def make_target(self, mirror: str, timeout: float, name: str, target: str = "target", recipe: str = RECIPE) -> Outcome:
        """What the person types; the keys are those that sign the mirror's index."""
        begun = time.monotonic()
        command = ["nice", "./make-recipe-target", recipe, target, "--mirror", mirror, "--keys", KEYS]
        log = self._logs / f"{name}.log"
        log.unlink(missing_ok=True)
        code, text = self._place.call(["bash", "-c", f'cd {CHECKOUT} && exec "$@"', "build", *command], timeout, log)
        whole = self.checkout / "builds" / recipe / f"{target}.log"
        if whole.exists():
            shutil.copyfile(whole, self._logs / f"{name}.target.log")
        return Outcome(code, text, time.monotonic() - begun)

    def run(self, argv: list[str], timeout: float = 120.0) -> str:
        return self._place.run(argv, timeout)

    def edit(self, path: str, line: str) -> None:
        """Appends a line to a file of the checkout."""
        with (self.checkout / path).open("a") as file:
            file.write(line)

    def restore(self, path: str) -> None:
        """Puts back a file of the checkout as the tree under test has it."""
        shutil.copy2(self._tree / path, self.checkout / path, follow_symlinks=False)

    def forget_package(self, name: str) -> int:
        """Takes a package out of what KIWI has fetched so far; returns how many files that were."""
        found = list((self.root / _CACHE_OF_KIWI).rglob(f"{name}-[0-9]*.rpm"))
        for file in found:
            file.unlink()
        return len(found)
