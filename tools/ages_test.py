#!/usr/bin/env python3
"""Tests of ages.py: python3 tools/ages_test.py"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import ages  # noqa: E402
import ages_readers  # noqa: E402
import ages_scan  # noqa: E402

TOP = Path(__file__).resolve().parents[1]


def found(reader, text, file="file"):
    """Line and directive of every use, in order."""
    return [(use.line, use.directive) for use in reader(file, text)]


def directives(reader, text, file="file"):
    return [directive for _, directive in found(reader, text, file)]


def table(version, *lines):
    return f"oldest\tsystemd\t{version}\tLeap 15.4\n" + "".join("\t".join(line) + "\n" for line in lines)


def judged(uses, text):
    oldest, known, errors = ages.read_table(text)
    return errors + ages.judge(list(uses), oldest, known)


SYMLINK = ("systemd", "SYMLINK-=", "253", "NEWS")


class Judging(unittest.TestCase):
    def test_an_operator_that_is_younger_than_the_oldest_system(self):
        uses = list(ages_readers.read_udev("61-x.rules", '# a link\n\nSYMLINK-="disk/by-label/x"\n'))
        self.assertEqual(
            judged(uses, table("249", SYMLINK)),
            ["61-x.rules:3: SYMLINK-= is from systemd 253; the oldest system we support has 249 (Leap 15.4)"],
        )
        self.assertEqual(judged(uses, table("253", SYMLINK)), [])
        self.assertEqual(judged(uses, table("249", (*SYMLINK[:2], "ignored-before 253", "no harm"))), [])

    def test_the_same_key_with_another_operator_is_another_directive(self):
        uses = list(ages_readers.read_udev("x.rules", 'SYMLINK+="a"\nSYMLINK-="b"\n'))
        errors = judged(uses, table("249", ("systemd", "SYMLINK+=", "<=247", "man udev"), SYMLINK))
        self.assertEqual(len(errors), 1)
        self.assertTrue(errors[0].startswith("x.rules:2: SYMLINK-= is from systemd 253;"))

    def test_an_unknown_directive(self):
        errors = judged(ages_readers.read_unit("x.service", "[Service]\nFrobnicate=yes\n"), table("249"))
        self.assertEqual(
            errors,
            [
                ("x.service:2: [Service] Frobnicate= (systemd) is not in kiwi/ages.tsv: look up the first version that has it, "
                "and add it with its source")
            ],
        )

    def test_a_line_that_nothing_uses(self):
        self.assertEqual(judged([], table("249", SYMLINK)), ["kiwi/ages.tsv:2: nothing uses SYMLINK-= (systemd)"])

    def test_versions_are_compared_by_numbers(self):
        self.assertLess(ages.numbers("8.4"), ages.numbers("8.10"))
        self.assertLess(ages.numbers("1.0.3"), ages.numbers("1.0.4"))
        self.assertEqual(ages.numbers("055"), ages.numbers("55"))
        # 2.06 and 2.6 are the same number to GRUB's own counting: 2.04, 2.06, 2.12.
        self.assertLess(ages.numbers("2.06"), ages.numbers("2.12"))


class Table(unittest.TestCase):
    def errors(self, *lines):
        return ages.read_table(table("249", *lines))[2]

    def test_every_line_has_a_source(self):
        self.assertIn("four fields", self.errors(("systemd", "A=", "1", ""))[0])
        self.assertIn("four fields", self.errors(("systemd", "A=", "1"))[0])

    def test_order_twice_version_and_program(self):
        self.assertIn("not in order", self.errors(("systemd", "B=", "1", "x"), ("systemd", "A=", "1", "x"))[0])
        self.assertIn("stands there twice", self.errors(("systemd", "A=", "1", "x"), ("systemd", "A=", "1", "x"))[0])
        self.assertIn("is no version", self.errors(("systemd", "A=", "long ago", "x"))[0])
        self.assertIn("no oldest version of runit", self.errors(("runit", "A=", "1", "x"))[0])

    def test_the_project_s_own(self):
        oldest, known, errors = ages.read_table((TOP / ages.TABLE).read_text(encoding="utf-8"))
        self.assertEqual(errors, [])
        self.assertTrue(all(age.source for age in known.values()))
        self.assertEqual(
            (oldest["systemd"].version, oldest["dracut"].version, oldest["kernel"].version), ("249", "055", "5.14")
        )


class Readers(unittest.TestCase):
    def test_unit_comments_continuations_and_values(self):
        text = (
            "; no\n# no\n[Unit]\nAfter=a.service \\\n# amid: After2=\n  b@%i.service\nDescription=100%%\n"
            "[Service]\nType=exec\nExecStart=-/usr/bin/ssh-keygen -q -t ed25519\nEnvironment=SYSTEMD_SULOGIN_FORCE=1 HOME=/\n"
            "TimeoutStartSec=infinity\n"
        )
        self.assertEqual(
            found(ages_readers.read_unit, text),
            [
                (4, "[Unit] After="),
                (6, "specifier %i"),
                (7, "[Unit] Description="),
                (9, "[Service] Type="),
                (9, "[Service] Type=exec"),
                (10, "[Service] ExecStart="),
                (10, "Exec prefix -"),
                (10, "ssh-keygen -q"),
                (10, "ssh-keygen -t"),
                (11, "[Service] Environment="),
                (11, "variable SYSTEMD_SULOGIN_FORCE"),
                (12, "[Service] TimeoutStartSec="),
                (12, "[Service] TimeoutStartSec=infinity"),
            ],
        )
        with self.assertRaisesRegex(ages_scan.Bad, "x.service:2: not a line of a unit"):
            list(ages_readers.read_unit("x.service", "[Unit]\nAfter\n"))

    def test_udev_keys_operators_builtins_and_continuations(self):
        text = (
            '# SYMLINK-="a comment"\nKERNEL=="sd*", \\\n  # amid\n  ENV{ID_X}!="%k", \\\n  IMPORT{builtin}="blkid --noraid"\n'
            'ATTR{a}==i"b", OPTIONS+="link_priority=-100", RUN{builtin}+="kmod load x"\nGOTO="no_%k"\nENV{UDEV_DISABLE_X}="1"\n'
        )
        self.assertEqual(
            found(ages_readers.read_udev, text),
            [
                (2, "KERNEL=="),
                (4, "ENV{}!="),
                (4, "%k"),
                (5, "IMPORT{builtin}="),
                (5, "builtin blkid"),
                (6, "ATTR{}=="),
                (6, 'i"value"'),
                (6, "OPTIONS+="),
                (6, "OPTIONS link_priority="),
                (6, "RUN{builtin}+="),
                (6, "builtin kmod"),
                (7, "GOTO="),
                (8, "ENV{}="),
                (8, "ENV{UDEV_DISABLE_X}"),
            ],
        )
        with self.assertRaisesRegex(ages_scan.Bad, "x.rules:1: not udev's"):
            list(ages_readers.read_udev("x.rules", 'KERNEL=="a", what\n'))

    def test_dracut_conf(self):
        text = 'hostonly="no"\n# x="y"\nadd_dracutmodules+=" recon %s systemd "\nomit_dracutmodules+=" nothing "\ncompress="zstd -19 -T0"\n'
        self.assertEqual(
            directives(ages_readers.read_dracut_conf, text),
            [
                "hostonly=",
                "add_dracutmodules=",
                "module systemd",
                "omit_dracutmodules=",
                "compress=",
                "compress=zstd",
                "zstd -#",
                "zstd -T",
            ],
        )

    def test_dracut_module(self):
        text = (
            '#!/bin/bash\ndepends() {\n    echo systemd\n}\ninstall() {\n    # inst_no\n    inst_simple "$moddir/a" "${systemdsystemunitdir}/b"\n'
            "    local name\n    for name in x-y z; do\n        rm -f \"$initdir/$name\"\n    done\n    hostonly='' instmods -s loop \\\n        '=fs'\n}\n"
        )
        self.assertEqual(
            found(ages_readers.read_dracut_module, text),
            [
                (2, "depends()"),
                (3, "module systemd"),
                (5, "install()"),
                (7, "$moddir"),
                (7, "$systemdsystemunitdir"),
                (7, "inst_simple"),
                (10, "$initdir"),
                (12, "$hostonly"),
                (12, "instmods"),
                (12, "instmods -s"),
                (12, "module loop"),
                (12, "instmods =FOLDER"),
            ],
        )

    def test_shell(self):
        text = (
            '#!/bin/bash\nshopt -s globstar # shopt -s no\nlocal -a files=(); for f in *; do xz --decompress "$f"; done\n'
            'mapfile -t -d "" x < <(ls)\necho "${a@Q} ${b,,} ;& |&" # wait -n\nwait -n; systemctl --now enable --runtime x\n'
            'printf \'dracutmodules+=" bash "\\nno_kernel="yes"\\n\' >/etc/dracut.conf.d/0.conf\n'
        )
        self.assertEqual(
            found(ages_readers.read_shell, text),
            [
                (2, "shopt globstar"),
                (3, "xz --decompress"),
                (4, "mapfile"),
                (4, "mapfile -d"),
                (5, "${name@Q}"),
                (5, "${name,}"),
                (6, "wait -n"),
                (6, "systemctl --now"),
                (6, "systemctl enable"),
                (6, "systemctl enable --runtime"),
                (7, "dracutmodules="),
                (7, "module bash"),
                (7, "no_kernel="),
            ],
        )
        self.assertEqual(found(ages_readers.read_shell, "#!/bin/sh\nmapfile x\n"), [])

    def test_kernel_lines(self):
        self.assertEqual(
            list(
                ages_scan.kernel_words(
                    "root=live:http://x/y console=tty0 quiet rd.md=0 systemd.swap=0 recon.install postaction=x "
                    "raid=noautodetect ip=dhcp ${more}"
                )
            ),
            [
                ("dracut", "root=live:"),
                ("kernel", "console="),
                ("kernel", "quiet"),
                ("dracut", "rd.md="),
                ("systemd", "systemd.swap="),
                ("kernel", "raid=noautodetect"),
                ("dracut", "ip="),
            ],
        )
        self.assertEqual(
            found(ages_readers.read_kiwi_type, '<a/>\n<type image="iso"\n  kernelcmdline="quiet rd.lvm=0"/>\n'),
            [(3, "quiet"), (3, "rd.lvm=")],
        )
        self.assertEqual(
            directives(ages_readers.read_ipxe, "#!ipxe\nkernel http://x/kernel initrd=initrd panic=30 || goto no\necho kernel x\n"),
            ["panic="],
        )

    def test_grub(self):
        text = (
            '# echo no\nset default=0\nset mine=1\nsearch ${search_params}\nif [ "$$grub_platform" = pc ]; then\n    serial --unit=0\nfi\n'
            'menuentry "a; b" --id run {\n    linux ($$root)${bootpath}/x ${boot_options} rd.debug=0\n    exit\n}\n'
        )
        self.assertEqual(
            found(ages_readers.read_grub, text, "grub.cfg.template"),
            [
                (2, "set"),
                (2, "set default="),
                (3, "set"),
                (4, "search"),
                (5, "$grub_platform"),
                (5, "["),
                (6, "serial"),
                (6, "serial --unit="),
                (8, "menuentry"),
                (8, "menuentry --id"),
                (9, "$root"),
                (9, "linux"),
                (9, "rd.debug="),
                (10, "exit"),
            ],
        )

    def test_small_files(self):
        self.assertEqual(directives(ages_readers.read_sysctl, "# a\n; b\n-net.ipv4.ip_forward = 0\n"), ["sysctl net.ipv4.ip_forward"])
        self.assertEqual(directives(ages_readers.read_modprobe, "# a\nblacklist b\ninstall b /bin/true\n"), ["blacklist", "install"])
        self.assertEqual(directives(ages_readers.read_modules_load, "# a\nipmi_si\n"), ["module ipmi_si"])
        self.assertEqual(
            directives(ages_readers.read_sshd, "# UseDNS\nPermitRootLogin prohibit-password\n"),
            ["PermitRootLogin", "PermitRootLogin prohibit-password"],
        )

    def test_rust(self):
        text = (
            'fn settle() {\n    let limit = format!("--timeout={}", 5);\n    // run(Program::Udevadm, &["-x"])\n'
            '    cmd::run(Program::Udevadm, &["settle", &limit], LIMIT);\n    other("--not-this");\n}\n'
            'fn off() {\n    Command::from(Program::Systemctl.command())\n        .args(["--no-block", "poweroff"])\n        .status();\n}\n'
            'fn check() {\n    match cmd::run_codes(Program::FsckExfat, &[Path::new("-p"), device], LIMIT, &[0, 1]) {\n        _ => say("-z"),\n    }\n}\n'
            '#[cfg(test)]\nmod tests {\n    fn x() { run(Program::MkfsExfat, &["-q"]); }\n}\n'
        )
        self.assertEqual(
            found(ages_readers.read_rust, text),
            [
                (4, "udevadm settle"),
                (4, "udevadm settle --timeout="),
                (8, "systemctl --no-block"),
                (8, "systemctl poweroff"),
                (13, "fsck.exfat -p"),
            ],
        )


class Tree(unittest.TestCase):
    def test_the_project_is_old_enough(self):
        uses, errors = ages.uses_of(TOP)
        oldest, known, faults = ages.read_table((TOP / ages.TABLE).read_text(encoding="utf-8"))
        self.assertEqual(errors + faults + ages.judge(uses, oldest, known), [])

    def test_each_kind_of_file_is_really_read(self):
        uses, _ = ages.uses_of(TOP)
        for program in ages.read_table((TOP / ages.TABLE).read_text(encoding="utf-8"))[0]:
            self.assertTrue(any(use.program == program for use in uses), program)

    def test_a_place_without_files_is_a_fault(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("services", "overlay", "kiwi", "tools", "src"):
                (Path(folder) / name).mkdir()
            uses, errors = ages.uses_of(Path(folder))
        self.assertEqual(uses, [])
        self.assertEqual(len(errors), 13)
        self.assertIn("no udev rules found", errors[1])


if __name__ == "__main__":
    unittest.main()
