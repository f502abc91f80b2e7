"""What may a stick hold after its power went at any moment, or after its cache lied about the order?

Reads the log of `faultfs.py`. The rules are those of POSIX and no more, which is what exFAT on a cheap stick gives: the bytes of a
file are there for certain once the file was synced, a name is there for certain once its folder was. Everything later is there,
or not, each piece by itself and in any order; bytes that never arrived read as zeros.
"""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class _Node:
    """A file or a folder: what is certain, and what was asked since."""

    folder: bool
    data: bytearray = field(default_factory=bytearray)
    # ("write", offset, bytes) or ("truncate", length)
    pending: list[tuple[Any, ...]] = field(default_factory=list)
    now: dict[str, _Node] = field(default_factory=dict)
    certain: dict[str, _Node] = field(default_factory=dict)


def events(log: Path) -> list[list[Any]]:
    """The log's lines; one that was cut by a kill ends it."""
    found = []
    for line in log.read_text(encoding="ascii").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


class Disk:
    """The state of the stick after some operations."""

    def __init__(self) -> None:
        self._root = _Node(folder=True)

    def _at(self, path: str) -> _Node:
        node = self._root
        for part in path.strip("/").split("/"):
            if part:
                node = node.now[part]
        return node

    def _parent(self, path: str) -> tuple[_Node, str]:
        folder, _, name = path.rpartition("/")
        return self._at(folder), name

    def apply(self, event: list[Any]) -> None:
        """One line of the log. What is asked of a file that lost its name is of no use to anybody."""
        try:
            self._apply(event)
        except KeyError:
            if event[1] not in ("write", "truncate", "fsync"):
                raise

    def _apply(self, event: list[Any]) -> None:
        _, operation, path, *rest = event
        if operation in ("create", "mkdir"):
            parent, name = self._parent(path)
            parent.now[name] = _Node(folder=operation == "mkdir")
        elif operation == "write":
            self._at(path).pending.append(("write", rest[0], base64.b64decode(rest[1])))
        elif operation == "truncate":
            self._at(path).pending.append(("truncate", rest[0]))
        elif operation in ("unlink", "rmdir"):
            parent, name = self._parent(path)
            parent.now.pop(name, None)
        elif operation == "rename":
            parent, name = self._parent(path)
            node = parent.now.pop(name)
            parent, name = self._parent(rest[0])
            parent.now[name] = node
        elif operation == "fsync":
            node = self._at(path)
            for change in node.pending:
                _change(node.data, change)
            node.pending.clear()
        elif operation == "fsyncdir":
            node = self._at(path)
            node.certain = dict(node.now)
        else:
            raise ValueError(operation)

    def left_over(self, folder: Path, dice: random.Random) -> None:
        """Writes one of the states that power loss may leave into a folder."""
        _write(self._root, folder, dice)


def _change(data: bytearray, change: tuple[Any, ...]) -> None:
    if change[0] == "truncate":
        length = change[1]
        if length < len(data):
            del data[length:]
        else:
            data.extend(bytes(length - len(data)))
        return
    _, offset, piece = change
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def _write(node: _Node, folder: Path, dice: random.Random) -> None:
    # How much of the unsure is there: nothing, all, or each piece by a throw of the dice.
    odds = dice.choice((0.0, 0.5, 1.0))
    for name in sorted({*node.now, *node.certain}):
        newer, older = node.now.get(name), node.certain.get(name)
        chosen: _Node | None = newer if newer is older or dice.random() < odds else older
        if chosen is None:
            continue
        target = folder / name
        if chosen.folder:
            target.mkdir()
            _write(chosen, target, dice)
            continue
        data = bytearray(chosen.data)
        for change in chosen.pending:
            if dice.random() < odds:
                _change(data, change)
            elif change[0] == "write" and dice.random() < 0.5 and change[1] + len(change[2]) > len(data):
                # The size arrived, the bytes did not.
                data.extend(bytes(change[1] + len(change[2]) - len(data)))
        target.write_bytes(bytes(data))
