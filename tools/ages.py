#!/usr/bin/env python3
"""Checks that the image's files use nothing that the oldest supported system does not know yet: ages.py --top TOP

Units, udev rules, dracut's words, kernel words, boot scripts and the options of programs are read for their directives, and each
is looked up in kiwi/ages.tsv, which says the first version that has it and where that is written. Fails with one line a place for
a directive that is not in the table, or that is younger than the oldest system. An older system drops a word that it does not
know in silence or with a line in its log, so nothing else would show it before a machine behaves wrongly.

What is not looked up: names of units, which may be absent; names that are ours (the prefixes of OURS); the text of messages;
programs that are as old as the systems themselves (coreutils, sed, find); iPXE, which has no versions to go by.
"""

import argparse
import itertools
import os
import re
import sys
from collections import namedtuple
from pathlib import Path

# One directive in one place. `file` is relative to the top folder, `line` counts from 1.
Use = namedtuple("Use", "file line program directive")
# One line of the table. `ignored` marks what older versions may leave out without harm.
Age = namedtuple("Age", "program directive first ignored source line")
# The oldest version of a program on any system that we support.
Oldest = namedtuple("Oldest", "version who")

TABLE = "kiwi/ages.tsv"

# Words of the kernel line and names in dracut's lists that this project reads or brings itself.
OURS = ("recon", "postaction=", "pxeaddr=")
# Whose options are looked up, and the program in the table that they belong to.
PROGRAMS = {
    "bash": "bash",
    "depmod": "kmod",
    "fsck.exfat": "exfatprogs",
    "mkfs.exfat": "exfatprogs",
    "modprobe": "kmod",
    "ssh-keygen": "OpenSSH",
    "sshd": "OpenSSH",
    "systemctl": "systemd",
    "systemd-tmpfiles": "systemd",
    "udevadm": "systemd",
    "usermod": "shadow",
    "xz": "xz",
    "zstd": "zstd",
}
# These take a command in front of its options.
WITH_COMMANDS = ("systemctl", "udevadm")
# Settings of units and journald.conf whose value is one of a list that has grown over time.
LISTED_VALUES = ("Type", "Restart", "KillMode", "StandardInput", "StandardOutput", "StandardError", "Storage")
# Settings of sshd whose value is one of such a list.
SSHD_VALUES = ("permitrootlogin", "subsystem")
# dracut's lists whose words are names of its modules and must exist; a name in an omit list may be unknown.
DRACUT_MODULE_LISTS = ("dracutmodules", "add_dracutmodules", "force_add_dracutmodules")
# What a shell or coreutils has had since before any version here; anything else in a dracut module is dracut's own function.
ORDINARY = frozenset(
    ": [ [[ basename break case cat cd chmod command continue cp cut dirname do done echo elif else esac eval exec exit export false fi find "
    "for function grep head if in install ln local ls mkdir mktemp mv printf read readlink return rm sed select set shift sort tail test then "
    "tr trap true type umask unset until wait while { } !".split()
)
SHELL_WORDS = frozenset("if then else elif do while until ! { time".split())
# Parts of bash that came with some version: a pattern, and the directive it stands for with what its group holds. The first are
# looked for in the whole line, expansions in quotes included, the others outside quotes only.
BASH_EXPANSIONS = tuple(
    (re.compile(pattern), directive)
    for pattern, directive in (
        (r"\b(mapfile|readarray)\b", "{}"),
        (r"\b(?:mapfile|readarray)\b[^|;&]*\s(-[dOscCn])\b", "mapfile {}"),
        (r"\b(?:declare|local|typeset)\s+-\w*([An])", "declare -{}"),
        (r"\blocal\s+(-)(?=\s|$|;)", "local {}"),
        (r"\bwait\s+-\w*([fnp])\b", "wait -{}"),
        (r"\$\{!?\w+(?:\[[^]]*\])?(@[A-Za-z])\}", "${{name{}}}"),
        (r"\$\{\w+(?:\[[^]]*\])?(,|\^)", "${{name{}}}"),
        (r"\$\{\w+(\[-)\d+\]", "${{name{}1]}}"),
        (r"\bprintf\b[^|;&]*(%\()", "printf {})T"),
        (r"\$\{?(EPOCHSECONDS|EPOCHREALTIME|BASH_ARGV0|SRANDOM|BASH_MONOSECONDS|GLOBSORT)\b", "${}"),
        (r"(\$\{)[\s|]", "{} command; }}"),
    )
)
BASH_OPERATORS = tuple(
    (re.compile(pattern), directive)
    for pattern, directive in (
        (r"(&>>|\|&)", "{}"),
        (r"(;;&|;&)", "{}"),
        (r"\b(coproc)\b", "{}"),
        (r"\{\w+\}([<>])", "{{name}}{}"),
    )
)


