"""The Makefile and what refers to it: targets that are named exist, tests that are left out of the inner loop exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
MAKEFILE = (TOP / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*)[a-z -]*:(?!=)", MAKEFILE, re.MULTILINE))


class Makefile(unittest.TestCase):
    def test_every_target_that_is_named_is_one(self) -> None:
        named: set[str] = set()
        for file in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
            for words in re.findall(r"(?:`|^)make ([a-z][a-z-]*)", (TOP / file).read_text(), re.MULTILINE):
                named.add(words)
        for line in (TOP / "tools/tests.sh").read_text().splitlines():
            for words in re.findall(r"make_target ([a-z -]+)", line):
                named.update(words.split())
        self.assertLessEqual({"check", "it", "netns", "lint"}, named)
        self.assertLessEqual(named, TARGETS)

    def test_make_alone_lists_what_people_run(self) -> None:
        said = subprocess.run(["make", "--no-print-directory", "-C", str(TOP)], capture_output=True, text=True, check=True).stdout
        listed = {line.split()[0] for line in said.splitlines()}
        self.assertLessEqual({"check", "it", "netns", "attack", "vm", "docs", "deny", "lint", "tools"}, listed)
        self.assertLessEqual(listed, TARGETS)

    def test_every_slow_test_is_a_test(self) -> None:
        """A name that is no test any more leaves nothing out, and the inner loop is slow again."""
        block = re.search(r"^SLOW = \\\n((?: +\w+ ?\\?\n)+)", MAKEFILE, re.MULTILINE)
        assert block is not None
        names = re.findall(r"\w+", block.group(1))
        self.assertGreater(len(names), 5)
        functions = {name for path in (TOP / "src").rglob("*.rs") for name in re.findall(r"\bfn (\w+)\(", path.read_text())}
        self.assertEqual([name for name in names if name not in functions], [])


class Install(unittest.TestCase):
    def test_a_service_is_laid_out_and_keeps_what_a_person_wrote(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            program, iso = root / "recon", root / "x.iso"
            program.write_text("#!/bin/sh\n")
            iso.write_text("image\n")
            given = [f"DESTDIR={root}/to", f"RELEASE={program}", f"ISO={iso}"]
            make = ["make", "--no-print-directory", "-C", str(TOP), "install", *given]
            refused = subprocess.run(make, capture_output=True, text=True, check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("builds both", refused.stderr)
            self.assertFalse((root / "to").exists())
            program.chmod(0o755)
            subprocess.run(make, capture_output=True, check=True)
            options = root / "to/etc/recon/master.env"
            unit = (root / "to/etc/systemd/system/recon-master.service").read_text()
            self.assertIn("ExecStart=/usr/local/bin/recon master --data /var/lib/recon $OPTIONS\n", unit)
            self.assertIn("EnvironmentFile=/etc/recon/master.env\n", unit)
            self.assertNotIn("@", unit + options.read_text())
            self.assertEqual((root / "to/usr/local/bin/recon").stat().st_mode & 0o777, 0o755)
            self.assertEqual((root / "to/var/lib/recon").stat().st_mode & 0o777, 0o700)
            self.assertEqual((root / "to/var/lib/recon/recon.iso").read_text(), "image\n")
            options.write_text("OPTIONS=--link eth1\n")
            subprocess.run(make, capture_output=True, check=True)
            self.assertEqual(options.read_text(), "OPTIONS=--link eth1\n")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not here")
    def test_systemd_takes_the_unit(self) -> None:
        text = (TOP / "tools/install/recon-master.service").read_text()
        text = text.replace("@BINDIR@/recon", "/bin/true").replace("@SYSCONFDIR@", "/etc").replace("@DATADIR@", "/var/lib/recon")
        # The second shows that it would be said.
        for unit_text, is_told in ((text, False), (text.replace("Restart=", "Restrat="), True)):
            with tempfile.TemporaryDirectory() as name:
                unit = Path(name) / "recon-master.service"
                unit.write_text(unit_text)
                said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
                self.assertEqual("recon-master" in said.stderr + said.stdout, is_told, said.stderr)


class Words(unittest.TestCase):
    def test_words_reach_a_ring_as_they_were_typed(self) -> None:
        script = (
            f". {TOP}/tools/tests.sh\n"
            "export WORDS; WORDS=$(make_words --only 'a b' 'x$y $(z)' \"it's\" '#c' '')\n"
            "printf 'vm:\\n\\t@printf \"%%s|\" $(WORDS)\\n' | make --no-print-directory --file=- vm WORDS=\"$WORDS\""
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "--only|a b|x$y $(z)|it's|#c||")

    def test_what_was_left_out_is_said(self) -> None:
        script = f"TOP={TOP}; PYTHON=true; . {TOP}/tools/tests.sh; has_cargo_deny() {{ %s; }}; long_names"
        for there, said in (("true", "suse\n"), ("false", "'make deny'\nsuse\n")):
            done = subprocess.run(["bash", "-c", script % there], capture_output=True, text=True, check=True)
            self.assertEqual(done.stdout, said)


class Toolchain(unittest.TestCase):
    def test_the_pinned_toolchain_can_build_it(self) -> None:
        pinned = tomllib.loads((TOP / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        oldest = tomllib.loads((TOP / "Cargo.toml").read_text())["package"]["rust-version"]
        self.assertRegex(pinned, r"^\d+\.\d+\.\d+$")
        self.assertGreaterEqual([int(part) for part in pinned.split(".")], [int(part) for part in oldest.split(".")])


if __name__ == "__main__":
    unittest.main()
