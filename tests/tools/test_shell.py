"""The build's shell parts, called as the build calls them: where packages come from, how far a step is, what grew, what is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).resolve().parent / "fixtures"
PARTS = ("ui", "preflight", "hostsetup", "sources", "rpm_trust", "stage", "kiwi", "sizes", "boot_image", "targets", "check", "tests")


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` with all parts sourced, as make-recipe-target does. A signal to its process group is for it alone, and it hears it."""
    sourced = "\n".join(f'. "$TOP/tools/{part}.sh"' for part in PARTS)
    head = f'set -euo pipefail\nTOP={TOP}\nMIRROR="" KEYS="" EXTRA=()\none_line() {{ tr "\\n" " " | sed "s/ $//"; }}\n{sourced}\n'
    # Whoever runs the tests may ignore them (nohup), and no shell can trap what it was started to ignore.
    heard = ["env", "--default-signal=HUP,INT,TERM"]
    return subprocess.run([*heard, "bash", "-c", head + script], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **environment}, check=False, start_new_session=True)


def said(script: str, **environment: str) -> str:
    done = shell(script, **environment)
    if done.returncode != 0:
        raise AssertionError(f"status {done.returncode}: {done.stderr}")
    return done.stdout


class FirstStage(unittest.TestCase):
    """What peers start from is made from the root tree and left where KIWI looks for files of the medium."""

    def test_a_root_that_is_not_whole_has_none(self) -> None:
        """`check` after a build that broke off holds nothing against half a root."""
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "builds/debian-13"
            (built / "root/usr").mkdir(parents=True)
            for name in ("first-stage.tsv", "root.key", "iso.key"):
                (built / name).write_text("x")
            said(f"TOP={folder}; KIWI=false; prepare_root debian-13 || true")
            self.assertEqual([path.name for path in built.iterdir() if path.is_file()], [])

    def test_the_archive_has_the_places_of_the_medium(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            top = Path(folder)
            for made in ("bin", "kiwi/common", "builds/debian-13/root/image"):
                (top / made).mkdir(parents=True)
            (top / "kiwi/common/first-stage.tsv").write_text("table")
            # Writes what the builder would, with the umask of somebody careful, and tells its words.
            (top / "bin/maker").write_text('#!/bin/sh\necho "$*"\nwhile [ "$1" != --out ]; do shift; done\numask 077\n'
                                           'mkdir -p "$2/port"; echo b >"$2/base.img"; echo p >"$2/port/igb.img"\n')
            (top / "bin/proof").write_text('#!/bin/sh\necho "proven by $*"\n')
            for program in ("maker", "proof"):
                (top / "bin" / program).chmod(0o755)
            script = (f'TOP={folder}; PATH=$TOP/bin:$PATH; FIRST_STAGE=$TOP/kiwi/common/first-stage.tsv; FIRST_STAGE_MAKER=maker; PYTHON=proof; '
                      'make_first_stage debian-13')
            first, second = said(script), said(script)
            self.assertIn(f"--root {folder}/builds/debian-13/root ", first)
            # It is proven before it goes onto the medium.
            self.assertIn(f"proven by {folder}/tools/first_stage.py --root {folder}/builds/debian-13/root", second)
            archive = top / "builds/debian-13/root/image/config-cdroot.tar"
            listed = subprocess.run(["tar", "--list", "--verbose", "--numeric-owner", "--file", archive], capture_output=True, text=True, check=True).stdout
            lines = [line.split() for line in listed.splitlines()]
            self.assertEqual(
                [(fields[0], fields[1], fields[3], fields[5]) for fields in lines],
                [
                    ("drwxr-xr-x", "0/0", "2026-01-01", "boot/x86_64/first/"),
                    ("-rw-r--r--", "0/0", "2026-01-01", "boot/x86_64/first/base.img"),
                    ("drwxr-xr-x", "0/0", "2026-01-01", "boot/x86_64/first/port/"),
                    ("-rw-r--r--", "0/0", "2026-01-01", "boot/x86_64/first/port/igb.img"),
                ],
            )

    def test_binary_and_maker_are_compiled_in_one_go(self) -> None:
        """Asked for one by one they compile their library twice."""
        with tempfile.TemporaryDirectory() as folder:
            cargo = Path(folder) / "cargo"
            cargo.write_text('#!/bin/sh\necho "$RUSTFLAGS: $*"\n')
            cargo.chmod(0o755)
            told = said(f"PATH={folder}:$PATH; build_binary; echo $FIRST_STAGE_MAKER")
        self.assertEqual(told.count("crt-static"), 1)
        self.assertIn("--package recon --package first-stage", told)
        self.assertIn(f"{TOP}/target/x86_64-unknown-linux-gnu/release/first-stage", told)

    def test_nothing_is_checked_where_another_table_was_used(self) -> None:
        self.assertIn("no first stage has been built", said("TOP=/nowhere; check_first_stage debian-13"))

    def test_what_was_not_built_with_this_table_is_said_as_skipped(self) -> None:
        script = 'step() { echo "step: $1"; }; PYTHON=python3; TOP=$FOLDER; FIRST_STAGE=$TOP/table; check_recipe debian-13'
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "builds/debian-13/first-stage.tsv"
            built.parent.mkdir(parents=True)
            (Path(folder) / "table").write_text("table")
            for text, is_skipped in (("older", True), ("table", False)):
                built.write_text(text)
                lines = said(script, FOLDER=folder).splitlines()
                self.assertEqual("step: debian-13: a driver for every network port" in lines, not is_skipped, lines)
                skipped = [line for line in lines[-2:] if "debian-13: skipped: a driver for every network port, as no first stage" in line]
                self.assertEqual(bool(skipped), is_skipped, lines)

    def test_an_image_is_made_anew_where_the_builder_changed(self) -> None:
        files = {Path(line).relative_to(TOP) for line in said("first_stage_sources").splitlines()}
        used = {name for file in (TOP / "src/image/stage").glob("*.rs") for name in re.findall(r"crate::formats::(\w+)", file.read_text())}
        self.assertGreaterEqual(used, {"cpio", "modules", "first_stage"})
        needed = {Path("Cargo.lock"), Path("src/image/stage/plan.rs"), Path("tools/first-stage/main.rs"), Path("src/formats/modules/depmod.rs")}
        for name in used:
            file = Path(f"src/formats/{name}.rs")
            needed.add(file if (TOP / file).exists() else file.with_suffix("") / "mod.rs")
        self.assertEqual(needed - files, set())


@unittest.skipUnless(shutil.which("git"), "missing here: git")
class SourceTime(unittest.TestCase):
    """The earliest time that a machine's clock may have is in the binary: that of the commit, wherever it is built."""

    STAGE = 1767225600

    def setUp(self) -> None:
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        self.top = Path(kept.name) / "top"
        (self.top / "bin").mkdir(parents=True)
        cargo = self.top / "bin/cargo"
        cargo.write_text('#!/bin/sh\necho "$RECON_SOURCE_TIME $SOURCE_DATE_EPOCH"\n')
        cargo.chmod(0o755)

    def commit(self, time: int, at: Path) -> None:
        who = {f"GIT_{role}_{what}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        when = {"GIT_AUTHOR_DATE": "@1 +0000", "GIT_COMMITTER_DATE": f"@{time} +0530"}
        for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "m"]):
            subprocess.run(["git", "-C", str(at), *words], env={**os.environ, **who, **when}, check=True)

    def built(self, **environment: str) -> tuple[int, int]:
        """What cargo is told of the sources' time, and what compilers are told."""
        script = f'TOP={self.top}; PATH=$TOP/bin:$PATH; [ -n "${{SOURCE_DATE_EPOCH:-}}" ] || unset SOURCE_DATE_EPOCH; build_binary'
        source, compilers = said(script, **{"SOURCE_DATE_EPOCH": "", **environment}).split()
        return int(source), int(compilers)

    def test_it_is_that_of_the_commit(self) -> None:
        self.commit(self.STAGE + 5, self.top)
        self.commit(self.STAGE + 86400, self.top)
        for _ in range(2):
            # What compilers go by stays, or every library would be compiled anew for each commit.
            self.assertEqual(self.built(), (self.STAGE + 86400, self.STAGE))
        # As from a hook of another repository, and for whoever does not own this one.
        self.assertEqual(self.built(GIT_DIR="/nowhere", GIT_TEST_ASSUME_DIFFERENT_OWNER="1")[0], self.STAGE + 86400)
        linked = self.top.parent / "linked"
        subprocess.run(["git", "-C", str(self.top), "worktree", "add", "--quiet", str(linked)], check=True)
        shutil.copytree(self.top / "bin", linked / "bin")
        self.top = linked
        self.assertEqual(self.built(), (self.STAGE + 86400, self.STAGE))

    def test_who_builds_may_name_it(self) -> None:
        self.commit(self.STAGE + 5, self.top)
        self.assertEqual(self.built(SOURCE_DATE_EPOCH=str(self.STAGE + 9)), (self.STAGE + 9, self.STAGE + 9))

    def test_no_commit_is_believed_that_cannot_be_right(self) -> None:
        for time in (self.STAGE - 1, 4102444800):
            self.commit(time, self.top)
            self.assertEqual(self.built(), (self.STAGE, self.STAGE), time)

    def test_where_no_commit_tells_it(self) -> None:
        # The folder of an archive within somebody's own checkout, and a repository without a commit.
        self.commit(self.STAGE + 5, self.top.parent)
        self.assertEqual(self.built(), (self.STAGE, self.STAGE))
        subprocess.run(["git", "-C", str(self.top), "init", "--quiet"], check=True)
        self.assertEqual(self.built(), (self.STAGE, self.STAGE))

    def test_the_binary_reads_what_the_build_tells(self) -> None:
        self.assertIn('option_env!("RECON_SOURCE_TIME")', (TOP / "src/role/boot_node.rs").read_text())