class Bad(Exception):
    """A file that cannot be read as what it is; the text names file and line."""


# --- Lines and words ---------------------------------------------------------------------------------------------------------


class Logical:
    """A line with its continuations joined, which knows the physical line of each character."""

    def __init__(self):
        self.text = ""
        self.starts = []

    def add(self, number, text):
        self.starts.append((len(self.text), number))
        self.text += text

    def line_at(self, offset):
        return max((entry for entry in self.starts if entry[0] <= offset), default=self.starts[0])[1]

    @property
    def line(self):
        return self.starts[0][1]


def logical_lines(text, comments="#", inner_comments=True, joint=" "):
    """Joins lines that end with a backslash and leaves out comment lines.

    With `inner_comments` a comment line amid a continuation is left out and the line goes on behind it, as in units and udev
    rules; without, as in a shell, it is part of the line. `joint` stands in for backslash and line end.
    """
    current = None
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if (current is None or inner_comments) and stripped[:1] and stripped[0] in comments:
            continue
        if current is None:
            if not stripped:
                continue
            current = Logical()
        if raw.rstrip("\n").endswith("\\"):
            current.add(number, raw[:-1] + joint)
            continue
        current.add(number, raw)
        yield current
        current = None
    if current is not None:
        yield current


def shell_scan(text):
    """The text of a shell line without its comment, and the same with separators in quotes made harmless."""
    quote, out = None, []
    for index, char in enumerate(text):
        if quote:
            if char == quote and (quote == "'" or text[index - 1] != "\\"):
                quote = None
            out.append("_" if char in ";&|(){}#" else char)
        elif char in "'\"" and (index == 0 or text[index - 1] != "\\"):
            quote = char
            out.append(char)
        elif char == "#" and (index == 0 or text[index - 1] in " \t;"):
            return text[:index], "".join(out)
        else:
            out.append(char)
    return text, "".join(out)


def commands(harmless):
    """Simple commands of a shell line as lists of words; quotes are taken off."""
    for part in re.split(r"[;&|()]+", harmless):
        words = part.split()
        while words and (words[0] in SHELL_WORDS or re.match(r"^[A-Za-z_]\w*\+?=", words[0])):
            words.pop(0)
        if words:
            yield [word.strip("\"'") for word in words]


def options(words, program):
    """What of a program's own words is looked up: its options without their values and, where it has one, its command.

    Options behind a command belong to the command.
    """
    command_due, name_so_far = program in WITH_COMMANDS, program
    for word in words:
        if word == "--":
            return
        if re.match(r"^-\d+$", word):
            yield f"{name_so_far} -#"
        elif re.match(r"^--[A-Za-z]", word):
            name, equals, _ = word.partition("=")
            yield f"{name_so_far} {name}{equals}"
        elif re.match(r"^-[A-Za-z]", word):
            yield f"{name_so_far} {word[:2]}"
        elif command_due and re.match(r"^[a-z][a-z-]*$", word):
            command_due, name_so_far = False, f"{program} {word}"
            yield name_so_far


def kernel_words(text):
    """Program and directive of each word of a kernel line that is not ours."""
    for quoted in text.split():
        word = quoted.strip("\"'")
        if not re.match(r"^[A-Za-z]", word) or word.startswith(OURS):
            continue
        name, equals, value = word.partition("=")
        if name.startswith(("systemd.", "rd.systemd.")):
            program = "systemd"
        elif name.startswith("rd.") or name in ("ip", "BOOTIF", "ifname", "bootdev") or word.startswith("root=live:"):
            program = "dracut"
        else:
            program = "kernel"
        if name == "root" and ":" in value:
            yield program, f"root={value.split(':')[0]}:"
        elif name == "raid":
            yield program, word
        else:
            yield program, name + equals


# --- Readers: each takes a file's name and text and gives its uses -----------------------------------------------------------


