"""How are scenarios chosen, run and counted?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from .errors import LabError
from .report import Report

S = TypeVar("S")


@dataclass(frozen=True)
class Scenario(Generic[S]):
    """One expectation. `needs` names the peers it is about, so that --only starts no others.

    A check that watched something which began earlier returns how long that took.
    """

    name: str
    about: str
    check: Callable[[S], float | None]
    needs: Sequence[str] = ()
    long: bool = False


@dataclass
class Results:
    """Counts, and the lines a person or CI reads."""

    report: Report
    logs: Path
    passed: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def run(self, scenario: Scenario[S], environment: S) -> None:
        begun = time.monotonic()
        try:
            took = scenario.check(environment)
        except (LabError, AssertionError, OSError, KeyError, ValueError, TypeError) as error:
            self.fail(scenario.name, str(error) or type(error).__name__)
        else:
            self.passed += 1
            self.report.plain(f"ok {scenario.name} {time.monotonic() - begun if took is None else took:.1f}s")

    def fail(self, name: str, why: str) -> None:
        self.failed += 1
        self.failures.append(name)
        self.report.plain(f"FAILED {name}: {why} (see logs in {self.logs})")

    def close(self) -> int:
        """The closing line, which CI reads, and the exit code."""
        self.report.plain(f"{self.passed} passed, {self.failed} failed")
        return 0 if self.failed == 0 and self.passed > 0 else 1


def expect(condition: object, why: str) -> None:
    """Fails the scenario that calls it; works under `python -O` too."""
    if not condition:
        raise LabError(why)


def expect_none(wrong: Sequence[str]) -> None:
    """Fails the scenario with everything that is wrong, not only the first of it."""
    expect(not wrong, "; ".join(wrong))


def scenarios(*checks: Callable[[S], float | None]) -> list[Scenario[S]]:
    """Scenarios named after their functions; the first line of the docstring says what each is about."""
    return [Scenario(check.__name__.replace("_", "-"), (check.__doc__ or "").split("\n")[0], check) for check in checks]


def chosen(
    scenarios: Sequence[Scenario[S]], only: Sequence[str] | None, long: bool,
) -> list[Scenario[S]]:
    """The scenarios a run is to make, in their order."""
    if only:
        return [s for s in scenarios if s.name in only]
    return [s for s in scenarios if long or not s.long]