class Programs(unittest.TestCase):
    """`check` holds the table of packages against what is started, both ways."""

    def check(self, old: str, new: str, file: str = "kiwi/programs.tsv") -> str:
        """What is wrong where `file` has `new` in place of `old`; nothing where all is well."""
        with tempfile.TemporaryDirectory() as folder:
            for name in ("services", "overlay", "kiwi", "src"):
                (Path(folder) / name).symlink_to(TOP / name)
            text = (TOP / file).read_text()
            self.assertIn(old, text)
            (Path(folder) / Path(file).parts[0]).unlink()
            (Path(folder) / file).parent.mkdir(parents=True)
            (Path(folder) / file).write_text(text.replace(old, new, 1))
            done = shell(f"TOP={folder}; cut -f3 $TOP/kiwi/programs.tsv >$TOP/packages; check_programs debian-13 $TOP/packages")
            errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
            self.assertEqual(done.returncode, 1 if errors else 0, done.stderr)
            return "\n".join(errors)

    def test_every_program_has_a_line_and_every_line_a_program(self) -> None:
        self.assertEqual(self.check("", ""), "")

    def test_a_program_without_a_line_is_named(self) -> None:
        self.assertIn("ssacli is started somewhere", self.check("ssacli\t", "# "))
        table = "src/sys/program.rs"
        self.assertIn("hdparm is started somewhere", self.check('    Sh = "sh",\n', '    Sh = "sh",\n    Hdparm = "hdparm",\n', table))

    def test_a_line_without_a_program_is_named(self) -> None:
        self.assertIn("names hdparm, which nothing starts", self.check("ln\t", "hdparm\tnobody\t-\t-\nln\t"))
        self.assertIn("names storcli64, which nothing starts", self.check('    Storcli = "storcli64",\n', "", "src/sys/program.rs"))