def read_unit(file, text):
    """Units, drop-ins and journald.conf."""
    section = None
    for line in logical_lines(text, comments="#;"):
        stripped = line.text.strip()
        if stripped.startswith("["):
            section = stripped
            continue
        key, equals, value = stripped.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or section is None:
            raise Bad(f"{file}:{line.line}: not a line of a unit: {stripped}")
        yield Use(file, line.line, "systemd", f"{section} {key}=")
        if key in LISTED_VALUES:
            yield Use(file, line.line, "systemd", f"{section} {key}={value}")
        elif value == "infinity":
            yield Use(file, line.line, "systemd", f"{section} {key}=infinity")
        if key == "WorkingDirectory" and value.startswith("-"):
            yield Use(file, line.line, "systemd", f"{section} {key}=-")
        for found in re.finditer(r"%(.)", line.text):
            if found.group(1) != "%":
                yield Use(file, line.line_at(found.start()), "systemd", f"specifier %{found.group(1)}")
        if key.startswith("Exec"):
            command = value.lstrip("-@:+!|")
            for prefix in value.removesuffix(command):
                yield Use(file, line.line, "systemd", f"Exec prefix {prefix}")
            words = command.split()
            yield from program_uses(file, line.line, words)
        if key in ("Environment", "PassEnvironment", "UnsetEnvironment"):
            for name in re.findall(r"\bSYSTEMD_\w+", value):
                yield Use(file, line.line, "systemd", f"variable {name}")


def program_uses(file, line, words):
    program = words[0].rsplit("/", 1)[-1] if words else ""
    if program in PROGRAMS:
        for directive in options(words[1:], program):
            yield Use(file, line, PROGRAMS[program], directive)


UDEV_TOKEN = re.compile(r'([A-Z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*([a-z]*)"((?:[^"\\]|\\.)*)"')
# Keys whose word in braces is udev's own; in the others it names a property, attribute or mode.
UDEV_KINDS = ("IMPORT", "RUN", "CONST")


def read_udev(file, text):
    for line in logical_lines(text):
        rest = line.text
        for token in UDEV_TOKEN.finditer(line.text):
            key, attribute, operator, prefix, value = token.groups()
            at = line.line_at(token.start())
            rest = rest.replace(token.group(), "", 1)
            braces = "" if attribute is None else "{" + (attribute if key in UDEV_KINDS else "") + "}"
            yield Use(file, at, "systemd", f"{key}{braces}{operator}")
            if prefix:
                yield Use(file, at, "systemd", f'{prefix}"value"')
            if key == "ENV" and attribute.startswith("UDEV_"):
                yield Use(file, at, "systemd", f"ENV{{{attribute}}}")
            if attribute == "builtin":
                yield Use(file, at, "systemd", f"builtin {value.split()[0]}")
            if key == "OPTIONS":
                name, equals, _ = value.partition("=")
                yield Use(file, at, "systemd", f"OPTIONS {name}{equals}")
            if key not in ("GOTO", "LABEL"):
                for found in re.findall(r"%[A-Za-z]|\$[a-z]+", value):
                    yield Use(file, at, "systemd", found)
            if key == "PROGRAM" or (key in UDEV_KINDS and attribute in (None, "program")):
                yield from program_uses(file, at, value.split())
        if rest.replace(",", "").strip():
            raise Bad(f"{file}:{line.line}: not udev's: {rest.strip(', ')}")


def read_dracut_conf(file, text, first_line=1):
    for line in logical_lines(text, inner_comments=False):
        at = line.line + first_line - 1
        found = re.match(r"^\s*(\w+)\+?=(.*)$", shell_scan(line.text)[0].strip())
        if not found:
            raise Bad(f"{file}:{at}: not a line of dracut.conf: {line.text.strip()}")
        name, value = found.group(1), found.group(2).strip().strip("\"'")
        yield Use(file, at, "dracut", f"{name}=")
        if name in DRACUT_MODULE_LISTS:
            for word in value.split():
                # A word that the script fills in is chosen for each release by itself: no oldest version says anything of it.
                if not word.startswith(OURS) and not re.search(r"[%$]", word):
                    yield Use(file, at, "dracut", f"module {word}")
        if name == "compress" and value:
            yield Use(file, at, "dracut", f"compress={value.split()[0]}")
            yield from program_uses(file, at, value.split())


