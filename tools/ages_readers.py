"""Which directives does each kind of file use, for ages.py? Each reader takes a file's name and text and gives its uses."""

import re

from ages_scan import OURS, Bad, Use, commands, kernel_words, logical_lines, options, shell_scan

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
    text = re.split(r"#\[cfg\(test\)\]\s+(?:pub(?:\(\w+\))? )?mod ", text)[0]
    code = "\n".join("" if line.lstrip().startswith("//") else line for line in text.split("\n"))
    # `Program::MkfsExfat` is mkfs.exfat: the names of src/sys/program.rs are those of the files, without what no name may hold.
    names = {re.sub(r"\W", "", name): name for name in PROGRAMS}
    for found in re.finditer(r"(?:\b(?:run|run_codes|run_keeping)\(\s*Program::(\w+)|Program::(\w+)\s*\.command\(\))", code):
        program = names.get((found.group(1) or found.group(2)).lower())
        if program is None:
            continue
        line = code.count("\n", 0, found.start()) + 1
        rest = code[found.end() :]
        if found.group(2):
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
