"""How is a helper process ended?"""

from __future__ import annotations

import subprocess


def terminate(process: subprocess.Popen[bytes] | None, seconds: float = 10.0) -> None:
    """Sends SIGTERM, and SIGKILL to a process that still runs after the grace period. Does nothing to one that has ended."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: subprocess.Popen[bytes] | None, seconds: float = 10.0) -> None:
    """Sends SIGKILL and collects the exit code."""
    if process is not None and process.poll() is None:
        process.kill()
        process.wait(seconds)