def read_dracut_module(file, text):
    """module-setup.sh: dracut's functions, its variables, the drivers that are named, and what bash it takes."""
    own = set(re.findall(r"^(\w+)\s*\(\)", text, re.MULTILINE))
    assigned = set(re.findall(r"\b(?:local|for|read(?:\s+-\w+)*)\s+(\w+)", text)) | set(
        re.findall(r"(?:^|[\s;])(\w+)=", text)
    )
    assigned -= {"hostonly"}
    function = ""
    for line in logical_lines(text, inner_comments=False):
        code, harmless = shell_scan(line.text)
        started = re.match(r"^(\w+)\s*\(\)\s*\{?", harmless)
        if started:
            function = started.group(1)
            yield Use(file, line.line, "dracut", f"{function}()")
            harmless = harmless[started.end() :]
        for found in re.finditer(r"\$\{?([A-Za-z_]\w*)", code):
            if found.group(1) not in assigned:
                yield Use(file, line.line_at(found.start()), "dracut", f"${found.group(1)}")
        if re.search(r"\bhostonly=", harmless):
            yield Use(file, line.line, "dracut", "$hostonly")
        for words in commands(harmless):
            name = words[0]
            if name == "echo" and function == "depends":
                for word in words[1:]:
                    yield Use(file, line.line, "dracut", f"module {word}")
            if (
                name in ORDINARY
                or name in own
                or not re.match(r"^[a-z]\w*$", name)
                or re.search(r"\bfor\b.*\bin\b", harmless)
            ):
                continue
            yield Use(file, line.line, "dracut", name)
            for word in words[1:]:
                if word.startswith("-"):
                    yield Use(file, line.line, "dracut", f"{name} {word}")
                elif name == "instmods" and word.startswith("="):
                    yield Use(file, line.line, "dracut", "instmods =FOLDER")
                elif name == "instmods":
                    yield Use(file, line.line, "kernel", f"module {word}")


def read_shell(file, text):
    """Parts of bash, options of programs, and dracut.conf lines that a script writes."""
    bash = not re.match(r"^#!\s*/bin/sh\b", text)
    for line in logical_lines(text, inner_comments=False):
        code, harmless = shell_scan(line.text)
        if bash:
            for parts, where in ((BASH_EXPANSIONS, code), (BASH_OPERATORS, harmless)):
                for pattern, directive in parts:
                    for found in pattern.finditer(where):
                        yield Use(file, line.line_at(found.start()), "bash", directive.format(found.group(1)))
        for words in commands(harmless):
            if bash and words[0] == "shopt":
                for word in words[1:]:
                    if not word.startswith("-"):
                        yield Use(file, line.line, "bash", f"shopt {word}")
            yield from program_uses(file, line.line, words)
        if "dracut.conf.d" in code:
            written = re.search(r"printf '([^']*)'", code)
            if written:
                for use in read_dracut_conf(file, written.group(1).replace("\\n", "\n")):
                    yield use._replace(line=line.line)


def read_sysctl(file, text):
    for line in logical_lines(text, comments="#;"):
        yield Use(file, line.line, "kernel", "sysctl " + line.text.split("=")[0].strip().lstrip("-").strip())


def read_modprobe(file, text):
    for line in logical_lines(text):
        yield Use(file, line.line, "kmod", line.text.split()[0])


def read_modules_load(file, text):
    for line in logical_lines(text, comments="#;"):
        yield Use(file, line.line, "kernel", f"module {line.text.strip()}")


def read_sshd(file, text):
    for line in logical_lines(text):
        words = line.text.split()
        yield Use(file, line.line, "OpenSSH", words[0])
        if words[0].lower() in SSHD_VALUES:
            yield Use(file, line.line, "OpenSSH", " ".join([words[0], words[-1]]))


def read_grub(file, text):
    """A GRUB script, or KIWI's template of one, in which a dollar sign of GRUB is written twice."""
    template = file.endswith(".template")
    if template:
        text = re.sub(r"(?<!\$)\$\{\w+\}", "KIWI", text).replace("$$", "$")
    own = set(re.findall(r"\b(?:set|for)\s+(\w+)", text)) - {"default", "timeout"}
    for line in logical_lines(text, inner_comments=False):
        code, harmless = shell_scan(line.text)
        for found in re.finditer(r"\$\{?([A-Za-z_]\w*)", code):
            if found.group(1) not in own:
                yield Use(file, line.line, "GRUB", f"${found.group(1)}")
        # A device in parentheses is one word to GRUB, not a shell's list of commands.
        for words in commands(re.sub(r"\(([^()]*)\)", r"<\1>", harmless)):
            if words[0] in ("}", "fi", "done"):
                continue
            yield Use(file, line.line, "GRUB", words[0])
            if words[0] == "set" and len(words) > 1:
                name = words[1].split("=")[0]
                if name not in own:
                    yield Use(file, line.line, "GRUB", f"set {name}=")
            if words[0] == "linux":
                for program, directive in kernel_words(" ".join(word for word in words[2:] if word != "KIWI")):
                    yield Use(file, line.line, program, directive)
            elif words[0] not in ("echo", "["):
                for word in words[1:]:
                    if word.startswith("--"):
                        name, equals, _ = word.partition("=")
                        yield Use(file, line.line, "GRUB", f"{words[0]} {name}{equals}")


