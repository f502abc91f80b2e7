"""What do the test programs share: options, work folder, messages and exit codes?"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .errors import LabError
from .report import Report
from .signals import Interrupted, stop_on_signals

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that prints a module's docstring as it is."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def require_executable(recon: Path) -> Path:
    """The absolute path of the binary under test."""
    if not os.access(recon, os.X_OK):
        raise LabError(f"--recon {recon}: not an executable file")
    return recon.resolve()


def run(name: str, report: Report, body: Callable[[], int], exit_error: int = EXIT_ERROR) -> int:
    """Runs a program's work and turns what ends it early into a message and an exit code."""
    try:
        with stop_on_signals():
            return body()
    except LabError as error:
        report.error(f"{name}: {error}")
        return exit_error
    except Interrupted as signal:
        report.error(f"{name}: stopped by {signal}; everything was removed")
        return EXIT_INTERRUPTED


def run_in_folder(name: str, report: Report, workdir: Path | None, body: Callable[[Path], int]) -> int:
    """The same with a folder for logs: `name` in the work folder, made anew, or a temporary folder that is kept only after a failure."""
    if workdir is None:
        folder = Path(tempfile.mkdtemp(prefix=f"recon-{name}-"))
    else:
        folder = workdir.resolve() / name
        # The files of an earlier run would be mistaken for this run's.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    code = run(f"tests/{name}/run.py", report, lambda: body(folder))
    if code == 0 and workdir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return code
