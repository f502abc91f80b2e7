"""How does a command run inside a root tree (chroot), with nothing left behind?

Each command has mount and process namespaces of its own. The kernel removes the mounts and ends the processes with the first
process of the namespace, and that one is ended with the harness: also by SIGKILL nothing stays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vdc import tools
from vdc.errors import LabError, Timeout
from vdc.process import kill

TOOLS = ("setpriv", "unshare", "mount", "chroot", "env", "cp", "bash")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where a root tree keeps this machine's certificates: a package of the root that makes its own list does not undo it.
_CERTIFICATES = "/etc/recon-test-certificates.crt"
# Environment variables of this machine that name certificates, and those that are passed on unchanged.
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CARGO_HTTP_CAINFO")
_PASSED_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
# `$1` root, `$2` number of binds, then source, target and options of each, then the command.
_ENTER = r"""
set -e
root=$1 count=$2; shift 2
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
while [ "$count" -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    [ "$3" = rw ] || mount -o "remount,bind,$3" "$root$2"
    count=$((count - 1)); shift 3
done
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Bind:
    """A folder of this machine that a command in a root sees."""

    source: Path
    target: str
    writable: bool = False

    def arguments(self) -> list[str]:
        return [str(self.source), self.target, "rw" if self.writable else "ro"]


@dataclass
class Chroot:
    """A root tree in which commands run."""

    root: Path
    binds: tuple[Bind, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def argv(self, argv: Sequence[str], variables: Mapping[str, str] | None = None) -> list[str]:
        environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **self._settings(), **self.variables, **(variables or {})}
        binds = [argument for bind in self.binds for argument in bind.arguments()]
        return [
            tools.path_of("setpriv"), "--pdeathsig", "KILL", tools.path_of("unshare"), "--mount", "--pid", "--fork", "--kill-child=KILL",
            "--propagation", "private", "bash", "-c", _ENTER, "chroot", str(self.root), str(len(self.binds)), *binds,
            "env", "-i", *(f"{name}={value}" for name, value in sorted(environment.items())), *argv,
        ]

    def call(
        self, argv: Sequence[str], timeout: float, log: Path | None = None, variables: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Runs a command to its end; (exit code, what it printed). With a log the text goes there as it comes."""
        with tempfile.TemporaryFile() if log is None else _opened(log, argv) as out:
            begin = out.tell()
            process = subprocess.Popen(
                self.argv(argv, variables), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired as late:
                raise Timeout(f"{' '.join(argv)[:300]}: not done after {timeout:.0f} s") from late
            finally:
                kill(process, 30)
            out.seek(begin)
            return process.returncode, out.read().decode("utf-8", "replace")

    def run(
        self, argv: Sequence[str], timeout: float = 120.0, log: Path | None = None, variables: Mapping[str, str] | None = None,
    ) -> str:
        """The same; a non-zero exit code is an error that carries the end of the output."""
        code, text = self.call(argv, timeout, log, variables)
        if code != 0:
            raise LabError(f"{' '.join(argv)[:300]}: exit {code}: {text.strip()[-1500:]}" + (f" (see {log})" if log else ""))
        return text

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file inside, with its folders."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _settings(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        if (self.root / _CERTIFICATES.lstrip("/")).exists():
            kept.update({name: _CERTIFICATES for name in _CERTIFICATE_VARIABLES})
        return kept


def _opened(log: Path, argv: Sequence[str]) -> IO[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    out = log.open("a+b")
    out.write(f"$ {' '.join(argv)}\n".encode())
    out.flush()
    return out


def adopt_settings(root: Path) -> None:
    """Gives a root tree this machine's network settings: name servers, certificates, settings of apt and pip."""
    for name in ("resolv.conf", "pip.conf", "hosts"):
        file = Path("/etc") / name
        if file.exists():
            (root / "etc" / name).unlink(missing_ok=True)
            shutil.copyfile(file, root / "etc" / name)
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        shutil.copyfile(bundle, root / _CERTIFICATES.lstrip("/"))
        certificates = root / "etc/ssl/certs"
        certificates.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, certificates / "ca-certificates.crt")
    for file in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt")):
        target = root / "usr/local/share/ca-certificates"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / file.name)
    for file in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
        text = file.read_text(errors="replace")
        # How to reach the source, not what to do with packages afterwards.
        if "Acquire::" in text and "DPkg::" not in text and (root / "etc/apt/apt.conf.d").is_dir():
            (root / "etc/apt/apt.conf.d" / file.name).write_text(text)


def copy_tree(source: Path, target: Path) -> None:
    """A copy with owners, links and times; cheap where the file system shares blocks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    tools.run(["cp", "-a", "--reflink=auto", "--one-file-system", str(source), str(target)], timeout=600)


def remove_tree(tree: Path) -> None:
    """Removes a root tree, and never what is mounted inside it."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [point for point in mounted if point == str(tree) or point.startswith(f"{tree}/")]
    if inside:
        raise LabError(f"{tree} holds mounts of another run: {', '.join(inside[:5])}")
    if tree.is_symlink() or tree.exists():
        tools.run(["rm", "-rf", "--one-file-system", str(tree)], timeout=600)