def read_ipxe(file, text):
    """The kernel lines of an iPXE script; its own commands are not looked up."""
    for line in logical_lines(text):
        if line.text.startswith("kernel "):
            text_of_kernel = line.text.split("||")[0]
            for program, directive in kernel_words(" ".join(text_of_kernel.split()[2:])):
                # iPXE hands the name of the initrd over in this word.
                if directive != "initrd=":
                    yield Use(file, line.line, program, directive)


def read_kiwi_type(file, text):
    for found in re.finditer(r'kernelcmdline="([^"]*)"', text):
        line = text.count("\n", 0, found.start()) + 1
        for program, directive in kernel_words(found.group(1)):
            yield Use(file, line, program, directive)


def read_rust(file, text):
    """Options of the programs that the binary starts; what the tests start is left out."""
    text = text.split("#[cfg(test)]")[0]
    code = "\n".join("" if line.lstrip().startswith("//") else line for line in text.split("\n"))
    for found in re.finditer(r'(?:\brun|\brun_codes|\brun_keeping|Command::new)\(\s*"([^"]+)"', code):
        program = found.group(1)
        if program not in PROGRAMS:
            continue
        line = code.count("\n", 0, found.start()) + 1
        rest = code[found.end() :]
        if found.group().startswith("Command"):
            # A chain of calls, to the end of the statement.
            call, before = rest.split(";")[0], []
        else:
            # The words of the call itself, and options that were put together for it before in the same function.
            call = rest[: closing(rest)]
            begin = max(code.rfind("\nfn ", 0, found.start()), code.rfind(" fn ", 0, found.start()), 0)
            before = [word for word in literals(code[begin : found.start()]) if word.startswith("-")]
        for directive in dict.fromkeys(options(literals(call) + before, program)):
            yield Use(file, line, PROGRAMS[program], directive)


def closing(code):
    """Where the parenthesis ends that was opened before the code."""
    depth = 1
    for index, char in enumerate(code):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return index
    return len(code)


def literals(code):
    """String literals that can be words of a command line: no text for people, which has spaces."""
    return [word for word in re.findall(r'"((?:[^"\\\n]|\\.)*)"', code) if word and " " not in word]


# --- The tree ----------------------------------------------------------------------------------------------------------------


def places(top):
    """Every reader with its files. A reader without files is a fault: the files have moved, and the check would see nothing."""
    overlay = sorted(path for path in (top / "overlay").rglob("*") if path.is_file() and not path.is_symlink())

    def below(pattern):
        return [path for path in overlay if re.search(pattern, str(path.relative_to(top / "overlay")))]

    def shell(paths):
        return [path for path in paths if path.suffix == ".sh" or re.match(rb"^#!.*[ /](ba)?sh\b", path.read_bytes()[:80])]

    dracut_modules = below(r"/dracut/modules\.d/.*/module-setup\.sh$")
    golden = top / "tests/golden/ipxe"
    scripts = sorted((top / "tools").glob("*.sh")) + sorted((top / "kiwi").rglob("*.sh")) + shell(overlay)
    scripts += [path for path in (top / "make-recipe-target", top / ".ci/run") if path.exists()]
    sources = [path for path in sorted((top / "src").rglob("*.rs")) if path.name != "tests.rs" and "tests" not in path.parts]
    return (
        ("units", read_unit, sorted((top / "services").iterdir()) + below(r"/systemd/(system/.*|.*\.conf\.d/[^/]*)$")),
        ("udev rules", read_udev, below(r"/udev/rules\.d/.*\.rules$")),
        ("dracut.conf", read_dracut_conf, below(r"/dracut\.conf\.d/.*\.conf$")),
        ("dracut modules", read_dracut_module, dracut_modules),
        ("shell scripts", read_shell, scripts),
        ("sysctl", read_sysctl, below(r"/sysctl\.d/.*\.conf$")),
        ("modprobe.d", read_modprobe, below(r"/modprobe\.d/.*\.conf$")),
        ("modules-load.d", read_modules_load, below(r"/modules-load\.d/.*\.conf$")),
        ("sshd_config", read_sshd, below(r"/ssh/.*sshd_config$")),
        (
            "GRUB scripts",
            read_grub,
            sorted((top / "kiwi").rglob("grub.cfg.template"))
            + sorted(golden.glob("*.grub"))
            + sorted(golden.glob("grub.cfg")),
        ),
        ("iPXE scripts", read_ipxe, sorted(golden.glob("*.ipxe"))),
        ("KIWI types", read_kiwi_type, sorted((top / "kiwi/common").glob("*.xml"))),
        ("sources", read_rust, sources),
    )


