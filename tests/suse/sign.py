"""Which key signs which packages? Three keys as openSUSE has them, and a fourth that is not trusted; made for this run only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chroot import Bind, Chroot
from package_table import KEYS, REPOSITORIES, Package
from vdc.errors import LabError

STRANGER = "stranger"
# Some of openSUSE's keys bind their user ids with SHA-1, which Debian 13's rpm refuses (gpgv takes them). This one signs nothing: with
# it among the trusted keys the tool must do without rpm's own check of packages, as with openSUSE's real keys on Debian 13.
DATED = "dated"
INDEX_KEY = "oss"


class Keys:
    """OpenPGP keys in a folder of the run; signing happens in the maker's root."""

    def __init__(self, maker: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._place = Chroot(maker, (Bind(folder, "/keys", writable=True),), {"GNUPGHOME": "/keys"})
        self._maker = maker

    def public(self, name: str) -> Path:
        """The ASCII-armoured public key."""
        return self.folder / f"{name}.asc"

    def make(self) -> None:
        """All keys, unless they are there."""
        for name in (*KEYS, STRANGER, DATED):
            if self.public(name).exists():
                continue
            weak = ["--cert-digest-algo", "SHA1"] if name == DATED else []
            self._place.run([
                "gpg", "--batch", *weak, "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", _user(name), "rsa3072", "sign", "never",
            ])
            self._place.run(["gpg", "--batch", "--armor", "--output", f"/keys/{name}.asc", "--export", _user(name)])

    def sign_packages(self, name: str, folder: Path, files: Sequence[str], log: Path) -> None:
        """Signs RPMs, given by name in a folder."""
        chroot = Chroot(self._maker, (Bind(self.folder, "/keys", writable=True), Bind(folder, "/rpms", writable=True)), {"GNUPGHOME": "/keys"})
        chroot.run(
            ["rpmsign", "--define", f"_gpg_name {_user(name)}", "--define", "_gpg_path /keys", "--addsign", *(f"/rpms/{file}" for file in files)],
            600, log,
        )

    def sign_index(self, name: str, repodata: Path, suffix: str = "") -> None:
        """repomd.xml.asc and repomd.xml.key of a repository, with a suffix behind them where they are not the real ones."""
        chroot = Chroot(self._maker, (Bind(self.folder, "/keys", writable=True), Bind(repodata, "/repodata", writable=True)), {"GNUPGHOME": "/keys"})
        chroot.run([
            "gpg", "--batch", "--yes", "--armor", "--local-user", _user(name), "--output", f"/repodata/repomd.xml.asc{suffix}",
            "--detach-sign", "/repodata/repomd.xml",
        ])
        (repodata / f"repomd.xml.key{suffix}").write_bytes(self.public(name).read_bytes())


def _user(name: str) -> str:
    return f"recon test key {name} <{name}@test.invalid>"


def publish(rows: Sequence[Package], files: dict[str, Path], top: Path, keys: Keys, maker: Path, log: Path) -> None:
    """Lays signed packages out as on a mirror, each repository with a signed index."""
    by_key: dict[str, list[str]] = {name: [] for name in KEYS}
    place_of = {row.name: row for row in rows}
    for name, file in files.items():
        by_key[place_of[name].key if name in place_of else "sle"].append(file.name)
    folder = next(iter(files.values())).parent
    for name, wanted in by_key.items():
        keys.sign_packages(name, folder, wanted, log)
    for name, path in REPOSITORIES.items():
        packages = top / path / "x86_64"
        packages.mkdir(parents=True, exist_ok=True)
        for package, file in files.items():
            if (place_of[package].repository if package in place_of else "oss") == name:
                file.rename(packages / file.name)
        Chroot(maker, (Bind(top / path, "/repo", writable=True),)).run(["createrepo_c", "--quiet", "/repo"], 600, log)
        keys.sign_index(INDEX_KEY, top / path / "repodata")
        keys.sign_index(STRANGER, top / path / "repodata", ".stranger")
    other = top / "distribution/leap/15.6"
    other.mkdir(parents=True, exist_ok=True)
    (other / "repo").symlink_to("../15.4/repo")
    (top / "update/leap/15.6").symlink_to("15.4")


def check_packages(top: Path, keys: Keys, maker: Path, trusted: Sequence[str]) -> dict[str, bool]:
    """What rpm itself says of every package when it trusts those keys: file name → digests and signatures in order."""
    chroot = Chroot(maker, (Bind(top, "/mirror"), Bind(keys.folder, "/keys")))
    script = (
        'set -e; db=$(mktemp -d); count=$1; shift; '
        'while [ "$count" -gt 0 ]; do rpmkeys --dbpath "$db" --import "/keys/$1.asc"; shift; count=$((count-1)); done; '
        'rpmkeys --dbpath "$db" --checksig "$@" || true; rm -rf "$db"'
    )
    packages = sorted(str(file.relative_to(top)) for path in REPOSITORIES.values() for file in (top / path / "x86_64").glob("*.rpm"))
    text = chroot.run(
        ["bash", "-c", script, "check", str(len(trusted)), *trusted, *(f"/mirror/{package}" for package in packages)], 300,
    )
    said = {line.split(": ")[0].rsplit("/", 1)[-1]: line.endswith("digests signatures OK") for line in text.splitlines() if line.startswith("/mirror/")}
    if len(said) != len(packages):
        raise LabError(f"rpmkeys spoke of {len(said)} packages out of {len(packages)}: {text[-500:]}")
    return said


def installed(root: Path) -> set[str]:
    """Names in rpm's database of a root tree."""
    return set(Chroot(root).run(["rpm", "-qa", "--queryformat", "%{NAME}\\n"]).split())