class Sources(unittest.TestCase):
    def top(self, **files: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / f"{name}.repo").write_text(text)
            return said(f"ZYPPER_SOURCES={folder}; suse_top").strip()

    def test_the_top_of_a_mirror_is_found_in_every_kind_of_zypper_source(self) -> None:
        mirror = "http://mirror.example/opensuse"
        for line in (
            "baseurl={}/distribution/leap/$releasever/repo/oss/",
            "baseurl = {}/distribution/leap/15.4/repo/oss",
            "baseurl={}/update/leap/15.6/sle/",
            "baseurl={}/tumbleweed/repo/oss",
            "baseurl={}/tumbleweed/repo/oss/",
            "baseurl={}/update/tumbleweed",
            "baseurl={}/update/tumbleweed/",
            "baseurl={}/debug/distribution/leap/$releasever/repo/oss/",
            "baseurl={}/source/tumbleweed/repo/oss/",
            "baseurl={}/distribution/leap/16.0/repo/oss/$basearch",
        ):
            self.assertEqual(self.top(one=f"[x]\nenabled=1\n{line.format(mirror)}\n"), mirror, line)

    def test_a_source_that_only_zypper_understands_is_passed_over(self) -> None:
        other = "http://other.example/x"
        self.assertEqual(self.top(a="baseurl=http://$host/distribution/leap/15.4/repo/oss\n", b=f"baseurl={other}/tumbleweed/repo/oss\n"), other)
        self.assertEqual(self.top(a="baseurl=http://packman.example/suse\n"), "")
        self.assertEqual(self.top(), "")

    def test_every_recipe_of_opensuse_has_its_repositories(self) -> None:
        recipes = sorted(path.parent.name for path in (TOP / "kiwi").glob("suse-*/appliance.kiwi"))
        self.assertIn("suse-leap-15.4", recipes)
        for recipe in recipes:
            lines = said(f"MIRROR=http://m/top/; suse_sources {recipe}").splitlines()
            self.assertTrue(lines, recipe)
            for line in lines:
                alias, url = line.split("=", 1)
                self.assertTrue(url.startswith("http://m/top/") and "//" not in url[7:], line)
                self.assertRegex(alias, r"^[a-z0-9.-]+$")
        self.assertIn("leap-15.4-update-sle=http://m/top/update/leap/15.4/sle", said("MIRROR=http://m/top; suse_sources suse-leap-15.4"))

    def test_every_recipe_has_an_end_of_life(self) -> None:
        for path in (TOP / "kiwi").glob("*/appliance.kiwi"):
            recipe = path.parent.name
            lines = [line for line in (TOP / "kiwi" / "releases.tsv").read_text().splitlines() if line.split("\t")[0] == recipe]
            self.assertEqual(len(lines), 1, recipe)
            self.assertRegex(lines[0].split("\t")[1], r"^(\d{4}-\d\d-\d\d|-)$")

    def test_a_release_that_ended_says_so_and_a_living_one_does_not(self) -> None:
        self.assertIn("out of maintenance since 2023-12-07", said("suse_ended suse-leap-15.4"))
        self.assertEqual(said("suse_ended suse-tumbleweed"), "")

    def test_without_any_source_the_refusal_says_what_to_give(self) -> None:
        done = shell("ZYPPER_SOURCES=/nonexistent; need_source suse-leap-15.4")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--mirror URL", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)