def uses_of(top):
    """All uses in the tree, and what could not be read."""
    uses, errors = [], []
    for what, reader, files in places(top):
        if not files:
            errors.append(f"no {what} found below {top}: tools/ages.py looks in the wrong place")
        for path in files:
            try:
                uses.extend(reader(os.path.relpath(path, top), path.read_text(encoding="utf-8")))
            except Bad as error:
                errors.append(str(error))
            except (OSError, UnicodeDecodeError) as error:
                errors.append(f"{path}: {error}")
    return uses, errors


# --- The table ---------------------------------------------------------------------------------------------------------------


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def read_table(text):
    """Oldest versions, ages by program and directive, and what is wrong with the table itself."""
    oldest, ages, errors, keys = {}, {}, [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 4 or not all(field.strip() for field in fields):
            errors.append(f"{TABLE}:{number}: four fields are wanted, none of them empty")
            continue
        if fields[0] == "oldest":
            oldest[fields[1]] = Oldest(fields[2], fields[3])
            continue
        program, directive, first, source = fields
        version = re.match(r"^(?:<=|ignored-before )?(\d+(?:\.\d+)*)$", first)
        if not version:
            errors.append(f"{TABLE}:{number}: {first} is no version: N, <=N or ignored-before N")
            continue
        if program not in oldest:
            errors.append(f"{TABLE}:{number}: no oldest version of {program} at the top of the table")
            continue
        if (program, directive) in ages:
            errors.append(f"{TABLE}:{number}: {directive} stands there twice")
        keys.append((program, directive, number))
        ages[program, directive] = Age(
            program, directive, version.group(1), first.startswith("ignored-before "), source, number
        )
    for before, after in itertools.pairwise(keys):
        if before[:2] > after[:2]:
            errors.append(f"{TABLE}:{after[2]}: {after[1]} is not in order (program, then directive, by their bytes)")
    return oldest, ages, errors


def judge(uses, oldest, ages):
    """One sentence for each directive that is unknown or too young, at each of its places, and each line nobody needs."""
    errors = []
    for use in dict.fromkeys(uses):
        age = ages.get((use.program, use.directive))
        place = f"{use.file}:{use.line}: {use.directive}"
        if age is None:
            errors.append(
                f"{place} ({use.program}) is not in {TABLE}: look up the first version that has it, and add it with its source"
            )
        elif not age.ignored and numbers(age.first) > numbers(oldest[use.program].version):
            has = oldest[use.program]
            errors.append(
                f"{place} is from {use.program} {age.first}; the oldest system we support has {has.version} ({has.who})"
            )
    used = {(use.program, use.directive) for use in uses}
    for key, age in ages.items():
        if key not in used:
            errors.append(f"{TABLE}:{age.line}: nothing uses {age.directive} ({age.program})")
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--top", type=Path, required=True, help="top folder of the project")
    parser.add_argument("--list", action="store_true", help="print what was found instead of judging it")
    arguments = parser.parse_args()
    uses, errors = uses_of(arguments.top)
    if arguments.list:
        for use in uses:
            print(f"{use.program}\t{use.directive}\t{use.file}:{use.line}")
        return 0
    oldest, ages, faults = read_table((arguments.top / TABLE).read_text(encoding="utf-8"))
    errors += faults + judge(uses, oldest, ages)
    for error in errors:
        print(error, file=sys.stderr)
    if not errors:
        print(f"{len(uses)} uses of {len(ages)} directives: none is younger than the oldest system")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
