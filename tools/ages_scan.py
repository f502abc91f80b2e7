"""How are lines, commands, options and kernel words found in the image's files, for ages.py?"""

import re
from collections import namedtuple

# One directive in one place. `file` is relative to the top folder, `line` counts from 1.
Use = namedtuple("Use", "file line program directive")
# Words of the kernel line and names in dracut's lists that this project reads or brings itself.
OURS = ("recon", "postaction=", "pxeaddr=")
# These take a command in front of its options.
WITH_COMMANDS = ("systemctl", "udevadm")
SHELL_WORDS = frozenset("if then else elif do while until ! { time".split())


class Bad(Exception):
    """A file that cannot be read as what it is; the text names file and line."""


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