class Words(unittest.TestCase):
    """What people type, and what they are told. Exit status 2, as for every request that cannot be understood."""

    def told(self, *words: str) -> str:
        done = subprocess.run([str(TOP / "make-recipe-target"), *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_what_is_no_mirror(self) -> None:
        for word, wanted in (
            ("/srv/mirror", "write file:///srv/mirror"),
            ("mirror.example/opensuse", "did you mean http://mirror.example/opensuse"),
            ("ftp://mirror.example/", "no address that can be used"),
            ("http://", "no address that can be used"),
            ("http://me:secret@mirror.example/", "not supported"),
            ("", "no address"),
        ):
            self.assertIn(wanted, self.told("suse-leap-15.4", "check", "--mirror", word), word)
            self.assertIn(wanted, self.told("suse-leap-15.4", "check", f"--mirror={word}"), word)

    def test_keys_that_are_not_there_or_have_no_mirror(self) -> None:
        self.assertIn("no such file", self.told("suse-leap-15.4", "check", "--keys", "/nonexistent"))
        self.assertIn("goes with --mirror", self.told("suse-leap-15.4", "check", "--keys", str(FIXTURES / "index.pub.asc")))

    def test_words_in_the_wrong_order(self) -> None:
        self.assertIn("the recipe comes first", self.told("check", "suse-leap-15.4"))
        self.assertIn("there are: debian-13", self.told("suse"))

    def test_folders_of_a_mirror_are_named_as_they_are(self) -> None:
        self.assertEqual(said("suse_folders suse-leap-15.4").strip(), "distribution/ and update/")
        self.assertEqual(said("suse_folders suse-tumbleweed").strip(), "tumbleweed/ and update/")
        self.assertEqual(said("suse_folders suse-leap-16.0").strip(), "distribution/")


class Python(unittest.TestCase):
    """Which Python is taken, with stand-ins that answer for theirs."""

    def choose(self, **versions: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            for name, answer in versions.items():
                path = Path(folder) / name.replace("_", ".")
                # A real Python that only takes itself for another version.
                version = tuple(int(part) for part in answer.split("."))
                lie = f"import sys, platform; sys.version_info = {version}; platform.python_version = lambda: '{answer}'"
                path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{lie}; $2"\n')
                path.chmod(0o755)
            for tool in ("dirname", "cut", "sed", "mktemp", "rm"):
                found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
                (Path(folder) / tool).symlink_to(found)
            return shell(f"PATH={folder}; PACKAGER=zypper; SUSE_VERSION=15.4; choose_python; echo $PYTHON")

    def test_the_newest_that_is_known_goes_first(self) -> None:
        self.assertEqual(self.choose(python3="3.6.15", python3_11="3.11.9", python3_12="3.12.1").stdout, "python3.12\n")
        self.assertEqual(self.choose(python3="3.6.15", python3_11="3.11.9").stdout, "python3.11\n")
        self.assertEqual(self.choose(python3="3.14.0").stdout, "python3\n")

    def test_an_old_one_is_refused_with_its_version_and_the_package(self) -> None:
        done = self.choose(python3="3.6.15")
        self.assertEqual(done.returncode, 1)
        self.assertIn("python3 = 3.6.15", done.stderr)
        self.assertIn("python311", done.stderr)


class Progress(unittest.TestCase):
    def far(self, *lines: str) -> str:
        return said('STEP_LOG=/dev/stdin; awk -v crates=300 -f "$TOP/tools/progress.awk" <<"EOF"\n' + "\n".join(lines) + "\nEOF").strip()

    def test_what_tools_print_becomes_a_few_words(self) -> None:
        info = "[ INFO    ]: 12:00:01 | "
        debug = "[ DEBUG   ]: 12:00:01 | system: "
        for lines, expected in (
            ([], ""),
            (["nothing to see"], ""),
            ([f"{debug}Retrieving: bash-5.1-1.x86_64 (oss) (12/341),   1.2 MiB"], "packages fetched: 12 of 341"),
            ([f"{debug}Retrieving package less-530-1.6.x86_64 (1/9), 100 KiB"], "packages fetched: 1 of 9"),
            ([f"{debug}( 12/341) Installing: bash-5.1-1.x86_64 [....done]"], "packages installed: 12 of 341"),
            (["0 upgraded, 3 newly installed, 0 to remove", "Get:1 http://m trixie/main amd64 a amd64 1 [1 kB]"], "packages fetched: 1 of 3"),
            ([f"{debug}0 upgraded, 3 newly installed", f"{debug}Unpacking a (1) ...", f"{debug}Setting up a (1) ..."], "packages set up: 1 of 3"),
            (["   Compiling libc v0.2", "   Compiling tokio v1"], "crates compiled: 2 of at most 300"),
            ([f"{info}Creating live ISO boot image"], "Creating live ISO boot image"),
            ([f"{info}Creating root", f"{info}--> Type: rpm-md"], "Creating root"),
            (["xorriso : UPDATE :  45.30% done, estimate finish"], "ISO written: 45.30%"),
            (["dracut[I]: *** Creating image file '/initrd' ***"], "initrd: Creating image file '/initrd'"),
        ):
            self.assertEqual(self.far(*lines), expected, lines)

    def test_a_step_without_a_terminal_speaks_once_a_minute_and_ends_with_its_time(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # A minute is shortened, the rest is as it runs.
            out = said(f'eval "$(declare -f tick | sed s/first=20/first=2/)"; log_to {folder}/log; '
                       'slow() { echo "( 3/7) Installing: x"; sleep 8; }; step "a step" slow')
        lines = out.splitlines()
        self.assertTrue(2 <= len(lines) <= 5, out)
        self.assertRegex(lines[0], r"… a step: \d+ s so far, packages installed: 3 of 7$")
        self.assertRegex(lines[-1], r"^\[ +\d+ s\] a step \(\d+ s\)$")

    def test_a_step_that_fails_ends_the_run_with_its_last_words(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            done = shell(f'log_to {folder}/log; bad() {{ echo "error: no such thing"; false; echo never; }}; step "a step" bad; echo after')
        self.assertEqual(done.returncode, 1)
        self.assertIn("error: no such thing", done.stderr)
        self.assertNotIn("never", done.stderr)
        self.assertNotIn("after", done.stdout)


class Sizes(unittest.TestCase):
    def test_what_grew_most_comes_first(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            old, new = Path(folder) / "old", Path(folder) / "new"
            old.write_text("ISO\t200000000\ninitrd\t48000000\nrecon\t20000000\nroot tree etc\t500000\n")
            new.write_text("ISO\t201000000\ninitrd\t48050000\nrecon\t18000000\nroot tree opt\t300000\n")
            self.assertEqual(said(f"growth {old} {new}").strip(), "ISO +1.0 MB, root tree opt +0.3 MB, root tree etc gone, recon -2.0 MB")
            self.assertEqual(said(f"growth {folder}/none {new}"), "")


class Modules(unittest.TestCase):
    """What of a kernel's modules an image has."""

    def remove(self, names: list[str]) -> set[str]:
        """Runs config.sh's own function on a tree with these modules and tells what is left."""
        text = (TOP / "kiwi/common/config.sh").read_text()
        body = text[text.index("remove_disk_modules() {"):]
        body = body[:body.index("\n}\n") + 3]
        with tempfile.TemporaryDirectory() as folder:
            modules = Path(folder) / "6.12.1"
            for name in names:
                (modules / "kernel" / name).parent.mkdir(parents=True, exist_ok=True)
                (modules / "kernel" / name).touch()
            said(f"{body}\nremove_disk_modules {modules}/ {TOP}/overlay/etc/modprobe.d/recon-disks.conf")
            return {str(path.relative_to(modules / "kernel")) for path in modules.rglob("*.ko*")}

    def test_what_assembles_or_exports_disks_goes_and_nothing_else(self) -> None:
        gone = ["drivers/md/md-mod.ko", "drivers/md/dm-vdo/dm-vdo.ko", "drivers/md/bcache/bcache.ko", "drivers/target/new/new.ko.xz",
                "drivers/nvme/host/nvme-tcp.ko", "drivers/nvme/target/nvmet-rdma.ko.zst", "drivers/block/drbd/drbd.ko",
                "drivers/infiniband/ulp/srp/ib_srp.ko", "drivers/scsi/qla2xxx/tcm_qla2xxx.ko", "extra/zfs.ko"]
        # Fibre Channel needs the first four; loop devices and the overlay are the live root.
        kept = ["drivers/nvme/host/nvme-fabrics.ko", "drivers/nvme/host/nvme-fc.ko", "drivers/nvme/target/nvmet.ko",
                "drivers/nvme/target/nvmet-fc.ko", "drivers/nvme/host/nvme.ko", "drivers/scsi/qla2xxx/qla2xxx.ko",
                "drivers/scsi/raid_class.ko", "drivers/block/loop.ko", "fs/overlayfs/overlay.ko", "drivers/scsi/libiscsi_tcp.ko"]
        self.assertEqual(self.remove(gone + kept), set(kept))

    def test_check_finds_one_that_is_in_a_tree_of_this_list(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "builds/r/root"
            listed = TOP / "overlay/etc/modprobe.d/recon-disks.conf"
            for name in ("overlay", "kiwi"):
                (Path(folder) / name).symlink_to(TOP / name)
            module = root / "lib/modules/6.12.1/kernel/drivers/nvme/host/nvme-tcp.ko"
            module.parent.mkdir(parents=True)
            module.touch()
            check = f"TOP={folder}; check_modules r"
            self.assertEqual(shell(check).returncode, 0, "a tree that was built with another list")
            (root / "etc/modprobe.d").mkdir(parents=True)
            (root / "etc/modprobe.d/recon-disks.conf").write_text(listed.read_text())
            done = shell(check)
            self.assertEqual((done.returncode, "nvme-tcp.ko is in the image" in done.stdout), (1, True), done.stdout + done.stderr)
            module.unlink()
            self.assertEqual(shell(check).returncode, 0)


class Refusals(unittest.TestCase):
    def test_a_clock_from_before_the_image(self) -> None:
        done = shell("date() { if [ $# -eq 1 ]; then echo 1000; else command date \"$@\"; fi; }; need_clock")
        self.assertEqual(done.returncode, 1)
        self.assertIn("set the right time", done.stderr)

    def test_a_disk_without_room(self) -> None:
        for extra, wanted in (("", 12288), ("--long", 20480)):
            done = shell(f"EXTRA=({extra}); df() {{ printf 'Avail\\n123\\n'; }}; need_room test debian-none")
            self.assertIn(f"this wants {wanted}", done.stderr)
        done = shell("df() { printf 'Avail\\n123\\n'; }; need_room target debian-13")
        self.assertIn("123 MiB free", done.stderr)
        self.assertIn("make room", done.stderr)

    def test_a_disk_that_ran_full_while_a_step_was_running(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            done = shell(f"df() {{ printf 'Avail\\n  3\\n'; }}; log_to {folder}/log; bad() {{ echo 'No space left on device'; false; }}; step 'a step' bad")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"the file system of \S+ is full \(3 MiB free\): make room there and start again\n$")

    def test_what_is_known_of_a_host_is_told_without_ending_the_run(self) -> None:
        old = 'rpm() { case $1 in --version) echo "RPM version 4.18.0" ;; esac; }; '
        self.assertRegex(said(f"{old} word=$(ndb_problem); echo \"so: $word\""), "^so: RPM version 4.18.0 of this host cannot")
        new = 'rpm() { mkdir -p "$2/usr/lib/sysimage/rpm"; echo x >"$2/usr/lib/sysimage/rpm/Packages.db"; }; '
        self.assertEqual(said(f"{new} word=$(ndb_problem); echo \"so: $word\""), "so: \n")

    def test_a_package_of_an_unknown_signer(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            done = shell(
                f"log_to {folder}/log\n"
                "bad() { echo 'x.rpm: Signature verification failed [4-Signatures public key is not available]'; false; }\n"
                "step 'a step' bad"
            )
        self.assertIn("add it to the file of --keys", done.stderr)

    def test_an_rpm_that_cannot_write_the_database_of_opensuse(self) -> None:
        done = shell('rpm() { case $1 in --version) echo "RPM version 4.18.0" ;; esac; }; need_ndb')
        self.assertEqual(done.returncode, 1)
        self.assertIn("RPM version 4.18.0 of this host cannot write the database format of openSUSE", done.stderr)
        self.assertIn("Debian 13", done.stderr)


if __name__ == "__main__":
    unittest.main()
