"""Why a run of the laboratory stops."""

from __future__ import annotations


class LabError(Exception):
    """Something the laboratory cannot do or did not see; the text says what and where to look."""


class MissingTool(LabError):
    """The host lacks a program; a ring that cannot run fails with the name instead of passing silently."""


class Timeout(LabError):
    """An awaited event did not come before its deadline."""
